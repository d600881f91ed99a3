package admin

import (
	"net"
	"net/netip"
	"sync"

	"sipward/policy/rate"
)

// Caps of the connections of one TCP listener. Those without a token are closed after an
// answer or a few seconds, so these are for who holds many open at once.
const (
	maxConns       = 256
	maxConnsSource = 64
)

// capped closes at once what exceeds the caps, so that one source cannot keep all others
// out. The sources are those with a connection, so there are no more than connections.
type capped struct {
	net.Listener

	mu      sync.Mutex
	total   int
	sources map[netip.Prefix]int
}

func newCapped(l net.Listener) *capped {
	return &capped{Listener: l, sources: map[netip.Prefix]int{}}
}

// Accept implements net.Listener.
func (l *capped) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, err := netip.ParseAddrPort(c.RemoteAddr().String())
		if err == nil && l.enter(from.Addr()) {
			return &cappedConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(from.Addr()) })}, nil
		}
		c.Close()
	}
}

// sourceOf returns who an address belongs to: a host commonly holds a whole IPv6 /64.
func sourceOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	p, _ := a.Prefix(min(a.BitLen(), rate.DefaultIPv6Bits)) // in range
	return p
}

func (l *capped) enter(from netip.Addr) bool {
	a := sourceOf(from)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= maxConns || l.sources[a] >= maxConnsSource {
		return false
	}
	l.total++
	l.sources[a]++
	return true
}

func (l *capped) leave(from netip.Addr) {
	a := sourceOf(from)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.sources[a]--; l.sources[a] == 0 {
		delete(l.sources, a)
	}
}

type cappedConn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *cappedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
