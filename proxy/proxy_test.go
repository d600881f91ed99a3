package proxy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"sipward/policy"
	"sipward/sip"
	"sipward/sip/siptest"
)

// contactURI takes the URI out of a Contact value.
func contactURI(v string) string {
	_, v, _ = strings.Cut(v, "<")
	v, _, _ = strings.Cut(v, ">")
	return v
}

// register sends a REGISTER of a phone and returns what the PBX got of it.
func register(r *rig, phone *peer, contact string) *sip.Message {
	r.tb.Helper()
	phone.send(r.outside, siptest.Register(siptest.Options{Via: phone.addr.String(), Contact: contact}))
	m, from := r.pbx.receive()
	if from != r.inside {
		r.tb.Fatalf("the PBX was spoken to from %s, want %s", from, r.inside)
	}
	return m
}

func TestRegister(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone := newPeer(t, "127.0.1.1")
	own := fmt.Sprintf("sip:alice@%s;ob", phone.addr)
	m := register(r, phone, own)

	if n := m.ViaCount; n != 2 {
		t.Fatalf("%d Via, want 2", n)
	}
	if got := string(m.Via.SentBy.Of(m.Buf)); got != r.inside.String() {
		t.Errorf("our Via says %s, want %s", got, r.inside)
	}
	below := value(m, sip.HeaderVia, 1)
	if !strings.Contains(below, fmt.Sprintf(";rport=%d", phone.addr.Port())) || !strings.Contains(below, ";received=127.0.1.1") {
		t.Errorf("the phone's Via was not completed: %s", below)
	}
	if m.MaxForwards != 69 {
		t.Errorf("Max-Forwards %d, want 69", m.MaxForwards)
	}
	if m.Has(sip.HeaderRecordRoute) {
		t.Error("a REGISTER was record-routed")
	}
	alias := contactURI(value(m, sip.HeaderContact, 0))
	if !strings.HasPrefix(alias, "sip:alice~") || !strings.HasSuffix(alias, "@"+r.inside.String()+";ob") {
		t.Errorf("alias %s", alias)
	}

	other := strings.Replace(alias, "alice~", "alice~x", 1) // not ours
	r.pbx.send(r.inside, respond(m, "200 OK", "Contact: <"+alias+">;expires=60, <sip:bob@192.0.2.9>;expires=30, <"+other+">"))
	ok, from := phone.receive()
	if from != r.outside {
		t.Errorf("answered from %s, want %s", from, r.outside)
	}
	if ok.ViaCount != 1 || string(ok.Via.SentBy.Of(ok.Buf)) != phone.addr.String() {
		t.Errorf("Via of the answer: %q", values(ok, sip.HeaderVia))
	}
	want := []string{"<" + own + ">;expires=60", "<sip:bob@192.0.2.9>;expires=30", "<" + other + ">"}
	if got := values(ok, sip.HeaderContact); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("the phone sees the Contacts\n%q, want\n%q", got, want)
	}
}

// TestAliasStable: a refresh must meet the same binding, a phone behind another NAT
// port another one.
func TestAliasStable(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone, other := newPeer(t, "127.0.1.1"), newPeer(t, "127.0.1.1")
	alias := func(p *peer) string {
		return contactURI(value(register(r, p, "sip:alice@10.0.0.5"), sip.HeaderContact, 0))
	}
	a, b, c := alias(phone), alias(phone), alias(other)
	if a != b {
		t.Errorf("a refresh has another alias: %s, %s", a, b)
	}
	if a == c {
		t.Errorf("two phones share the alias %s", a)
	}
}

// TestAliasForms: every shape of Contact comes back as it was.
func TestAliasForms(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone := newPeer(t, "127.0.1.1")
	for _, own := range []string{
		"sip:alice@10.0.0.5",
		"sip:alice@10.0.0.5:5062;transport=udp",
		"sip:alice@10.0.0.5:5062;transport=UDP;ob",
		"sip:alice@10.0.0.5;ob;transport=tcp;rinstance=ab12", // would draw the PBX to TCP
		"sip:alice@10.0.0.5;maddr=192.0.2.66;ob",             // would draw it elsewhere
		"sips:alice@phone.example.net",
		"sip:10.0.0.5:5070",
		"sip:alice:secret@[2001:db8::5]:5062;line=1",
		"sip:al%20ice~x@a1b2c3.invalid;transport=udp?h=v",
		"sip:+15551234567;phone-context=example.com@10.0.0.5",
	} {
		t.Run(own, func(t *testing.T) {
			m := register(r, phone, own)
			alias := contactURI(value(m, sip.HeaderContact, 0))
			if alias == own || strings.Contains(alias, "maddr=") || strings.Contains(alias, "transport=tcp") || strings.HasPrefix(alias, "sips:") {
				t.Fatalf("alias %s", alias)
			}
			r.pbx.send(r.inside, respond(m, "200 OK", "Contact: <"+alias+">;expires=60"))
			ok, _ := phone.receive()
			if got := contactURI(value(ok, sip.HeaderContact, 0)); got != own {
				t.Errorf("came back as %s", got)
			}
		})
	}
}

