package sip_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"sipward/sip"
	"sipward/sip/siptest"
)

// seeds adds good messages, torture messages and broken ones.
func seeds(f *testing.F, add func(msg []byte)) {
	for _, file := range siptest.Torture(f) {
		add(file.Data)
	}
	reg := register()
	for _, msg := range [][]byte{reg, siptest.Invite(siptest.Options{}), siptest.Response(reg, 401, "Unauthorized", siptest.Options{
		Headers: []string{`WWW-Authenticate: Digest realm="r", nonce="n", stale=true`}}), []byte(base), []byte(answer)} {
		add(msg)
	}
}

// FuzzParse: no panic; all spans of an accepted message in range and in order;
// an edit and a second scan change nothing but what was edited; sipgo reads the
// same, or a listed divergence says why not.
func FuzzParse(f *testing.F) {
	seeds(f, func(msg []byte) { f.Add(msg) })
	var m, again sip.Message
	var e sip.Edit
	f.Fuzz(func(t *testing.T, b []byte) {
		stream := m.Parse(b, true)
		if stream == sip.OK {
			checkSpans(t, &m)
		}
		before := bytes.Clone(b)
		fault := m.Parse(b, false)
		walk(t, &m)
		if !bytes.Equal(b, before) {
			t.Error("Parse wrote into its input")
		}
		if fault != sip.OK {
			if stream == sip.OK {
				t.Errorf("accepted as a stream message, but as a datagram: %v", fault)
			}
			return
		}
		checkSpans(t, &m)
		checkOracle(t, &m)
		checkEdited(t, &m, &again, &e)
		checkParamsAdded(t, &m, &again, &e)
	})
}

// checkEdited edits a message as a proxy does and scans the result.
func checkEdited(t *testing.T, m, again *sip.Message, e *sip.Edit) {
	e.Reset(m)
	top := m.Headers[m.Via.Header].Line.Off
	e.Begin(sip.Span{Off: top, End: top})
	e.B = append(e.B, "Via: SIP/2.0/UDP proxy;branch=z9hG4bKedit\r\n"...)
	e.End()
	if m.MaxForwards > 0 {
		e.Begin(m.MaxForwardsValue)
		e.B = append(e.B, '1')
		e.End()
	}
	out := e.AppendTo(nil)
	if e.Err() != nil || len(out) != e.Size() {
		t.Fatalf("edit: %v", e.Err())
	}
	if len(m.Headers) == sip.MaxHeaders {
		return // one more is too many
	}
	if fault := again.Parse(out, false); fault != sip.OK {
		t.Fatalf("edited: %v\n%q", fault, out)
	}
	if again.ViaCount != m.ViaCount+1 || len(again.Headers) != len(m.Headers)+1 || string(again.Text(again.Via.Host)) != "proxy" {
		t.Errorf("edited: %d vias, %d headers", again.ViaCount, len(again.Headers))
	}
	same := func(what string, a, b sip.Span) {
		if !bytes.Equal(m.Text(a), again.Text(b)) {
			t.Errorf("edited: %s was %q, is %q", what, m.Text(a), again.Text(b))
		}
	}
	same("From tag", m.From.Tag, again.From.Tag)
	same("To", m.To.URISpan, again.To.URISpan)
	same("Call-ID", m.CallID, again.CallID)
	same("body", m.Body, again.Body)
	// And back: the Via that was put on top goes, the rest is as it was.
	e.Reset(again)
	e.DeleteValue(again, again.Via.Header, again.Via.Value)
	if m.MaxForwards > 0 {
		e.Begin(again.MaxForwardsValue)
		e.B = append(e.B, m.Text(m.MaxForwardsValue)...)
		e.End()
	}
	if back := e.AppendTo(nil); e.Err() != nil || !bytes.Equal(back, m.Buf) {
		t.Errorf("and back: %v\n%q\n%q", e.Err(), back, m.Buf)
	}
}

