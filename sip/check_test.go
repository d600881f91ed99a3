package sip_test

import (
	"bytes"
	"testing"

	"sipward/sip"
)

// checkSpans holds an accepted message against what must be true of every one.
func checkSpans(tb testing.TB, m *sip.Message) {
	tb.Helper()
	n := uint32(len(m.Buf))
	in := func(what string, s, outer sip.Span) {
		if s == (sip.Span{}) {
			return
		}
		if s.Off > s.End || s.Off < outer.Off || s.End > outer.End || s.End > n {
			tb.Errorf("%s: %v not within %v", what, s, outer)
		}
	}
	all := sip.Span{End: n}
	if m.Body.End != n || m.Body.Off != m.HeadEnd || m.ContentLength >= 0 && m.Body.Len() != m.ContentLength {
		tb.Errorf("body %v, head ends at %d of %d, Content-Length %d", m.Body, m.HeadEnd, n, m.ContentLength)
	}
	if !bytes.HasSuffix(m.Buf[:m.HeadEnd], []byte("\r\n\r\n")) {
		tb.Errorf("head ends with %q", m.Buf[:m.HeadEnd])
	}
	line := uint32(bytes.IndexByte(m.Buf, '\n') + 1)
	for i := range m.Headers {
		h := &m.Headers[i]
		if h.Line.Off != line {
			tb.Errorf("header %d begins at %d, the one before ends at %d", i, h.Line.Off, line)
		}
		line = h.Line.End
		in("name", h.Name, h.Line)
		in("value", h.Value, h.Line)
		if h.Name.Off != h.Line.Off || h.Name.End > h.Value.Off || h.Name.Empty() {
			tb.Errorf("header %d: name %v, value %v", i, h.Name, h.Value)
		}
		if sip.LookupHeader(m.Text(h.Name)) != h.ID {
			tb.Errorf("header %d: ID %v for %q", i, h.ID, m.Text(h.Name))
		}
	}
	if line+2 != m.HeadEnd {
		tb.Errorf("last header ends at %d, head at %d", line, m.HeadEnd)
	}
	for _, c := range []struct {
		id sip.HeaderID
		n  *sip.NameAddr
	}{{sip.HeaderFrom, &m.From}, {sip.HeaderTo, &m.To}} {
		value := m.Find(c.id).Value
		in("display", c.n.Display, value)
		in("uri", c.n.URISpan, value)
		in("params", c.n.Params, value)
		in("tag", c.n.Tag, c.n.Params)
		checkURI(in, c.n.URI, c.n.URISpan)
	}
	if m.IsRequest {
		checkURI(in, m.URI, m.RequestURI)
		in("request-uri", m.RequestURI, all)
	}
	in("call-id", m.CallID, m.Find(sip.HeaderCallID).Value)
	via := m.Headers[m.Via.Header]
	in("via", m.Via.Value, via.Value)
	for _, s := range []sip.Span{m.Via.Transport, m.Via.SentBy, m.Via.Params, m.Via.Branch.Whole, m.Via.RPort.Whole, m.Via.Received.Whole, m.Via.MAddr.Whole} {
		in("via part", s, m.Via.Value)
	}
	in("via host", m.Via.Host, m.Via.SentBy)
	in("branch", m.Via.Branch.Value, m.Via.Branch.Whole)
	if m.ViaCount < 1 || m.Method == sip.MethodOther && m.MethodText.Empty() {
		tb.Errorf("%d vias, method %q", m.ViaCount, m.Text(m.MethodText))
	}
}

func checkURI(in func(string, sip.Span, sip.Span), u sip.URI, whole sip.Span) {
	in("scheme", u.Scheme, whole)
	in("rest", u.Rest, whole)
	in("user", u.User, u.Rest)
	in("password", u.Password, u.Rest)
	in("hostport", u.HostPort, u.Rest)
	in("host", u.Host, u.HostPort)
	in("uri params", u.Params, u.Rest)
	in("uri headers", u.HeadersPart, u.Rest)
}