func TestContactsLeftAlone(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone := newPeer(t, "127.0.1.1")
	for _, header := range []string{"Contact: *", "Contact: <tel:+15551234567>", "m: <mailto:alice@example.com>"} {
		phone.send(r.outside, siptest.Register(siptest.Options{Via: phone.addr.String(), NoContact: true, Headers: []string{header}}))
		m, _ := r.pbx.receive()
		if !strings.Contains(string(m.Buf), "\r\n"+header+"\r\n") {
			t.Errorf("%s was changed:\n%s", header, m.Buf)
		}
	}
}

// call makes the PBX call a registered phone by its alias, as Asterisk does (the
// alias in To, too), and returns what the phone and then the PBX received.
func call(r *rig, phone *peer, alias string) (invite, ringing *sip.Message) {
	r.tb.Helper()
	req := strings.NewReplacer("<sip:bob@example.com>", "<"+alias+">").Replace(string(siptest.Invite(siptest.Options{
		Via: r.pbx.addr.String(), NoRPort: true, User: "pbx", RequestURI: alias, CallID: "call-1",
	})))
	r.pbx.send(r.inside, []byte(req))
	invite, _ = phone.receive()
	phone.send(r.outside, respond(invite, "180 Ringing", "Contact: <sip:alice@10.0.0.5:5062>"))
	ringing, _ = r.pbx.receive()
	return invite, ringing
}

func TestCallToPhone(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone := newPeer(t, "127.0.1.1")
	own := "sip:alice@10.0.0.5:5062;ob"
	alias := contactURI(value(register(r, phone, own), sip.HeaderContact, 0))
	invite, ringing := call(r, phone, alias)

	if uri(invite) != own {
		t.Errorf("the phone is called %s, want %s", uri(invite), own)
	}
	if got := string(invite.To.URISpan.Of(invite.Buf)); got != own {
		t.Errorf("the phone sees To %s, want %s", got, own)
	}
	rr := values(invite, sip.HeaderRecordRoute)
	if len(rr) != 2 || !strings.Contains(rr[0], "@"+r.outside.String()) || !strings.Contains(rr[1], "@"+r.inside.String()) {
		t.Fatalf("Record-Route %q", rr)
	}
	if got := string(ringing.To.URISpan.Of(ringing.Buf)); got != alias {
		t.Errorf("the PBX sees To %s in the answer, it had sent %s", got, alias)
	}

	// The phone hangs up: it knows itself by its own URI, the PBX by the alias.
	bye := fmt.Sprintf("BYE sip:pbx@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKbye;rport\r\nMax-Forwards: 70\r\n"+
		"Route: %s\r\nRoute: %s, <sip:next@127.0.0.3:%d;lr>\r\nFrom: <%s>;tag=uas\r\nTo: <sip:pbx@example.com>;tag=1\r\nCall-ID: call-1\r\nCSeq: 9 BYE\r\nContent-Length: 0\r\n\r\n",
		r.pbx.addr, phone.addr, rr[0], rr[1], r.pbx.addr.Port(), own)
	phone.send(r.outside, []byte(bye))
	m, _ := r.pbx.receive()
	if got := string(m.From.URISpan.Of(m.Buf)); got != alias {
		t.Errorf("the PBX sees From %s, it knows the phone as %s", got, alias)
	}
	if got := values(m, sip.HeaderRoute); len(got) != 1 || !strings.HasPrefix(got[0], "<sip:next@") {
		t.Errorf("Route %q, want only the PBX's own", got)
	}
	r.pbx.send(r.inside, respond(m, "200 OK"))
	ok, _ := phone.receive()
	if got := string(ok.From.URISpan.Of(ok.Buf)); got != own {
		t.Errorf("the phone sees From %s in the answer to its BYE", got)
	}
}

