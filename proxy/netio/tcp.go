package netio

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sipward/sip"
)

// Why a connection was closed, as StreamHandler.Closed is told. Besides these
// there are io.EOF (the other side closed it), a sip.Fault (framing), what
// the network said, and nil (CloseAfterFlush, or Close(nil)).
var (
	ErrSlowPeer       = errors.New("netio: peer does not read")
	ErrMessageTimeout = errors.New("netio: message not complete in time")
	ErrIdle           = errors.New("netio: idle")
	ErrSourceClosed   = errors.New("netio: source cut off")

	errMadeRoom = errors.New("netio: made room for a newer connection")
)

// StreamHandler takes what arrives on TCP connections. Message and Fault are
// called from the connection's own goroutine, never concurrently for one
// connection.
type StreamHandler interface {
	// Accept decides whether a connection is taken. Nothing has been
	// allocated for it yet.
	Accept(remote netip.AddrPort, listener int) bool
	// Message takes one framed message, which is valid until it returns.
	Message(c *Conn, msg []byte)
	// Fault is told that framing failed; head is what could not be framed.
	// c is closed when it returns, after what was sent in it.
	Fault(c *Conn, fault sip.Fault, head []byte)
	// Closed is called exactly once for each connection, after its last
	// Message.
	Closed(c *Conn, err error)
	// HandshakeFailed is called instead of Closed for an accepted connection that
	// never could carry a message, and not at all if that was no fault of the other
	// side's, or if nothing came over it before it was closed. The address is proven,
	// as it is of every connection; over DTLS the failure is not: anybody can forge what
	// disturbs a handshake. err is ErrHandshakeTimeout, ErrPlainSIP, ErrNotTLS,
	// ErrRejected, ErrUpgrade, ErrOrigin, or what crypto/tls said.
	HandshakeFailed(remote netip.AddrPort, listener int, err error)
}

// TCP is all TCP listeners and connections of the process.
type TCP struct {
	cfg       TCPConfig
	listeners []*tcpListener
	limits    limits
	shaking   handshakes
	conns     registry
	buffers   bufferPool
	counters  tcpCounters
	done      context.Context // ends when everything is being closed
	cancel    context.CancelFunc

	mu      sync.Mutex
	running bool
	closing bool
	wg      sync.WaitGroup // connections' goroutines; added to under mu, or by one that is counted
	open    atomic.Int64
}

// ListenTCP binds listeners; a listener's index is its position there.
func ListenTCP(cfg TCPConfig, listeners []StreamListener) (*TCP, error) {
	reserve := cfg.Exempt != nil
	cfg = cfg.withDefaults()
	t := &TCP{
		cfg:     cfg,
		limits:  newLimits(cfg, reserve),
		shaking: newHandshakes(cfg),
		buffers: newBufferPool(max(cfg.MaxMessage, cfg.MaxHeader+1)),
	}
	t.done, t.cancel = context.WithCancel(context.Background())
	t.conns.init()
	for i, what := range listeners {
		l, err := listenTCP(i, what, cfg.Transparent)
		if err != nil {
			t.Close()
			return nil, err
		}
		t.listeners = append(t.listeners, l)
	}
	return t, nil
}

// LocalAddr is the address of a listener, with its real port when 0 was
// asked for.
func (t *TCP) LocalAddr(listener int) netip.AddrPort { return t.listeners[listener].addr }

// Run accepts connections until ctx ends. Then it closes every connection,
// the dialled ones too, waits for their goroutines and returns nil.
func (t *TCP) Run(ctx context.Context, h StreamHandler) error {
	t.mu.Lock()
	if t.closing || t.running {
		t.mu.Unlock()
		return ErrClosed
	}
	t.running = true
	t.wg.Add(len(t.listeners))
	t.mu.Unlock()
	for _, l := range t.listeners {
		go t.acceptAll(l, h)
	}
	<-ctx.Done()
	t.Close()
	return nil
}

// Close ends listeners and connections and waits for their goroutines. It is
// for a TCP that is not run; end Run's context instead.
func (t *TCP) Close() {
	t.mu.Lock()
	t.closing = true
	t.mu.Unlock()
	t.cancel()
	for _, l := range t.listeners {
		l.f.Close()
	}
	t.conns.each(func(c *Conn) { c.Close(ErrClosed) })
	t.wg.Wait()
}

// Dial connects to remote, from the address local unless that is the zero
// Addr. The connection's Value is extra before its first Message. ctx and
// timeout (0: the system's) bound the dialling only.
func (t *TCP) Dial(ctx context.Context, h StreamHandler, local netip.Addr, remote netip.AddrPort, timeout time.Duration, extra any) (*Conn, error) {
	return t.DialFrom(ctx, h, netip.AddrPortFrom(local, 0), remote, timeout, extra)
}

