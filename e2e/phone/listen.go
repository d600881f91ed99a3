package phone

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// listenSocket is the socket of a phone that is called over TCP, as a carrier's server is: it answers on the connection that
// a request came over, and opens one of its own for what it sends elsewhere (RFC 3261 §18).
type listenSocket struct {
	net Network
	l   *net.TCPListener
	in  chan arrival

	mu     sync.Mutex
	conns  map[netip.AddrPort]*net.TCPConn
	closed bool
	done   chan struct{}
	wait   sync.WaitGroup
}

var _ socket = (*listenSocket)(nil)

// arrival is a message, or the error that ends the socket.
type arrival struct {
	raw  []byte
	from netip.AddrPort
	err  error
}

func listenTCP(n Network, local netip.AddrPort) (*listenSocket, error) {
	l, err := n.ListenTCP(local)
	if err != nil {
		return nil, err
	}
	s := &listenSocket{net: n, l: l, in: make(chan arrival), conns: map[netip.AddrPort]*net.TCPConn{}, done: make(chan struct{})}
	s.wait.Go(s.accept)
	return s, nil
}

func (s *listenSocket) accept() {
	for {
		c, err := s.l.AcceptTCP()
		if err != nil {
			s.hand(arrival{err: err})
			return
		}
		s.add(c)
	}
}

// add reads a connection until it ends.
func (s *listenSocket) add(c *net.TCPConn) {
	from := c.RemoteAddr().(*net.TCPAddr).AddrPort()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = c.Close()
		return
	}
	s.conns[from] = c
	s.wait.Go(func() {
		defer s.drop(from, c)
		for r := bufio.NewReader(c); ; {
			b, err := ReadMessage(r)
			if err != nil || !s.hand(arrival{raw: b, from: from}) {
				return
			}
		}
	})
}

func (s *listenSocket) drop(from netip.AddrPort, c *net.TCPConn) {
	_ = c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, from)
}

func (s *listenSocket) hand(a arrival) bool {
	select {
	case s.in <- a:
		return true
	case <-s.done:
		return false
	}
}

func (s *listenSocket) send(b []byte, to netip.AddrPort) error {
	s.mu.Lock()
	c := s.conns[to]
	s.mu.Unlock()
	if c == nil {
		var err error
		if c, err = s.net.DialTCP(netip.AddrPortFrom(s.local().Addr(), 0), to, 5*time.Second); err != nil {
			return fmt.Errorf("connect to %v: %w", to, err)
		}
		s.add(c)
	}
	_, err := c.Write(b)
	return err
}

func (s *listenSocket) receive() ([]byte, netip.AddrPort, error) {
	select {
	case a := <-s.in:
		return a.raw, a.from, a.err
	case <-s.done:
		return nil, netip.AddrPort{}, net.ErrClosed
	}
}

func (s *listenSocket) local() netip.AddrPort { return s.l.Addr().(*net.TCPAddr).AddrPort() }

func (s *listenSocket) close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.done)
		_ = s.l.Close()
		for _, c := range s.conns {
			_ = c.Close()
		}
	}
	s.mu.Unlock()
	s.wait.Wait()
}
