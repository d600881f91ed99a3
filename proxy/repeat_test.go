package proxy_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"sipward/policy"
	"sipward/proxy/retransmit"
	"sipward/proxy/upstream"
	"sipward/sip"
	"sipward/sip/siptest"
)

// onlyUDP is a rig whose PBX speaks UDP alone, with a phone on TCP.
func onlyUDP(t *testing.T) (*rig, *line) {
	t.Helper()
	r := newRig(t, rigOptions{pbx: upstream.Target{UDP: true}})
	return r, dialLine(t, "127.0.1.1", r.tcp)
}

// registeredOverUDP registers the phone and returns the alias that the PBX knows it by.
func registeredOverUDP(r *rig, phone *line) (alias string) {
	phone.send(registerTCP(r, phone, "alice"))
	m, _ := r.pbx.receive()
	r.pbx.send(r.inside, respond(m, "200 OK"))
	phone.receive()
	return contactURI(value(m, sip.HeaderContact, 0))
}

// expectRepeats checks what the table has counted.
func expectRepeats(t *testing.T, r *rig, what string, got func(retransmit.Stats) uint64, want uint64) {
	t.Helper()
	if n := got(r.server.Stats().Repeats); n != want {
		t.Errorf("%d %s, want %d", n, what, want)
	}
}

// TestRegisterOverUDP: a REGISTER from TCP goes to the PBX over UDP, again when the PBX is
// silent; its answer reaches the phone once; and the alias leads the PBX to us over UDP.
func TestRegisterOverUDP(t *testing.T) {
	r, phone := onlyUDP(t)
	phone.send(registerTCP(r, phone, "alice"))
	m, from := r.pbx.receive()
	if from != r.inside {
		t.Errorf("from %v, want %v", from, r.inside)
	}
	if via := value(m, sip.HeaderVia, 0); !strings.HasPrefix(via, "SIP/2.0/UDP "+r.inside.String()) {
		t.Errorf("Via %s", via)
	}
	if got := contactURI(value(m, sip.HeaderContact, 0)); !strings.HasSuffix(got, "@"+r.inside.String()) {
		t.Errorf("alias %s", got)
	}
	again, _ := r.pbx.receive()
	if !bytes.Equal(again.Buf, m.Buf) {
		t.Errorf("repeated as\n%s\nwant\n%s", again.Buf, m.Buf)
	}
	answer := respond(m, "401 Unauthorized", `WWW-Authenticate: Digest realm="x", nonce="n"`)
	for range 3 {
		r.pbx.send(r.inside, answer)
	}
	if got := phone.receive(); got.Status != 401 || got.ViaCount != 1 {
		t.Errorf("the phone got\n%s", got.Buf)
	}
	r.expectCount(policy.ReasonRepeat, 2)
	phone.send(siptest.Request("OPTIONS", siptest.Options{Transport: "TCP", Via: phone.local()}))
	m, _ = r.pbx.receive()
	r.pbx.send(r.inside, respond(m, "200 OK"))
	if got := phone.receive(); got.Status != 200 {
		t.Errorf("the phone got another\n%s", got.Buf)
	}
}

// TestRefusedCallOverUDP: the phone's ACK to a failure answers the PBX's repeats.
func TestRefusedCallOverUDP(t *testing.T) {
	r, phone := onlyUDP(t)
	o := siptest.Options{Transport: "TCP", Via: phone.local()}
	phone.send(siptest.Invite(o))
	invite, _ := r.pbx.receive()
	busy := respond(invite, "486 Busy Here")
	r.pbx.send(r.inside, busy)
	if got := phone.receive(); got.Status != 486 {
		t.Fatalf("the phone got\n%s", got.Buf)
	}
	r.pbx.send(r.inside, busy) // the ACK is still on its way
	r.expectCount(policy.ReasonRepeat, 1)
	ack := o
	ack.Branch, ack.ToTag, ack.NoContact = "z9hG4bK-invite-1-7e5a01", "uas", true
	phone.send(siptest.Request("ACK", ack))
	first, _ := r.pbx.receive()
	if first.Method != sip.MethodAck || !bytes.Equal(first.Via.Branch.Value.Of(first.Buf), invite.Via.Branch.Value.Of(invite.Buf)) {
		t.Fatalf("the PBX got\n%s", first.Buf)
	}
	r.pbx.send(r.inside, busy)
	again, _ := r.pbx.receive()
	if !bytes.Equal(again.Buf, first.Buf) {
		t.Errorf("a repeat was answered with\n%s", again.Buf)
	}
	r.expectCount(policy.ReasonRepeat, 2)
}

