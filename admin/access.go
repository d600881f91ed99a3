package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Role is what a caller may do.
type Role uint8

// The roles, each with what those before it may do.
const (
	NoRole Role = iota
	Read        // see everything
	Write       // change what commands can change
)

// String returns the role's name.
func (r Role) String() string { return [...]string{"none", "read", "write"}[min(r, Write)] }

// Token is one token that is known.
type Token struct {
	Name string
	Role Role
	Hash [sha256.Size]byte
}

// tokenPrefix begins every token, so that people and programs that look for lost
// secrets recognise one.
const tokenPrefix = "sipward_"

// NewToken makes a token of 256 random bits, which is why a plain hash of it may be
// kept where others can read it.
func NewToken() (token string, hash [sha256.Size]byte) {
	var b [32]byte
	rand.Read(b[:]) // never fails
	token = tokenPrefix + base64.RawURLEncoding.EncodeToString(b[:])
	return token, sha256.Sum256([]byte(token))
}

// AccessConfig is what an Access is made of.
type AccessConfig struct {
	Tokens []Token
	// Certificate and Key name the PEM files for TLS; both or none.
	Certificate, Key string
	// Hosts holds names, in small letters, that requests may be for beside addresses,
	// localhost and the names in the certificate.
	Hosts []string
}

// Access says who may come in over TCP. It is not changed once made.
type Access struct {
	tokens      []Token
	hosts       []string
	certificate *tls.Certificate // nil: no TLS
}

// NewAccess reads the certificate and makes an Access.
func NewAccess(cfg AccessConfig) (*Access, error) {
	a := &Access{tokens: slices.Clone(cfg.Tokens), hosts: slices.Clone(cfg.Hosts)}
	if cfg.Certificate == "" {
		return a, nil
	}
	pair, err := tls.LoadX509KeyPair(cfg.Certificate, cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("read control.certificate and control.certificate_key: %w", err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return nil, fmt.Errorf("read control.certificate: %w", err)
		}
	}
	a.certificate = &pair
	return a, nil
}

// find returns the token with this hash. It takes the same time for every hash.
func (a *Access) find(hash [sha256.Size]byte) (Token, bool) {
	found := -1
	for i := range a.tokens {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(a.tokens[i].Hash[:], hash[:]), i, found)
	}
	if found < 0 {
		return Token{}, false
	}
	return a.tokens[found], true
}

// serves says whether requests may be for this host: a name that is not ours, but leads
// here, is how a page on another site could speak to us from within a browser (DNS
// rebinding). An address cannot be rebound.
func (a *Access) serves(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	if host == "localhost" || slices.Contains(a.hosts, host) {
		return true
	}
	return a.certificate != nil && a.certificate.Leaf.VerifyHostname(host) == nil
}
