package proxy

import (
	"context"
	"net/netip"
	"time"
)

// Drain ends the connections in order: no new ones are accepted, and each open one
// is closed once what is queued for it has gone out. Datagrams go on meanwhile. It
// returns when no connection is left, or after the given time. A call survives the end
// of sipward by itself: the next sipward reads the tokens of this one.
func (s *Server) Drain(ctx context.Context, most time.Duration) {
	s.draining.Store(true)
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	s.tcp.CloseAll()
	if s.dtls != nil {
		s.dtls.CloseAll()
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s.open() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// open is how many connections there are.
func (s *Server) open() int {
	n := s.tcp.Stats().Open
	if s.dtls != nil {
		n += s.dtls.Stats().Open
	}
	return n
}

// Close releases the sockets of a Server that will not be Run.
func (s *Server) Close() {
	if s.udp != nil {
		s.udp.Close()
	}
	if s.tcp != nil {
		s.tcp.Close()
	}
	if s.dtls != nil {
		s.dtls.Close()
	}
}

// CloseSource cuts off the open connections of every address in p, and returns how many
// there were: a ban ends what is open.
func (s *Server) CloseSource(p netip.Prefix) int {
	n := s.tcp.CloseSource(p.Contains)
	if s.dtls != nil {
		n += s.dtls.CloseSource(p.Contains)
	}
	return n
}
