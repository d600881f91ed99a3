//go:build linux

package e2e_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
	"sipward/proxy/certs"
	"sipward/proxy/certs/certstest"
)

// TestCertificates is about what phones think of sipward's certificate.
func TestCertificates(t *testing.T) {
	lab.Need(t, "kamailio", "openssl")
	t.Parallel()
	ca := certstest.NewAuthority(t, "ours")
	s := &site{Lab: labs.New(t)}
	s.pbx = s.StartKamailio(t, lab.PBX1)
	s.start(t, s.secured(t, ca, lab.Config{}))
	t.Run("replaced", func(t *testing.T) { s.testReplaced(t, ca) })
	t.Run("expired", func(t *testing.T) {
		s.testRefusedBy(t, ca, ca, certstest.Options{DNS: []string{edgeName}, From: -48 * time.Hour, Until: -time.Hour}, "certificate has expired", "out of date")
		if out := must[string](t)(s.sipward.CLI("status")); !strings.Contains(out, "expired") {
			t.Errorf("status does not speak of it:\n%s", out)
		}
	})
	t.Run("wrong-name", func(t *testing.T) {
		s.testRefusedBy(t, ca, ca, certstest.Options{DNS: []string{"other.example.com"}}, "ostname mismatch", "for another name")
	})
	t.Run("unknown-authority", func(t *testing.T) {
		s.testRefusedBy(t, ca, certstest.NewAuthority(t, "theirs"), certstest.Options{DNS: []string{edgeName}}, "unable to", "does not know the authority")
	})
}

// testRefusedBy gives sipward a certificate that clients who trust ca refuse. They say so, and sipward says why.
func (s *site) testRefusedBy(t *testing.T, ca, by *certstest.Authority, o certstest.Options, theirs, ours string) {
	s.certify(t, by, o)
	s.sipward.Stop(patience) // how often it tells of failed handshakes is limited
	s.sipward.Restart(t)
	_, err := phone.Dial(phone.Config{Net: s.WAN, Proxy: s.door(tlsWire), Local: netip.AddrPortFrom(lab.Phone(1), 0), Transport: phone.TLS, TLS: s.trust})
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
		t.Errorf("a phone connected: %v", err)
	}
	// OpenSSL sends its alert in the clear where TLS 1.3 has it encrypted: then sipward cannot read it.
	for version, ours := range map[string]string{"-tls1_2": ours, "-tls1_3": "refuses sipward's certificate"} {
		s.sipward.Stop(patience)
		s.sipward.Restart(t)
		cmd := s.WAN.Command("openssl", "s_client", version, "-connect", s.door(tlsWire).String(), "-servername", edgeName,
			"-CAfile", ca.Write(t, s.Dir()), "-verify_hostname", edgeName, "-verify_return_error")
		out, err := cmd.CombinedOutput() // its input is empty
		if err == nil || !strings.Contains(string(out), theirs) {
			t.Errorf("OpenSSL says %v: %s", err, out)
		}
		lab.Poll(t, patience, "sipward tells of it", func() error {
			if text := s.sipward.Log(); !strings.Contains(text, ours) {
				return errors.New(text[max(0, len(text)-2000):])
			}
			return nil
		})
		if out := must[string](t)(s.sipward.CLI("status")); strings.Contains(out, "malformed    bad-handshake") {
			t.Errorf("that counts against the phone:\n%s", out)
		}
	}
}

// testReplaced: while phones register and call, the certificate is replaced, again and again. Nobody notices, but those who
// connect anew.
func (s *site) testReplaced(t *testing.T, ca *certstest.Authority) {
	var phones []*phone.Phone
	for i, w := range []wire{tlsWire, wssWire, tlsWire, wssWire} {
		phones = append(phones, s.registered(t, w, fmt.Sprint(1001+i), 1+i))
	}
	out, in := talk(t, phones[0], phones[1])
	attempts := 0
	pace := time.NewTicker(50 * time.Millisecond) // below tls.handshake_rate and flood.rate
	defer pace.Stop()
	for range 5 {
		s.certify(t, ca, certstest.Options{DNS: []string{edgeName}})
		for end := time.Now().Add(patience); s.serves(t) != s.shown.Cert.SerialNumber.String(); attempts++ {
			if err := attempt(t, phones[2:], attempts, patience); err != nil {
				t.Fatal(err)
			}
			if time.Now().After(end) {
				t.Fatal("who connects is still shown the old certificate")
			}
			<-pace.C
		}
	}
	t.Logf("%d registrations and calls meanwhile", attempts)
	want(t, 200)(in.Request(within(t, patience), "INVITE", phones[1].SDP()))
	want(t, 200)(out.Bye(within(t, patience)))
	ended(t, in)
	for _, p := range phones {
		select {
		case <-p.Lost():
			t.Errorf("the connection of %s was lost", p.AoR())
		default:
		}
	}
}