// TestAnsweredCallOverUDP: each 2xx reaches the phone, and each of its ACKs the PBX.
func TestAnsweredCallOverUDP(t *testing.T) {
	r, phone := onlyUDP(t)
	o := siptest.Options{Transport: "TCP", Via: phone.local()}
	phone.send(siptest.Invite(o))
	invite, _ := r.pbx.receive()
	ok := respond(invite, "200 OK", "Contact: <sip:bob@"+r.pbx.addr.String()+">")
	for i := range 2 {
		r.pbx.send(r.inside, ok)
		got := phone.receive()
		if got.Status != 200 {
			t.Fatalf("the phone got\n%s", got.Buf)
		}
		routes := values(got, sip.HeaderRecordRoute)
		if len(routes) != 2 || !strings.Contains(routes[0], r.inside.String()+";lr") || !strings.Contains(routes[1], r.tcp.String()+";transport=tcp") {
			t.Fatalf("Record-Route %q", routes)
		}
		ack := o
		ack.Branch, ack.ToTag, ack.NoContact = fmt.Sprintf("z9hG4bK-ack-%d", i), "uas", true
		ack.RequestURI, ack.Headers = "sip:bob@"+r.pbx.addr.String(), []string{"Route: " + routes[1] + ", " + routes[0]}
		phone.send(siptest.Request("ACK", ack))
		if m, _ := r.pbx.receive(); m.Method != sip.MethodAck || m.Has(sip.HeaderRoute) {
			t.Fatalf("the PBX got\n%s", m.Buf)
		}
	}
	if n := r.server.Stats().Repeats.Entries; n != 0 {
		t.Errorf("%d entries are left of an answered call", n)
	}
}

// TestInviteTimeout: the phone gets a 408 when the PBX is silent; its ACK ends with us.
func TestInviteTimeout(t *testing.T) {
	r, phone := onlyUDP(t)
	o := siptest.Options{Transport: "TCP", Via: phone.local()}
	phone.send(siptest.Invite(o))
	invite, _ := r.pbx.receive()
	r.server.TimeOut(r.pbx.addr, invite.Buf)
	got := phone.receive()
	if got.Status != 408 || got.ViaCount != 1 || got.To.Tag.Empty() || got.Has(sip.HeaderRecordRoute) {
		t.Errorf("the phone got\n%s", got.Buf)
	}
	ack := o
	ack.Branch, ack.ToTag = "z9hG4bK-invite-1-7e5a01", string(got.To.Tag.Of(got.Buf))
	phone.send(siptest.Request("ACK", ack))
	r.expectCount(policy.ReasonOwnAck, 1)
}

// TestCallFromUDP: the PBX's INVITE reaches the phone once, however often it is repeated; the
// last answer is repeated for it, a refusal until the ACK, which reaches the phone once.
func TestCallFromUDP(t *testing.T) {
	r, phone := onlyUDP(t)
	alias := registeredOverUDP(r, phone)
	o := siptest.Options{Via: r.pbx.addr.String(), RequestURI: alias, NoRPort: true}
	invite := siptest.Invite(o)
	r.pbx.send(r.inside, invite)
	got := phone.receive()
	if want := fmt.Sprintf("sip:alice@%s;transport=tcp", phone.local()); uri(got) != want {
		t.Errorf("the phone is called %s, want %s", uri(got), want)
	}
	if via := value(got, sip.HeaderVia, 0); !strings.HasPrefix(via, "SIP/2.0/TCP "+r.tcp.String()) {
		t.Errorf("Via %s", via)
	}
	r.pbx.send(r.inside, invite)
	r.expectCount(policy.ReasonRepeat, 1)
	phone.send(respond(got, "180 Ringing"))
	r.expectResponse(180)
	r.pbx.send(r.inside, invite)
	r.expectResponse(180)
	phone.send(respond(got, "486 Busy Here"))
	r.expectResponse(486)
	r.expectResponse(486) // by itself
	ack := o
	ack.ToTag, ack.NoContact, ack.Branch = "uas", true, "z9hG4bK-invite-1-7e5a01"
	r.pbx.send(r.inside, siptest.Request("ACK", ack))
	r.pbx.send(r.inside, siptest.Request("ACK", ack))
	if m := phone.receive(); m.Method != sip.MethodAck {
		t.Errorf("the phone got\n%s", m.Buf)
	}
	r.expectCount(policy.ReasonRepeat, 3)

	// The next thing that the phone gets is another request.
	r.pbx.send(r.inside, siptest.Request("OPTIONS", siptest.Options{Via: r.pbx.addr.String(), RequestURI: alias}))
	options := phone.receive()
	if options.Method != sip.MethodOptions {
		t.Fatalf("the phone got\n%s", options.Buf)
	}
	phone.send(respond(options, "200 OK"))
	r.expectResponse(200)

	// It has answered and gone. Whoever repeats the request gets the answer, not a 430.
	phone.conn.Close()
	r.expectClosed()
	r.pbx.send(r.inside, siptest.Request("OPTIONS", siptest.Options{Via: r.pbx.addr.String(), RequestURI: alias}))
	r.expectResponse(200)
	r.pbx.send(r.inside, siptest.Request("OPTIONS", siptest.Options{Via: r.pbx.addr.String(), RequestURI: alias, CSeq: 2}))
	r.expectResponse(430)
}

