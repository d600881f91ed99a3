package netio

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sipward/sip"
)

// descriptor is what an accepted connection (os.File) and a dialled one
// (net.TCPConn) have in common.
type descriptor interface {
	SyscallConn() (syscall.RawConn, error)
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	Close() error
}

// Conn is one TCP connection. Its methods may be called from any goroutine
// and never block.
type Conn struct {
	t        *TCP
	h        StreamHandler
	d        descriptor
	raw      syscall.RawConn
	id       uint64
	remote   netip.AddrPort
	local    netip.AddrPort
	source   netip.Addr // what limits know it by
	listener int
	exempt   bool
	layer    layer // nil: SIP on the socket itself

	value    atomic.Pointer[any]
	draining atomic.Bool // CloseAfterFlush was called

	in  inbound
	out outbound
}

// newConn makes a connection of d; the caller fills in its addresses and
// starts it.
func (t *TCP) newConn(d descriptor, h StreamHandler, listener int) (*Conn, error) {
	raw, err := d.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &Conn{t: t, h: h, d: d, raw: raw, listener: listener}
	c.in.framer = sip.Framer{MaxHeader: t.cfg.MaxHeader, MaxMessage: t.cfg.MaxMessage}
	return c, nil
}

// ID is the connection's random number of 48 bits, unique among the open
// connections and never 0.
func (c *Conn) ID() uint64 { return c.id }

// Remote is the other side's address, without a zone. Over DTLS it is the one at which it
// has shown to be, although it may have gone on at another (RFC 9146 §6): whoever has an
// association can write anybody's address on what he sends.
func (c *Conn) Remote() netip.AddrPort { return c.remote }

// Local is our side's address, without a zone.
func (c *Conn) Local() netip.AddrPort { return c.local }

// Listener is the index of the listener that accepted the connection, or -1
// for one that was dialled.
func (c *Conn) Listener() int { return c.listener }

// SetValue attaches a value to c.
func (c *Conn) SetValue(v any) { c.value.Store(&v) }

// Value is what was attached last, or nil.
func (c *Conn) Value() any {
	if v := c.value.Load(); v != nil {
		return *v
	}
	return nil
}

// Close closes c and gives err to StreamHandler.Closed, unless it is closed
// already: the first reason stands. It returns whether it was the first.
//
// For a reason that tells against the other side the connection is reset, and
// nothing of it stays in the kernel; otherwise what Send has handed to the
// kernel still goes out.
func (c *Conn) Close(err error) bool {
	o := &c.out
	o.mu.Lock()
	if c.layer != nil && !o.closing && !abortive(err) {
		o.closing, o.reason = true, err
		o.mu.Unlock()
		c.layer.goodbye()
		o.mu.Lock()
	}
	first := !o.closed
	if first {
		o.closed = true
		if !o.closing {
			o.reason = err
		}
		o.closing, o.ended = true, true
		o.queue = nil
	}
	o.mu.Unlock()
	if first {
		if abortive(err) {
			_ = c.raw.Control(resetOnClose)
		}
		_ = c.d.Close()
	}
	return first
}

func abortive(err error) bool {
	return errors.Is(err, ErrSlowPeer) || errors.Is(err, ErrMessageTimeout) || errors.Is(err, ErrSourceClosed) ||
		errors.Is(err, ErrHandshakeTimeout) || errors.Is(err, errCrowdedOut) || errors.Is(err, ErrKeepAlive) ||
		errors.Is(err, errMadeRoom)
}

func resetOnClose(fd uintptr) {
	_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// CloseAfterFlush lets what is queued go out, then closes. No more messages
// are delivered, and Send fails from now on. It is over after WriteTimeout,
// whatever the other side does.
func (c *Conn) CloseAfterFlush() { c.closeAfterFlush(nil) }

func (c *Conn) closeAfterFlush(reason error) {
	c.out.mu.Lock()
	c.flushAndClose(reason, c.t.cfg.WriteTimeout)
}

// cutTime bounds how long a source that is cut off is still heard out: until it
// has acknowledged what it was sent. Then its connection is reset.
const cutTime = time.Second

// CutOff closes c for a reason that tells against the other side: what was sent
// before still goes out, and so does what whoever has pinned c sends before he
// unpins it. No more messages are delivered then. It is over after a second, and
// leaves nothing in the kernel. CutOff returns whether it was the first to close c.
func (c *Conn) CutOff(reason error) bool {
	o := &c.out
	o.mu.Lock()
	if o.closing || o.cut != nil {
		o.mu.Unlock()
		return false
	}
	if o.pins > 0 {
		o.cut = reason
		o.mu.Unlock()
		return true
	}
	c.flushAndClose(reason, cutTime)
	return true
}

// Pin makes CutOff wait until Unpin. It is for who is about to send something
// that has to arrive although it may lead to the cut, and is brief: between the
// two nothing waits.
func (c *Conn) Pin() {
	c.out.mu.Lock()
	c.out.pins++
	c.out.mu.Unlock()
}

// Unpin undoes a Pin.
func (c *Conn) Unpin() {
	o := &c.out
	o.mu.Lock()
	o.pins--
	if o.pins > 0 || o.cut == nil {
		o.mu.Unlock()
		return
	}
	c.flushAndClose(o.cut, cutTime)
}

// flushAndClose is called with the lock of c.out, which it releases.
func (c *Conn) flushAndClose(reason error, most time.Duration) {
	o := &c.out
	if o.closing {
		o.mu.Unlock()
		return
	}
	o.closing = true
	o.reason = reason
	o.until = time.Now().Add(most)
	if c.layer != nil {
		o.mu.Unlock()
		c.layer.goodbye()
		o.mu.Lock()
	}
	o.ended = true
	flushed := !o.writing
	if !flushed {
		_ = c.d.SetWriteDeadline(o.until)
	}
	o.mu.Unlock()
	c.draining.Store(true)
	if flushed {
		_ = c.raw.Control(shutdownWrite)
	}
	// Wakes the reader, which sets the deadline that holds from now on.
	_ = c.d.SetReadDeadline(time.Unix(1, 0))
}

func shutdownWrite(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_WR) }

// outbound is the part of a Conn that sends.
type outbound struct {
	mu      sync.Mutex
	queue   []byte // waits for the writer
	taken   int    // bytes that the writer has taken and not yet written
	writing bool   // the writer runs
	sends   uint   // calls of Send that got so far
	closing bool   // Send takes nothing any more
	ended   bool   // nor has a layer anything more to say
	closed  bool
	reason  error     // why it is closed
	until   time.Time // when closing has to be done
	pins    int       // see Pin
	cut     error     // why it is to be cut off once nobody pins it

	// One write at a time: Send's own under mu while no writer runs, else the
	// writer's.
	buf   []byte
	err   error
	try   func(fd uintptr) bool
	drain func(fd uintptr) bool
}
