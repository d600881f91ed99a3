package admin

import (
	"net"
	"net/netip"
	"sync"
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
	sources map[netip.Addr]int
}

func newCapped(l net.Listener) *capped {
	return &capped{Listener: l, sources: map[netip.Addr]int{}}
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

func (l *capped) enter(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= maxConns || l.sources[a] >= maxConnsSource {
		return false
	}
	l.total++
	l.sources[a]++
	return true
}

func (l *capped) leave(a netip.Addr) {
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
