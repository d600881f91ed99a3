//go:build linux

package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

// testNATAccounts: Asterisk as distributions set it up, which takes a phone's address from the packet rather than from its
// Contact, and asks its phones every few seconds whether they live.
func (s *site) testNATAccounts(t *testing.T, w wire) {
	caller, callee := s.registered(t, w, "1101", 1), s.registered(t, w, "1102", 2)
	must[*phone.Received](t)(callee.WaitRequest(within(t, patience), "OPTIONS"))
	out, in := talk(t, caller, callee)
	s.arrives(t, w, callee, in.Invite)
	want(t, 200)(in.Request(within(t, patience), "INVITE", callee.SDP()))
	want(t, 200)(in.Bye(within(t, patience)))
	ended(t, out)
	s.sendMessage(t, callee, caller, "hello")
	must[*phone.Received](t)(caller.WaitRequest(within(t, patience), "MESSAGE"))
}

// testDirectMedia: Asterisk sends re-INVITEs of its own, to have the phones send their media to each other.
func (s *site) testDirectMedia(t *testing.T, w wire) {
	caller, callee := s.registered(t, w, "1006", 1), s.registered(t, w, "1007", 2)
	out, in := talk(t, caller, callee)
	for _, c := range []*phone.Call{out, in} {
		must[*phone.Received](t)(c.WaitRequest(within(t, patience), "INVITE"))
	}
	want(t, 200)(out.Bye(within(t, patience)))
	ended(t, in)
}

// testHangupByPBX: the PBX itself ends a call.
func (s *site) testHangupByPBX(t *testing.T, w wire) {
	caller := s.registered(t, w, "1001", 1)
	out := must[*phone.Call](t)(caller.Call(within(t, 2*patience), "sip:"+lab.HangupNumber+"@"+s.pbx.Domain()))
	want(t, 200)(out.Answered(within(t, patience)))
	ended(t, out)
	out = must[*phone.Call](t)(caller.Call(within(t, patience), "sip:"+lab.BusyNumber+"@"+s.pbx.Domain()))
	want(t, 486)(out.Answered(within(t, patience)))
}

// connections counts the connections to the PBX's SIP port.
func (s *site) connections(t *testing.T) int {
	t.Helper()
	out := must[string](t)(s.PBX.Output("ss", "-Htn", "state", "established", "sport", "=", ":5060"))
	return strings.Count(out, "\n")
}

func (s *site) waitConnections(t *testing.T, n int) {
	t.Helper()
	lab.Poll(t, patience, fmt.Sprintf("the PBX has %d connections", n), func() error {
		if got := s.connections(t); got != n {
			return fmt.Errorf("it has %d", got)
		}
		return nil
	})
}

// testPairing: each phone's connection has one of its own to Asterisk, which drops a contact when its connection ends. So
// a phone is registered while it is connected, and gone when it leaves, as without sipward.
func (s *site) testPairing(t *testing.T) {
	s.waitConnections(t, 0)
	users := lab.NAT[:3]
	var phones []*phone.Phone
	for i, user := range users {
		p := s.registered(t, tcp, user, 30) // all behind one address
		phones = append(phones, p)
		s.waitConnections(t, i+1)
		s.contacts(t, user, 1)
	}
	// While they are connected they stay: Asterisk asks them twice, five seconds apart, over their own connections.
	for range 2 {
		for _, p := range phones {
			must[*phone.Received](t)(p.WaitRequest(within(t, patience), "OPTIONS"))
		}
	}
	s.waitConnections(t, 3)
	phones[0].Close()
	s.waitConnections(t, 2)
	s.contacts(t, users[0], 0)
	for _, user := range users[1:] {
		s.contacts(t, user, 1)
	}
	phones[2].Close()
	s.contacts(t, users[2], 0)
	s.contacts(t, users[1], 1)
	// A phone that connects again is there again.
	back := s.registered(t, tcp, users[0], 30)
	s.contacts(t, users[0], 1)
	s.waitConnections(t, 2)
	begun := time.Now()
	back.Close()
	s.contacts(t, users[0], 0)
	t.Logf("Asterisk had dropped the contact %v after the phone left", time.Since(begun).Round(time.Millisecond))
}