// serves is the number of the certificate that is shown to who connects.
func (s *site) serves(t *testing.T) string {
	t.Helper()
	c := must[*net.TCPConn](t)(s.WAN.DialTCP(netip.AddrPortFrom(lab.Phone(9), 0), s.door(tlsWire), patience))
	defer c.Close()
	secure := tls.Client(c, s.trust)
	if err := secure.HandshakeContext(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	return secure.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// pbxName is what the certificate of the PBX is for.
const pbxName = "pbx.example.com"

// TestPBXOverTLS: sipward speaks TLS with the PBX, in both directions, and with no other than this one.
func TestPBXOverTLS(t *testing.T) {
	lab.Need(t, "asterisk", "kamailio", "kamailio-tls")
	t.Parallel()
	for _, name := range []string{"kamailio", "asterisk"} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := certstest.NewAuthority(t, "pbx-authority"), certstest.NewAuthority(t, "another")
			s := &site{Lab: labs.New(t)}
			s.Certificate = ours.Issue(t, certstest.Options{DNS: []string{pbxName}})
			if name == "kamailio" {
				s.pbx = s.StartKamailio(t, lab.PBX1)
			} else {
				s.pbx = s.StartAsterisk(t)
			}
			known := fmt.Sprintf("    tls: {name: %s, ca: %q}\n", pbxName, ours.Write(t, s.Dir()))
			s.start(t, s.secured(t, certstest.NewAuthority(t, "ours"), lab.Config{Inside: []string{"udp://203.0.113.1:5060", "tls://203.0.113.1:5061"},
				PBXMore: "    transports: [udp, tls]\n" + known, Extra: "health: {probe: tcp}\n"}))
			s.testBetweenOverTLS(t)
			pin := func(a *certstest.Issued) string { return fmt.Sprintf("    tls: {pins: [%q]}\n", certs.PinOf(a.Cert)) }
			for _, c := range []struct{ what, tls, why string }{
				{"pinned", pin(s.Certificate), ""},
				{"of another authority", fmt.Sprintf("    tls: {name: %s, ca: %q}\n", pbxName, theirs.Write(t, s.Dir())), "authority"},
				{"of another name", strings.Replace(known, pbxName, "other.example.com", 1), "not for other.example.com"},
				{"of another key", pin(theirs.Issue(t, certstest.Options{DNS: []string{pbxName}})), "is not one of its pins"},
				{"known", known, ""},
			} {
				t.Run(strings.ReplaceAll(c.what, " ", "-"), func(t *testing.T) { s.testKnows(t, known, c.tls, c.why) })
				s.sipward.Edit(t, c.tls, known)
			}
		})
	}
}

// testBetweenOverTLS: calls between phones on several transports, that go to the PBX over UDP and TLS alone.
func (s *site) testBetweenOverTLS(t *testing.T) {
	plain := must[*lab.Counter](t)(s.PBX.CountMatching("plain", "tcp dport 5060", lab.PBX1))
	for i, w := range [][2]wire{{tlsWire, udp}, {udp, tcp}, {wssWire, tlsWire}} {
		a, b := s.registered(t, w[0], "1001", 1+2*i), s.registered(t, w[1], "1002", 2+2*i)
		out, in := talk(t, a, b)
		s.arrives(t, w[1], b, in.Invite)
		want(t, 200)(in.Request(within(t, patience), "INVITE", b.SDP()))
		want(t, 200)(out.Bye(within(t, patience)))
		ended(t, in)
		want(t, 200)(a.Register(within(t, patience), 0))
		want(t, 200)(b.Register(within(t, patience), 0))
	}
	if n := must[int](t)(plain.Packets()); n != 0 {
		t.Errorf("%d packets went to the PBX over TCP in the clear", n)
	}
}

// testKnows starts sipward with another idea of the PBX's certificate. It says what is wrong with it, if anything is.
func (s *site) testKnows(t *testing.T, known, instead, why string) {
	s.sipward.Stop(patience)
	s.sipward.Edit(t, known, instead)
	s.sipward.Restart(t)
	if why == "" {
		s.registered(t, tlsWire, "1003", 11)
		return
	}
	lab.Poll(t, 2*patience, "sipward says what is wrong", func() error {
		out, err := s.sipward.CLI("status")
		if err == nil && !strings.Contains(out, why) {
			err = errors.New(out)
		}
		return err
	})
	p := s.phone(t, tlsWire, "1003", 11)
	want(t, 503)(p.Register(within(t, 2*patience), 300))
}