// TestRestartInMidCall: the tokens alone lead both sides' BYE through a new sipward.
func TestRestartInMidCall(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone := newPeer(t, "127.0.1.1")
	phone.send(r.outside, siptest.Invite(siptest.Options{Via: phone.addr.String()}))
	invite, _ := r.pbx.receive()
	rr := values(invite, sip.HeaderRecordRoute)
	if len(rr) != 2 || !strings.Contains(rr[0], "@"+r.inside.String()) {
		t.Fatalf("Record-Route %q", rr)
	}
	r = r.restart()

	bye := func(from, to netip.AddrPort, routes ...string) []byte {
		return fmt.Appendf(nil, "BYE sip:x@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKbye%d;rport\r\nMax-Forwards: 70\r\nRoute: %s\r\n"+
			"From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>;tag=2\r\nCall-ID: c\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n",
			to, from, from.Port(), strings.Join(routes, ", "))
	}
	// The route set of the callee is in order, the caller's is reversed (RFC 3261 §12.1).
	r.pbx.send(r.inside, bye(r.pbx.addr, phone.addr, rr[0], rr[1]))
	m, _ := phone.receive()
	if m.Method != sip.MethodBye || m.Has(sip.HeaderRoute) {
		t.Errorf("the phone got\n%s", m.Buf)
	}
	phone.send(r.outside, bye(phone.addr, r.pbx.addr, rr[1], rr[0]))
	if m, _ = r.pbx.receive(); m.Method != sip.MethodBye || m.Has(sip.HeaderRoute) {
		t.Errorf("the PBX got\n%s", m.Buf)
	}
}

// TestTransactionKeepsBranch: a PBX matches CANCEL, ACK and retransmissions by the
// top Via's branch.
func TestTransactionKeepsBranch(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone := newPeer(t, "127.0.1.1")
	o := siptest.Options{Via: phone.addr.String(), Branch: "z9hG4bK-one", CallID: "c1"}
	seen := map[string]string{}
	for _, method := range []string{"INVITE", "INVITE", "CANCEL", "ACK"} {
		phone.send(r.outside, siptest.Request(method, o))
		m, _ := r.pbx.receive()
		seen[method] = string(m.Via.Branch.Value.Of(m.Buf))
	}
	if seen["INVITE"] == "" || seen["INVITE"] != seen["CANCEL"] || seen["INVITE"] != seen["ACK"] {
		t.Errorf("branches %q", seen)
	}
	o.Branch = "z9hG4bK-two"
	phone.send(r.outside, siptest.Request("INVITE", o))
	if m, _ := r.pbx.receive(); string(m.Via.Branch.Value.Of(m.Buf)) == seen["INVITE"] {
		t.Error("another transaction has the same branch")
	}
}

// TestRefused: what a proxy refuses by RFC 3261 §16.3 is answered and never reaches
// the PBX.
func TestRefused(t *testing.T) {
	for _, tc := range []struct {
		name    string
		options siptest.Options
		edit    [2]string
		want    int
		reason  policy.Reason
	}{
		{"max-forwards", siptest.Options{}, [2]string{"Max-Forwards: 70", "Max-Forwards: 0"}, 483, policy.ReasonTooManyHops},
		{"scheme", siptest.Options{RequestURI: "nobodyKnowsThisScheme:totallyopaquecontent"}, [2]string{}, 416, policy.ReasonBadScheme},
		{"proxy-require", siptest.Options{Headers: []string{"Proxy-Require: privacy, sec-agree"}}, [2]string{}, 420, policy.ReasonBadExtension},
		{"cseq method", siptest.Options{}, [2]string{"CSeq: 1 INVITE", "CSeq: 1 BYE"}, 400, policy.ReasonMalformed},
		{"two Call-IDs", siptest.Options{Headers: []string{"Call-ID: other"}}, [2]string{}, 400, policy.ReasonMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			phone := newPeer(t, "127.0.1.1")
			tc.options.Via = phone.addr.String()
			msg := string(siptest.Invite(tc.options))
			if tc.edit[0] != "" {
				msg = strings.Replace(msg, tc.edit[0], tc.edit[1], 1)
			}
			phone.send(r.outside, []byte(msg))
			m, _ := phone.receive()
			if m.Status != tc.want {
				t.Fatalf("answered %d, want %d:\n%s", m.Status, tc.want, m.Buf)
			}
			if tc.want == 420 && !strings.Contains(string(m.Buf), "\r\nUnsupported: privacy, sec-agree\r\n") {
				t.Errorf("no Unsupported:\n%s", m.Buf)
			}
			if !strings.Contains(value(m, sip.HeaderVia, 0), fmt.Sprintf("rport=%d", phone.addr.Port())) {
				t.Errorf("Via of the answer: %s", value(m, sip.HeaderVia, 0))
			}
			r.expectCount(tc.reason, 1)

			// The ACK to our answer ends here as well.
			ack := fmt.Sprintf("ACK sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKx\r\nMax-Forwards: 70\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
				phone.addr, m.Find(sip.HeaderFrom).Value.Of(m.Buf), m.Find(sip.HeaderTo).Value.Of(m.Buf), m.CallID.Of(m.Buf))
			phone.send(r.outside, []byte(ack))
			r.expectCount(policy.ReasonOwnAck, 1)
			r.pbx.silent()
		})
	}
}

