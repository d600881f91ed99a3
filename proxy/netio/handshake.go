package netio

import (
	"container/list"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sipward/sip"
)

// Why a handshake failed, as StreamHandler.HandshakeFailed is told. Besides these
// there is what crypto/tls said: of a client certificate, say, or that there is no
// common version.
var (
	ErrHandshakeTimeout = errors.New("netio: handshake not complete in time")
	ErrPlainSIP         = errors.New("netio: plain SIP on a TLS port: set the client to TLS, or to the port for TCP")
	ErrNotTLS           = errors.New("netio: no TLS on a TLS port")
	// ErrRejected is that the other side ended the handshake, most often because it
	// does not trust our certificate; its alert is wrapped, too.
	ErrRejected = errors.New("netio: the other side ended the handshake")

	errCrowdedOut = errors.New("netio: handshake gave way to a newer one")
)

// handshakes counts accepted connections that no message can pass yet. The lock is
// taken when a handshake begins and when it ends. Exempt sources are not counted.
//
// Past the total cap the one that has made no progress for longest gives way: whoever opens
// many and leaves them, or sends a byte now and then, would otherwise lock out everybody
// else for the time of a handshake's deadline, while honest handshakes are over before they
// would have to. Progress is to begin to speak, and to have said what we can answer. Past
// the cap of a source its new ones are refused. The map has an entry for each source in
// the list.
//
// A handshake costs a quarter of a millisecond of computing, with RSA a whole one, so
// half of the CPUs at most compute handshakes at a time: the others go on with
// messages.
type handshakes struct {
	most, perSource int // caps
	turns           chan struct{}

	mu      sync.Mutex
	sources map[netip.Addr]int
	open    list.List // of *Conn, the one without progress for longest first
}

func newHandshakes(cfg TCPConfig) handshakes {
	return handshakes{
		most:      cfg.MaxHandshakes,
		perSource: cfg.MaxHandshakesPerSource,
		turns:     make(chan struct{}, max(runtime.GOMAXPROCS(0)/2, 1)),
		sources:   make(map[netip.Addr]int),
	}
}

// full reports whether source has as many handshakes as one may have.
func (s *handshakes) full(source netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sources[source] >= s.perSource
}

// add counts c's handshake, and returns the connection that has to give way, or nil.
func (s *handshakes) add(c *Conn) (crowded *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open.Len() >= s.most {
		crowded = s.open.Front().Value.(*Conn)
		s.drop(crowded)
	}
	c.in.shaking = s.open.PushBack(c)
	s.sources[c.source]++
	return crowded
}

// progressed is called when c has made progress.
func (s *handshakes) progressed(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.in.shaking != nil {
		s.open.MoveToBack(c.in.shaking)
	}
}

func (s *handshakes) remove(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(c)
}

// drop is called with the lock; c may have given way before.
func (s *handshakes) drop(c *Conn) {
	if c.in.shaking == nil {
		return
	}
	s.open.Remove(c.in.shaking)
	c.in.shaking = nil
	if s.sources[c.source]--; s.sources[c.source] == 0 {
		delete(s.sources, c.source)
	}
}

// handshake prepares c's layer for messages.
func (c *Conn) handshake(by time.Time) error {
	c.in.opening = true
	c.expectBy(by)
	err := c.layer.handshake()
	c.in.opening = false
	c.endTurn()
	if c.listener >= 0 {
		c.t.shaking.remove(c)
	}
	return handshakeError(err)
}

// takeTurn waits until c may compute what follows from what it has received. That is not the
// other side's time.
func (c *Conn) takeTurn() error {
	if c.listener < 0 {
		return nil
	}
	if !c.in.heard {
		c.in.heard = true
		c.t.shaking.progressed(c)
	}
	select {
	case c.t.shaking.turns <- struct{}{}:
	default:
		since := time.Now()
		c.t.shaking.turns <- struct{}{}
		c.expectBy(c.in.due.Add(time.Since(since)))
	}
	c.in.turn = true
	if c.isClosing() { // it has given way meanwhile, say
		return ErrClosed
	}
	return nil
}

func (c *Conn) endTurn() {
	if !c.in.turn {
		return
	}
	c.in.turn = false
	<-c.t.shaking.turns
	c.out.mu.Lock()
	sends := c.out.sends
	c.out.mu.Unlock()
	if sends != c.in.answered {
		c.in.answered = sends
		c.t.shaking.progressed(c)
	}
}

// fail ends a connection whose handshake has failed. The handler is told unless we
// ended it ourselves, or nothing has come: so look those who only test whether the
// port is open.
func (c *Conn) fail(err error) {
	t := c.t
	silent, ours := !c.in.heard && !errors.Is(err, ErrHandshakeTimeout), c.isClosing()
	if c.Close(err) && !silent && !ours {
		t.counters.handshakesFailed.Add(1)
		c.h.HandshakeFailed(c.remote, c.listener, err)
	}
	c.release()
}

// handshakeError gives err the name that it has in this package.
func handshakeError(err error) error {
	var record tls.RecordHeaderError
	var remote *net.OpError
	switch {
	case errors.As(err, &record):
		if isSIP(record.RecordHeader[:]) {
			return ErrPlainSIP
		}
		return ErrNotTLS
	case errors.As(err, &remote) && remote.Op == "remote error":
		return fmt.Errorf("%w: %w", ErrRejected, remote.Err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.ECONNRESET):
		return fmt.Errorf("%w: %w", ErrRejected, err)
	}
	return err
}

// isSIP reports whether b could be the beginning of a SIP message.
func isSIP(b []byte) bool {
	start := "SIP/2.0"
	for m := range sip.Method(sip.MethodCount) {
		if m != sip.MethodOther {
			start = m.String() + " "
		}
		if n := min(len(b), len(start)); string(b[:n]) == start[:n] {
			return true
		}
	}
	return false
}
