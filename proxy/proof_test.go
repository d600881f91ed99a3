package proxy_test

import (
	"fmt"
	"testing"
	"time"

	"sipward/policy"
	"sipward/sip"
	"sipward/sip/siptest"
)

// challenged sends a REGISTER, has the PBX challenge it with that nonce, and takes the challenge.
func challenged(r *rig, phone *peer, callID, nonce string) {
	r.tb.Helper()
	phone.send(r.outside, siptest.Register(siptest.Options{Via: phone.addr.String(), CallID: callID}))
	m, _ := r.pbx.receive()
	r.pbx.send(r.inside, respond(m, "401 Unauthorized", `WWW-Authenticate: Digest realm="example.com", nonce="`+nonce+`"`))
	phone.receive()
}

// guessed sends a REGISTER with credentials that the PBX does not take, and returns how the latest failure that is held
// against the phone's address is explained.
func guessed(r *rig, phone *peer, callID, nonce string, seq int) policy.Exhibit {
	r.tb.Helper()
	phone.send(r.outside, siptest.Register(siptest.Options{
		Via: phone.addr.String(), CallID: callID, CSeq: seq, Auth: siptest.Auth("alice", "example.com", nonce, "sip:example.com"),
	}))
	m, _ := r.pbx.receive()
	r.pbx.send(r.inside, respond(m, "401 Unauthorized", `WWW-Authenticate: Digest realm="example.com", nonce="fresh"`))
	phone.receive()
	shown := r.engine.Explain(phone.addr.Addr(), time.Now().UnixNano()).Exhibits
	if len(shown) == 0 {
		r.tb.Fatal("nothing is held against the phone")
	}
	return shown[len(shown)-1]
}

// TestSharedNonce: a PBX that gives everybody the same nonce within a second, as Kamailio does, tells a stranger what it
// has told a phone. So such a nonce proves an address only together with the Call-ID of the request that was challenged.
func TestSharedNonce(t *testing.T) {
	r := newRig(t, rigOptions{policy: func(c *policy.Config) { c.Register = policy.Register{HitCount: 50} }})
	phone, mallory := newPeer(t, "127.0.1.1"), newPeer(t, "127.0.1.66")
	forger := newPeer(t, "127.0.1.1") // mallory in the phone's name
	challenged(r, phone, "one", "of its own")
	if x := guessed(r, phone, "another", "of its own", 2); x.Nonce != "issued" || !x.Proven {
		t.Errorf("a nonce that was given to one address alone is %s, proven %v", x.Nonce, x.Proven)
	}
	challenged(r, phone, "secret", "of this second")
	challenged(r, mallory, "mallory", "of this second")
	if x := guessed(r, forger, "made-up", "of this second", 3); x.Nonce != "foreign" || x.Proven {
		t.Errorf("forged with a nonce that others know, too: %s, proven %v", x.Nonce, x.Proven)
	}
	if x := guessed(r, phone, "secret", "of this second", 4); x.Nonce != "issued" || !x.Proven {
		t.Errorf("with the Call-ID that was challenged: %s, proven %v", x.Nonce, x.Proven)
	}
	if x := guessed(r, mallory, "mallory", "of this second", 5); x.Nonce != "issued" || !x.Proven {
		t.Errorf("what mallory does in his own name: %s, proven %v", x.Nonce, x.Proven)
	}
}

// TestUniformNonce: the nonce in an answer that is the same for all is never one that somebody else was given, however short
// those of the PBX are.
func TestUniformNonce(t *testing.T) {
	r := newRig(t, rigOptions{policy: func(c *policy.Config) { c.Uniform = true }})
	phone, mallory := newPeer(t, "127.0.1.1"), newPeer(t, "127.0.1.66")
	const nonce = "1f2e3d4c" // as long as those of some PBXes
	challenged(r, phone, "one", nonce)
	mallory.send(r.outside, siptest.Register(siptest.Options{Via: mallory.addr.String(), User: "nobody"}))
	m, _ := r.pbx.receive()
	r.pbx.send(r.inside, respond(m, "404 Not Found"))
	got, _ := mallory.receive()
	c, fault := sip.ParseChallenge(got.Buf, got.Find(sip.HeaderWWWAuthenticate).Value)
	if fault != sip.OK {
		t.Fatalf("%v in\n%s", fault, got.Buf)
	}
	if made := string(c.Nonce.Of(got.Buf)); made == nonce || len(made) != len(nonce) {
		t.Errorf("made up as %q, like %q", made, nonce)
	}
}

