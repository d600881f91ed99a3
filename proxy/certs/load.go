// Package certs keeps the certificates by which sipward shows who it is, and checks
// those that others show: of trunks (RFC 5922) and of PBXes.
//
// A Set is what has been read from files. It is not changed once made; a Store has one in
// force and is handed another when files change. Connections that are open go on with what
// they began with.
package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Config says what a Set is made of.
type Config struct {
	// Pairs are the certificates, chosen by the name that a client asks for (SNI). The
	// first is shown to those who ask for none, or for another.
	Pairs []Pair
	// MinVersion is tls.VersionTLS12 or tls.VersionTLS13. Zero: TLS 1.2.
	MinVersion uint16
	// ClientAuth says whether clients are asked for a certificate.
	ClientAuth ClientAuth
	// ClientCA names the PEM file with the authorities that certificates of clients are
	// checked against; needed unless ClientAuth is NoClientAuth.
	ClientCA string
}

// Pair names the PEM files of one certificate, those that vouch for it included, and of
// its key.
type Pair struct{ Certificate, Key string }

// ClientAuth says whether clients are asked for a certificate.
type ClientAuth uint8

// The ways to ask.
const (
	NoClientAuth      ClientAuth = iota // they are not asked
	RequestClientAuth                   // one that is not trusted is as good as none
	RequireClientAuth                   // without one that is trusted, there is no connection
)

// A FileError is a file that cannot be used.
type FileError struct {
	// Field is the key of the file under tls in the configuration, such as
	// certificates[0].key.
	Field string
	// Text says what is wrong and what to do, and names the file.
	Text string
}

func (e *FileError) Error() string { return "tls." + e.Field + ": " + e.Text }

// A Set is the certificates of a configuration, read.
type Set struct {
	cfg      Config
	pairs    []tls.Certificate // with their Leaf
	clientCA *x509.CertPool    // nil: clients are not asked
}

// Load reads a Set. Its error joins a *FileError for each file that cannot be used.
func Load(cfg Config) (*Set, error) {
	if cfg.MinVersion == 0 {
		cfg.MinVersion = tls.VersionTLS12
	}
	s := &Set{cfg: cfg}
	var errs []error
	for i, p := range cfg.Pairs {
		pair, err := loadPair("certificates["+strconv.Itoa(i)+"]", p)
		errs = append(errs, err)
		s.pairs = append(s.pairs, pair)
	}
	if cfg.ClientAuth != NoClientAuth {
		var err error
		s.clientCA, err = loadAuthorities("client_ca", cfg.ClientCA)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

func loadPair(field string, p Pair) (tls.Certificate, error) {
	chain, err1 := readFile(field+".certificate", p.Certificate)
	key, err2 := readFile(field+".key", p.Key)
	if err := errors.Join(err1, err2); err != nil {
		return tls.Certificate{}, err
	}
	switch {
	case !hasBlock(chain, "CERTIFICATE"):
		return tls.Certificate{}, &FileError{field + ".certificate", p.Certificate + " has no certificate in PEM form; name the file that begins with -----BEGIN CERTIFICATE-----"}
	case bytes.Contains(key, []byte("ENCRYPTED")) && !hasBlock(key, " PRIVATE KEY", "ENCRYPTED"):
		return tls.Certificate{}, &FileError{field + ".key", p.Key + " is locked with a passphrase, for which nobody can be asked; unlock it with: openssl pkey -in FILE -out NEWFILE"}
	case !hasBlock(key, "PRIVATE KEY"):
		return tls.Certificate{}, &FileError{field + ".key", p.Key + " has no private key in PEM form; name the file that has a line -----BEGIN PRIVATE KEY-----"}
	}
	pair, err := tls.X509KeyPair(chain, key)
	switch {
	case err == nil:
		return pair, nil
	case strings.Contains(err.Error(), "does not match") || strings.Contains(err.Error(), "public key"):
		return pair, &FileError{field + ".key", p.Key + " is not the key of " + p.Certificate + "; name the two files that belong together"}
	}
	return pair, &FileError{field + ".certificate", fmt.Sprintf("%s and %s cannot be used: %v", p.Certificate, p.Key, err)}
}

// hasBlock says whether text has a PEM block whose type ends in suffix, and whose text has
// not the word without in it.
func hasBlock(text []byte, suffix string, without ...string) bool {
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			return false
		}
		locked := len(without) > 0 && (strings.Contains(b.Type, without[0]) || strings.Contains(b.Headers["Proc-Type"], without[0]))
		if strings.HasSuffix(b.Type, suffix) && !locked {
			return true
		}
	}
}

