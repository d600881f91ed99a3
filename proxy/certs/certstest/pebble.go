package certstest

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

// Endless are the goroutines of pebble and certmagic that outlive a test.
func Endless() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreAnyFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks"), // has no end
		// Ends seconds after a lock is free.
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"),
		// There is one for each authority.
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.(*RingBufferRateLimiter).loop"),
	}
}

// Pebble is an ACME authority on a loopback address that finds every name on 127.0.0.1 and
// asks on one port.
type Pebble struct {
	Directory, CA string         // its URL, and the file with the CA of that
	Roots         *x509.CertPool // of what it issues
}

// StartPebble begins one that issues certificates that are valid for the time.
func StartPebble(tb testing.TB, at netip.AddrPort, valid time.Duration) *Pebble {
	tb.Helper()
	tb.Setenv("PEBBLE_VA_NOSLEEP", "1")
	quiet, store := log.New(io.Discard, "", 0), db.NewMemoryStore()
	authority := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {ValidityPeriod: uint64(valid / time.Second)}})
	validator := va.New(quiet, int(at.Port()), int(at.Port()), false, nameserver(tb, at.Addr()), store)
	front := wfe.New(quiet, store, validator, authority, []string{"pebble.test"}, false, false, 0, 0)
	srv := httptest.NewUnstartedServer(front.Handler())
	own := NewAuthority(tb, "pebble")
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{own.Issue(tb, Options{IPs: []string{"127.0.0.1"}}).TLS}}
	srv.Config.ErrorLog = quiet
	srv.StartTLS()
	tb.Cleanup(srv.Close)
	p := &Pebble{Directory: srv.URL + wfe.DirectoryPath, CA: own.Write(tb, tb.TempDir()), Roots: x509.NewCertPool()}
	root, err := x509.ParseCertificate(authority.GetRootCert(0).DER)
	if err != nil {
		tb.Fatal(err)
	}
	p.Roots.AddCert(root)
	return p
}

// nameserver answers that every name is that IPv4 address, over TCP, as pebble asks.
func nameserver(tb testing.TB, addr netip.Addr) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	srv := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: addr.AsSlice()}}
		}
		w.WriteMsg(m)
	})}
	go srv.ActivateAndServe()
	tb.Cleanup(func() { srv.Shutdown() })
	return l.Addr().String()
}