func TestNothingAnswersAnAck(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone := newPeer(t, "127.0.1.1")
	msg := strings.Replace(string(siptest.Request("ACK", siptest.Options{Via: phone.addr.String()})), "Max-Forwards: 70", "Max-Forwards: 0", 1)
	phone.send(r.outside, []byte(msg))
	r.expectCount(policy.ReasonTooManyHops, 1)
	phone.silent()
}

// TestLoop: a request that comes back as it left is stopped; one that the PBX sends
// on to a phone (a spiral) passes.
func TestLoop(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone, other := newPeer(t, "127.0.1.1"), newPeer(t, "127.0.1.2")
	alias := contactURI(value(register(r, other, "sip:bob@10.0.0.6"), sip.HeaderContact, 0))
	phone.send(r.outside, siptest.Invite(siptest.Options{Via: phone.addr.String()}))
	m, _ := r.pbx.receive()

	looped := append([]byte(nil), m.Buf...)
	phone.send(r.outside, looped)
	if got, _ := phone.receive(); got.Status != 482 {
		t.Errorf("answered %d, want 482", got.Status)
	}
	r.expectCount(policy.ReasonLoop, 1)

	spiral := strings.Replace(string(m.Buf), uri(m), alias, 1)
	spiral = strings.Replace(spiral, "Via: ", fmt.Sprintf("Via: SIP/2.0/UDP %s;branch=z9hG4bKproxy\r\nVia: ", r.pbx.addr), 1)
	r.pbx.send(r.inside, []byte(spiral))
	if got, _ := other.receive(); uri(got) != "sip:bob@10.0.0.6" {
		t.Errorf("the other phone got %s", uri(got))
	}
}

// TestResponsesNotOurs: what does not carry our Via, or an altered one, reaches
// nobody.
func TestResponsesNotOurs(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone, victim := newPeer(t, "127.0.1.1"), newPeer(t, "127.0.1.2")
	phone.send(r.outside, siptest.Invite(siptest.Options{Via: phone.addr.String()}))
	m, _ := r.pbx.receive()
	good := string(respond(m, "200 OK"))
	ours := value(m, sip.HeaderVia, 0)

	foreign := strings.Replace(good, ours, fmt.Sprintf("SIP/2.0/UDP %s;branch=z9hG4bKabc", victim.addr), 1)
	r.pbx.send(r.inside, []byte(foreign))
	r.expectCount(policy.ReasonForeignVia, 1)

	i := strings.Index(good, ";sw=") + 12
	altered := good[:i] + string(good[i]^1) + good[i+1:]
	r.pbx.send(r.inside, []byte(altered))
	r.expectCount(policy.ReasonForgedToken, 1)

	// A stranger who has seen our Via cannot answer in the PBX's place.
	victim.send(r.outside, []byte(good))
	r.expectCount(policy.ReasonForgedToken, 2)

	alone := strings.Replace(good, "Via: "+value(m, sip.HeaderVia, 1)+"\r\n", "", 1)
	r.pbx.send(r.inside, []byte(alone))
	r.expectCount(policy.ReasonForgedToken, 3)

	phone.silent()
	victim.silent()
	r.pbx.send(r.inside, []byte(good))
	if m, _ := phone.receive(); m.Status != 200 {
		t.Errorf("the true answer: %d", m.Status)
	}
}

