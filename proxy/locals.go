package proxy

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// locals remembers which address of ours the kernel speaks to a peer from. Only
// wildcard endpoints need it: what we write into Via and Record-Route must be an
// address that leads back. Peers here are PBXes and trunks, not strangers; it is
// capped all the same.
type locals struct {
	mu   sync.RWMutex
	addr map[netip.Addr]netip.Addr
}

const (
	maxLocals = 1024
	// localsLife is how soon a changed routing table is noticed.
	localsLife = 30 * time.Second
)

// localTo returns the address of ours that speaks to dst from a wildcard endpoint;
// for any other it is not needed. The kernel is asked once; that takes three system
// calls and waits for nothing.
func (s *Server) localTo(ep *endpoint, dst netip.Addr) (netip.Addr, bool) {
	if !ep.wildcard {
		return netip.Addr{}, true
	}
	l := &s.locals
	l.mu.RLock()
	a, ok := l.addr[dst]
	l.mu.RUnlock()
	if ok {
		return a, true
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(dst, defaultPort)))
	if err != nil {
		return netip.Addr{}, false
	}
	defer c.Close() // nothing was sent
	a = c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.addr == nil || len(l.addr) >= maxLocals {
		l.addr = make(map[netip.Addr]netip.Addr)
	}
	l.addr[dst] = a
	return a, true
}

// forget drops everything.
func (l *locals) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addr = nil
}

// forgetLocals keeps the memory of the routing table young.
func (s *Server) forgetLocals(ctx context.Context) error {
	tick := time.NewTicker(localsLife)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.locals.forget()
		}
	}
}