// DialTLS is Dial with TLS; timeout bounds the handshake, too, which takes no longer
// than HandshakeTimeout. cfg has to have a ServerName, or its own verification.
func (t *TCP) DialTLS(ctx context.Context, h StreamHandler, local netip.Addr, remote netip.AddrPort, cfg *tls.Config, timeout time.Duration, extra any) (*Conn, error) {
	return t.dial(ctx, h, netip.AddrPortFrom(local, 0), remote, cfg, timeout, extra)
}

// DialFrom is Dial with a port of its own, or 0. A transparent TCP may take an
// address and a port that are not this host's.
func (t *TCP) DialFrom(ctx context.Context, h StreamHandler, local, remote netip.AddrPort, timeout time.Duration, extra any) (*Conn, error) {
	return t.dial(ctx, h, local, remote, nil, timeout, extra)
}

func (t *TCP) dial(ctx context.Context, h StreamHandler, local, remote netip.AddrPort, secure *tls.Config, timeout time.Duration, extra any) (*Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.done, cancel)()
	begun := time.Now()
	d := net.Dialer{Control: t.dialOptions(local), KeepAlive: -1, Timeout: timeout}
	if local.Addr().IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(local)
	}
	nc, err := d.DialContext(ctx, "tcp", remote.String())
	if err != nil {
		return nil, dialError(remote, err)
	}
	c, err := t.newConn(nc.(*net.TCPConn), h, -1)
	if err != nil {
		nc.Close()
		return nil, dialError(remote, err)
	}
	c.remote = remote
	c.local = unmapped(nc.LocalAddr().(*net.TCPAddr).AddrPort())
	c.SetValue(extra)
	if secure != nil {
		by := begun.Add(t.cfg.HandshakeTimeout)
		if timeout > 0 {
			by = begun.Add(min(timeout, t.cfg.HandshakeTimeout))
		}
		if err := t.secure(ctx, c, secure, by); err != nil {
			return nil, fmt.Errorf("dial tls %s: %w", remote, err)
		}
	}
	if !t.start(c) {
		nc.Close()
		return nil, dialError(remote, ErrClosed)
	}
	return c, nil
}

func dialError(remote netip.AddrPort, err error) error {
	var op *net.OpError
	if errors.As(err, &op) { // its text repeats the addresses
		err = op.Err
	}
	return fmt.Errorf("dial tcp %s: %w", remote, err)
}

// secure makes TLS of a dialled connection that is not started yet; if it cannot,
// it closes it.
func (t *TCP) secure(ctx context.Context, c *Conn, cfg *tls.Config, by time.Time) error {
	t.mu.Lock()
	if t.closing {
		t.mu.Unlock()
		c.Close(ErrClosed)
		return ErrClosed
	}
	t.wg.Add(1) // c may start its writer
	t.mu.Unlock()
	defer t.wg.Done()
	c.layer = newClientTLS(c, oneRecord(cfg))
	stop := context.AfterFunc(ctx, func() { c.Close(context.Cause(ctx)) })
	err := c.handshake(by)
	if !stop() {
		return context.Cause(ctx)
	}
	if err != nil {
		c.Close(err)
	}
	return err
}

// start enters c into the registry and starts its reader, unless everything
// is being closed.
func (t *TCP) start(c *Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closing {
		return false
	}
	if c.listener < 0 {
		t.counters.dialled.Add(1)
	} else {
		t.counters.accepted.Add(1)
		t.limits.enter(c)
	}
	t.conns.add(c)
	if c.layer != nil && c.listener >= 0 && !c.exempt {
		if crowded := t.shaking.add(c); crowded != nil {
			t.counters.crowdedOut.Add(1)
			crowded.Close(errCrowdedOut)
		}
	}
	t.open.Add(1)
	t.wg.Add(1)
	go c.read()
	return true
}

// ByID finds an open connection, or nil.
func (t *TCP) ByID(id uint64) *Conn {
	c := t.conns.get(id)
	if c == nil || c.draining.Load() {
		return nil
	}
	return c
}

// CloseSource cuts the connections of the sources that match off (see
// Conn.CutOff), and says how many there were.
func (t *TCP) CloseSource(match func(netip.Addr) bool) int {
	n := 0
	t.conns.each(func(c *Conn) {
		if match(c.Remote().Addr()) && c.CutOff(ErrSourceClosed) {
			n++
		}
	})
	return n
}
