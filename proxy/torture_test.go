package proxy_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"sipward/policy"
	"sipward/sip"
	"sipward/sip/siptest"
)

// What becomes of the messages of RFC 4475 that the scanner accepts (sip's own test
// lists those that it refuses) when a phone sends them. 0: forwarded.
var tortured = map[string]struct {
	status int
	reason policy.Reason
	why    string
}{
	"unreason": {0, policy.ReasonForeignVia, "3.1.1.12: a response to nothing of ours"},
	"noreason": {0, policy.ReasonForeignVia, "3.1.1.13: a response to nothing of ours"},
	"bcast":    {0, policy.ReasonForeignVia, "3.3.10: a response to nothing of ours; its broadcast address is never looked at"},
	"regbadct": {400, policy.ReasonMalformed, "3.1.2.13: nobody can tell whose the parameters of its Contact are"},
	"unkscm":   {416, policy.ReasonBadScheme, "3.3.2: unknown scheme in the Request-URI"},
	"novelsc":  {416, policy.ReasonBadScheme, "3.3.3: a scheme that is not SIP's"},
	"bext01":   {420, policy.ReasonBadExtension, "3.3.5: Proxy-Require"},
	"zeromf":   {483, policy.ReasonTooManyHops, "3.3.11: Max-Forwards 0"},
}

// TestTorture sends each message of RFC 4475 through sipward: what passes differs in
// routing headers only, and what does not is answered or dropped as listed.
func TestTorture(t *testing.T) {
	for _, f := range siptest.Torture(t) {
		t.Run(f.Name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			phone := newPeer(t, "127.0.1.1")
			m := new(sip.Message)
			fault := m.Parse(bytes.Clone(f.Data), false)
			want := tortured[f.Name]
			if fault != sip.OK {
				want.reason = policy.ReasonMalformed
				if m.Answerable() {
					want.status = fault.Code()
				}
			}
			phone.send(r.outside, f.Data)
			if want.reason == policy.ReasonNone {
				r.expectCount(policy.ReasonPass, 1)
				got, _ := r.pbx.receive()
				onlyRoutingDiffers(t, f.Data, got)
				r.pbx.send(r.inside, respond(got, "404 Not Found"))
				if back, _ := phone.receive(); back.Status != 404 || back.ViaCount != m.ViaCount {
					t.Errorf("the answer that came back:\n%s", back.Buf)
				}
				return
			}
			r.expectCount(want.reason, 1)
			if want.status != 0 {
				phone.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
				buf := make([]byte, 65535)
				n, err := phone.conn.Read(buf)
				if err != nil || !strings.HasPrefix(string(buf[:n]), fmt.Sprintf("SIP/2.0 %d ", want.status)) {
					t.Errorf("answered %q (%v), want %d", buf[:n], err, want.status)
				}
			}
			r.pbx.silent()
		})
	}
}

// routing lists the headers that a proxy may touch.
var routing = []sip.HeaderID{sip.HeaderVia, sip.HeaderRoute, sip.HeaderRecordRoute, sip.HeaderMaxForwards}

// onlyRoutingDiffers compares what was sent and what the PBX received, line by line.
func onlyRoutingDiffers(t *testing.T, sent []byte, got *sip.Message) {
	t.Helper()
	before := scan(t, bytes.Clone(sent))
	a, b := otherLines(before), otherLines(got)
	if len(a) != len(b) {
		t.Fatalf("%d header lines besides routing became %d:\n%s", len(a), len(b), got.Buf)
	}
	for i := range a {
		if a[i] != b[i] {
			t.Errorf("%q became %q", a[i], b[i])
		}
	}
	if !bytes.Equal(before.Body.Of(before.Buf), got.Body.Of(got.Buf)) {
		t.Error("the body was changed")
	}
	// The phone's Vias stand below ours, all but the parameters of the first as they
	// were.
	was, is := values(before, sip.HeaderVia), values(got, sip.HeaderVia)
	if len(is) != len(was)+1 {
		t.Fatalf("%d Vias became %d", len(was), len(is))
	}
	for i, v := range was[1:] {
		if is[i+2] != v {
			t.Errorf("Via %q became %q", v, is[i+2])
		}
	}
}

func otherLines(m *sip.Message) (lines []string) {
	lines = append(lines, string(m.Buf[:m.Headers[0].Line.Off]))
	if !strings.Contains(lines[0], "SIP/2.0") { // our headers were put in front of the first
		lines[0] = ""
	}
	for _, h := range m.Headers {
		skip := m.Method == sip.MethodRegister && h.ID == sip.HeaderContact
		for _, id := range routing {
			skip = skip || h.ID == id
		}
		if !skip {
			lines = append(lines, string(h.Line.Of(m.Buf)))
		}
	}
	return lines
}