// TestAnswersGoToTheSource: a maddr or a foreign host in Via draws no packet.
func TestAnswersGoToTheSource(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone, victim := newPeer(t, "127.0.1.1"), newPeer(t, "127.0.1.66")
	for _, via := range []string{victim.addr.String(), phone.addr.String() + ";maddr=127.0.1.66", "pc33.example.net", victim.addr.String() + ";received=127.0.1.66;rport"} {
		o := siptest.Options{Via: phone.addr.String(), NoRPort: true}
		msg := strings.Replace(string(siptest.Invite(o)), "UDP "+phone.addr.String(), "UDP "+via, 1)
		phone.send(r.outside, []byte(msg))
		m, _ := r.pbx.receive()
		r.pbx.send(r.inside, respond(m, "486 Busy Here"))
		if got, _ := phone.receive(); got.Status != 486 {
			t.Errorf("%s: the phone got %d", via, got.Status)
		}
		phone.send(r.outside, []byte(strings.Replace(msg, "Max-Forwards: 70", "Max-Forwards: 0", 1)))
		if got, _ := phone.receive(); got.Status != 483 {
			t.Errorf("%s: the phone got %d", via, got.Status)
		}
	}
	victim.silent()
}

// TestAsymmetricPhone: without rport and without a NAT the answer goes to the port
// that the phone names, RFC 3261 §18.2.2; behind a NAT to the port it came from.
func TestAsymmetricPhone(t *testing.T) {
	r := newRig(t, rigOptions{})
	sends, listens := newPeer(t, "127.0.1.1"), newPeer(t, "127.0.1.1")
	sends.send(r.outside, siptest.Invite(siptest.Options{Via: listens.addr.String(), NoRPort: true}))
	m, _ := r.pbx.receive()
	r.pbx.send(r.inside, respond(m, "486 Busy Here"))
	listens.receive()
	sends.silent()
}

// TestPreloadedRoute: a phone whose outbound proxy is sipward names us in Route.
func TestPreloadedRoute(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone := newPeer(t, "127.0.1.1")
	o := siptest.Options{Via: phone.addr.String(), Headers: []string{fmt.Sprintf("Route: <sip:%s;lr>", r.outside)}}
	phone.send(r.outside, siptest.Invite(o))
	if m, _ := r.pbx.receive(); m.Has(sip.HeaderRoute) {
		t.Errorf("our Route was left: %q", values(m, sip.HeaderRoute))
	}
}

// TestAdvertisedRoute: behind 1:1 NAT the Route names the address that phones are told.
func TestAdvertisedRoute(t *testing.T) {
	for _, advertise := range []string{"203.0.113.9:5060", "edge.example.com:5060"} {
		r := newRig(t, rigOptions{advertise: advertise})
		phone := newPeer(t, "127.0.1.1")
		host, _, _ := strings.Cut(advertise, ":")
		for i, named := range []string{advertise, host, strings.ToUpper(host)} {
			o := siptest.Options{Via: phone.addr.String(), CallID: fmt.Sprint(i), Headers: []string{"Route: <sip:" + named + ";lr>"}}
			phone.send(r.outside, siptest.Invite(o))
			if m, _ := r.pbx.receive(); m.Has(sip.HeaderRoute) {
				t.Errorf("advertised as %s: our Route was left: %q", advertise, values(m, sip.HeaderRoute))
			}
		}
	}
}

func TestPath(t *testing.T) {
	r := newRig(t, rigOptions{path: true})
	phone := newPeer(t, "127.0.1.1")
	own := "sip:alice@10.0.0.5:5062"
	m := register(r, phone, own)
	if got := contactURI(value(m, sip.HeaderContact, 0)); got != own {
		t.Errorf("Contact %s was changed", got)
	}
	path := value(m, sip.HeaderPath, 0)
	if !strings.Contains(path, "@"+r.inside.String()) || !strings.Contains(path, ";lr>") {
		t.Fatalf("Path %q", path)
	}
	r.pbx.send(r.inside, siptest.Invite(siptest.Options{Via: r.pbx.addr.String(), RequestURI: own, Headers: []string{"Route: " + path}}))
	invite, _ := phone.receive()
	if uri(invite) != own || invite.Has(sip.HeaderRoute) {
		t.Errorf("the phone got\n%s", invite.Buf)
	}
}

