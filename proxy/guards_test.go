package proxy_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"sipward/policy"
	"sipward/policy/event"
	"sipward/sip/siptest"
)

// TestMalformedRejected: beyond the count a malformed message is answered with the code of
// the action, before that with the one that names the fault.
func TestMalformedRejected(t *testing.T) {
	r := newRig(t, rigOptions{policy: func(c *policy.Config) {
		c.Malformed = policy.Malformed{Threshold: 2, Action: policy.Action{Kind: policy.ActionReject, Code: 480}}
	}})
	phone := newPeer(t, "127.0.1.1")
	msg := strings.Replace(string(siptest.Invite(siptest.Options{Via: phone.addr.String()})), "SIP/2.0\r\nVia", "SIP/3.0\r\nVia", 1)
	for i, want := range []string{"SIP/2.0 505 Version Not Supported", "SIP/2.0 505 Version Not Supported", "SIP/2.0 480 Temporarily Unavailable"} {
		phone.send(r.outside, []byte(msg))
		m, _ := phone.receive()
		if got := string(m.Buf[:bytes.IndexByte(m.Buf, '\r')]); got != want {
			t.Errorf("answer %d is %q, want %q", i, got, want)
		}
	}
	r.expectCount(policy.ReasonMalformed, 3)
	r.pbx.silent()
}

// TestRejectedWithAnyCode: a guard may answer with any code, also one that asks for a header of the request which is not there.
func TestRejectedWithAnyCode(t *testing.T) {
	for _, code := range []int{420, 503, 699} {
		r := newRig(t, rigOptions{policy: func(c *policy.Config) {
			c.Invite = policy.Invite{RateLimit: 1, Action: policy.Action{Kind: policy.ActionReject, Code: code}}
		}})
		phone := newPeer(t, "127.0.1.1")
		for i := range 2 {
			phone.send(r.outside, siptest.Invite(siptest.Options{Via: phone.addr.String(), CallID: fmt.Sprint(i)}))
		}
		if m, _ := phone.receive(); m.Status != code {
			t.Errorf("answered %d, want %d", m.Status, code)
		}
	}
}

// TestFloodWatched: a flood limit that only watches stops nobody, over either transport.
func TestFloodWatched(t *testing.T) {
	for _, kind := range []policy.ActionKind{policy.ActionWatch, policy.ActionNotify, policy.ActionDrop} {
		t.Run(kind.String(), func(t *testing.T) {
			r := newRig(t, rigOptions{policy: func(c *policy.Config) {
				c.Flood = policy.Flood{Rate: 0.001, Burst: 1, Action: policy.Action{Kind: kind}}
			}})
			phone := newPeer(t, "127.0.1.1")
			for i := range 3 {
				phone.send(r.outside, siptest.Request("OPTIONS", siptest.Options{Via: phone.addr.String(), CallID: fmt.Sprint("flood-", i)}))
				if kind != policy.ActionDrop || i == 0 {
					r.pbx.receive()
				}
			}
			if kind == policy.ActionDrop {
				r.expectCount(policy.ReasonFlood, 2)
				r.pbx.silent()
				return
			}
			if n := r.count(policy.ReasonFlood); n != 0 {
				t.Errorf("%d messages dropped", n)
			}
			if n := r.engine.Would()["flood"]; n != 1 {
				t.Errorf("recorded %d times, want once", n)
			}
			l := dialLine(t, "127.0.1.1", r.tcp)
			for i := range 3 {
				l.send(siptest.Request("OPTIONS", siptest.Options{Transport: "TCP", Via: l.local(), CallID: fmt.Sprint("tcp-", i)}))
			}
			pbx := acceptPBX(r)
			for range 3 {
				pbx.receive()
			}
		})
	}
}

// TestEventsNameTheirOwnAccount: what cannot be read is about no account, least of all that of the message before it.
func TestEventsNameTheirOwnAccount(t *testing.T) {
	bus := new(event.Bus)
	r := newRig(t, rigOptions{events: bus})
	sub := bus.Subscribe(16)
	defer sub.Close()
	phone, mallory := newPeer(t, "127.0.1.1"), newPeer(t, "127.0.1.66")
	register(r, phone, "sip:alice@10.0.0.5")
	good := string(siptest.Register(siptest.Options{Via: mallory.addr.String()}))
	for i, bad := range []string{
		strings.Replace(good, "CSeq: 1 REGISTER", "CSeq: 1 INVITE", 1),
		"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n" + good[strings.Index(good, "From:"):],
	} {
		mallory.send(r.outside, []byte(bad))
		r.expectCount([...]policy.Reason{policy.ReasonMalformed, policy.ReasonForeignVia}[i], 1)
	}
	for i, want := range []string{"alice@example.com", "", ""} {
		if ev := <-sub.C(); ev.Account.String() != want {
			t.Errorf("event %d (%s) names %q, want %q", i, ev.Reason, ev.Account.String(), want)
		}
	}
}

