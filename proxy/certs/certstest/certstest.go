// Package certstest makes authorities and certificates for tests.
package certstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority issues certificates.
type Authority struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes one that is valid for a day around now.
func NewAuthority(tb testing.TB, name string) *Authority {
	tb.Helper()
	a := &Authority{key: newKey(tb)}
	t := template(Options{})
	t.Subject.CommonName = name
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage, t.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
	a.Cert = sign(tb, t, t, a.key, a.key)
	return a
}

// Pool returns the authority as those have it who trust it.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.Cert)
	return p
}

// Write writes the authority's certificate into a file in dir and returns its name.
func (a *Authority) Write(tb testing.TB, dir string) string {
	tb.Helper()
	return write(tb, filepath.Join(dir, a.Cert.Subject.CommonName+".pem"), "CERTIFICATE", a.Cert.Raw)
}

// Options says what a certificate is for.
type Options struct {
	CommonName string
	DNS, URIs  []string
	IPs        []string
	// From and Until are relative to now; both zero: an hour ago, and in a day.
	From, Until time.Duration
	Usage       []x509.ExtKeyUsage // nil: for servers
}

// Issued is a certificate with its key.
type Issued struct {
	Cert *x509.Certificate
	TLS  tls.Certificate
	key  *ecdsa.PrivateKey
}

// Issue makes a certificate with a new key.
func (a *Authority) Issue(tb testing.TB, o Options) *Issued {
	tb.Helper()
	i := &Issued{key: newKey(tb)}
	i.Cert = sign(tb, template(o), a.Cert, i.key, a.key)
	i.TLS = tls.Certificate{Certificate: [][]byte{i.Cert.Raw}, PrivateKey: i.key, Leaf: i.Cert}
	return i
}

// Write puts the certificate and its key into two files in dir, each in one step, and
// returns their names.
func (i *Issued) Write(tb testing.TB, dir, name string) (certificate, key string) {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		tb.Fatal(err)
	}
	certificate = write(tb, filepath.Join(dir, name+".pem"), "CERTIFICATE", i.Cert.Raw)
	return certificate, write(tb, filepath.Join(dir, name+".key"), "PRIVATE KEY", der)
}

// WriteBoth puts the key and the certificate into one file in dir and returns its name.
func (i *Issued) WriteBoth(tb testing.TB, dir, name string) string {
	tb.Helper()
	certificate, key := i.Write(tb, dir, name)
	var both []byte
	for _, file := range []string{key, certificate} {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		both = append(both, text...)
	}
	file := filepath.Join(dir, name+".both.pem")
	if err := os.WriteFile(file, both, 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func template(o Options) *x509.Certificate {
	if o.From == 0 && o.Until == 0 {
		o.From, o.Until = -time.Hour, 24*time.Hour
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: o.CommonName},
		NotBefore: now.Add(o.From), NotAfter: now.Add(o.Until), DNSNames: o.DNS,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: o.Usage,
	}
	if o.Usage == nil {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	for _, text := range o.URIs {
		u, err := url.Parse(text)
		if err != nil {
			panic(err) // a mistake in the test
		}
		t.URIs = append(t.URIs, u)
	}
	for _, text := range o.IPs {
		t.IPAddresses = append(t.IPAddresses, net.ParseIP(text))
	}
	return t
}

func sign(tb testing.TB, t, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, by)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

// write puts a file in the place of the one that is there, so that nobody reads half of it.
func write(tb testing.TB, name, kind string, der []byte) string {
	tb.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(name+".new", text, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		tb.Fatal(err)
	}
	return name
}
