package sip

import "bytes"

// ValueIter walks the comma separated values of all header fields with one ID,
// in order. It is meant for headers that are lists (Via, Route, Contact,
// Supported …); Date or WWW-Authenticate are none.
//
//	for it := m.Values(sip.HeaderRoute); it.Next(); { … it.Value … }
type ValueIter struct {
	Value  Span // the current value, trimmed
	Header int  // index of its header field in Message.Headers
	// First and Last tell the place of the value in its header field.
	First, Last bool
	// Fault is FaultList once a list had an empty value (which is skipped) or an
	// open quote or bracket (which ends the walk).
	Fault Fault

	m         *Message
	id        HeaderID
	follow    int // index of the header field to look at next
	one       bool
	next, end int // rest of the current header field's value
}

// Values returns an iterator over the values of the header fields with that ID.
func (m *Message) Values(id HeaderID) ValueIter {
	it := ValueIter{m: m, id: id, follow: len(m.Headers)}
	if id < headerCount && m.first[id] != 0 {
		it.follow = int(m.first[id]) - 1
		it.one = m.again&(1<<id) == 0
	}
	return it
}

// headerValues returns an iterator over the values of one header field.
func (m *Message) headerValues(header int) ValueIter {
	return ValueIter{m: m, id: m.Headers[header].ID, follow: header, one: true}
}

// Next moves on to the next value. It returns false at the end.
func (it *ValueIter) Next() bool {
	it.First = false
	for it.next == it.end {
		if !it.nextHeader() {
			return false
		}
	}
	buf := it.m.Buf
	start := it.next
	comma := valueEnd(buf, start, it.end)
	if comma < 0 {
		it.Fault, it.next, it.follow = FaultList, it.end, len(it.m.Headers)
		return false
	}
	it.Value = span(start, trimLWS(buf, start, comma))
	it.next = it.end
	if comma < it.end {
		it.next = comma + 1
		if it.skipEmpty(); it.next == it.end {
			it.Fault = FaultList // the list ends with a comma
		}
	}
	it.Last = it.next == it.end
	return true
}

// nextHeader moves on to the next header field with the ID.
func (it *ValueIter) nextHeader() bool {
	for ; it.follow < len(it.m.Headers); it.follow++ {
		h := &it.m.Headers[it.follow]
		if h.ID != it.id {
			continue
		}
		it.Header, it.First = it.follow, true
		it.next, it.end = int(h.Value.Off), int(h.Value.End)
		it.skipEmpty()
		if it.follow++; it.one {
			it.follow = len(it.m.Headers)
		}
		return true
	}
	return false
}

// skipEmpty skips white space and empty values.
func (it *ValueIter) skipEmpty() {
	buf := it.m.Buf
	for {
		if it.next = skipLWS(buf, it.next, it.end); it.next == it.end || buf[it.next] != ',' {
			return
		}
		it.next++
		it.Fault = FaultList
	}
}

// valueEnd returns the offset of the comma that ends the value at i, or end. It
// returns -1 when a quote or an angle bracket stays open.
func valueEnd(buf []byte, i, end int) int {
	if bytes.IndexByte(buf[i:end], ',') < 0 {
		return end
	}
	for i < end {
		switch buf[i] {
		case ',':
			return i
		case '"':
			i = skipQuoted(buf, i, end)
		case '<':
			i = skipAngle(buf, i, end)
		default:
			i++
		}
		if i < 0 {
			return -1
		}
	}
	return end
}
