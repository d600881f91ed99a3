package sip

// Span is a half-open range of offsets, usually into [Message.Buf].
type Span struct{ Off, End uint32 }

// Len returns the number of bytes in the span.
func (s Span) Len() int { return int(s.End) - int(s.Off) }

// Empty reports whether the span holds no bytes.
func (s Span) Empty() bool { return s.Off >= s.End }

// Of returns the bytes of the span in buf, which must be the buffer that the
// span was made from.
func (s Span) Of(buf []byte) []byte { return buf[s.Off:s.End:s.End] }

// Is reports whether the bytes of the span in buf equal lower, ignoring the
// case of ASCII letters. lower must be in lower case.
func (s Span) Is(buf []byte, lower string) bool {
	return equalFold(buf[s.Off:s.End], lower)
}

// span makes a Span from two int offsets.
func span(off, end int) Span { return Span{Off: uint32(off), End: uint32(end)} }

// valid reports whether the span lies within n bytes.
func (s Span) valid(n int) bool { return s.Off <= s.End && int(s.End) <= n }

// Number reads the span as a decimal number that fits in 32 bits. Anything else
// (empty, a sign, a letter, an overflow) is not ok. Leading zeros are legal
// (RFC 4475 §3.1.1.1).
func (s Span) Number(buf []byte) (n uint32, ok bool) {
	if s.Empty() {
		return 0, false
	}
	var v uint64
	for _, c := range buf[s.Off:s.End] {
		if c < '0' || c > '9' {
			return 0, false
		}
		if v = v*10 + uint64(c-'0'); v > 1<<32-1 {
			return 0, false
		}
	}
	return uint32(v), true
}
