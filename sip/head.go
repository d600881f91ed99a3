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
	buf, start := s.buf, s.pos
	end, fault := s.line(start)
	if fault != OK {
		return false, fault
	}
	if end == start+2 {
		s.pos = end
		return true, OK
	}
	id, name := usualHeader(buf[start:end])
	name += start
	colon := name
	if id == HeaderOther {
		// HCOLON of RFC 3261 §25.1: white space may stand before the colon, a fold
		// may not. These loops end at the CR of the first line at the latest.
		for class[buf[name]]&cToken != 0 {
			name++
		}
		for colon = name; buf[colon] == ' ' || buf[colon] == '\t'; {
			colon++
		}
	}
	if end < len(buf) && (buf[end] == ' ' || buf[end] == '\t') {
		if end, fault = s.folds(end); fault != OK {
			return false, fault
		}
	}
	s.pos = end
	if end-start > MaxHeaderLine {
		return false, FaultHeaderTooLong
	}
	if id == HeaderOther {
		if buf[colon] != ':' || name == start {
			return false, FaultHeaderSyntax
		}
		id = LookupHeader(buf[start:name])
	}
	value := skipLWS(buf, colon+1, end)
	h.ID = id
	h.Name, h.Line = span(start, name), span(start, end)
	h.Value = span(value, trimLWS(buf, value, max(value, end-2))) // before the CRLF
	return false, OK
}

// folds returns the offset after the continuation lines, the first of which
// begins at end.
func (s *head) folds(end int) (int, Fault) {
	for end < len(s.buf) && (s.buf[end] == ' ' || s.buf[end] == '\t') {
		next, fault := s.line(end)
		if fault != OK {
			return 0, fault
		}
		// Some parsers take a line of white space for the end of the head.
		if skipLWS(s.buf, end, next) == next {
			return 0, FaultFold
		}
		end = next
	}
	return end, OK
}

// line returns the offset after the line that begins at start, which must end
// with CRLF.
func (s *head) line(start int) (end int, fault Fault) {
	rest := s.buf[start:]
	lf := bytes.IndexByte(rest, '\n')
	if lf <= 0 || rest[lf-1] != '\r' {
		if lf < 0 {
			return 0, FaultHeadEnd
		}
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
