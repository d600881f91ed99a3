//go:build linux

package e2e_test

import (
	"strings"
	"testing"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

// testOptions: a phone asks what the PBX can do.
func (s *site) testOptions(t *testing.T, w wire) {
	p := s.phone(t, w, "1001", 1)
	r := must[*phone.Received](t)(p.Do(within(t, patience), p.NewRequest("OPTIONS", "sip:"+s.pbx.Domain())))
	// Asterisk has no extension of that name, and says so; both are answers of the PBX.
	if st := r.Status(); st != 200 && st != 404 {
		t.Fatalf("answer %q", r.StartLine())
	}
	if s.pbx.Name() == "kamailio" || direct {
		return
	}
	// Asterisk asks its phones, and knows the way to them by that.
	watched := s.registered(t, w, "1101", 4)
	must[*phone.Received](t)(watched.WaitRequest(within(t, patience), "OPTIONS"))
	s.asteriskSays(t, "pjsip show contacts", "Avail")
}

// asteriskSays waits until Asterisk's answer to a command has that text. Another PBX has nothing to say.
func (s *site) asteriskSays(t *testing.T, command, text string) {
	t.Helper()
	a, ok := s.pbx.(*lab.Asterisk)
	if !ok {
		return
	}
	lab.Poll(t, patience, "Asterisk says "+text, func() error {
		out, err := a.CLI(command)
		if err == nil && !strings.Contains(out, text) {
			err = &missing{out}
		}
		return err
	})
}

// missing is an error that shows what was found instead.
type missing struct{ in string }

func (e *missing) Error() string { return "not in:\n" + e.in }

// testMessage: a text both ways.
func (s *site) testMessage(t *testing.T, w wire) {
	a, b := s.pair(t, w)
	for _, way := range [][2]*phone.Phone{{a, b}, {b, a}} {
		text := "Grüße <&> an " + way[1].AoR()
		s.sendMessage(t, way[0], way[1], text)
		r := must[*phone.Received](t)(way[1].WaitRequest(within(t, patience), "MESSAGE"))
		if got := string(r.Body()); got != text {
			t.Fatalf("the text arrived as %q", got)
		}
		if got := r.RequestURI(); got != way[1].Contact() {
			t.Errorf("the MESSAGE is addressed to %q, want %q", got, way[1].Contact())
		}
	}
}

// testSubscribe: presence. Asterisk is the notifier itself; behind Kamailio it is the other phone.
func (s *site) testSubscribe(t *testing.T, w wire) {
	watcher, watched := s.pair(t, w)
	s.asteriskSays(t, "core show hint 1002", "State:Idle")
	req := watcher.NewRequest("SUBSCRIBE", watched.AoR(), phone.Header{Name: "Event", Value: "presence"},
		phone.Header{Name: "Expires", Value: "600"}, phone.Header{Name: "Accept", Value: "application/pidf+xml"})
	r := must[*phone.Received](t)(watcher.Do(within(t, patience), req))
	if r.Status()/100 != 2 {
		t.Fatalf("SUBSCRIBE was answered %q", r.StartLine())
	}
	if s.pbx.Name() == "kamailio" {
		sub := must[*phone.Received](t)(watched.WaitRequest(within(t, patience), "SUBSCRIBE"))
		d := watched.Dialog(sub)
		want(t, 200)(watched.Do(within(t, patience), d.Request("NOTIFY", phone.Header{Name: "Event", Value: "presence"},
			phone.Header{Name: "Subscription-State", Value: "active;expires=600"}, phone.Header{Name: "Contact", Value: "<" + watched.Contact() + ">"})))
	}
	n := must[*phone.Received](t)(watcher.WaitRequest(within(t, patience), "NOTIFY"))
	if state := n.Value("Subscription-State"); !strings.HasPrefix(state, "active") {
		t.Fatalf("Subscription-State %q", state)
	}
	if s.pbx.Name() == "asterisk" { // its own news, in the dialog: the watched phone leaves
		want(t, 200)(watched.Register(within(t, patience), 0))
		lab.Poll(t, patience, "Asterisk tells that the phone has left", func() error {
			n, err := watcher.WaitRequest(within(t, patience), "NOTIFY")
			if err == nil && !strings.Contains(string(n.Body()), "<basic>closed</basic>") {
				err = &missing{string(n.Body())}
			}
			return err
		})
	}
	again := watcher.ClientDialog(req, r).Request("SUBSCRIBE", phone.Header{Name: "Event", Value: "presence"},
		phone.Header{Name: "Expires", Value: "0"}, phone.Header{Name: "Accept", Value: "application/pidf+xml"}, phone.Header{Name: "Contact", Value: "<" + watcher.Contact() + ">"})
	if r := must[*phone.Received](t)(watcher.Do(within(t, patience), again)); r.Status()/100 != 2 {
		t.Fatalf("the SUBSCRIBE that ends it was answered %q", r.StartLine())
	}
}

// testRefer: a transfer. Behind Asterisk, which carries it out, the callee ends up with a third phone; behind Kamailio the
// callee gets the REFER itself, calls the third phone, and reports.
func (s *site) testRefer(t *testing.T, w wire) {
	caller, callee := s.pair(t, w)
	third := s.registered(t, w, "1003", 3)
	out, in := talk(t, caller, callee)
	s.asteriskSays(t, "core show channels", "1 active call") // it has joined the two; before that it has nothing to transfer
	want(t, 202)(out.Request(within(t, patience), "REFER", nil, phone.Header{Name: "Refer-To", Value: "<" + third.AoR() + ">"},
		phone.Header{Name: "Referred-By", Value: "<" + caller.AoR() + ">"}, phone.Header{Name: "Contact", Value: "<" + caller.Contact() + ">"}))
	if s.pbx.Name() == "kamailio" {
		got := must[*phone.Received](t)(in.WaitRequest(within(t, patience), "REFER"))
		if to := phone.AddressURI(got.Value("Refer-To")); to != third.AoR() {
			t.Errorf("Refer-To arrived as %q", to)
		}
		second, atThird := talk(t, callee, third)
		want(t, 200)(in.Request(within(t, patience), "NOTIFY", []byte("SIP/2.0 200 OK\r\n"), phone.Header{Name: "Event", Value: "refer"},
			phone.Header{Name: "Subscription-State", Value: "terminated;reason=noresource"}, phone.Header{Name: "Content-Type", Value: "message/sipfrag"},
			phone.Header{Name: "Contact", Value: "<" + callee.Contact() + ">"}))
		s.notified(t, out)
		want(t, 200)(out.Bye(within(t, patience)))
		ended(t, in)
		want(t, 200)(atThird.Bye(within(t, patience)))
		ended(t, second)
		return
	}
	atThird := must[*phone.Call](t)(third.Incoming(within(t, patience)))
	atThird.Ring()
	if err := atThird.Answer(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	s.notified(t, out)
	want(t, 200)(atThird.Bye(within(t, patience)))
	ended(t, in)
}

// notified waits until the referrer has heard how the transfer goes.
func (s *site) notified(t *testing.T, c *phone.Call) {
	t.Helper()
	n := must[*phone.Received](t)(c.WaitRequest(within(t, patience), "NOTIFY"))
	if !strings.HasPrefix(string(n.Body()), "SIP/2.0 ") {
		t.Errorf("NOTIFY without the outcome: %q", n.Body())
	}
}
