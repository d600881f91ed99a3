package sip

import "bytes"

// head walks the header lines of a message. The scanner and the framer share
// it, so that they cannot disagree about where a header field begins, or which
// one is Content-Length.
type head struct {
	buf   []byte
	pos   int // start of the next header field
	lines int // lines passed, continuation lines and the empty one included
}

// next reads the next header field. At the empty line it returns done, with pos
// after it. FaultHeaderSyntax leaves pos after the line; other faults are fatal.
func (s *head) next(h *Header) (done bool, fault Fault) {
	start := s.pos
	if len(s.buf)-start >= 2 && s.buf[start] == '\r' && s.buf[start+1] == '\n' {
		s.pos, s.lines = start+2, s.lines+1
		return true, OK
	}
	end, fault := s.line(start)
	if fault != OK {
		return false, fault
	}
	// The usual case has no fold; the name ends in the first line (HCOLON of
	// RFC 3261 §25.1: white space may stand before the colon, a fold may not).
	colon := bytes.IndexByte(s.buf[start:end-2], ':')
	value := start + colon + 1
	last := end
	for last < len(s.buf) && (s.buf[last] == ' ' || s.buf[last] == '\t') {
		cont := last
		if last, fault = s.line(cont); fault != OK {
			return false, fault
		}
		// Some parsers take a line of white space for the end of the head.
		if skipLWS(s.buf, cont, last) == last {
			return false, FaultFold
		}
	}
	s.pos = last
	if last-start > MaxHeaderLine {
		return false, FaultHeaderTooLong
	}
	if colon < 0 {
		return false, FaultHeaderSyntax
	}
	name := value - 1
	for name > start && (s.buf[name-1] == ' ' || s.buf[name-1] == '\t') {
		name--
	}
	h.ID = LookupHeader(s.buf[start:name])
	if h.ID == HeaderOther && !isToken(s.buf, start, name) {
		return false, FaultHeaderSyntax
	}
	value = skipLWS(s.buf, value, last)
	h.Name, h.Line = span(start, name), span(start, last)
	h.Value = span(value, trimLWS(s.buf, value, last))
	return false, OK
}

// line returns the offset after the line that begins at start, which must end
// with CRLF.
func (s *head) line(start int) (end int, fault Fault) {
	lf := bytes.IndexByte(s.buf[start:], '\n')
	if lf < 0 {
		return 0, FaultHeadEnd
	}
	if lf == 0 || s.buf[start+lf-1] != '\r' {
		return 0, FaultLineEnd
	}
	s.lines++
	return start + lf + 1, OK
}

// contentLength reads the value of a Content-Length header field. It caps at
// 2^30, far over what a message may have.
func contentLength(buf []byte, value Span) (n int, fault Fault) {
	v, ok := value.Number(buf)
	if !ok || v > 1<<30 {
		return -1, FaultContentLength
	}
	return int(v), OK
}
