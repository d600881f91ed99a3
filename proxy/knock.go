package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// A host without a SIP server says so (ICMP port unreachable), and a call over it need not
// wait until its silence tells. The sockets that carry SIP do not hear of it, and must not
// (IP_RECVERR): whoever forges a packet with our well-known port in it could talk us out of a
// trunk, and each answer to a forged source would come back as an error between the packets.
// So a trunk that has left a request unanswered for a moment is knocked at, from a connected
// socket of its own, whose port nobody can know. A bare CRLF is a keep-alive to whoever speaks
// SIP (RFC 5626 §3.5.1), and answered or ignored.

const (
	// knockAfter leaves time for the refusal to come back before the PBX sends its request
	// for the second time, T1 after the first (RFC 3261 §17.1.1.2).
	knockAfter = 300 * time.Millisecond
	// knockWait is the longest that a refusal may take.
	knockWait = time.Second
	// maxKnocks is how many trunks are watched at a time; silence tells of the others.
	maxKnocks = 64
)

// knockLater knocks at the trunk of h, to which the first request went at since, if it has
// not answered that after a moment. It may be called by a worker: it does not wait.
func (s *Server) knockLater(h *hop, since int64) {
	select {
	case s.knocks <- struct{}{}:
	default:
		return
	}
	target, local := h.addr, h.ep.addr.Addr()
	if h.ep.wildcard {
		local = h.local
	}
	s.background.Go(func() { s.knock(target, local, since) })
}

func (s *Server) knock(target netip.AddrPort, local netip.Addr, since int64) {
	defer func() { <-s.knocks }()
	select {
	case <-s.ctx.Done():
		return
	case <-time.After(knockAfter):
	}
	if s.resolver.Waiting(target, since) && refuses(s.ctx, target, local) {
		s.resolver.Failed(target, s.now())
	}
}

// refuses reports whether nobody listens on the target's port, as its host says.
func refuses(ctx context.Context, target netip.AddrPort, local netip.Addr) bool {
	ctx, cancel := context.WithTimeout(ctx, knockWait)
	defer cancel()
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0))}
	conn, err := d.DialContext(ctx, "udp", target.String())
	if err != nil {
		return false // which says nothing of the target
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write([]byte("\r\n\r\n")); err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	_, err = conn.Read(make([]byte, 64))
	return errors.Is(err, syscall.ECONNREFUSED)
}