// checkParamsAdded adds a parameter wherever one may be added, and finds it again.
func checkParamsAdded(t *testing.T, m, again *sip.Message, e *sip.Edit) {
	e.Reset(m)
	ends := []uint32{m.Via.Params.End, m.To.Params.End}
	inURI := m.To.Bracketed && (m.To.URI.Kind == sip.SchemeSIP || m.To.URI.Kind == sip.SchemeSIPS)
	if inURI {
		ends = append(ends, m.To.URI.Params.End)
	}
	for _, end := range ends {
		e.Begin(sip.Span{Off: end, End: end})
		e.B = append(e.B, ";added=1"...)
		e.End()
	}
	out := e.AppendTo(nil)
	if fault := again.Parse(out, false); fault == sip.FaultHeaderTooLong {
		return
	} else if fault != sip.OK {
		t.Fatalf("with parameters: %v\n%q", fault, out)
	}
	_, via := again.Via.Param(again.Buf, "added")
	_, to := again.To.Param(again.Buf, "added")
	_, uri := again.To.URI.Param(again.Buf, "added")
	if !via || !to || uri != inURI && !bytes.Contains(m.Buf, []byte("added")) {
		t.Errorf("added parameters found: %v, %v, %v\n%q", via, to, uri, out)
	}
}

// walk calls all that reads a message, accepted or not.
func walk(t *testing.T, m *sip.Message) {
	for id := sip.HeaderVia; int(id) < sip.HeaderCount; id++ {
		last := uint32(0)
		for it := m.Values(id); it.Next(); {
			if it.Value.Off < last || it.Value.Empty() || int(it.Value.End) > len(m.Buf) || m.Headers[it.Header].ID != id {
				t.Fatalf("%v: value %v", id, it.Value)
			}
			last = it.Value.End
			n, _ := sip.ParseNameAddr(m.Buf, it.Value)
			n.Param(m.Buf, "expires")
			n.URI.Param(m.Buf, "transport")
			v, _ := sip.ParseVia(m.Buf, it.Value)
			v.Param(m.Buf, "ttl")
		}
		if h := m.Find(id); h != nil {
			sip.ParseCredentials(m.Buf, h.Value)
			sip.ParseChallenge(m.Buf, h.Value)
		}
	}
	sip.Redact(nil, m.Buf)
}

// FuzzFramer: a stream in pieces gives the same messages, as many pings and the
// same fault as in one piece; and the scanner finds the same end as the framer.
func FuzzFramer(f *testing.F) {
	seeds(f, func(msg []byte) {
		f.Add(slices.Concat([]byte("\r\n\r\n"), msg, []byte("\r\n"), msg), []byte{7, 1, 200, 3})
	})
	f.Add([]byte("\r\n\r\n\r\n\r\n\r\nOPTIONS sip:a SIP/2.0\r\nl: 0\r\n\r\n\r\n\r\n"), []byte{2, 1})
	var m sip.Message
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		if len(stream) > 1<<13 {
			return
		}
		framer := func() *sip.Framer { return &sip.Framer{MaxHeader: 3000, MaxMessage: 4000} }
		msgs, pings, fault := frames(framer(), stream, whole)
		k := 0
		pieces := func(left int) int {
			if len(cuts) == 0 {
				return 1
			}
			k++
			return min(left, 1+int(cuts[k%len(cuts)]))
		}
		msgs2, pings2, fault2 := frames(framer(), stream, pieces)
		if !slices.Equal(msgs, msgs2) || pings != pings2 || fault != fault2 {
			t.Fatalf("whole: %d messages, %d pings, %v; in pieces: %d, %d, %v", len(msgs), pings, fault, len(msgs2), pings2, fault2)
		}
		for _, msg := range msgs {
			switch fault := m.Parse([]byte(msg), true); fault {
			case sip.FaultBodyLength, sip.FaultMissingLength, sip.FaultHeadEnd, sip.FaultFold, sip.FaultHeaderSyntax, sip.FaultKeepAlive:
				t.Errorf("framed, but %v: %q", fault, msg)
			}
		}
	})
}

