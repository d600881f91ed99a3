package proxy_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"sipward/policy"
	"sipward/policy/scanner"
	"sipward/sip"
	"sipward/sip/siptest"
)

// A shuttle sends ready-made messages through a rig and reads them at the other end,
// without allocating itself.
type shuttle struct {
	*rig
	phone    *peer
	request  []byte
	response []byte
	buf      []byte
}

func newShuttle(tb testing.TB, request func(via string) []byte) *shuttle {
	r := newRig(tb, rigOptions{})
	s := &shuttle{rig: r, phone: newPeer(tb, "127.0.1.1"), buf: make([]byte, 65535)}
	s.request = request(s.phone.addr.String())
	s.phone.send(r.outside, s.request)
	m, _ := r.pbx.receive()
	s.response = respond(m, "200 OK", "Contact: "+value(m, sip.HeaderContact, 0))
	deadline := time.Now().Add(time.Minute)
	s.phone.conn.SetReadDeadline(deadline)
	s.pbx.conn.SetReadDeadline(deadline)
	return s
}

func (s *shuttle) pass(from, to *peer, b []byte, via netip.AddrPort) {
	if _, err := from.conn.WriteToUDPAddrPort(b, via); err != nil {
		s.tb.Fatal(err)
	}
	if _, _, err := to.conn.ReadFromUDPAddrPort(s.buf); err != nil {
		s.tb.Fatal(err)
	}
}

// round passes the request and its response.
func (s *shuttle) round() {
	s.pass(s.phone, s.pbx, s.request, s.outside)
	s.pass(s.pbx, s.phone, s.response, s.inside)
}

// TestNoAllocs: forwarding a request and its response allocates nothing.
func TestNoAllocs(t *testing.T) {
	for name, request := range map[string]func(string) []byte{
		"register": func(via string) []byte { return siptest.Register(siptest.Options{Via: via}) },
		"invite":   func(via string) []byte { return siptest.Invite(siptest.Options{Via: via}) },
		"via host": func(via string) []byte { return siptest.Invite(siptest.Options{Via: "10.0.0.5:5062"}) },
		"in dialog": func(via string) []byte {
			return siptest.Request("BYE", siptest.Options{Via: via, Headers: []string{"Route: <sip:127.0.0.1;lr>"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShuttle(t, request)
			for range 100 {
				s.round() // warm
			}
			if n := testing.AllocsPerRun(500, s.round); n != 0 {
				t.Errorf("%v allocations for a request and its response, want 0", n)
			}
		})
	}
}

// TestNoAllocsDropped: nor does dropping a message.
func TestNoAllocsDropped(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone := newPeer(t, "127.0.1.1")
	garbage := []byte("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
	foreign := respond(scan(t, siptest.Invite(siptest.Options{Via: phone.addr.String()})), "200 OK")
	drop := func() {
		before := r.count(policy.ReasonMalformed) + r.count(policy.ReasonForeignVia)
		phone.send(r.outside, garbage)
		phone.send(r.outside, foreign)
		for r.count(policy.ReasonMalformed)+r.count(policy.ReasonForeignVia) < before+2 {
			time.Sleep(50 * time.Microsecond)
		}
	}
	for range 50 {
		drop()
	}
	if n := testing.AllocsPerRun(200, drop); n != 0 {
		t.Errorf("%v allocations for two dropped messages, want 0", n)
	}
}

// TestNoAllocsEvidence: nor does dropping what an attack tool has sent, however long it is: of what people are shown, only as
// much is made as is kept.
func TestNoAllocsEvidence(t *testing.T) {
	r := newRig(t, rigOptions{policy: func(c *policy.Config) {
		c.Scanner = policy.Scanner{Set: scanner.Default(), Action: policy.Action{Kind: policy.ActionDrop}}
	}})
	phone := newPeer(t, "127.0.1.1")
	msg := siptest.Request("OPTIONS", siptest.Options{Via: phone.addr.String(), UserAgent: "friendly-scanner", Body: strings.Repeat("x", 20_000)})
	end := time.Now().Add(patience)
	drop := func() {
		before := r.count(policy.ReasonScanner)
		phone.send(r.outside, msg)
		for r.count(policy.ReasonScanner) == before {
			if time.Now().After(end) {
				t.Fatal("not dropped as an attack tool's")
			}
			time.Sleep(50 * time.Microsecond)
		}
	}
	for range 50 {
		drop()
	}
	if n := testing.AllocsPerRun(200, drop); n != 0 {
		t.Errorf("%v allocations for a dropped message, want 0", n)
	}
	if x := r.engine.Explain(phone.addr.Addr(), time.Now().UnixNano()).Exhibits; len(x) == 0 || !strings.HasPrefix(x[0].Text, "OPTIONS ") || !strings.Contains(x[0].Text, "User-Agent: friendly-scanner\r\n") {
		t.Errorf("shown are %+v", x)
	}
}

// BenchmarkRoundTrip is a REGISTER and its 200 through real sockets, one at a time.
func BenchmarkRoundTrip(b *testing.B) {
	s := newShuttle(b, func(via string) []byte { return siptest.Register(siptest.Options{Via: via}) })
	b.ReportAllocs()
	for b.Loop() {
		s.round()
	}
}