// TestTrunk: a PBX, and only a PBX, sends to any URI; what comes back inside the
// dialog follows the URIs.
func TestTrunk(t *testing.T) {
	r := newRig(t, rigOptions{trunks: []string{"127.0.2.0/24"}})
	trunk, phone := newPeer(t, "127.0.2.1"), newPeer(t, "127.0.1.1")
	target := fmt.Sprintf("sip:+15551234567@%s", trunk.addr)
	r.pbx.send(r.inside, siptest.Invite(siptest.Options{Via: r.pbx.addr.String(), RequestURI: target}))
	invite, from := trunk.receive()
	if uri(invite) != target || from != r.outside {
		t.Errorf("the trunk got %s from %s", uri(invite), from)
	}
	rr := values(invite, sip.HeaderRecordRoute)
	if len(rr) != 2 {
		t.Fatalf("Record-Route %q", rr)
	}
	trunk.send(r.outside, respond(invite, "200 OK"))
	if m, _ := r.pbx.receive(); m.Status != 200 {
		t.Errorf("the PBX got %d", m.Status)
	}
	// The carrier hangs up from another machine of its own.
	second := newPeer(t, "127.0.2.2")
	second.send(r.outside, fmt.Appendf(nil, "BYE sip:pbx@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKb;rport\r\nMax-Forwards: 70\r\nRoute: %s\r\nRoute: %s\r\n"+
		"From: <sip:a@x>;tag=1\r\nTo: <sip:b@x>;tag=2\r\nCall-ID: c\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n", r.pbx.addr, second.addr, rr[0], rr[1]))
	if m, _ := r.pbx.receive(); m.Method != sip.MethodBye {
		t.Errorf("the PBX got\n%s", m.Buf)
	}

	// A phone that asks for the same destination reaches the PBX, not the trunk.
	phone.send(r.outside, siptest.Invite(siptest.Options{Via: phone.addr.String(), RequestURI: target}))
	r.pbx.receive()
	trunk.silent()
}

// TestTrunkRegisters: whoever stands on the list of trunks may register with the PBX as well, and is called where he has
// registered from; what he answers is a trunk's.
func TestTrunkRegisters(t *testing.T) {
	for _, path := range []bool{false, true} {
		t.Run(fmt.Sprintf("path=%v", path), func(t *testing.T) {
			r := newRig(t, rigOptions{trunks: []string{"127.0.2.0/24"}, path: path, shield: true})
			branch := newPeer(t, "127.0.2.1")
			m := register(r, branch, "sip:branch@10.0.0.5")
			contact := contactURI(value(m, sip.HeaderContact, 0))
			r.pbx.send(r.inside, respond(m, "200 OK", "Contact: <"+contact+">;expires=60"))
			branch.receive()
			o := siptest.Options{Via: r.pbx.addr.String(), RequestURI: contact}
			if path {
				o.Headers = []string{"Route: " + value(m, sip.HeaderPath, 0)}
			}
			r.pbx.send(r.inside, siptest.Invite(o))
			invite, _ := branch.receive()
			if uri(invite) != "sip:branch@10.0.0.5" {
				t.Errorf("called as %s", uri(invite))
			}
			branch.send(r.outside, respond(invite, "407 Proxy Authentication Required", `Proxy-Authenticate: Digest realm="branch", nonce="n"`))
			if m, _ := r.pbx.receive(); m.Status != 407 {
				t.Errorf("the PBX got\n%s", m.Buf)
			}
		})
	}
}

func TestPBXAsksSipward(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.pbx.send(r.inside, siptest.Request("OPTIONS", siptest.Options{Via: r.pbx.addr.String(), RequestURI: "sip:" + r.inside.String()}))
	if m, _ := r.pbx.receive(); m.Status != 200 {
		t.Errorf("answered %d, want 200", m.Status)
	}
	r.pbx.send(r.inside, siptest.Invite(siptest.Options{Via: r.pbx.addr.String(), RequestURI: "sip:nobody@" + r.inside.String()}))
	if m, _ := r.pbx.receive(); m.Status != 404 {
		t.Errorf("answered %d, want 404", m.Status)
	}
}

// TestInsideIsForPBXes: a stranger gets nothing from the inside listener.
func TestInsideIsForPBXes(t *testing.T) {
	r := newRig(t, rigOptions{})
	stranger := newPeer(t, "127.0.1.1")
	stranger.send(r.inside, siptest.Invite(siptest.Options{Via: stranger.addr.String()}))
	r.expectCount(policy.ReasonNotPBX, 1)
	stranger.silent()
	r.pbx.silent()
}

