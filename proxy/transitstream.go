package proxy

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"sipward/policy"
	"sipward/proxy/flow"
	"sipward/proxy/netio"
)

// leads reports whether a connection is one that the rules have led here, or that we have
// dialled ourselves. Any other would lead back to where it came in.
func (s *Server) leads(c *netio.Conn) bool {
	switch st := s.streamState(c); {
	case st.pair != nil:
		return true
	case st.side == flow.Inside:
		return !c.Local().Addr().IsLoopback()
	default:
		return s.pool.ByAddrPort(c.Local()) != nil
	}
}

// pairInTransit returns the connection that goes on where c ends: the one that it was
// dialled for, or one of its own, from its client's address and port to where the
// client has connected to.
func (s *Server) pairInTransit(c *netio.Conn) (*netio.Conn, error) {
	st := s.streamState(c)
	if st.pair != nil {
		return st.pair, nil
	}
	const onlyOne = 0 // in place of a PBX's ID: c leads to one place
	return s.pairBy(c, onlyOne, func() (*netio.Conn, error) {
		side := flow.Inside
		if st.side == flow.Inside {
			side = flow.Outside
		}
		from, to := c.Remote(), c.Local()
		next := &stream{side: side, ep: s.eps.find(policy.TCP, side, to.Addr()), pair: c}
		anyPort := netip.AddrPortFrom(from.Addr(), 0)
		if s.transit.OnHost && side == flow.Outside {
			from = anyPort // the port is the PBX's
		}
		conn, err := s.tcp.DialFrom(s.ctx, s, from, to, s.cfg.DialTimeout, next)
		if errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL) {
			// Something of the client's last connection is left here. To have another port
			// is better than to have none.
			conn, err = s.tcp.DialFrom(s.ctx, s, anyPort, to, s.cfg.DialTimeout, next)
		}
		return conn, err
	})
}
