package proxy

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sipward/policy"
	"sipward/proxy/netio"
	"sipward/sip/siptest"
)

// The listeners of newPath.
const (
	fromOutside = 0
	fromPBX     = 1
)

func transitPath(tb testing.TB) *path {
	tb.Helper()
	return newPath(tb, &Transparent{Mark: 1})
}

func toPBX(b []byte) netio.Packet {
	return netio.Packet{Data: b, Src: benchPhone, Local: benchPBX.Addr(), LocalPort: benchPBX.Port()}
}

func fromThePBX(b []byte) netio.Packet {
	return netio.Packet{Data: b, Src: benchPBX, Local: benchPhone.Addr(), LocalPort: benchPhone.Port()}
}

// passes gives a packet to a listener and reports whether the same bytes have left, from
// its source to its destination.
func (p *path) passes(listener int, pkt netio.Packet) bool {
	p.last = p.last[:0]
	p.run(listener, pkt)
	return len(p.last) > 0 && bytes.Equal(p.last, pkt.Data) &&
		p.to.Dst == netip.AddrPortFrom(pkt.Local, pkt.LocalPort) && netip.AddrPortFrom(p.to.Local, p.to.LocalPort) == pkt.Src
}

func (p *path) counted(r policy.Reason) uint64 { return p.s.engine.Counters().Snapshot()[r] }

// answerTo is a PBX's response.
func answerTo(request []byte, status string, more ...string) []byte {
	b := "SIP/2.0 " + status + "\r\n"
	for line := range strings.SplitSeq(string(request), "\r\n") {
		for _, keep := range []string{"Via:", "From:", "To:", "Call-ID:", "CSeq:", "Contact:"} {
			if strings.HasPrefix(line, keep) {
				b += line + "\r\n"
			}
		}
	}
	for _, h := range more {
		b += h + "\r\n"
	}
	return []byte(b + "Content-Length: 0\r\n\r\n")
}

func guess(via, nonce string) []byte {
	return siptest.Register(siptest.Options{Via: via, Auth: siptest.Auth("alice", "example.com", nonce, "sip:example.com")})
}

// TestTransitUnchanged: what passes does so with its own addresses, from both sides.
func TestTransitUnchanged(t *testing.T) {
	net := transitPath(t)
	request := siptest.Register(siptest.Options{Via: benchPhone.String()})
	for _, tc := range []struct {
		name     string
		listener int
		pkt      netio.Packet
	}{
		{"request", fromOutside, toPBX(request)},
		{"answer", fromPBX, fromThePBX(answerTo(request, "200 OK", "Expires: 60"))},
		{"answer to something before our time", fromPBX, fromThePBX(answerTo(guess("192.0.2.99", "x"), "200 OK"))},
		{"request of the PBX", fromPBX, fromThePBX(siptest.Invite(siptest.Options{Via: benchPBX.String()}))},
		{"reply", fromOutside, toPBX(answerTo(siptest.Invite(siptest.Options{Via: benchPBX.String()}), "180 Ringing"))},
		{"keep-alive of the PBX", fromPBX, fromThePBX([]byte("\r\n\r\n"))},
		{"odd words of the PBX", fromPBX, fromThePBX([]byte("hello"))},
	} {
		if !net.passes(tc.listener, tc.pkt) {
			t.Errorf("%s: %q left instead", tc.name, net.last)
		}
	}
}

// TestTransitNotForUs: what the rules have not led here is not forwarded.
func TestTransitNotForUs(t *testing.T) {
	net := transitPath(t)
	request := siptest.Register(siptest.Options{Via: benchPhone.String()})
	own, forged, stranger := toPBX(request), toPBX(request), fromThePBX(request)
	own.Local, own.LocalPort = netip.MustParseAddr("127.0.0.1"), 15060
	forged.Src = netip.AddrPortFrom(benchPBX.Addr(), 5070)
	stranger.Src = benchPhone
	for _, tc := range []struct {
		listener int
		pkt      netio.Packet
		reason   policy.Reason
	}{
		{fromOutside, own, policy.ReasonNoRoute},
		{fromOutside, forged, policy.ReasonForgedSource},
		{fromPBX, stranger, policy.ReasonNotPBX},
	} {
		net.passes(tc.listener, tc.pkt)
		if len(net.last) > 0 || net.counted(tc.reason) != 1 {
			t.Errorf("%v: %q left, counted %d times", tc.reason, net.last, net.counted(tc.reason))
		}
	}
}

// TestTransitOneGuess: while a transaction waits for its answer it cannot be used for
// other credentials, so that each guess is judged by its own answer.
func TestTransitOneGuess(t *testing.T) {
	for _, header := range []string{"Authorization: ", "Proxy-Authorization: "} {
		t.Run(header, func(t *testing.T) { testOneGuess(t, header) })
	}
}

