package netio

import (
	"context"
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
)

// TCPConfig is the configuration of all TCP connections. Zero values mean the
// default given with each field.
type TCPConfig struct {
	// MaxConns caps accepted connections (10,000). A tenth of it is kept for
	// Exempt sources, so that strangers cannot lock out the PBX. Dialled
	// connections are not counted: whoever dials answers for their number.
	MaxConns int
	// MaxPerSource caps the accepted connections of one source (256).
	MaxPerSource int
	// SourceKey says which addresses are one source (nil: each is its own).
	SourceKey func(netip.Addr) netip.Addr
	// Exempt sources have no cap of their own, and may take their time with
	// the first message (nil: none).
	Exempt func(netip.Addr) bool

	// MaxHeader and MaxMessage cap the bytes of a message's head and of the
	// whole message (16 KiB, 64 KiB).
	MaxHeader, MaxMessage int

	// MessageTimeout is the time from a message's first byte to its last
	// (10 s).
	MessageTimeout time.Duration
	// FirstTimeout is the time from accepting a connection to the end of
	// the first message on it (30 s).
	FirstTimeout time.Duration
	// IdleTimeout closes an accepted connection on which neither message
	// nor keep-alive has come (2 h: longer than phones without keep-alive
	// leave between two registrations). Dialled ones have none: they live
	// and die with their peer.
	IdleTimeout time.Duration
	// WriteTimeout is the time that the other side has to take what is
	// queued, and to close its end after CloseAfterFlush (10 s).
	WriteTimeout time.Duration
	// WriteQueue caps the bytes that wait for a slow peer (256 KiB), beside
	// what is in the kernel's buffers.
	WriteQueue int
}

func (c TCPConfig) withDefaults() TCPConfig {
	setDefault(&c.MaxConns, 10_000)
	setDefault(&c.MaxPerSource, 256)
	setDefault(&c.MaxHeader, 16<<10)
	setDefault(&c.MaxMessage, 64<<10)
	setDefault(&c.MessageTimeout, 10*time.Second)
	setDefault(&c.FirstTimeout, 30*time.Second)
	setDefault(&c.IdleTimeout, 2*time.Hour)
	setDefault(&c.WriteTimeout, 10*time.Second)
	setDefault(&c.WriteQueue, 256<<10)
	if c.SourceKey == nil {
		c.SourceKey = func(a netip.Addr) netip.Addr { return a }
	}
	if c.Exempt == nil {
		c.Exempt = func(netip.Addr) bool { return false }
	}
	return c
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

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
}

// TCP is all TCP listeners and connections of the process.
type TCP struct {
	cfg       TCPConfig
	listeners []*tcpListener
	limits    limits
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

// ListenTCP binds addrs; a listener's index is its position there.
func ListenTCP(cfg TCPConfig, addrs []netip.AddrPort) (*TCP, error) {
	reserve := cfg.Exempt != nil
	cfg = cfg.withDefaults()
	t := &TCP{
		cfg:     cfg,
		limits:  newLimits(cfg, reserve),
		buffers: newBufferPool(max(cfg.MaxMessage, cfg.MaxHeader+1)),
	}
	t.done, t.cancel = context.WithCancel(context.Background())
	t.conns.init()
	for i, a := range addrs {
		l, err := listenTCP(i, a)
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
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.done, cancel)()
	d := net.Dialer{Control: dialOptions, KeepAlive: -1, Timeout: timeout}
	if local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
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
	}
	t.conns.add(c)
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

// CloseSource cuts the connections of the sources that match off, and says
// how many there were.
func (t *TCP) CloseSource(match func(netip.Addr) bool) int {
	n := 0
	t.conns.each(func(c *Conn) {
		if match(c.remote.Addr()) && c.Close(ErrSourceClosed) {
			n++
		}
	})
	return n
}