// FuzzEdit: whatever splices are asked for, the result is that of a naive
// implementation, or both see an overlap.
func FuzzEdit(f *testing.F) {
	seeds(f, func(msg []byte) { f.Add(msg, []byte("\x00\x10\x00\x14\x03\x00\x10\x00\x10\x01")) })
	var m sip.Message
	var e sip.Edit
	f.Fuzz(func(t *testing.T, b, ops []byte) {
		m.Parse(b, false)
		if len(m.Buf) == 0 || len(m.Buf) > 1<<13 || len(ops) > 200 {
			return
		}
		e.Reset(&m)
		var splices []naiveSplice
		for ; len(ops) >= 5; ops = ops[5:] {
			off := int(binary.BigEndian.Uint16(ops)) % (len(m.Buf) + 1)
			end := min(len(m.Buf), off+int(ops[2])%8*int(ops[3]))
			s := naiveSplice{off, end, strings.Repeat(string(rune('a'+len(splices)%26)), int(ops[4])%5)}
			splices = append(splices, s)
			e.Begin(sip.Span{Off: uint32(s.off), End: uint32(s.end)})
			e.B = append(e.B, s.text...)
			e.End()
		}
		want, ok := naiveEdit(m.Buf, splices)
		got := e.AppendTo(nil)
		if (e.Err() == nil) != ok || ok && (!bytes.Equal(got, want) || e.Size() != len(got)) {
			t.Errorf("%v: err %v, naive %v\ngot  %q\nwant %q", splices, e.Err(), ok, got, want)
		}
	})
}

// FuzzCredentials: no panic; spans in range and without a bare quote; and the
// secrets of what was accepted do not survive Redact.
func FuzzCredentials(f *testing.F) {
	f.Add(siptest.Auth("alice", "example.com", "n1", "sip:example.com"), "alice", "r")
	f.Add(`Digest realm="a", nonce=b, stale=TRUE`, `nonce="`, "response=")
	f.Add("Basic abc", `a\"`, "sip:a:b@c")
	f.Fuzz(func(t *testing.T, in, user, realm string) {
		b := []byte(in)
		c, fault := sip.ParseCredentials(b, all(in))
		h, fault2 := sip.ParseChallenge(b, all(in))
		if (fault == sip.OK && !c.Digest) != (fault2 == sip.OK && !h.Digest) {
			t.Errorf("scheme: %v, %v", fault, fault2)
		}
		for _, s := range []sip.Span{c.Scheme, c.Username, c.Realm, c.Nonce, c.URI, c.Response, c.Algorithm, c.CNonce, c.Opaque, c.QOP, c.NC,
			h.Scheme, h.Realm, h.Nonce, h.Opaque, h.Algorithm, h.QOP, h.Domain} {
			if s.Off > s.End || int(s.End) > len(in) {
				t.Fatalf("span %v of %d bytes", s, len(in))
			}
			if text := strings.ReplaceAll(strings.ReplaceAll(in[s.Off:s.End], `\\`, ""), `\"`, ""); strings.Contains(text, `"`) {
				t.Errorf("quote in %q", in[s.Off:s.End])
			}
		}
		if fault == sip.OK && c.Digest && (c.Response.End == 0 || c.Nonce.End == 0) {
			t.Error("incomplete, but accepted")
		}
		if len(user)+len(realm) > 500 {
			return
		}
		const secret = "5eCrEt-0123456789"
		line := `Authorization: Digest username="` + user + `", nonce=` + secret + `, realm="` + realm + `", response="` + secret + `", uri="sip:a:` + secret + `@b"`
		value := sip.Span{Off: uint32(len("Authorization: ")), End: uint32(len(line))}
		if c, fault := sip.ParseCredentials([]byte(line), value); fault != sip.OK || string(c.Response.Of([]byte(line))) != secret {
			return // a quote in user or realm has made something else of it
		}
		if out := string(sip.Redact(nil, []byte(line))); strings.Contains(out, secret) {
			t.Errorf("not redacted: %s\nfrom %s", out, line)
		}
	})
}
