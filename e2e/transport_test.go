//go:build linux

package e2e_test

import (
	"testing"

	"sipward/e2e/lab"
	"sipward/proxy/certs/certstest"
)

// manyCalls lets pass what two phones send when dozens of tests are over in three seconds.
const manyCalls = "flood: {rate: 100000, burst: 100000}\n"

// TestTransportsAsterisk has phones over TLS, WebSocket and DTLS call through an Asterisk that knows nothing of it.
func TestTransportsAsterisk(t *testing.T) {
	lab.Need(t, "asterisk")
	t.Parallel()
	s := &site{Lab: labs.New(t)}
	s.pbx = s.StartAsterisk(t)
	s.start(t, s.secured(t, certstest.NewAuthority(t, "ours"), lab.Config{Extra: manyCalls}))
	s.transports(t)
}

// TestTransportsKamailio does the same with Kamailio.
func TestTransportsKamailio(t *testing.T) {
	lab.Need(t, "kamailio")
	t.Parallel()
	s := &site{Lab: labs.New(t)}
	s.pbx = s.StartKamailio(t, lab.PBX1)
	s.start(t, s.secured(t, certstest.NewAuthority(t, "ours"), lab.Config{Extra: manyCalls}))
	s.transports(t)
}

func (s *site) transports(t *testing.T) {
	for _, w := range newWires {
		t.Run(w.String(), func(t *testing.T) {
			t.Run("register", func(t *testing.T) { s.testRegister(t, w) })
			t.Run("contacts", func(t *testing.T) { s.testContacts(t, w) })
			t.Run("one-address", func(t *testing.T) { s.testOneAddress(t, w) })
			t.Run("call", func(t *testing.T) { s.testCall(t, w) })
			t.Run("callee-hangs-up", func(t *testing.T) { s.testCalleeHangsUp(t, w) })
			t.Run("cancel", func(t *testing.T) { s.testCancel(t, w) })
			t.Run("busy", func(t *testing.T) { s.testBusy(t, w) })
			t.Run("message", func(t *testing.T) { s.testMessage(t, w) })
			t.Run("subscribe", func(t *testing.T) { s.testSubscribe(t, w) })
			t.Run("refer", func(t *testing.T) { s.testRefer(t, w) })
			t.Run("big", func(t *testing.T) { s.testBig(t, w) })
		})
		t.Run(w.String()+"6", func(t *testing.T) {
			six := wire{over: w.over, v6: true}
			s.testRegister(t, six)
			s.testCall(t, six)
		})
	}
	for _, w := range []wire{tlsWire, wssWire} {
		t.Run(w.String()+"-sips", func(t *testing.T) { s.testSIPS(t, w) })
	}
	for _, ends := range [][2]wire{{tlsWire, udp}, {udp, tlsWire}, {wssWire, udp}, {dtlsWire, tcp}, {wsWire, dtlsWire}, {tlsWire, wssWire}} {
		t.Run(ends[0].String()+"-to-"+ends[1].String(), func(t *testing.T) { s.testBetween(t, ends[0], ends[1]) })
	}
	// After this the phones of before are not connected any more.
	for _, w := range []wire{tlsWire, wssWire, dtlsWire} {
		t.Run(w.String()+"-restart", func(t *testing.T) { s.testRestart(t, w) })
	}
}

// testBetween: a call between phones on different transports, with changes from both sides; each side hangs up once.
func (s *site) testBetween(t *testing.T, from, to wire) {
	caller, callee := s.registered(t, from, "1001", 1), s.registered(t, to, "1002", 2)
	for _, callerHangsUp := range []bool{true, false} {
		out, in := talk(t, caller, callee)
		s.arrives(t, to, callee, in.Invite)
		want(t, 200)(out.Request(within(t, patience), "INVITE", caller.SDP()))
		want(t, 200)(in.Request(within(t, patience), "INVITE", callee.SDP()))
		if callerHangsUp {
			want(t, 200)(out.Bye(within(t, patience)))
			ended(t, in)
		} else {
			want(t, 200)(in.Bye(within(t, patience)))
			ended(t, out)
		}
	}
}
