//go:build linux

package e2e_test

import (
	"net/netip"
	"testing"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

var (
	udp  = wire{}
	tcp  = wire{over: phone.TCP}
	udp6 = wire{v6: true}
	tcp6 = wire{over: phone.TCP, v6: true}
)

// TestAsterisk runs everything that concerns one PBX against an unmodified Asterisk.
func TestAsterisk(t *testing.T) {
	lab.Need(t, "asterisk", "sipp")
	t.Parallel()
	s := &site{Lab: labs.New(t)}
	s.pbx = s.StartAsterisk(t)
	s.dns = s.StartDNS(t, carrierRecords...)
	s.start(t, lab.Config{})
	s.suite(t)
	t.Run("pairing", s.testPairing)
	for _, w := range []wire{udp, tcp} {
		t.Run(w.String()+"-nat", func(t *testing.T) { s.testNATAccounts(t, w) })
		t.Run(w.String()+"-direct-media", func(t *testing.T) { s.testDirectMedia(t, w) })
		t.Run(w.String()+"-hangup", func(t *testing.T) { s.testHangupByPBX(t, w) })
	}
	s.hardships(t)
}

// TestKamailio runs the same against Kamailio.
func TestKamailio(t *testing.T) {
	lab.Need(t, "kamailio", "sipp")
	t.Parallel()
	s := &site{Lab: labs.New(t)}
	s.pbx = s.StartKamailio(t, lab.PBX1)
	s.dns = s.StartDNS(t, carrierRecords...)
	s.start(t, lab.Config{})
	s.suite(t)
	s.hardships(t)
}

// TestIPv6 has IPv6 on both sides of sipward (the suites have IPv6 phones of an IPv4 PBX).
func TestIPv6(t *testing.T) {
	lab.Need(t, "kamailio")
	t.Parallel()
	s := &site{Lab: labs.New(t)}
	s.pbx = s.StartKamailio(t, lab.PBX1)
	s.start(t, lab.Config{PBX: []string{netip.AddrPortFrom(lab.PBX1v6, 5060).String()}})
	for _, w := range []wire{udp6, tcp6} {
		t.Run(w.String(), func(t *testing.T) {
			s.testRegister(t, w)
			s.testCall(t, w)
			s.testBig(t, w)
		})
	}
}

// suite is what must hold for every PBX. Its parts run one after the other.
func (s *site) suite(t *testing.T) {
	for _, w := range []wire{udp, tcp, udp6, tcp6} {
		t.Run(w.String(), func(t *testing.T) {
			t.Run("register", func(t *testing.T) { s.testRegister(t, w) })
			t.Run("call", func(t *testing.T) { s.testCall(t, w) })
			if w.v6 {
				return // once each
			}
			t.Run("contacts", func(t *testing.T) { s.testContacts(t, w) })
			t.Run("one-address", func(t *testing.T) { s.testOneAddress(t, w) })
			t.Run("callee-hangs-up", func(t *testing.T) { s.testCalleeHangsUp(t, w) })
			t.Run("cancel", func(t *testing.T) { s.testCancel(t, w) })
			t.Run("busy", func(t *testing.T) { s.testBusy(t, w) })
			t.Run("no-answer", func(t *testing.T) { s.testNoAnswer(t, w) })
			t.Run("options", func(t *testing.T) { s.testOptions(t, w) })
			t.Run("message", func(t *testing.T) { s.testMessage(t, w) })
			t.Run("subscribe", func(t *testing.T) { s.testSubscribe(t, w) })
			t.Run("refer", func(t *testing.T) { s.testRefer(t, w) })
			t.Run("big", func(t *testing.T) { s.testBig(t, w) })
			t.Run("sipp", func(t *testing.T) { s.testSIPp(t, w) })
		})
	}
}

// hardships are what must not end a call.
func (s *site) hardships(t *testing.T) {
	t.Run("trunk", s.testTrunk)
	t.Run("path", s.testPath)
	for _, w := range []wire{udp, tcp} {
		t.Run(w.String()+"-restart", func(t *testing.T) { s.testRestart(t, w) })
	}
	for _, w := range []wire{udp, tcp} {
		t.Run(w.String()+"-loss", func(t *testing.T) { s.testLoss(t, w) })
	}
}
