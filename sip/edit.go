package sip

import "errors"

// Errors of [Edit.Err]: each is a mistake of the program, not of the message.
var (
	ErrEditOverlap = errors.New("sip: edits overlap")
	ErrEditRange   = errors.New("sip: edit outside the message")
	ErrEditOpen    = errors.New("sip: Begin and End do not match")
)

// Edit collects splices on the bytes of a message and applies them in one pass.
// What no splice touches leaves as it came. Splices may be added in any order;
// several at the same offset keep the order in which they were added. A reused
// Edit does not allocate.
//
//	e.Reset(&m)
//	e.Begin(m.MaxForwardsValue)
//	e.B = append(e.B, "69"...)
//	e.End()
//	out = e.AppendTo(out[:0])
type Edit struct {
	// B collects the bytes of replacements: append to it between Begin and End,
	// and nowhere else.
	B []byte

	m        *Message
	splices  []splice
	deletes  []valueDelete // not yet turned into splices
	delta    int           // bytes added less bytes removed
	open     bool
	resolved bool
	err      error
}

// splice replaces Span by B[from:to].
type splice struct {
	Span
	from, to uint32
}

// valueDelete is a value of a comma separated header field that goes.
type valueDelete struct {
	header int
	off    uint32
}

// Reset begins a new set of edits on m, which must stay as it is until AppendTo.
func (e *Edit) Reset(m *Message) {
	e.m, e.B, e.splices, e.deletes = m, e.B[:0], e.splices[:0], e.deletes[:0]
	e.delta, e.open, e.resolved, e.err = 0, false, false, nil
}

// Delete removes the bytes of s.
func (e *Edit) Delete(s Span) {
	e.Begin(s)
	e.End()
}

// DeleteValue removes one value of a comma separated header field together with
// one comma, or the whole field when no value is left. header and value are
// those of a [ValueIter] (or a [Via]) of m, the message given to Reset. Several
// values of a field may be deleted, in any order. Text may be inserted before,
// after and between them, and at the field's Line.Off; but not at its first
// value when all go.
func (e *Edit) DeleteValue(m *Message, header int, value Span) {
	if m != e.m || header < 0 || header >= len(m.Headers) || !value.valid(len(m.Buf)) {
		e.fail(ErrEditRange)
		return
	}
	if h := &m.Headers[header]; value == h.Value { // it is the only one
		e.Delete(h.Line)
		return
	}
	d := valueDelete{header, value.Off}
	i := len(e.deletes)
	e.deletes = append(e.deletes, d)
	for ; i > 0 && e.deletes[i-1].off > d.off; i-- {
		e.deletes[i] = e.deletes[i-1]
	}
	if i > 0 && e.deletes[i-1] == d {
		e.fail(ErrEditOverlap) // the same value twice
	}
	e.deletes[i], e.resolved = d, false
}

// Begin starts the replacement of s by what is appended to e.B until End. An
// empty span inserts at s.Off.
func (e *Edit) Begin(s Span) {
	if e.open {
		e.fail(ErrEditOpen)
		return
	}
	if e.m == nil || !s.valid(len(e.m.Buf)) {
		e.fail(ErrEditRange)
		s = Span{}
	}
	e.splices = append(e.splices, splice{s, uint32(len(e.B)), 0})
	e.open, e.resolved = true, false
}

// End closes the splice that Begin opened.
func (e *Edit) End() {
	if !e.open {
		e.fail(ErrEditOpen)
		return
	}
	e.open = false
	all := e.splices
	i := len(all) - 1
	s := all[i]
	s.to = uint32(len(e.B))
	e.delta += int(s.to) - int(s.from) - s.Len()
	for ; i > 0 && all[i-1].Off > s.Off; i-- {
		all[i] = all[i-1]
	}
	all[i] = s
}

// Err returns the first mistake made since Reset, overlaps included.
func (e *Edit) Err() error {
	e.resolve()
	return e.err
}

// Size returns the number of bytes that AppendTo will append.
func (e *Edit) Size() int {
	if e.Err() != nil {
		return 0
	}
	return len(e.m.Buf) + e.delta
}

// AppendTo appends the edited message to dst. It appends nothing when Err
// reports a mistake. dst must not be the message's own buffer.
func (e *Edit) AppendTo(dst []byte) []byte {
	if e.Err() != nil {
		return dst
	}
	buf, b, pos := e.m.Buf, e.B, uint32(0)
	for _, s := range e.splices {
		if s.Off > pos {
			dst = append(dst, buf[pos:s.Off]...)
		}
		if s.to > s.from {
			dst = append(dst, b[s.from:s.to]...)
		}
		pos = max(pos, s.End)
	}
	return append(dst, buf[pos:]...)
}

func (e *Edit) fail(err error) {
	if e.err == nil {
		e.err = err
	}
}

// resolve turns deleted values into splices and looks for overlaps.
func (e *Edit) resolve() {
	if e.resolved || e.err != nil {
		return
	}
	if e.open || e.m == nil {
		e.fail(ErrEditOpen)
		return
	}
	for d := e.deletes; len(d) > 0; {
		n := 1
		for n < len(d) && d[n].header == d[0].header {
			n++
		}
		e.deleteValues(d[:n])
		d = d[n:]
	}
	e.deletes = e.deletes[:0]
	var pos, last uint32
	for i := range e.splices {
		s := &e.splices[i]
		// An insertion where another splice begins does not overlap it.
		if s.Off < pos && !(s.Empty() && s.Off == last) {
			e.fail(ErrEditOverlap)
			return
		}
		pos, last = max(pos, s.End), s.Off
	}
	e.resolved = true
}

// deleteValues removes the values at the offsets of d, in order, from one header
// field: up to the first value that stays with the comma after, from there on
// with the comma before, and the whole field when none stays.
func (e *Edit) deleteValues(d []valueDelete) {
	it := e.m.headerValues(d[0].header)
	var first, last uint32 // where the first value begins; where the last one seen ends
	kept, n := false, 0
	for it.Next() {
		if it.First {
			first = it.Value.Off
		}
		gone := n < len(d) && d[n].off == it.Value.Off
		switch {
		case gone:
			n++
			if kept {
				e.Delete(Span{last, it.Value.End})
			}
		case !kept:
			kept = true
			if n > 0 {
				e.Delete(Span{first, it.Value.Off})
			}
		}
		last = it.Value.End
	}
	if n != len(d) {
		e.fail(ErrEditRange) // not the start of a value
	} else if !kept {
		e.Delete(e.m.Headers[d[0].header].Line)
	}
}
