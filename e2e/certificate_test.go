//go:build linux

package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
	"sipward/proxy/certs/certstest"
)

// TestCertificateReplaced replaces sipward's certificate again and again while phones call each other over TLS. No call
// fails; who connects after that is shown the new one.
func TestCertificateReplaced(t *testing.T) {
	lab.Need(t, "asterisk")
	t.Parallel()
	if direct {
		t.Skip("there is no sipward whose certificate could be replaced")
	}
	const name = "sip.example.com"
	s := &site{Lab: labs.New(t)}
	s.pbx = s.StartAsterisk(t)
	ca := certstest.NewAuthority(t, "ours")
	issue := func() *certstest.Issued { return ca.Issue(t, certstest.Options{DNS: []string{name}}) }
	cert, key := issue().Write(t, s.Dir(), "sipward")
	s.trust = &tls.Config{RootCAs: ca.Pool(), ServerName: name}
	over := wire{over: phone.TLS}
	s.start(t, lab.Config{
		Outside: []string{"tls://" + netip.AddrPortFrom(lab.EdgeWAN, over.over.Port()).String()},
		Extra:   fmt.Sprintf("tls: {certificates: [{certificate: %q, key: %q}]}\n", cert, key),
	})

	const replacements = 3
	var done atomic.Bool
	var calls atomic.Int32
	stopped := make(chan struct{})
	t.Run("all", func(t *testing.T) {
		t.Run("replace", func(t *testing.T) {
			t.Parallel()
			defer close(stopped)
			defer done.Store(true)
			for range replacements {
				next := issue()
				next.Write(t, s.Dir(), "sipward")
				s.awaitCertificate(t, over, next.Cert)
			}
		})
		t.Run("one-long-call", func(t *testing.T) {
			t.Parallel()
			a, b := s.pair(t, over)
			out, in := talk(t, a, b)
			<-stopped
			want(t, 200)(out.Request(within(t, patience), "INVITE", a.SDP()))
			want(t, 200)(in.Request(within(t, patience), "INVITE", b.SDP()))
			want(t, 200)(out.Bye(within(t, patience)))
			ended(t, in)
		})
		t.Run("many-short-ones", func(t *testing.T) {
			t.Parallel()
			a, b := s.registered(t, over, "1003", 3), s.registered(t, over, "1004", 4)
			for !done.Load() {
				out, in := talk(t, a, b)
				want(t, 200)(in.Bye(within(t, patience)))
				ended(t, out)
				calls.Add(1)
			}
		})
	})
	if n := calls.Load(); n < replacements {
		t.Errorf("%d calls while %d certificates were put in force", n, replacements)
	}
}

// awaitCertificate connects until that certificate is shown.
func (s *site) awaitCertificate(t *testing.T, w wire, cert *x509.Certificate) {
	t.Helper()
	cfg := s.trust.Clone()
	old := errors.New("another certificate is shown")
	cfg.VerifyConnection = func(c tls.ConnectionState) error {
		if !c.PeerCertificates[0].Equal(cert) {
			return old
		}
		return nil
	}
	for end := time.Now().Add(2 * patience); ; time.Sleep(100 * time.Millisecond) {
		line, err := phone.Dial(phone.Config{Net: s.WAN, Proxy: s.door(w), Local: netip.AddrPortFrom(lab.Phone(9), 0), Transport: w.over, TLS: cfg})
		if err == nil {
			line.Close()
			return
		}
		if !errors.Is(err, old) || time.Now().After(end) {
			t.Fatal(err)
		}
	}
}
