package sip_test

import (
	"bytes"
	"strconv"
	"testing"

	"sipward/sip"
	"sipward/sip/siptest"
)

// hot lists what runs for each packet. Each entry must not allocate, once warm.
func hot(tb testing.TB) map[string]func() {
	reg, inv := register(), siptest.Invite(siptest.Options{})
	ok := siptest.Response(reg, 200, "OK", siptest.Options{Contact: "sip:alice@192.0.2.10"})
	refused := bytes.Replace(reg, []byte("CSeq: 1 REGISTER"), []byte("CSeq: 1 INVITE"), 1)
	routed := siptest.Request("BYE", siptest.Options{Headers: []string{
		"Route: <sip:192.0.2.1;lr>, <sip:192.0.2.2;lr>", "Route: <sip:192.0.2.3;lr>,<sip:192.0.2.4;lr>"}})
	scanned := new(sip.Message)
	scanned.Parse(reg, false)
	bye := new(sip.Message)
	bye.Parse(routed, false)
	auth := scanned.Find(sip.HeaderAuthorization).Value
	contact := scanned.Find(sip.HeaderContact).Value
	via := scanned.Find(sip.HeaderVia).Value
	challenge := []byte(`Digest realm="example.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", algorithm=MD5, qop="auth", stale=false`)
	uri := []byte("sip:alice@[2001:db8::1]:5060;transport=tcp;ob")
	stream := append(bytes.Clone(reg), inv...)

	var m sip.Message
	var e sip.Edit
	out := make([]byte, 0, 4096)
	must := func(good bool) {
		if !good {
			tb.Error("a hot function failed")
		}
	}
	return map[string]func(){
		"ParseRegister": func() { must(m.Parse(reg, false) == sip.OK) },
		"ParseInvite":   func() { must(m.Parse(inv, false) == sip.OK) },
		"ParseResponse": func() { must(m.Parse(ok, false) == sip.OK) },
		"ParseRefused":  func() { must(m.Parse(refused, false) == sip.FaultCSeqMethod && m.Answerable()) },
		"Find":          func() { must(scanned.Find(sip.HeaderAuthorization) != nil && !scanned.Has(sip.HeaderRoute)) },
		"Values": func() {
			n := 0
			for it := bye.Values(sip.HeaderRoute); it.Next(); n++ {
			}
			must(n == 4)
		},
		"ParseNameAddr": func() {
			n, fault := sip.ParseNameAddr(reg, contact)
			_, ok := n.Param(reg, "reg-id")
			must(fault == sip.OK && ok)
		},
		"ParseVia": func() { _, fault := sip.ParseVia(reg, via); must(fault == sip.OK) },
		"ParseURI": func() {
			u, fault := sip.ParseURI(uri, sip.Span{End: uint32(len(uri))})
			must(fault == sip.OK && u.Port == 5060)
		},
		"ParseCredentials": func() { _, fault := sip.ParseCredentials(reg, auth); must(fault == sip.OK) },
		"ParseChallenge": func() {
			_, fault := sip.ParseChallenge(challenge, sip.Span{End: uint32(len(challenge))})
			must(fault == sip.OK)
		},
		"Edit": func() {
			out = edit5(&e, scanned, out[:0])
			must(e.Err() == nil && len(out) > len(reg))
		},
		"EditDeleteValues": func() {
			e.Reset(bye)
			it := bye.Values(sip.HeaderRoute)
			for range 3 {
				it.Next()
				e.DeleteValue(bye, it.Header, it.Value)
			}
			out = e.AppendTo(out[:0])
			must(e.Err() == nil && len(out) < len(routed))
		},
		"Framer": func() {
			var f sip.Framer
			kind, n, fault := f.Next(stream)
			must(kind == sip.FrameMessage && n == len(reg) && fault == sip.OK)
		},
		"Redact": func() { out = sip.Redact(out[:0], reg); must(len(out) > 0) },
		"Fault":  func() { must(sip.FaultVia.Error() != "" && sip.FaultVia.String() != "") },
	}
}

// edit5 is what the proxy does to a REGISTER: a Via and a Path on top, received
// and rport, Max-Forwards, and another Contact.
func edit5(e *sip.Edit, m *sip.Message, out []byte) []byte {
	e.Reset(m)
	top := m.Headers[m.Via.Header].Line.Off
	e.Begin(sip.Span{Off: top, End: top})
	e.B = append(e.B, "Via: SIP/2.0/UDP 203.0.113.1:5060;branch=z9hG4bK-0123456789abcdef-AbCdEfGhIjKlMnOpQrStUvWx;rport\r\n"...)
	e.End()
	e.Begin(m.Via.RPort.Whole)
	e.B = append(e.B, ";rport=5060;received=198.51.100.7"...)
	e.End()
	e.Begin(m.MaxForwardsValue)
	e.B = strconv.AppendInt(e.B, int64(m.MaxForwards-1), 10)
	e.End()
	e.Begin(m.To.URISpan)
	e.B = append(e.B, "sip:alice@pbx.example.com"...)
	e.End()
	e.Begin(m.RequestURI)
	e.B = append(e.B, "sip:pbx.example.com"...)
	e.End()
	return e.AppendTo(out)
}

func TestNoAllocations(t *testing.T) {
	for name, f := range hot(t) {
		f() // warm up
		if n := testing.AllocsPerRun(200, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func Benchmark(b *testing.B) {
	for name, f := range hot(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}

// BenchmarkFramerBytes feeds a message byte by byte: the cost per byte must not
// grow with the message.
func BenchmarkFramerBytes(b *testing.B) {
	for _, pad := range []int{1000, 4000, 8000} {
		msg := siptest.Register(siptest.Options{Pad: pad})
		b.Run(strconv.Itoa(len(msg)), func(b *testing.B) {
			b.SetBytes(int64(len(msg)))
			for b.Loop() {
				var f sip.Framer
				for i := 1; i <= len(msg); i++ {
					if kind, _, fault := f.Next(msg[:i]); fault != sip.OK || (kind == sip.FrameMessage) != (i == len(msg)) {
						b.Fatalf("%v, %v at %d", kind, fault, i)
					}
				}
			}
		})
	}
}
