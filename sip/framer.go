package sip

import "bytes"

// Frame is what [Framer.Next] has found.
type Frame uint8

// The frames.
const (
	NeedMore     Frame = iota // nothing complete yet
	FrameMessage              // a whole message
	FramePing                 // a keep-alive that wants a CRLF as answer (RFC 5626 §3.5.1)
	FramePong                 // a CRLF that wants nothing
)

// Caps of a Framer whose fields are zero.
const (
	DefaultMaxHeader  = 16 << 10
	DefaultMaxMessage = 64 << 10
)

// Framer cuts messages out of a stream by Content-Length (RFC 3261 §18.3). It
// remembers how far it has looked, so that a message that comes byte by byte is
// not searched again and again. A Framer belongs to one stream; its zero value
// is ready.
type Framer struct {
	MaxHeader  int // bytes of start line and header fields; 0: DefaultMaxHeader
	MaxMessage int // bytes of a whole message; 0: DefaultMaxMessage

	line int  // start of the line being looked for
	seen int  // bytes that hold no further line end
	need int  // length of the message, once its head has been read
	half bool // the frame before was a single CRLF
}

// Want returns the length of the message that is coming in, 0 when its head is
// not complete yet.
func (f *Framer) Want() int { return f.need }

// Next looks at b, all bytes that have come in and are not yet consumed. The
// first n of them are the frame; consume them and call again. NeedMore has n = 0:
// call again with more bytes behind the same ones. After a fault nothing can be
// read from this stream any more.
//
// A CRLF is reported at once, as FramePong; if a second one follows later, that
// is the FramePing. So no byte waits for a message that may never come.
func (f *Framer) Next(b []byte) (kind Frame, n int, fault Fault) {
	if f.need == 0 {
		if f.seen == 0 && len(b) > 0 {
			switch {
			case b[0] == '\r':
				return f.keepAlive(b)
			case class[b[0]]&cToken == 0:
				return NeedMore, 0, FaultStartLine // TLS, say: do not wait for a line end
			}
		}
		if fault = f.head(b); fault != OK || f.need == 0 {
			return NeedMore, 0, fault
		}
	}
	if len(b) < f.need {
		return NeedMore, 0, OK
	}
	n = f.need
	f.line, f.seen, f.need, f.half = 0, 0, 0, false
	return FrameMessage, n, OK
}

// keepAlive reads the CRLF, or two of them, at the start of b.
func (f *Framer) keepAlive(b []byte) (kind Frame, n int, fault Fault) {
	if len(b) == 1 {
		return NeedMore, 0, OK
	}
	if b[1] != '\n' {
		return NeedMore, 0, FaultLineEnd
	}
	if f.half {
		f.half = false
		return FramePing, 2, OK
	}
	if len(b) >= 4 && b[2] == '\r' && b[3] == '\n' {
		return FramePing, 4, OK
	}
	f.half = true
	return FramePong, 2, OK
}

// head looks for the end of the head and sets need when it is there.
func (f *Framer) head(b []byte) Fault {
	limit := f.MaxHeader
	if limit <= 0 {
		limit = DefaultMaxHeader
	}
	for {
		lf := bytes.IndexByte(b[f.seen:], '\n')
		if lf < 0 {
			if f.seen = len(b); f.seen > limit {
				return FaultTooBig
			}
			return OK
		}
		if lf += f.seen; lf >= limit {
			return FaultTooBig
		}
		if lf == f.line || b[lf-1] != '\r' {
			return FaultLineEnd
		}
		empty := lf-1 == f.line
		f.line, f.seen = lf+1, lf+1
		if empty {
			return f.length(b[:f.seen])
		}
	}
}

// length reads the Content-Length out of a whole head. A second one with the
// same number does not hurt the framing; Parse refuses that message.
func (f *Framer) length(b []byte) Fault {
	s := head{buf: b, pos: bytes.IndexByte(b, '\n') + 1}
	length := -1
	for {
		var h Header
		done, fault := s.next(&h)
		if done {
			break
		}
		if fault != OK {
			return fault
		}
		if h.ID != HeaderContentLength {
			continue
		}
		n, fault := contentLength(b, h.Value)
		if fault != OK {
			return fault
		}
		if length >= 0 && n != length {
			return FaultContentLength
		}
		length = n
	}
	if length < 0 {
		return FaultMissingLength
	}
	limit := f.MaxMessage
	if limit <= 0 {
		limit = DefaultMaxMessage
	}
	if len(b)+length > limit {
		return FaultTooBig
	}
	f.need = len(b) + length
	return OK
}