func TestKeepAlives(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone := newPeer(t, "127.0.1.1")
	for _, b := range []string{"", "\r\n", "\r\n\r\n", "\x00\x00\x00\x00"} {
		phone.send(r.outside, []byte(b))
	}
	r.expectCount(policy.ReasonKeepalive, 4)
	phone.silent()
}

// TestSharedListener: without inside listeners the PBX is known by its address.
func TestSharedListener(t *testing.T) {
	r := newRig(t, rigOptions{shared: true})
	phone := newPeer(t, "127.0.1.1")
	alias := contactURI(value(register(r, phone, "sip:alice@10.0.0.5"), sip.HeaderContact, 0))
	invite, ringing := call(r, phone, alias)
	if rr := values(invite, sip.HeaderRecordRoute); len(rr) != 1 {
		t.Errorf("Record-Route %q, want one for both sides", rr)
	}
	if ringing.Status != 180 {
		t.Errorf("the PBX got %d", ringing.Status)
	}
}

// TestStrictRouter: RFC 3261 §16.4, a peer that puts our route into the Request-URI.
func TestStrictRouter(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone := newPeer(t, "127.0.1.1")
	phone.send(r.outside, siptest.Invite(siptest.Options{Via: phone.addr.String()}))
	invite, _ := r.pbx.receive()
	rr := values(invite, sip.HeaderRecordRoute)
	r.pbx.send(r.inside, fmt.Appendf(nil, "BYE %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKb\r\nMax-Forwards: 70\r\nRoute: %s, <sip:alice@10.0.0.5>\r\n"+
		"From: <sip:a@x>;tag=1\r\nTo: <sip:b@x>;tag=2\r\nCall-ID: c\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n", contactURI(rr[0]), r.pbx.addr, rr[1]))
	m, _ := phone.receive()
	if uri(m) != "sip:alice@10.0.0.5" || m.Has(sip.HeaderRoute) {
		t.Errorf("the phone got\n%s", m.Buf)
	}
}

// TestPathLeftByPBX: a PBX that does not record a route drops out of the dialog; our
// own tokens then name both phones.
func TestPathLeftByPBX(t *testing.T) {
	r := newRig(t, rigOptions{})
	a, b := newPeer(t, "127.0.1.1"), newPeer(t, "127.0.1.2")
	alias := contactURI(value(register(r, b, "sip:bob@10.0.0.6"), sip.HeaderContact, 0))
	a.send(r.outside, siptest.Invite(siptest.Options{Via: a.addr.String(), Contact: "sip:alice@10.0.0.5"}))
	m, _ := r.pbx.receive()
	onward := strings.Replace(string(m.Buf), uri(m), alias, 1)
	onward = strings.Replace(onward, "Via: ", fmt.Sprintf("Via: SIP/2.0/UDP %s;branch=z9hG4bKproxy\r\nVia: ", r.pbx.addr), 1)
	r.pbx.send(r.inside, []byte(onward))
	invite, _ := b.receive()
	rr := values(invite, sip.HeaderRecordRoute)
	if len(rr) != 4 {
		t.Fatalf("Record-Route %q", rr)
	}
	b.send(r.outside, fmt.Appendf(nil, "BYE sip:alice@10.0.0.5 SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKb;rport\r\nMax-Forwards: 70\r\nRoute: %s\r\n"+
		"From: <sip:a@x>;tag=1\r\nTo: <sip:b@x>;tag=2\r\nCall-ID: c\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n", b.addr, strings.Join(rr, ", ")))
	bye, _ := a.receive()
	if bye.Method != sip.MethodBye || bye.Has(sip.HeaderRoute) {
		t.Errorf("got\n%s", bye.Buf)
	}
	a.send(r.outside, respond(bye, "200 OK"))
	if ok, _ := b.receive(); ok.Status != 200 {
		t.Errorf("answered %d", ok.Status)
	}
	r.pbx.silent()

	// A new call by the same route is the PBX's to judge.
	b.send(r.outside, siptest.Invite(siptest.Options{Via: b.addr.String(), CallID: "new", Headers: []string{"Route: " + strings.Join(rr, ", ")}}))
	if m, _ := r.pbx.receive(); m.Method != sip.MethodInvite {
		t.Errorf("the PBX got\n%s", m.Buf)
	}
	a.silent()
}
