package netio

import (
	"net/netip"
	"time"
)

// TCPConfig is the configuration of all TCP connections. Zero values mean the
// default given with each field.
type TCPConfig struct {
	// MaxConns caps accepted connections (10,000). A tenth of it is kept for
	// Exempt sources, so that strangers cannot lock out the PBX. See Keep. Dialled
	// connections are not counted: whoever dials answers for their number.
	MaxConns int
	// MaxPerSource caps the accepted connections of one source (256).
	MaxPerSource int
	// SourceKey says which addresses are one source (nil: each is its own).
	SourceKey func(netip.Addr) netip.Addr
	// Exempt sources have no cap of their own, and may take their time with
	// the first message (nil: none).
	Exempt func(netip.Addr) bool
	// Keep says of whom no connection is closed to make room. When there are MaxConns, the
	// one of all others that was opened first is, for a new one (nil: none ever is). It
	// must not wait.
	Keep func(netip.Addr) bool

	// MaxHeader and MaxMessage cap the bytes of a message's head and of the
	// whole message (16 KiB, 64 KiB).
	MaxHeader, MaxMessage int

	// HandshakeTimeout is the time from accepting a connection to the end of its TLS
	// handshake and its upgrade to WebSocket (5 s); for a dialled one, from dialling.
	HandshakeTimeout time.Duration
	// MaxHandshakes caps the accepted connections on which that is not over (1,024).
	// Beyond it the one that has made no progress for longest gives way.
	MaxHandshakes int
	// MaxHandshakesPerSource caps those of one source (64). Exempt sources have no
	// such cap, and do not count.
	MaxHandshakesPerSource int
	// MayShake is asked before each handshake of a source that is not exempt (nil: all may).
	// It must not wait.
	MayShake func(source netip.Addr) bool

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
	// Transparent makes the listeners take connections that were opened to
	// others, and dials in others' names; nil: ordinary listeners.
	Transparent *Transparent
	// WriteQueue caps the bytes that wait for a slow peer (256 KiB), beside
	// what is in the kernel's buffers.
	WriteQueue int
}

func (c TCPConfig) withDefaults() TCPConfig {
	setDefault(&c.MaxConns, 10_000)
	setDefault(&c.MaxPerSource, 256)
	setDefault(&c.MaxHeader, 16<<10)
	setDefault(&c.MaxMessage, 64<<10)
	setDefault(&c.HandshakeTimeout, 5*time.Second)
	setDefault(&c.MaxHandshakes, 1024)
	setDefault(&c.MaxHandshakesPerSource, 64)
	setDefault(&c.MessageTimeout, 10*time.Second)
	setDefault(&c.FirstTimeout, 30*time.Second)
	setDefault(&c.IdleTimeout, 2*time.Hour)
	setDefault(&c.WriteTimeout, 10*time.Second)
	setDefault(&c.WriteQueue, 256<<10)
	if c.SourceKey == nil {
		c.SourceKey = func(a netip.Addr) netip.Addr { return a }
	}
	if c.MayShake == nil {
		c.MayShake = func(netip.Addr) bool { return true }
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
