package certs_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sipward/proxy/certs"
	"sipward/proxy/certs/certstest"
)

// freePort returns a port that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return int(netip.MustParseAddrPort(l.Addr().String()).Port())
}

func at(host string, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(host), uint16(port))
}

// runACME starts one that ends with the test, or when end is called.
func runACME(t *testing.T, cfg certs.ACMEConfig) (a *certs.ACME, end func()) {
	t.Helper()
	a, err := certs.NewACME(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	ended := false
	end = func() {
		if cancel(); !ended {
			ended = true
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(end)
	return a, end
}

// leafFor waits until a client that trusts pebble is shown a certificate for the name, other
// than one that it knows.
func leafFor(t *testing.T, p *certstest.Pebble, st *certs.Store, name string, known *x509.Certificate) *x509.Certificate {
	t.Helper()
	var last error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		_, c, _, err := shake(t, st.TLS(), &tls.Config{ServerName: name, RootCAs: p.Roots})
		if last = err; err != nil {
			continue
		}
		if leaf := c.ConnectionState().PeerCertificates[0]; known == nil || !leaf.Equal(known) {
			return leaf
		}
	}
	t.Fatalf("no certificate for %s: %v; %+v", name, last, st.Infos())
	return nil
}

// TestACMEByHTTP obtains certificates for two domains, renews them before they end, and
// finds them again after a restart.
func TestACMEByHTTP(t *testing.T) {
	port := freePort(t)
	p := certstest.StartPebble(t, at("127.0.0.1", port), 9*time.Second)
	cfg := certs.ACMEConfig{
		Domains: []string{"sip.example.com", "voice.example.com"}, Email: "ops@example.com", Directory: p.Directory, CA: p.CA,
		Port: port, Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
	}.CheckOften(200 * time.Millisecond)
	a, end := runACME(t, cfg)
	st := certs.NewStore(load(t, certs.Config{}), a)
	first := leafFor(t, p, st, "sip.example.com", nil)
	leafFor(t, p, st, "voice.example.com", nil)
	// Who asks for no name is shown that of the first domain.
	_, c, _, err := shake(t, st.TLS(), &tls.Config{InsecureSkipVerify: true})
	if err != nil || c.ConnectionState().PeerCertificates[0].VerifyHostname("sip.example.com") != nil {
		t.Errorf("without a name: %v", err)
	}
	renewed := leafFor(t, p, st, "sip.example.com", first)
	if !renewed.NotAfter.After(first.NotAfter) {
		t.Errorf("renewed until %s, before until %s", renewed.NotAfter, first.NotAfter)
	}
	infos := st.Infos()
	if len(infos) != 2 || infos[0].Source != "acme" || infos[0].Names[0] != "sip.example.com" || infos[0].NotAfter.IsZero() || infos[0].Failed != "" {
		t.Errorf("%+v", infos)
	}
	if other, err := st.Certificate("voice.example.com"); err != nil || other.Leaf.VerifyHostname("voice.example.com") != nil {
		t.Errorf("Certificate: %v", err)
	}
	end()
	again, err := certs.NewACME(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if i := certs.NewStore(load(t, certs.Config{}), again).Infos(); i[0].NotAfter.Before(renewed.NotAfter) {
		t.Errorf("after a restart: %+v", i)
	}
}

// TestACMEInHandshake has sipward's own listener answer the authority, beside a
// certificate from a file.
func TestACMEInHandshake(t *testing.T) {
	const host = "127.0.0.2"
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	p := certstest.StartPebble(t, at(host, port), 90*24*time.Hour)
	a, _ := runACME(t, certs.ACMEConfig{
		Domains: []string{"sip.example.com"}, Directory: p.Directory, CA: p.CA,
		TLSALPN: true, Port: port, Host: host, Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
	})
	s := newShop(t)
	st := certs.NewStore(load(t, certs.Config{
		Pairs:      []certs.Pair{s.pair(t, "a", certstest.Options{DNS: []string{"a.example.com"}})},
		ClientAuth: certs.RequireClientAuth, ClientCA: s.ca, // which the authority has none of
	}), a)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			tls.Server(c, st.TLS()).HandshakeContext(t.Context())
			c.Close()
		}
	}()
	deadline := time.Now().Add(time.Minute)
	for st.Infos()[1].NotAfter.IsZero() {
		if time.Now().After(deadline) {
			t.Fatalf("not obtained: %+v", st.Infos())
		}
		time.Sleep(50 * time.Millisecond)
	}
	ours := s.Issue(t, certstest.Options{DNS: []string{"client.example.com"}})
	for name, want := range map[string]string{"sip.example.com": "sip.example.com", "a.example.com": "a.example.com", "": "a.example.com"} {
		_, c, err, _ := shake(t, st.TLS(), &tls.Config{
			ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"sip", "http/1.1"}, Certificates: []tls.Certificate{ours.TLS},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.ConnectionState().PeerCertificates[0]; got.VerifyHostname(want) != nil {
			t.Errorf("who asks for %q is shown %v", name, got.DNSNames)
		}
	}
}

// TestACMEFails: there is nobody at the port that the authority asks on.
func TestACMEFails(t *testing.T) {
	p := certstest.StartPebble(t, at("127.0.0.1", freePort(t)), time.Hour)
	a, _ := runACME(t, certs.ACMEConfig{
		Domains: []string{"sip.example.com"}, Directory: p.Directory, CA: p.CA,
		Port: freePort(t), Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
	})
	st := certs.NewStore(load(t, certs.Config{}), a)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		i := st.Infos()[0]
		if strings.Contains(i.Warning(time.Now()), "could not be obtained yet") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing is said: %+v", i)
		}
	}
}

func TestACMEComplains(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "ca.pem")
	_, err := certs.NewACME(certs.ACMEConfig{Domains: []string{"a"}, CA: missing, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "tls.acme.ca_file: there is no file "+missing) {
		t.Error(err)
	}
}
