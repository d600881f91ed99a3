package proxy

import (
	"cmp"
	"strconv"

	"sipward/policy"
	"sipward/sip"
)

// Answers that sipward gives itself are stateless (RFC 3261 §8.2.7): their To tag
// is a keyed hash, so that a retransmission gets the same one and the ACK is
// recognised (§16.7: it must not reach the PBX, which knows nothing of the call).

const (
	tagPrefix         = "sw-"
	defaultRetryAfter = 5 // seconds
)

// appendTag appends the To tag of our own answers to the request at hand.
func (t *task) appendTag(dst []byte) []byte {
	m := &t.m
	t.buf = append(t.buf[:0], m.CallID.Of(m.Buf)...)
	t.buf = append(t.buf, 0)
	t.buf = append(t.buf, m.From.Tag.Of(m.Buf)...)
	dst = append(dst, tagPrefix...)
	return strconv.AppendUint(dst, t.s.key.Hash(t.buf), 36)
}

// isOurTag reports whether a To tag is the one that our own answer to this call
// carries.
func (t *task) isOurTag(tag sip.Span) bool {
	text := tag.Of(t.m.Buf)
	if len(text) <= len(tagPrefix) || string(text[:len(tagPrefix)]) != tagPrefix {
		return false
	}
	t.wire = t.appendTag(t.wire[:0])
	return string(text) == string(t.wire)
}

// answer sends a response of our own to the request at hand. detail, if any, goes
// into a Warning that says what was wrong (RFC 3261 §20.43).
func (t *task) answer(code int, phrase, detail string) {
	t.wire = t.appendAnswer(t.wire[:0], code, phrase, detail)
	back := hop{face: t.from.face, addr: t.replyAddr(), conn: t.from.conn}
	t.sendBytes(&back, t.wire) // what cannot be sent is counted there
}

func (t *task) appendAnswer(b []byte, code int, phrase, detail string) []byte {
	m := &t.m
	b = append(b, "SIP/2.0 "...)
	b = appendInt(b, code)
	b = append(b, ' ')
	b = append(b, phrase...)
	b = append(b, "\r\n"...)
	for i := range m.Headers {
		h := &m.Headers[i]
		if h.ID != sip.HeaderVia && h != m.Find(h.ID) {
			continue // of a header that must be unique, the first is answered
		}
		switch h.ID {
		case sip.HeaderVia:
			b = t.appendVia(b, i, h)
		case sip.HeaderFrom, sip.HeaderCallID, sip.HeaderCSeq:
			b = append(b, h.Line.Of(m.Buf)...)
		case sip.HeaderTo:
			b = append(b, "To: "...)
			b = append(b, h.Value.Of(m.Buf)...)
			if m.To.Tag.Empty() {
				b = append(b, ";tag="...)
				b = t.appendTag(b)
			}
			b = append(b, "\r\n"...)
		}
	}
	switch code {
	case 420:
		if h := m.Find(sip.HeaderProxyRequire); h != nil { // a guard may answer so, too
			b = append(b, "Unsupported: "...)
			b = append(b, h.Value.Of(m.Buf)...)
			b = append(b, "\r\n"...)
		}
	case 503:
		b = append(b, "Retry-After: "...)
		b = appendInt(b, cmp.Or(t.retryAfter, defaultRetryAfter))
		b = append(b, "\r\n"...)
	}
	t.retryAfter = 0
	if t.warning != "" {
		b = append(b, "Warning: "...)
		b = append(b, t.warning...)
		b = append(b, "\r\n"...)
		t.warning = ""
	}
	if detail != "" {
		b = append(b, "Warning: 399 sipward \""...)
		b = append(b, detail...)
		b = append(b, "\"\r\n"...)
	}
	return append(b, "Content-Length: 0\r\n\r\n"...)
}

// appendVia appends one Via line; the topmost value gets received and rport.
func (t *task) appendVia(b []byte, i int, h *sip.Header) []byte {
	m, v := &t.m, &t.m.Via
	if i != v.Header {
		return append(b, h.Line.Of(m.Buf)...)
	}
	b = append(b, "Via: "...)
	b = appendWithout(b, m.Buf, v.Value, v.Received.Whole, v.RPort.Whole)
	b = append(b, ";received="...)
	b = t.from.addr.Addr().AppendTo(b)
	if v.RPort.Present {
		b = append(b, ";rport="...)
		b = appendInt(b, int(t.from.addr.Port()))
	}
	b = append(b, m.Buf[v.Value.End:h.Value.End]...) // further values of the line
	return append(b, "\r\n"...)
}

// refuseExtension answers a Proxy-Require: we support no extension that a client
// could require of a proxy (RFC 3261 §16.3 step 5).
func (t *task) refuseExtension(h *sip.Header) {
	t.refuse(420, "Bad Extension", policy.ReasonBadExtension)
}

// reasonPhrase returns the standard phrase of the codes that a policy answers with
// (RFC 3261 §21).
func reasonPhrase(code int) string {
	switch code {
	case 400:
		return "Bad Request"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 480:
		return "Temporarily Unavailable"
	case 486:
		return "Busy Here"
	case 503:
		return "Service Unavailable"
	case 505:
		return "Version Not Supported"
	case 513:
		return "Message Too Large"
	case 603:
		return "Decline"
	}
	return "Rejected"
}

func appendInt(b []byte, n int) []byte { return strconv.AppendInt(b, int64(n), 10) }