func loadAuthorities(field, name string) (*x509.CertPool, error) {
	text, err := readFile(field, name)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, &FileError{field, name + " has no certificate in PEM form; name the file with the certificates of the authorities"}
	}
	return pool, nil
}

func readFile(field, name string) ([]byte, error) {
	text, err := os.ReadFile(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, &FileError{field, "there is no file " + name}
	case errors.Is(err, os.ErrPermission):
		return nil, &FileError{field, name + " may not be read; let the user that sipward runs as read it"}
	case err != nil:
		return nil, &FileError{field, err.Error()}
	}
	return text, nil
}

// Info is what is to be known about a certificate in force.
type Info struct {
	// Source is where it is from: its key under tls in the configuration, such as
	// certificates[0], or acme.
	Source string
	// Names are those that it is for, addresses included. One that is still to be
	// obtained has these alone.
	Names []string
	// NotBefore and NotAfter bound the time in which it is valid; zero: there is none yet.
	NotBefore, NotAfter time.Time
	// Failed is why none could be obtained, or no newer one; empty: there is no such trouble.
	Failed string
}

func infoOf(source string, leaf *x509.Certificate) Info {
	return Info{Source: source, Names: namesOf(leaf), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}
}

// Days returns how many whole days are left, negative after the end.
func (i Info) Days(now time.Time) int {
	left := i.NotAfter.Sub(now)
	if left < 0 {
		left -= 24*time.Hour - 1
	}
	return int(left / (24 * time.Hour))
}

// Warning says what is wrong with the certificate by its time, in words that follow its
// name; "": nothing. Its end is near within two weeks, and for one that is valid for less
// than three months within a sixth of its time.
func (i Info) Warning(now time.Time) string {
	switch left := i.NotAfter.Sub(now); {
	case i.NotAfter.IsZero() && i.Failed != "":
		return "could not be obtained yet: " + i.Failed
	case i.NotAfter.IsZero():
		return ""
	case left <= 0:
		return "has expired on " + day(i.NotAfter) + "; phones refuse it, renew it"
	case now.Before(i.NotBefore):
		return "is valid only from " + day(i.NotBefore) + "; phones refuse it until then"
	case left < min(14*24*time.Hour, i.NotAfter.Sub(i.NotBefore)/6):
		text := "expires on " + day(i.NotAfter) + "; renew it before that"
		if i.Failed != "" {
			text = "expires on " + day(i.NotAfter) + ", and could not be renewed: " + i.Failed
		}
		return text
	}
	return ""
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// Infos returns what is to be known about each pair.
func (s *Set) Infos() []Info {
	var all []Info
	for i := range s.pairs {
		all = append(all, infoOf("certificates["+strconv.Itoa(i)+"]", s.pairs[i].Leaf))
	}
	return all
}

// Covers says whether one of the certificates is for a host, a name or an address.
func (s *Set) Covers(host string) bool {
	for i := range s.pairs {
		if s.pairs[i].Leaf.VerifyHostname(host) == nil {
			return true
		}
	}
	return false
}

// namesOf returns the names that a certificate is for: SIP domains, DNS names, addresses.
func namesOf(c *x509.Certificate) []string {
	var names []string
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	names = append(names, c.DNSNames...)
	for _, a := range c.IPAddresses {
		names = append(names, a.String())
	}
	return names
}
