//go:build linux

package e2e_test

import (
	"net/netip"
	"testing"
	"time"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

// sippCalls is how many calls SIPp makes, ten a second.
const sippCalls = 20

// testSIPp: phones that are somebody else's program. Over UDP SIPp is both ends of the calls; over TCP it is the caller, with
// all calls on one connection.
func (s *site) testSIPp(t *testing.T, w wire) {
	at := func(n int, port uint16) netip.AddrPort { return netip.AddrPortFrom(lab.Phone(n), port) }
	callee := at(20, 5080)
	if w.over.Connected() {
		s.answerAll(t, s.registered(t, w, "1005", 20))
	} else {
		s.StartSIPp(t, lab.SIPpConfig{Name: "register", Scenario: "testdata/sipp/register.xml", Local: callee, Remote: s.proxy(w.v6),
			Calls: 1, Users: []string{"1005"}, Domain: s.pbx.Domain()}).Wait(t, patience)
		s.contacts(t, "1005", 1)
		defer func() { // SIPp does not take its registration back
			p := s.phone(t, w, "1005", 20)
			want(t, 200)(p.Do(within(t, patience), p.Registration(0, "*")))
		}()
	}
	var answering *lab.SIPp
	if !w.over.Connected() {
		answering = s.StartSIPp(t, lab.SIPpConfig{Name: "callee", Scenario: "testdata/sipp/callee.xml", Local: callee, Remote: s.proxy(w.v6), Calls: sippCalls})
	}
	calling := s.StartSIPp(t, lab.SIPpConfig{Name: "caller", Scenario: "testdata/sipp/caller.xml", Local: at(21, 5090), Remote: s.proxy(w.v6), Over: w.over,
		Calls: sippCalls, Rate: 10, Users: []string{"1001"}, Called: "1005", Domain: s.pbx.Domain()})
	calling.Wait(t, 40*time.Second)
	if answering != nil {
		answering.Wait(t, patience)
	}
}

// answerAll lets a phone answer every call until the test ends.
func (s *site) answerAll(t *testing.T, p *phone.Phone) {
	ctx := t.Context()
	go func() {
		for {
			c, err := p.Incoming(ctx)
			if err != nil {
				return
			}
			c.Ring()
			go func() { _ = c.Answer(ctx) }()
		}
	}()
}
