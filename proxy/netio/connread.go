package netio

import (
	"container/list"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sipward/sip"
)

// inbound is the part of a Conn that receives; it belongs to the reader.
type inbound struct {
	framer     sip.Framer
	tls        *tlsLayer  // deciphers for fill; nil: fill reads the socket
	buf        *streamBuf // nil while nothing is pending
	start, end int        // what of buf is not framed yet
	partial    bool       // a message has begun
	opening    bool       // the layer's handshake is not over
	heard      bool       // something has come in the handshake
	turn       bool       // c has one of the turns of handshakes
	answered   uint       // outbound.sends when its last turn ended
	waiting    bool       // the first message has to come before first
	first      time.Time
	due        time.Time // when the connection is given up; zero: never
	armed      time.Time // the socket's deadline: not after due
	n          int       // result of tryRead
	err        error
	try        func(fd uintptr) bool

	since      time.Time // when keepAlives was 0
	keepAlives int

	shaking *list.Element // belongs to handshakes
	place   *list.Element // belongs to limits, as does left
	left    bool          // c counts no more
}

var crlf = []byte("\r\n")

// read is the connection's goroutine.
func (c *Conn) read() {
	defer c.t.wg.Done()
	c.in.try = c.tryRead
	now := time.Now()
	if c.listener >= 0 && !c.exempt {
		c.in.waiting, c.in.first = true, now.Add(c.t.cfg.FirstTimeout)
	}
	var err error
	if c.layer == nil {
		c.settle(now)
		err = c.readMessages()
	} else {
		if c.listener >= 0 {
			if err := c.handshake(now.Add(c.t.cfg.HandshakeTimeout)); err != nil {
				c.fail(err)
				return
			}
		}
		c.settle(now)
		err = c.layer.read()
	}
	if err == nil {
		err = c.discard()
	}
	c.end(err)
}

// readMessages returns nil when the connection is to be drained.
func (c *Conn) readMessages() error {
	in := &c.in
	for !c.draining.Load() {
		if err := c.fill(); err != nil {
			if c.draining.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
			return err
		}
		now := time.Now()
		complete := c.deliver()
		if in.start == in.end {
			in.start, in.end, in.partial = 0, 0, false
			c.t.buffers.put(in.buf)
			in.buf = nil
			c.settle(now)
		} else if complete || !in.partial {
			in.partial = true
			c.begin(now)
		}
	}
	return nil
}

// deliver hands on every complete message in the buffer, and says whether
// there was one, or a keep-alive.
func (c *Conn) deliver() (complete bool) {
	in := &c.in
	for in.start < in.end && !c.draining.Load() {
		b := in.buf.b[in.start:in.end]
		kind, n, fault := in.framer.Next(b)
		if fault != sip.OK {
			c.fault(fault, b)
			return complete
		}
		switch kind {
		case sip.NeedMore:
			return complete
		case sip.FrameMessage:
			in.waiting = false
			c.t.counters.messages.Add(1)
			c.h.Message(c, b[:n:n])
		case sip.FramePing: // RFC 5626 §4.4.1
			c.t.counters.pings.Add(1)
			_ = c.Send(crlf)
		}
		in.start += n
		complete = true
	}
	return complete
}

// fault ends the connection, at once unless the handler has sent something.
func (c *Conn) fault(fault sip.Fault, head []byte) {
	o := &c.out
	o.mu.Lock()
	before := o.sends
	o.mu.Unlock()
	c.h.Fault(c, fault, head)
	o.mu.Lock()
	answered := o.sends != before || o.writing
	o.mu.Unlock()
	if answered {
		c.closeAfterFlush(fault)
	} else {
		c.Close(fault)
	}
}

// fill reads once, and makes room before that.
func (c *Conn) fill() error {
	in := &c.in
	if in.buf != nil && in.end == len(in.buf.b) {
		c.makeRoom()
	}
	if l := c.in.tls; l != nil {
		return l.fill()
	}
	n, err := c.await(in.try)
	in.end += n
	return err
}

// await reads from the socket once, for as long as the connection's deadlines
// allow.
func (c *Conn) await(try func(fd uintptr) bool) (int, error) {
	in := &c.in
	for {
		in.n, in.err = 0, nil
		err := c.raw.Read(try)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && !c.draining.Load():
			if err := c.late(); err != nil {
				return 0, err
			}
			continue
		case err != nil:
			return 0, err
		case in.err != nil:
			return 0, in.err
		case in.n == 0:
			return 0, io.EOF
		}
		return in.n, nil
	}
}

// makeRoom moves what is pending to the front, into a larger buffer when it
// fills more than half of this one. It grows only with what has arrived; the
// framer's caps end that.
func (c *Conn) makeRoom() {
	in := &c.in
	from := in.buf
	pending := from.b[in.start:in.end]
	if len(pending) > len(from.b)/2 {
		in.buf = c.t.buffers.larger(from)
	}
	copy(in.buf.b, pending)
	in.start, in.end = 0, len(pending)
	if in.buf != from {
		c.t.buffers.put(from)
	}
}

// tryRead takes a buffer only when there is something to read: an idle
// connection has none.
func (c *Conn) tryRead(fd uintptr) bool {
	in := &c.in
	buf := in.buf
	if buf == nil {
		buf = c.t.buffers.get()
	}
	n, err := readFD(fd, buf.b[in.end:])
	if n > 0 {
		in.n, in.buf = n, buf
		return true
	}
	if in.buf == nil {
		c.t.buffers.put(buf)
	}
	if err == unix.EAGAIN {
		return false
	}
	if err != nil {
		in.err = sockErr("read", err)
	}
	return true
}

func readFD(fd uintptr, b []byte) (int, error) {
	for {
		n, err := unix.Read(int(fd), b)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// discard reads until the other side closes, too. Closing with unread bytes
// would be a reset, which may take from it what it has not read yet. If the other
// side does not close in time, discard returns why the connection is closed.
func (c *Conn) discard() error {
	c.out.mu.Lock()
	until, reason := c.out.until, c.out.reason
	c.out.mu.Unlock()
	in := &c.in
	for {
		in.start, in.end, in.n, in.err = 0, 0, 0, nil
		_ = c.d.SetReadDeadline(until)
		err := c.raw.Read(in.try)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if time.Now().Before(until) {
				continue // flushAndClose has woken us after we had set our own
			}
			return reason
		}
		if err != nil || in.err != nil || in.n == 0 {
			return nil
		}
	}
}

// end closes c and tells the handler why.
func (c *Conn) end(err error) {
	c.Close(err)
	c.release()
	c.out.mu.Lock()
	reason := c.out.reason
	c.out.mu.Unlock()
	c.t.counters.closed(reason)
	c.h.Closed(c, reason)
}

// release takes c out of everything.
func (c *Conn) release() {
	t := c.t
	if c.in.buf != nil {
		t.buffers.put(c.in.buf)
		c.in.buf = nil
	}
	t.conns.remove(c)
	if c.listener >= 0 {
		t.limits.leave(c)
	}
	t.open.Add(-1)
}