// TestCredentialsOfTheOtherKind: credentials that the challenge does not ask for were not
// judged by whoever challenges, so they are no failure, and no guess that waits.
func TestCredentialsOfTheOtherKind(t *testing.T) {
	const www, proxy = `WWW-Authenticate: Digest realm="example.com", nonce="n1"`, `Proxy-Authenticate: Digest realm="example.com", nonce="n1"`
	for i, tc := range []struct {
		has, answer string
		challenges  []string
		failures    int
	}{
		{"Authorization", "407 Proxy Authentication Required", []string{proxy}, 0},
		{"Proxy-Authorization", "401 Unauthorized", []string{www}, 0},
		{"Authorization", "401 Unauthorized", []string{www}, 5},
		{"Proxy-Authorization", "407 Proxy Authentication Required", []string{proxy}, 5},
		{"Authorization", "407 Proxy Authentication Required", []string{proxy, www}, 5},
	} {
		t.Run(fmt.Sprintf("%s-%.3s-%d", tc.has, tc.answer, len(tc.challenges)), func(t *testing.T) {
			r := newRig(t, rigOptions{policy: func(c *policy.Config) { c.Register = policy.Register{HitCount: 5} }})
			phone := newPeer(t, "127.0.1.1")
			credentials := tc.has + ": " + siptest.Auth("alice", "example.com", "n0", "sip:example.com")
			n := 8
			if tc.failures > 0 {
				n = tc.failures
			}
			for call := range n {
				phone.send(r.outside, siptest.Register(siptest.Options{Via: phone.addr.String(), CallID: fmt.Sprintf("kind-%d-%d", i, call), Headers: []string{credentials}}))
				m, _ := r.pbx.receive()
				r.pbx.send(r.inside, respond(m, tc.answer, tc.challenges...))
				phone.receive()
			}
			failed := 0
			for _, c := range r.engine.Explain(phone.addr.Addr(), time.Now().UnixNano()).Counts {
				failed += c.Count
			}
			if failed != tc.failures {
				t.Errorf("%d failures and waiting guesses, want %d", failed, tc.failures)
			}
		})
	}
}

// TestEvidenceWithoutOurVia: what people are shown of an answer is what its receiver gets, in
// whichever way the PBX writes the Vias.
func TestEvidenceWithoutOurVia(t *testing.T) {
	for _, joined := range []bool{false, true} {
		t.Run(fmt.Sprintf("joined=%v", joined), func(t *testing.T) {
			r := newRig(t, rigOptions{policy: func(c *policy.Config) { c.Register = policy.Register{HitCount: 5} }})
			phone := newPeer(t, "127.0.1.1")
			credentials := "Authorization: " + siptest.Auth("alice", "example.com", "n0", "sip:example.com")
			phone.send(r.outside, siptest.Register(siptest.Options{Via: phone.addr.String(), Headers: []string{credentials}}))
			m, _ := r.pbx.receive()
			answer := string(respond(m, "401 Unauthorized", `WWW-Authenticate: Digest realm="example.com", nonce="n1"`))
			if joined {
				at := strings.LastIndex(answer, "\r\nVia: ")
				answer = answer[:at] + ", " + answer[at+len("\r\nVia: "):]
			}
			r.pbx.send(r.inside, []byte(answer))
			phone.receive()
			shown := r.engine.Explain(phone.addr.Addr(), time.Now().UnixNano()).Exhibits
			if len(shown) != 1 {
				t.Fatalf("%d exhibits", len(shown))
			}
			text := shown[0].Text
			if strings.Contains(text, r.inside.String()) || strings.Count(text, "Via:") != 1 || !strings.Contains(text, phone.addr.String()) ||
				!strings.HasPrefix(text, "SIP/2.0 401 Unauthorized\r\n") || !strings.Contains(text, "\r\nWWW-Authenticate: ") {
				t.Errorf("shown as\n%s", text)
			}
		})
	}
}
