package sip

import "bytes"

// topVia takes in the first Via header field.
func (m *Message) topVia(n int, h *Header) {
	start, end := int(h.Value.Off), int(h.Value.End)
	first := valueEnd(m.Buf, start, end)
	if first == end {
		m.ViaCount = 1
	} else if !m.countVia(n) {
		return
	}
	fault := m.Via.parse(m.Buf, span(start, first))
	m.Via.Header, m.Via.First, m.Via.Last = n, true, first == end
	if fault != OK {
		m.note(fault)
	}
	if fault == OK || fault == FaultVersion {
		m.usable |= haveVia
	}
}

// countVia counts the values of a Via header field. It returns false when it is
// no proper list.
func (m *Message) countVia(n int) bool {
	m.Headers = m.store[:n+1] // the iterator looks there
	it, before := m.headerValues(n), m.ViaCount
	for it.Next() {
		m.ViaCount++
	}
	if it.Fault != OK || m.ViaCount == before {
		m.note(FaultVia)
		return false
	}
	return true
}

// address takes in From or To. Fault tells which, whatever is wrong with it.
// Headers in their URIs are not allowed (RFC 3261 §19.1.1, table 1), yet they
// harm only with an '@', where a parser might look for the host.
func (m *Message) address(n *NameAddr, value Span, fault Fault, have uint8) {
	if n.parse(m.Buf, int(value.Off), int(value.End)) != OK || n.Star ||
		!n.URI.HeadersPart.Empty() && bytes.IndexByte(n.URI.HeadersPart.Of(m.Buf), '@') >= 0 {
		m.note(fault)
		return
	}
	m.usable |= have
}

// callID takes in Call-ID: one word or word@word (RFC 3261 §20.8). Phones use
// more bytes than a word may have; white space would end it for some parsers.
func (m *Message) callID(value Span) {
	m.CallID = value
	if value.Empty() {
		m.note(FaultCallID)
		return
	}
	if end := int(value.End); until(m.Buf, int(value.Off), end, cBlank) != end {
		m.note(FaultCallID)
		return
	}
	m.usable |= haveCallID
}

// cseq takes in CSeq: a number below 2^31 and the method (RFC 3261 §8.1.1.5). A
// response gets its Method here.
func (m *Message) cseq(value Span) {
	b, end := m.Buf, int(value.End)
	i := int(value.Off)
	for i < end && class[b[i]]&cDigit != 0 {
		i++
	}
	number := span(int(value.Off), i)
	method := skipLWS(b, i, end)
	n, ok := number.Number(b)
	if !ok || n > 1<<31-1 || method == i || !isToken(b, method, end) {
		m.note(FaultCSeq)
		return
	}
	m.CSeq, m.CSeqMethod = n, span(method, end)
	m.usable |= haveCSeq
	if !m.IsRequest {
		m.MethodText, m.Method = m.CSeqMethod, LookupMethod(b[method:end])
		return
	}
	if string(b[method:end]) != string(m.MethodText.Of(b)) {
		m.note(FaultCSeqMethod)
	}
}

// maxForwards takes in Max-Forwards, 0 to 255 (RFC 3261 §20.22). It means
// nothing in a response.
func (m *Message) maxForwards(value Span) {
	if !m.IsRequest {
		return
	}
	n, ok := value.Number(m.Buf)
	if !ok || n > 255 {
		m.note(FaultMaxForwards)
		return
	}
	m.MaxForwards, m.MaxForwardsValue = int(n), value
}

// expires refuses a number of seconds over 2^32-1, which wraps around in some
// parsers. Other nonsense means 3600 (RFC 3261 §20.19).
func (m *Message) expires(value Span) {
	if !m.IsRequest {
		return
	}
	i, end := int(value.Off), int(value.End)
	for i < end && class[m.Buf[i]]&cDigit != 0 {
		i++
	}
	if digits := span(int(value.Off), i); !digits.Empty() {
		if _, ok := digits.Number(m.Buf); !ok {
			m.note(FaultExpires)
		}
	}
}
