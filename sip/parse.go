package sip

import "bytes"

// singletons are the header fields that may stand once only: of two, one parser
// takes the first and another the last. Expires is left out for responses.
const singletons = 1<<HeaderFrom | 1<<HeaderTo | 1<<HeaderCallID | 1<<HeaderCSeq |
	1<<HeaderMaxForwards | 1<<HeaderContentLength | 1<<HeaderContentType | 1<<HeaderExpires

// KeepAlive reports whether a datagram is one of the keep-alives that phones
// send, no message: CRLFs (RFC 5626 §3.5.1), zeros, white space, "jaK", or a STUN
// message (RFC 5626 §3.5.2).
func KeepAlive(b []byte) bool {
	if len(b) > 16 {
		return stun(b)
	}
	for _, c := range b {
		switch c {
		case '\r', '\n', 0, ' ', '\t':
		default:
			return string(b) == "jaK"
		}
	}
	return true
}

// stun reports whether b is a STUN message: two zero bits, the length of what
// follows the header of 20 bytes, and the magic cookie (RFC 5389 §6).
func stun(b []byte) bool {
	return b[0] < 0x40 && len(b) >= 20 && int(b[2])<<8|int(b[3]) == len(b)-20 && string(b[4:8]) == "\x21\x12\xa4\x42"
}

// Parse scans b: one whole datagram, or one stream message as a [Framer] cut it.
// OK means that the message is accepted. On a Fault, what has been found stays
// filled in, for logs and for an answer (see [Message.Answerable]).
//
// Bytes before the start line that are CRLFs are skipped, and of a datagram the
// bytes after Content-Length are cut off (RFC 3261 §7.5, §18.3): both are not in
// m.Buf.
func (m *Message) Parse(b []byte, stream bool) Fault {
	m.reset()
	if KeepAlive(b) {
		return FaultKeepAlive
	}
	for len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
		b = b[2:]
	}
	m.Buf = b
	if len(b) > 1<<30 {
		return FaultTooBig
	}
	s := head{buf: b}
	end, fault := s.line(0)
	if fault == FaultHeadEnd && len(b) > MaxStartLine {
		fault = FaultStartLineTooLong
	}
	if fault != OK {
		return fault
	}
	if m.startLine(end - 2) {
		m.usable |= haveStart
	}
	s.pos = end
	if m.headers(&s) {
		m.headEnd(&s)
		m.body(stream)
	}
	return m.fault
}

// startLine reads the start line, which ends at end. It returns false when it is
// so broken that nobody can be answered.
func (m *Message) startLine(end int) bool {
	b := m.Buf
	if end > MaxStartLine {
		m.note(FaultStartLineTooLong)
		return false
	}
	if end >= 4 && b[3] == '/' && equalFold(b[:4], "sip/") {
		m.statusLine(end)
		return false
	}
	i := 0
	for i < end && class[b[i]]&cToken != 0 {
		i++
	}
	if i == 0 || i == end || b[i] != ' ' {
		m.note(FaultStartLine)
		return false
	}
	m.IsRequest = true
	m.MethodText, m.Method = span(0, i), LookupMethod(b[:i])
	m.requestURI(i+1, end)
	return true
}

// requestURI reads "URI SP SIP/2.0" between i and end. The version's case is free
// (RFC 3261 §7.1), the white space is not: one space.
func (m *Message) requestURI(i, end int) {
	b := m.Buf
	sp := bytes.LastIndexByte(b[i:end], ' ')
	if sp <= 0 {
		m.note(FaultStartLine)
		return
	}
	sp += i
	m.RequestURI = span(i, sp)
	if string(b[sp+1:end]) != "SIP/2.0" && !equalFold(b[sp+1:end], "sip/2.0") {
		if end-sp > 4 && equalFold(b[sp+1:sp+5], "sip/") {
			m.note(FaultVersion)
		} else {
			m.note(FaultStartLine)
		}
	}
	// Headers in a Request-URI are forbidden (RFC 3261 §19.1.1, RFC 4475
	// §3.1.2.11): a proxy behind us might act on them.
	if !rawURI(b, i, sp) || m.URI.parse(b, i, sp) != OK || !m.URI.HeadersPart.Empty() {
		m.note(FaultRequestURI)
	}
}

// statusLine reads "SIP/2.0 SP 3DIGIT SP reason". Some devices leave out the
// space when there is no reason.
func (m *Message) statusLine(end int) {
	b := m.Buf
	if end < 8 || !equalFold(b[:7], "sip/2.0") || b[7] != ' ' {
		m.note(FaultVersion)
		return
	}
	if end < 11 || end > 11 && b[11] != ' ' {
		m.note(FaultStatus)
		return
	}
	for _, c := range b[8:11] {
		if class[c]&cDigit == 0 {
			m.note(FaultStatus)
			return
		}
		m.Status = m.Status*10 + int(c-'0')
	}
	if m.Status < 100 || m.Status > 699 {
		m.note(FaultStatus)
	}
	m.ReasonText = span(min(12, end), end)
}

