//go:build linux

package e2e_test

import (
	"fmt"
	"testing"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

// testPath: with path: true the PBX gets each phone's own Contact, and a Path header that leads back through sipward
// (RFC 3327). It comes into force by a reload, and goes by one.
func (s *site) testPath(t *testing.T) {
	if direct {
		t.Skip("the Path is sipward's")
	}
	const off, on = "lists: {}\n", "lists: {}\npath: true\n"
	probe := s.phone(t, udp, "1005", 7)
	defer func() {
		s.sipward.Edit(t, on, off)
		s.registersAs(t, probe, false)
	}()
	s.sipward.Edit(t, off, on)
	s.registersAs(t, probe, true)
	for _, w := range []wire{udp, tcp} {
		t.Run(w.String(), func(t *testing.T) { s.testPathCalls(t, w) })
	}
}

// registersAs reloads the configuration and lets a phone register until the PBX has its own contact, or an alias of it.
func (s *site) registersAs(t *testing.T, p *phone.Phone, own bool) {
	t.Helper()
	if err := s.sipward.Reload(); err != nil {
		t.Fatal(err)
	}
	lab.Poll(t, patience, fmt.Sprintf("the phone's own contact reaches the PBX: %v", own), func() error {
		want(t, 200)(p.Register(within(t, patience), 300))
		uris, err := s.pbx.Contacts("1005")
		if err == nil && (len(uris) != 1 || own != (uris[0] == p.Contact())) {
			err = fmt.Errorf("it has %q", uris)
		}
		want(t, 200)(p.Do(within(t, patience), p.Registration(0, "*"))) // whichever it has
		return err
	})
}

func (s *site) testPathCalls(t *testing.T, w wire) {
	caller, callee := s.registered(t, w, "1003", 3), s.phone(t, w, "1004", 4)
	r := want(t, 200)(callee.Register(within(t, patience), 300))
	shows(t, r, callee.Contact())
	if at := s.contacts(t, "1004", 1)[0]; at != callee.Contact() {
		t.Errorf("the PBX has the contact %q, the phone wrote %q", at, callee.Contact())
	}
	out, in := talk(t, caller, callee)
	s.arrives(t, w, callee, in.Invite)
	want(t, 200)(in.Request(within(t, patience), "INVITE", callee.SDP()))
	want(t, 200)(in.Bye(within(t, patience)))
	ended(t, out)
	out, in = talk(t, callee, caller)
	want(t, 200)(in.Request(within(t, patience), "UPDATE", caller.SDP()))
	want(t, 200)(out.Bye(within(t, patience)))
	ended(t, in)

	shows(t, want(t, 200)(callee.Register(within(t, patience), 300)), callee.Contact())
	s.contacts(t, "1004", 1)
	if s.pbx.Name() == "kamailio" { // Asterisk 16 follows a Path with calls and OPTIONS, not with MESSAGE
		s.sendMessage(t, caller, callee, "by the path")
		must[*phone.Received](t)(callee.WaitRequest(within(t, patience), "MESSAGE"))
	}
	out, in = talk(t, caller, callee)
	want(t, 200)(out.Bye(within(t, patience)))
	ended(t, in)

	want(t, 200)(callee.Register(within(t, patience), 0))
	s.contacts(t, "1004", 0)
	gone := must[*phone.Call](t)(caller.Call(within(t, patience), callee.AoR()))
	if r := must[*phone.Received](t)(gone.Answered(within(t, patience))); r.Status() < 400 {
		t.Errorf("a call to a phone that has left was answered %q", r.StartLine())
	}
	if calls, _ := callee.Waiting(); calls > 0 {
		t.Error("the phone was called after it had left")
	}
}
