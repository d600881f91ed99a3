package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/mholt/acmez/v3"
)

// ErrNoCertificate says that a handshake failed because sipward has no certificate yet.
var ErrNoCertificate = errors.New("certs: there is no certificate yet")

// A Store has the certificates in force.
type Store struct {
	set  atomic.Pointer[generation]
	acme *ACME // nil: none
	tls  *tls.Config
}

// generation is a Set as crypto/tls is told of it.
type generation struct {
	*Set
	config *tls.Config
	// challenge answers an ACME server that asks whether the domain is ours (RFC 8737).
	challenge *tls.Config
}

// NewStore puts a Set in force, and what acme obtains, if that is not nil.
func NewStore(s *Set, acme *ACME) *Store {
	st := &Store{acme: acme}
	st.Put(s)
	// The keys of session tickets belong to this Config, whatever is in force:
	// crypto/tls makes a new one each day and forgets it after a week.
	st.tls = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: st.configFor}
	return st
}

// Put puts a Set in force, for connections that begin from now on.
func (st *Store) Put(s *Set) {
	g := &generation{Set: s, config: &tls.Config{
		MinVersion: s.cfg.MinVersion, Certificates: s.pairs,
		DynamicRecordSizingDisabled: true, // the one that netio sets is that of the listener, which this takes the place of
	}}
	switch s.cfg.ClientAuth {
	case RequestClientAuth:
		// Some phones show what their maker gave them, whatever they are asked for.
		g.config.ClientAuth, g.config.ClientCAs = tls.RequestClientCert, s.clientCA
	case RequireClientAuth:
		g.config.ClientAuth, g.config.ClientCAs = tls.RequireAnyClientCert, s.clientCA
		g.config.VerifyConnection = func(c tls.ConnectionState) error { return clientError(s.verifyClient(&c), &c) }
	}
	g.config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return st.obtained(s, hello) }
	if st.acme != nil {
		g.challenge = g.config.Clone()
		g.challenge.NextProtos = []string{acmez.ACMETLS1Protocol}
		g.challenge.GetCertificate, g.challenge.Certificates = st.acme.certificate, nil
		g.challenge.ClientAuth, g.challenge.VerifyConnection = tls.NoClientCert, nil
	}
	st.set.Store(g)
}

// obtained returns the certificate from ACME, or none where crypto/tls has to choose from
// the Set.
func (st *Store) obtained(s *Set, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	for i := range s.pairs {
		if hello.SupportsCertificate(&s.pairs[i]) == nil {
			return nil, nil
		}
	}
	if st.acme != nil {
		if c, err := st.acme.certificate(hello); err == nil {
			return c, nil
		}
	}
	if len(s.pairs) > 0 {
		return nil, nil
	}
	return nil, ErrNoCertificate
}

// TLS returns the configuration of listeners, which stays the same whatever is put in
// force.
func (st *Store) TLS() *tls.Config { return st.tls }

func (st *Store) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	g := st.set.Load()
	if g.challenge != nil && slices.Equal(hello.SupportedProtos, []string{acmez.ACMETLS1Protocol}) {
		return g.challenge, nil
	}
	return g.config, nil
}

// Certificate returns the certificate for a name that a client asks for, "" if it asks for
// none; for protocols that crypto/tls does not speak.
func (st *Store) Certificate(name string) (*tls.Certificate, error) {
	g := st.set.Load()
	for i := range g.pairs {
		if name == "" || g.pairs[i].Leaf.VerifyHostname(name) == nil {
			return &g.pairs[i], nil
		}
	}
	if st.acme != nil {
		if c, err := st.acme.certificate(&tls.ClientHelloInfo{ServerName: name}); err == nil {
			return c, nil
		}
	}
	if len(g.pairs) > 0 {
		return &g.pairs[0], nil
	}
	return nil, ErrNoCertificate
}

// ClientCertificate is a tls.Config.GetClientCertificate: a PBX that asks for a certificate
// is shown the first one, or none if there is none.
func (st *Store) ClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	c, err := st.Certificate("")
	if err != nil {
		return new(tls.Certificate), nil
	}
	return c, nil
}

// Infos returns what is to be known about each certificate, obtained ones last.
func (st *Store) Infos() []Info {
	all := st.set.Load().Infos()
	if st.acme != nil {
		all = append(all, st.acme.infos()...)
	}
	return all
}

// clientError says why a client's certificate is not trusted.
func clientError(err error, c *tls.ConnectionState) error {
	if err == nil {
		return nil
	}
	return &x509Error{who: "the client", names: namesOf(c.PeerCertificates[0]), err: err, advice: "see tls.client_ca"}
}

var _ error = (*x509Error)(nil)

// x509Error says in words for people why a certificate is not trusted.
type x509Error struct {
	who    string
	names  []string
	err    error
	advice string
}

func (e *x509Error) Unwrap() error { return e.err }

func (e *x509Error) Error() string {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	what := "cannot be trusted: " + e.err.Error()
	switch {
	case errors.As(e.err, &invalid) && invalid.Reason == x509.Expired:
		what = "is out of date: valid from " + day(invalid.Cert.NotBefore) + " until " + day(invalid.Cert.NotAfter)
	case errors.As(e.err, &unknown):
		what = "is from an authority that is not trusted here (" + issuer(unknown.Cert) + ")"
	}
	return "the certificate of " + e.who + " " + quoted(e.names) + what + "; " + e.advice
}

func issuer(c *x509.Certificate) string {
	if c == nil {
		return "unknown"
	}
	return c.Issuer.String()
}
