package proxy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"sipward/policy"
	"sipward/proxy/flow"
	"sipward/sip"
	"sipward/sip/siptest"
)

// foreignToken is a token that another key made, which would lead to addr.
func foreignToken(kind flow.Kind, addr netip.AddrPort) string {
	tok := flow.Token{Kind: kind, Addr: addr}
	var payload []byte
	if kind == flow.KindAlias {
		payload = []byte{0, 0}
	}
	return string(flow.RandomKey().Append(nil, &tok, payload, 0))
}

// TestForgedTokens: a stranger's token that does not verify is refused and counted, and leads nowhere.
func TestForgedTokens(t *testing.T) {
	r := newRig(t, rigOptions{})
	victim, mallory := newPeer(t, "127.0.1.9"), newPeer(t, "127.0.1.66")
	alias := contactURI(value(register(r, victim, "sip:bob@10.0.0.6"), sip.HeaderContact, 0))
	route := "<sip:" + foreignToken(flow.KindRoute, victim.addr) + "@" + r.outside.String() + ";lr>"
	i := strings.Index(alias, "~") + 20
	altered := alias[:i] + string(alias[i]^1) + alias[i+1:]

	n := uint64(0)
	for _, tc := range []struct {
		name, method, uri, route string
		inDialog                 bool
		want                     int // 0: no answer
	}{
		{"route, in a dialog", "BYE", "sip:bob@10.0.0.6", route, true, 481},
		{"route, a new call", "INVITE", "", route, false, 430},
		{"route, doubled", "INVITE", "", route + ", " + route, true, 481},
		{"route of nonsense", "BYE", "", "<sip:" + strings.Repeat("A", 40) + "@" + r.outside.String() + ";lr>", true, 481},
		{"route, not the first", "BYE", "", "<sip:" + r.outside.String() + ";lr>, " + route, true, 481},
		{"altered alias", "MESSAGE", altered, "", false, 430},
		{"alias of another key", "MESSAGE", "sip:bob~" + foreignToken(flow.KindAlias, victim.addr) + "@" + r.inside.String(), "", false, 430},
		{"ACK", "ACK", "", route, true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := siptest.Options{Via: mallory.addr.String(), RequestURI: tc.uri, CallID: fmt.Sprint(n)}
			if tc.route != "" {
				o.Headers = []string{"Route: " + tc.route}
			}
			if tc.inDialog {
				o.ToTag = "uas"
			}
			mallory.send(r.outside, siptest.Request(tc.method, o))
			if tc.want != 0 {
				if m, _ := mallory.receive(); m.Status != tc.want {
					t.Errorf("answered %d, want %d", m.Status, tc.want)
				}
			}
			n++
			r.expectCount(policy.ReasonForgedToken, n)
		})
	}
	mallory.silent()
	victim.silent()
	r.pbx.silent()
}

// TestNoTokens: what stands where a token of ours would, and cannot be one, is nothing to refuse.
func TestNoTokens(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone := newPeer(t, "127.0.1.1")
	long := strings.Repeat("a", 40)
	for i, o := range []siptest.Options{
		{Headers: []string{"Route: <sip:" + r.outside.String() + ";lr>"}},
		{Headers: []string{"Route: <sip:alice@" + r.outside.String() + ";lr>"}},
		{Headers: []string{"Route: <sip:" + long + "@192.0.2.77;lr>"}}, // somebody else's
		{RequestURI: "sip:" + long + "@" + r.outside.String()},         // an account may be called so
		{RequestURI: "sip:bob~" + long + "@example.com"},
	} {
		o.Via, o.CallID = phone.addr.String(), fmt.Sprint(i)
		phone.send(r.outside, siptest.Invite(o))
		if m, _ := r.pbx.receive(); m.Method != sip.MethodInvite {
			t.Errorf("%d: the PBX got\n%s", i, m.Buf)
		}
	}
	r.expectCount(policy.ReasonForgedToken, 0)
}

// TestReplacedKey: the key has been replaced in mid-call. The phone, which is registered, ends its call as if nothing had
// happened: its request finds the PBX without a token.
func TestReplacedKey(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone := newPeer(t, "127.0.1.1")
	m := register(r, phone, "sip:alice@10.0.0.5")
	r.pbx.send(r.inside, respond(m, "200 OK", "Contact: <"+contactURI(value(m, sip.HeaderContact, 0))+">;expires=60"))
	phone.receive()
	phone.send(r.outside, siptest.Request("BYE", siptest.Options{Via: phone.addr.String(), ToTag: "uas",
		Headers: []string{"Route: <sip:" + foreignToken(flow.KindRoute, phone.addr) + "@" + r.outside.String() + ";lr>"}}))
	bye, _ := r.pbx.receive()
	if bye.Method != sip.MethodBye || bye.Has(sip.HeaderRoute) {
		t.Errorf("the PBX got\n%s", bye.Buf)
	}
	r.expectCount(policy.ReasonForgedToken, 0)
}

// TestForgedTokenFromPBX: the contacts that a PBX has of before the key was replaced lead nowhere, and it is told.
func TestForgedTokenFromPBX(t *testing.T) {
	r := newRig(t, rigOptions{})
	victim := newPeer(t, "127.0.1.9")
	for i, user := range []string{foreignToken(flow.KindRoute, victim.addr), "bob~" + foreignToken(flow.KindAlias, victim.addr)} {
		r.pbx.send(r.inside, siptest.Invite(siptest.Options{Via: r.pbx.addr.String(), CallID: user, RequestURI: fmt.Sprintf("sip:%s@%s", user, r.inside)}))
		if m, _ := r.pbx.receive(); m.Status != 430 {
			t.Errorf("answered %d, want 430", m.Status)
		}
		r.expectCount(policy.ReasonForgedToken, uint64(i+1))
	}
	victim.silent()
}