func testOneGuess(t *testing.T, header string) {
	net := transitPath(t)
	with := func(nonce string) []byte {
		return bytes.Replace(guess(benchPhone.String(), nonce), []byte("Authorization: "), []byte(header), 1)
	}
	first, second := with("aaaa"), with("bbbb")
	for range 2 { // the second is a retransmission
		if !net.passes(fromOutside, toPBX(first)) {
			t.Fatal("a request does not pass")
		}
	}
	if net.passes(fromOutside, toPBX(second)) {
		t.Fatal("a second guess hides behind the first")
	}
	net.passes(fromPBX, fromThePBX(answerTo(first, "500 Server Error")))
	if !net.passes(fromOutside, toPBX(second)) {
		t.Fatal("the transaction has its answer, and the next does not pass")
	}
}

// TestTransitReplies: strangers' responses to nothing end here, once nothing from before
// our start can be waiting for them.
func TestTransitReplies(t *testing.T) {
	net := transitPath(t)
	invite := siptest.Invite(siptest.Options{Via: benchPBX.String()})
	reply := toPBX(answerTo(invite, "200 OK"))
	net.s.transit.since = time.Now().UnixNano() - inviteLife - 1
	if net.passes(fromOutside, reply) || net.counted(policy.ReasonUnmatchedResponse) != 1 {
		t.Error("a response to nothing passes")
	}
	net.passes(fromPBX, fromThePBX(invite))
	if !net.passes(fromOutside, reply) {
		t.Error("a response does not pass")
	}
}

// TestTransitShield: a carrier may challenge the PBX, a phone may not.
func TestTransitShield(t *testing.T) {
	net := transitPath(t)
	challenge := `WWW-Authenticate: Digest realm="x", nonce="y"`
	invite := siptest.Invite(siptest.Options{Via: benchPBX.String()})
	net.passes(fromPBX, fromThePBX(invite))
	if !net.passes(fromOutside, toPBX(answerTo(invite, "401 Unauthorized", challenge))) {
		t.Error("a carrier's challenge does not pass")
	}
	register := siptest.Register(siptest.Options{Via: benchPhone.String()})
	net.passes(fromOutside, toPBX(register))
	net.passes(fromPBX, fromThePBX(answerTo(register, "200 OK", "Expires: 60")))
	second := bytes.ReplaceAll(invite, []byte("z9hG4bK"), []byte("z9hG4bKsecond"))
	net.passes(fromPBX, fromThePBX(second))
	if net.passes(fromOutside, toPBX(answerTo(second, "401 Unauthorized", challenge))) || net.counted(policy.ReasonDigestLeak) != 1 {
		t.Error("a phone's challenge passes")
	}
}

// TestTransitAnswers: what is refused is answered from the address and port of the PBX.
func TestTransitAnswers(t *testing.T) {
	net := transitPath(t)
	bad := bytes.Replace(siptest.Register(siptest.Options{Via: benchPhone.String()}), []byte(" REGISTER\r\n"), []byte(" BYE\r\n"), 1)
	net.passes(fromOutside, toPBX(bad))
	if !bytes.HasPrefix(net.last, []byte("SIP/2.0 400 ")) || net.to.Dst != benchPhone || netip.AddrPortFrom(net.to.Local, net.to.LocalPort) != benchPBX {
		t.Errorf("from %v:%d to %v: %q", net.to.Local, net.to.LocalPort, net.to.Dst, net.last)
	}
}

func transitPair() (request, response netio.Packet) {
	b := guess(benchPhone.String(), "f84f1cec41e6cbe5aea9c8e88d359")
	return toPBX(b), fromThePBX(answerTo(b, "200 OK", "Expires: 3600"))
}

// TestTransitAllocs: a request and its response allocate nothing.
func TestTransitAllocs(t *testing.T) {
	net := transitPath(t)
	request, response := transitPair()
	in, out := []netio.Packet{request}, []netio.Packet{response}
	round := func() {
		net.run(fromOutside, in...)
		net.run(fromPBX, out...)
	}
	for range 10 {
		round()
	}
	if n := testing.AllocsPerRun(1000, round); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// BenchmarkTransitRequest: scan, decide and queue a REGISTER.
func BenchmarkTransitRequest(b *testing.B) {
	net := transitPath(b)
	request, _ := transitPair()
	bench(b, net, fromOutside, request)
}

// BenchmarkTransitResponse: the same for the PBX's answer.
func BenchmarkTransitResponse(b *testing.B) {
	net := transitPath(b)
	request, response := transitPair()
	net.run(fromOutside, request)
	bench(b, net, fromPBX, response)
}