// TestAcceptedCallFromUDP: a 2xx is repeated until the PBX has acknowledged it; the ACK goes
// to the phone each time.
func TestAcceptedCallFromUDP(t *testing.T) {
	r, phone := onlyUDP(t)
	o := siptest.Options{Via: r.pbx.addr.String(), RequestURI: registeredOverUDP(r, phone), NoRPort: true}
	r.pbx.send(r.inside, siptest.Invite(o))
	invite := phone.receive()
	phone.send(respond(invite, "200 OK", "Contact: <sip:alice@"+phone.local()+";transport=tcp>"))
	r.expectResponse(200)
	again := r.expectResponse(200) // by itself
	routes := values(again, sip.HeaderRecordRoute)
	ack := o
	ack.Branch, ack.ToTag, ack.NoContact = "z9hG4bK-ack", "uas", true
	ack.RequestURI, ack.Headers = "sip:alice@"+phone.local()+";transport=tcp", []string{"Route: " + routes[1] + ", " + routes[0]}
	for range 2 {
		r.pbx.send(r.inside, siptest.Request("ACK", ack))
		if m := phone.receive(); m.Method != sip.MethodAck {
			t.Fatalf("the phone got\n%s", m.Buf)
		}
	}
	sent := r.server.Stats().Repeats.Sent
	r.pbx.send(r.inside, siptest.Invite(o)) // late, and answered by nothing
	r.expectCount(policy.ReasonRepeat, 1)
	expectRepeats(t, r, "repeats after the ACK", func(s retransmit.Stats) uint64 { return s.Sent }, sent)
}

// TestTableFull: a stranger gets 503 when he has had his share, and what he has begun goes on.
func TestTableFull(t *testing.T) {
	r, phone := onlyUDP(t)
	const size = 60_000
	body := strings.Repeat("x", size)
	register := func(i int) []byte {
		return siptest.Register(siptest.Options{Transport: "TCP", Via: phone.local(), CSeq: i + 1, Body: body})
	}
	const share = 2 << 20 // a 32nd of the table
	var first *sip.Message
	for i := range share / size {
		phone.send(register(i))
		if m, _ := r.pbx.receive(); first == nil {
			first = m
		}
	}
	phone.send(register(share / size))
	if m := phone.receive(); m.Status != 503 || !m.Has(sip.HeaderRetryAfter) {
		t.Fatalf("the phone got\n%s", m.Buf)
	}
	r.expectCount(policy.ReasonRetransmitFull, 1)
	expectRepeats(t, r, "refused", func(s retransmit.Stats) uint64 { return s.Refused }, 1)
	r.pbx.send(r.inside, respond(first, "200 OK"))
	if m := phone.receive(); m.Status != 200 {
		t.Errorf("the phone got\n%s", m.Buf)
	}
	phone.send(register(100)) // there is room again, and it is in good standing now
	for i := 0; ; i++ {
		if m, _ := r.pbx.receive(); m.CSeq == 101 {
			break
		} else if i > 200 {
			t.Fatal("the request did not arrive")
		}
	}
}

// TestTooLargeForUDP: what no datagram holds is refused, not lost.
func TestTooLargeForUDP(t *testing.T) {
	r, phone := onlyUDP(t)
	for size := 65_400; size > 64_000; size -= 100 {
		m := siptest.Register(siptest.Options{Transport: "TCP", Via: phone.local(), Body: strings.Repeat("x", size)})
		if len(m) <= 64<<10 { // the most that sipward takes
			phone.send(m)
			break
		}
	}
	if m := phone.receive(); m.Status != 513 {
		t.Errorf("the phone got\n%s", m.Buf)
	}
	r.expectCount(policy.ReasonTooLarge, 1)
}

// expectResponse waits until the PBX gets a response with that status; repeats of earlier ones
// may come before it.
func (r *rig) expectResponse(status int) *sip.Message {
	r.tb.Helper()
	for range 10 {
		m, _ := r.pbx.receive()
		if m.Status == status {
			return m
		}
		if m.Status >= 200 {
			r.tb.Fatalf("the PBX got\n%s\nwant a %d", m.Buf, status)
		}
	}
	r.tb.Fatalf("the PBX gets no %d", status)
	return nil
}
