package netio

import (
	"errors"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Send sends b, or queues a copy of what the kernel does not take at once. It
// never blocks. When more than WriteQueue bytes wait, c is closed with
// ErrSlowPeer, which is also returned. A nil error does not mean that the
// other side has got it. On a connection that is being closed it returns
// ErrClosed.
func (c *Conn) Send(b []byte) error {
	var err error
	if c.layer == nil {
		err = c.send(b)
	} else {
		err = c.sendLayered(b)
	}
	if err == nil || errors.Is(err, ErrClosed) || errors.Is(err, ErrTooLarge) {
		return err
	}
	if !c.Close(err) {
		return ErrClosed // closed by another while we were writing
	}
	return err
}

// sendLayered comes back to send, by way of the layer's socket.
func (c *Conn) sendLayered(b []byte) error {
	if c.isClosing() {
		return ErrClosed
	}
	err := c.layer.send(b)
	if err != nil && c.isClosing() {
		return ErrClosed // goodbye was said meanwhile
	}
	return err
}

func (c *Conn) isClosing() bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.closing
}

// send writes to the socket.
func (c *Conn) send(b []byte) error {
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return ErrClosed
	}
	o.sends++
	if !o.writing {
		// Most often the kernel takes it all: no copy, no goroutine to wake.
		if o.try == nil {
			o.try = o.writeOnce
		}
		o.buf, o.err = b, nil
		err := c.raw.Write(o.try)
		b, o.buf = o.buf, nil
		if err == nil {
			err = o.err
		}
		if err != nil {
			return err
		}
		if len(b) == 0 {
			return nil
		}
	}
	if o.taken+len(o.queue)+len(b) > c.t.cfg.WriteQueue {
		return ErrSlowPeer
	}
	o.queue = append(o.queue, b...)
	if !o.writing {
		o.writing = true
		c.t.wg.Add(1) // the reader, which ends after o.closed is set, is counted
		go c.write()
	}
	return nil
}

// write sends what is queued, and ends when nothing is.
func (c *Conn) write() {
	defer c.t.wg.Done()
	o := &c.out
	if o.drain == nil {
		o.drain = o.writeAll
	}
	for {
		o.mu.Lock()
		if o.closed || len(o.queue) == 0 {
			o.writing, o.taken = false, 0
			shut := o.ended && !o.closed
			_ = c.d.SetWriteDeadline(time.Time{}) // Send's own writes have none
			o.mu.Unlock()
			if shut {
				_ = c.raw.Control(shutdownWrite)
			}
			return
		}
		o.buf, o.queue, o.err = o.queue, nil, nil
		o.taken = len(o.buf)
		deadline := o.until
		if deadline.IsZero() {
			deadline = time.Now().Add(c.t.cfg.WriteTimeout)
		}
		_ = c.d.SetWriteDeadline(deadline)
		o.mu.Unlock()
		err := c.raw.Write(o.drain)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.Close(ErrSlowPeer)
		case err != nil:
			c.Close(err)
		case o.err != nil:
			c.Close(o.err)
		}
		o.buf = nil
	}
}

// writeOnce writes what the kernel takes of o.buf, and does not wait.
func (o *outbound) writeOnce(fd uintptr) bool {
	for len(o.buf) > 0 {
		n, _, errno := unix.Syscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(o.buf))),
			uintptr(len(o.buf)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			o.buf = o.buf[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			return true
		default:
			o.err = sockErr("send", errno)
			return true
		}
	}
	return true
}

// writeAll is called again when the socket is writable, until it returns
// true.
func (o *outbound) writeAll(fd uintptr) bool {
	o.writeOnce(fd)
	return len(o.buf) == 0 || o.err != nil
}
