//go:build linux

package e2e_test

import (
	"strings"
	"testing"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

// pair registers a caller and a callee.
func (s *site) pair(t *testing.T, w wire) (caller, callee *phone.Phone) {
	t.Helper()
	return s.registered(t, w, "1001", 1), s.registered(t, w, "1002", 2)
}

// ring calls and lets the callee ring; both ends see it.
func ring(t *testing.T, caller, callee *phone.Phone) (out, in *phone.Call) {
	t.Helper()
	out = must[*phone.Call](t)(caller.Call(within(t, 4*patience), callee.AoR()))
	in = must[*phone.Call](t)(callee.Incoming(within(t, patience)))
	in.Ring()
	want(t, 180)(out.Ringing(within(t, patience), 180))
	return out, in
}

// talk is ring, and the callee answers.
func talk(t *testing.T, caller, callee *phone.Phone) (out, in *phone.Call) {
	t.Helper()
	out, in = ring(t, caller, callee)
	if err := in.Answer(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	want(t, 200)(out.Answered(within(t, patience)))
	return out, in
}

// ended waits until the peer has hung up.
func ended(t *testing.T, c *phone.Call) {
	t.Helper()
	if how := must[string](t)(c.WaitEnd(within(t, patience))); how != "BYE" {
		t.Fatalf("the call ended with %s, want BYE", how)
	}
}

// arrives checks an INVITE as the called phone sees it: addressed to the contact that it registered, byte for byte, and
// with routes that lead back through sipward's outside alone.
func (s *site) arrives(t *testing.T, w wire, callee *phone.Phone, invite *phone.Received) {
	t.Helper()
	// (EqualFold because Asterisk, where it rewrites contacts, writes ;transport=TCP for ;transport=tcp, RFC 3261 §19.1.4.)
	if got := invite.RequestURI(); !strings.EqualFold(got, callee.Contact()) {
		t.Errorf("the INVITE is addressed to %q, want the phone's own contact %q", got, callee.Contact())
	}
	if s.bare() {
		return
	}
	if got := invite.Source; got.Addr() != s.proxy(w.v6).Addr() {
		t.Errorf("the INVITE came from %v", got)
	}
	via := invite.Value("Via")
	if !strings.Contains(via, phone.URIHost(s.proxy(w.v6).Addr())) {
		t.Errorf("the top Via %q is not sipward's outside address", via)
	}
	if routes := invite.List("Record-Route"); len(routes) == 0 {
		t.Error("the INVITE has no Record-Route: the phone would send its BYE around sipward")
	} else if !strings.Contains(routes[0], phone.URIHost(s.proxy(w.v6).Addr())) {
		t.Errorf("the nearest route %q is not sipward's outside address", routes[0])
	}
	if to := phone.AddressURI(invite.Value("To")); strings.Contains(to, lab.EdgePBX.String()) {
		t.Errorf("To shows the inside of sipward: %q", to)
	}
}

// testCall: a whole call with changes on the way, ended by the caller.
func (s *site) testCall(t *testing.T, w wire) {
	caller, callee := s.pair(t, w)
	out, in := talk(t, caller, callee)
	s.arrives(t, w, callee, in.Invite)
	want(t, 200)(out.Request(within(t, patience), "INVITE", caller.SDP()))
	want(t, 200)(in.Request(within(t, patience), "INVITE", callee.SDP()))
	want(t, 200)(out.Request(within(t, patience), "UPDATE", caller.SDP()))
	want(t, 200)(in.Request(within(t, patience), "UPDATE", callee.SDP()))
	want(t, 200)(out.Bye(within(t, patience)))
	ended(t, in)
}

// testCalleeHangsUp: the BYE comes from the called side.
func (s *site) testCalleeHangsUp(t *testing.T, w wire) {
	caller, callee := s.pair(t, w)
	out, in := talk(t, caller, callee)
	want(t, 200)(in.Bye(within(t, patience)))
	ended(t, out)
}

// testCancel: the caller gives up while it rings.
func (s *site) testCancel(t *testing.T, w wire) {
	caller, callee := s.pair(t, w)
	out, in := ring(t, caller, callee)
	want(t, 200)(out.Cancel(within(t, patience)))
	want(t, 487)(out.Answered(within(t, patience)))
	if how := must[string](t)(in.WaitEnd(within(t, patience))); how != "CANCEL" {
		t.Fatalf("the callee's call ended with %s", how)
	}
}

// testBusy: the callee refuses.
func (s *site) testBusy(t *testing.T, w wire) {
	caller, callee := s.pair(t, w)
	out, in := ring(t, caller, callee)
	in.Reject(486, "Busy Here")
	want(t, 486)(out.Answered(within(t, patience)))
}

// testNoAnswer: nobody answers, and the PBX gives up (after 3 s for this account).
func (s *site) testNoAnswer(t *testing.T, w wire) {
	caller, callee := s.registered(t, w, "1001", 1), s.registered(t, w, "1009", 2)
	out, in := ring(t, caller, callee)
	r := must[*phone.Received](t)(out.Answered(within(t, patience)))
	if st := r.Status(); st != 480 && st != 408 {
		t.Fatalf("answer %q", r.StartLine())
	}
	if how := must[string](t)(in.WaitEnd(within(t, patience))); how != "CANCEL" {
		t.Fatalf("the callee's call ended with %s", how)
	}
}
