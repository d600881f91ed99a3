package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// Peer says how a PBX is known when sipward connects to it over TLS.
type Peer struct {
	// Addr is where it is reached.
	Addr netip.Addr
	// Name is the SIP domain or the address that its certificate must be for. Empty: Addr.
	Name string
	// CA names the PEM file with the authorities that it is checked against. Empty: those
	// of the system.
	CA string
	// Pins are SHA-256 hashes of its certificate or of its public key
	// (SubjectPublicKeyInfo). With one that fits, neither authority, name nor time matters;
	// if none fits, nothing else counts.
	Pins []Pin
	// MinVersion is tls.VersionTLS12 or tls.VersionTLS13. Zero: TLS 1.2.
	MinVersion uint16
}

// Pin is the SHA-256 of a certificate or of its public key.
type Pin [sha256.Size]byte

// String writes it as the configuration has it.
func (p Pin) String() string { return "sha256:" + hex.EncodeToString(p[:]) }

// PinOf returns the pin of the public key of a certificate, which stays the same when it
// is renewed with the same key.
func PinOf(c *x509.Certificate) Pin { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// NewPeer reads the authorities and makes a configuration for connections to the PBX. An
// error about its file is a *FileError, whose Field is ca.
func NewPeer(p Peer) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: max(p.MinVersion, tls.VersionTLS12), ServerName: p.Name}
	if p.Name == "" {
		p.Name = p.Addr.String()
		cfg.ServerName = p.Name // crypto/tls sends no address as SNI
	}
	v := &verifier{who: "the PBX", peer: p, advice: "mend that on the PBX, write the right tls.name or tls.ca, or pin its key under tls.pins: "}
	if p.CA != "" {
		var err error
		if v.roots, err = loadAuthorities("ca", p.CA); err != nil {
			return nil, err
		}
	}
	v.on(cfg)
	return cfg, nil
}

// Trunks checks the certificates of trunks that sipward connects to.
type Trunks struct {
	roots      *x509.CertPool // nil: those of the system
	minVersion uint16
}

// LoadTrunks reads the PEM file of the authorities; "": those of the system. Its error is a
// *FileError, whose Field is trunk_ca.
func LoadTrunks(ca string, minVersion uint16) (*Trunks, error) {
	t := &Trunks{minVersion: max(minVersion, tls.VersionTLS12)}
	if ca == "" {
		return t, nil
	}
	var err error
	t.roots, err = loadAuthorities("trunk_ca", ca)
	return t, err
}

// TLS returns a configuration for connections to the trunk that was named by this host, a
// domain or an address, which its certificate must be for (RFC 5922 §4).
func (t *Trunks) TLS(host string) *tls.Config {
	cfg := &tls.Config{MinVersion: t.minVersion, ServerName: host}
	v := &verifier{who: "the trunk", peer: Peer{Name: host}, roots: t.roots, advice: "the carrier has to mend that, or name its authority under tls.trunk_ca"}
	v.on(cfg)
	return cfg
}

type verifier struct {
	who    string
	peer   Peer
	roots  *x509.CertPool // nil: those of the system
	advice string         // ends in a pin if it ends in ": "
}

// on has the verifier check chain, time and name, or the pin. crypto/tls would accept
// wildcards, which RFC 5922 does not, and no SIP URI.
func (v *verifier) on(cfg *tls.Config) {
	cfg.InsecureSkipVerify = true
	cfg.VerifyConnection = v.verify
}

func (v *verifier) verify(c tls.ConnectionState) error {
	leaf := c.PeerCertificates[0] // a server always shows one
	if len(v.peer.Pins) > 0 {
		if slices.Contains(v.peer.Pins, PinOf(leaf)) || slices.Contains(v.peer.Pins, Pin(sha256.Sum256(leaf.Raw))) {
			return nil
		}
		return errors.New("the certificate of the PBX " + quoted(namesOf(leaf)) + "is not one of its pins: its key is " + PinOf(leaf).String() +
			"; if that is the right PBX, write this under tls.pins")
	}
	opts := x509.VerifyOptions{Roots: v.roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, more := range c.PeerCertificates[1:] {
		opts.Intermediates.AddCert(more)
	}
	if _, err := leaf.Verify(opts); err != nil {
		return &x509Error{who: v.who, names: namesOf(leaf), err: err, advice: v.advise(leaf)}
	}
	if !v.isFor(leaf) {
		return errors.New("the certificate of " + v.who + " is for " + strings.TrimSpace(quoted(namesOf(leaf))) + ", not for " + v.peer.Name +
			" (wildcards do not count, RFC 5922 §7.2); " + v.advise(leaf))
	}
	return nil
}

func (v *verifier) advise(leaf *x509.Certificate) string {
	if strings.HasSuffix(v.advice, ": ") {
		return v.advice + PinOf(leaf).String()
	}
	return v.advice
}

// isFor compares addresses with addresses, and names with SIP domains.
func (v *verifier) isFor(leaf *x509.Certificate) bool {
	if _, err := netip.ParseAddr(v.peer.Name); err == nil {
		return leaf.VerifyHostname(v.peer.Name) == nil
	}
	return matches(Identities(leaf), v.peer.Name)
}

// quoted writes names in brackets, with a space behind them. They may be a stranger's.
func quoted(names []string) string {
	const most = 4
	if len(names) == 0 {
		return "(without a name) "
	}
	shown := make([]string, 0, most)
	for _, n := range names[:min(len(names), most)] {
		shown = append(shown, strings.Map(func(r rune) rune {
			if r <= ' ' || r > '~' {
				return '?'
			}
			return r
		}, n[:min(len(n), 100)]))
	}
	if len(names) > most {
		shown = append(shown, "…")
	}
	return "(" + strings.Join(shown, ", ") + ") "
}