// TestCalleeInsideCall: a phone that was called shows with the tag of who called it that its address is not forged, so what
// belongs to that call passes when its account is shut out.
func TestCalleeInsideCall(t *testing.T) {
	r := newRig(t, rigOptions{policy: func(c *policy.Config) { c.Register = policy.Register{HitCount: 2} }})
	phone := newPeer(t, "127.0.1.1")
	m := register(r, phone, "sip:alice@10.0.0.5")
	alias := contactURI(value(m, sip.HeaderContact, 0))
	r.pbx.send(r.inside, respond(m, "200 OK", "Contact: <"+alias+">;expires=60"))
	phone.receive()
	r.pbx.send(r.inside, siptest.Invite(siptest.Options{Via: r.pbx.addr.String(), RequestURI: alias, CallID: "call", FromTag: "caller"}))
	invite, _ := phone.receive()
	phone.send(r.outside, respond(invite, "200 OK"))
	r.pbx.receive()

	challenged(r, phone, "one", "n1")
	for seq := range 2 {
		guessed(r, phone, "one", "n1", 2+seq)
	}
	if n := len(r.engine.Quarantines(time.Now().UnixNano())); n != 1 {
		t.Fatalf("%d accounts are shut out", n)
	}
	inside := func(method, tag string, seq int) []byte {
		return siptest.Request(method, siptest.Options{Via: phone.addr.String(), CallID: "call", FromTag: "uas", ToTag: tag, CSeq: seq,
			Headers: []string{"Route: " + value(invite, sip.HeaderRecordRoute, 0)}})
	}
	for i, method := range []string{"INVITE", "UPDATE", "INFO", "BYE"} {
		phone.send(r.outside, inside(method, "made-up", 10+i))
		phone.send(r.outside, inside(method, "caller", 20+i))
		if method == "BYE" {
			r.pbx.receive() // that passes in any case
		}
		if m, _ := r.pbx.receive(); m.MethodText.Of(m.Buf) == nil || fmt.Sprintf("%s %d", m.MethodText.Of(m.Buf), m.CSeq) != fmt.Sprintf("%s %d", method, 20+i) {
			t.Errorf("%s: the PBX got\n%s", method, m.Buf)
		}
	}
	r.expectCount(policy.ReasonQuarantine, 3)
}

// TestPartnerKnowsTheTag: who was called knows the tags of the call, where the PBX leaves them as they are, and may send them in
// the caller's name. They show what belongs to the call, and nothing that is held against the caller.
func TestPartnerKnowsTheTag(t *testing.T) {
	r := newRig(t, rigOptions{policy: func(c *policy.Config) { c.Register = policy.Register{HitCount: 50} }})
	phone, forger := newPeer(t, "127.0.1.1"), newPeer(t, "127.0.1.1")
	phone.send(r.outside, siptest.Invite(siptest.Options{Via: phone.addr.String(), CallID: "call"}))
	m, _ := r.pbx.receive()
	r.pbx.send(r.inside, respond(m, "200 OK"))
	phone.receive()
	forger.send(r.outside, siptest.Register(siptest.Options{Via: forger.addr.String(), CallID: "call", ToTag: "uas", CSeq: 9}))
	m, _ = r.pbx.receive()
	r.pbx.send(r.inside, respond(m, "404 Not Found"))
	forger.receive()
	for _, x := range r.engine.Explain(phone.addr.Addr(), time.Now().UnixNano()).Exhibits {
		if x.Proven {
			t.Errorf("held against the caller as proven: %+v", x)
		}
	}
}