// headers reads all header fields. It returns false when their lines cannot be
// told apart.
func (m *Message) headers(s *head) bool {
	for n := 0; ; n++ {
		if n == MaxHeaders {
			if done, _ := s.next(new(Header)); done {
				m.Headers = m.store[:n]
				return true
			}
			m.Headers = m.store[:n]
			m.note(FaultTooManyHeaders)
			return false
		}
		h := &m.store[n]
		done, fault := s.next(h)
		switch {
		case done:
			m.Headers = m.store[:n]
			return true
		case fault == FaultHeaderSyntax:
			m.note(fault)
			n-- // the line is skipped; go on for the sake of an answer
			continue
		case fault != OK:
			m.Headers = m.store[:n]
			m.note(fault)
			return false
		}
		m.header(n, h)
	}
}

// header takes in one header field.
func (m *Message) header(n int, h *Header) {
	if h.ID == HeaderOther {
		return
	}
	if m.first[h.ID] != 0 {
		m.again |= 1 << h.ID
		if singletons&(1<<h.ID) != 0 && (m.IsRequest || h.ID != HeaderExpires) {
			m.note(FaultRepeatedHeader)
		} else if h.ID == HeaderVia {
			m.countVia(n)
		}
		return
	}
	m.first[h.ID] = uint8(n + 1)
	switch h.ID {
	case HeaderVia:
		m.topVia(n, h)
	case HeaderFrom:
		m.address(&m.From, h.Value, FaultFrom, haveFrom)
	case HeaderTo:
		m.address(&m.To, h.Value, FaultTo, haveTo)
	case HeaderCallID:
		m.callID(h.Value)
	case HeaderCSeq:
		m.cseq(h.Value)
	case HeaderMaxForwards:
		m.maxForwards(h.Value)
	case HeaderExpires:
		m.expires(h.Value)
	case HeaderContentLength:
		var fault Fault
		if m.ContentLength, fault = contentLength(m.Buf, h.Value); fault != OK {
			m.note(fault)
		}
	}
}

// headEnd makes the checks that need the whole head.
func (m *Message) headEnd(s *head) {
	m.HeadEnd = uint32(s.pos)
	b := m.Buf[:s.pos]
	// Each line ends with CRLF: more CRs than lines means a bare one.
	if bytes.Count(b, cr) != s.lines {
		m.note(FaultLineEnd)
		return
	}
	if bytes.IndexByte(b, 0) >= 0 && !m.nulsQuoted() {
		m.note(FaultNUL)
		return
	}
	m.usable |= haveHead
	const mandatory = haveVia | haveFrom | haveTo | haveCallID | haveCSeq
	if m.usable&mandatory != mandatory {
		m.note(FaultMissingHeader)
	}
}

var cr = []byte{'\r'}

// nulsQuoted reports whether each NUL of the head stands in a quoted pair of a
// quoted string of an address, the one place where it is legal (RFC 3261 §25.1;
// RFC 4475 §3.1.1.2 has one).
func (m *Message) nulsQuoted() bool {
	quoted := 0
	for i := range m.Headers {
		h := &m.Headers[i]
		if h.ID != HeaderFrom && h.ID != HeaderTo && h.ID != HeaderContact {
			continue
		}
		for k, end := int(h.Value.Off), int(h.Value.End); k < end; k++ {
			if m.Buf[k] != '"' {
				continue
			}
			for k++; k < end && m.Buf[k] != '"'; k++ {
				if m.Buf[k] == '\\' && k+1 < end {
					if k++; m.Buf[k] == 0 {
						quoted++
					}
				}
			}
		}
	}
	return quoted == bytes.Count(m.Buf[:m.HeadEnd], []byte{0})
}

// body finds the body and holds it against Content-Length.
func (m *Message) body(stream bool) {
	have := len(m.Buf) - int(m.HeadEnd)
	switch {
	case m.ContentLength < 0:
		if stream && !m.Has(HeaderContentLength) {
			m.note(FaultMissingLength)
		}
	case m.ContentLength > have, stream && m.ContentLength < have:
		m.note(FaultBodyLength)
	case m.fault == OK:
		have = m.ContentLength
		m.Buf = m.Buf[:int(m.HeadEnd)+have]
	}
	m.Body = span(int(m.HeadEnd), int(m.HeadEnd)+have)
}
