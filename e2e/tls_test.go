//go:build linux

package e2e_test

import (
	"net/netip"
	"testing"
	"time"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
	"sipward/proxy/certs/certstest"
)

// TestTLS: programs that are not ours, over TLS and WebSocket.
func TestTLS(t *testing.T) {
	lab.Need(t, "baresip", "asterisk", "kamailio")
	t.Parallel()
	ca := certstest.NewAuthority(t, "ours")
	for _, name := range []string{"kamailio", "asterisk"} {
		t.Run(name, func(t *testing.T) {
			s := &site{Lab: labs.New(t)}
			if name == "kamailio" {
				s.pbx = s.StartKamailio(t, lab.PBX1)
			} else {
				s.pbx = s.StartAsterisk(t)
			}
			s.start(t, s.secured(t, ca, lab.Config{}))
			for _, w := range []wire{tlsWire, wsWire, wssWire} {
				t.Run("sipp-"+w.String(), func(t *testing.T) { s.testSIPpOver(t, w, ca) })
			}
			t.Run("baresip", func(t *testing.T) { s.testBaresip(t, ca) })
		})
	}
}

// testSIPpOver: SIPp registers, and calls a phone on UDP, all over one connection.
func (s *site) testSIPpOver(t *testing.T, w wire, ca *certstest.Authority) {
	lab.Need(t, "sipp-tls")
	own := certstest.NewAuthority(t, "sipp").Issue(t, certstest.Options{CommonName: "sipp"})
	files := lab.SIPpTLS{CA: ca.Write(t, s.Dir())}
	files.Certificate, files.Key = own.Write(t, t.TempDir(), "sipp")
	at := func(n int) netip.AddrPort { return netip.AddrPortFrom(lab.Phone(n), 0) }
	s.StartSIPp(t, lab.SIPpConfig{Name: "register", Scenario: "testdata/sipp/register.xml", Local: at(22), Remote: s.door(w), Over: w.over, TLS: &files,
		Calls: 1, Users: []string{"1004"}, Domain: s.pbx.Domain()}).Wait(t, patience)
	s.answerAll(t, s.registered(t, udp, "1005", 20))
	s.StartSIPp(t, lab.SIPpConfig{Name: "caller", Scenario: "testdata/sipp/caller.xml", Local: at(21), Remote: s.door(w), Over: w.over, TLS: &files,
		Calls: sippCalls, Rate: 20, Users: []string{"1001"}, Called: "1005", Domain: s.pbx.Domain()}).Wait(t, 40*time.Second)
}

// testBaresip: baresip registers, calls, and is called. It trusts our authority alone.
func (s *site) testBaresip(t *testing.T, ca *certstest.Authority) {
	own := ca.Issue(t, certstest.Options{IPs: []string{lab.WANHost.String()}})
	b := s.StartBaresip(t, lab.BaresipConfig{User: "1003", Domain: s.pbx.Domain(), Proxy: s.door(tlsWire).String(), CA: ca.Write(t, s.Dir()), Certificate: own, Control: 4444})
	s.contacts(t, "1003", 1)
	p := s.registered(t, udp, "1002", 2)
	b.Do(t, "dial", p.AoR())
	in := must[*phone.Call](t)(p.Incoming(within(t, 2*patience)))
	in.Ring()
	if err := in.Answer(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	b.Event(t, 1, "CALL_ESTABLISHED")
	b.Do(t, "hangup", "")
	ended(t, in)
	out := must[*phone.Call](t)(p.Call(within(t, 4*patience), "sip:1003@"+s.pbx.Domain()))
	want(t, 200)(out.Answered(within(t, patience)))
	want(t, 200)(out.Request(within(t, patience), "INVITE", p.SDP()))
	want(t, 200)(out.Bye(within(t, patience)))
	b.Event(t, 2, "CALL_CLOSED")
}
