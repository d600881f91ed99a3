package proxy

import (
	"net/netip"

	"sipward/proxy/retransmit"
)

// TimeOut does what 64*T1 without a response to an INVITE do, which was sent to a PBX over the
// first UDP listener of the inside.
func (s *Server) TimeOut(pbx netip.AddrPort, invite []byte) {
	for _, e := range s.eps.udp {
		if e.inside {
			s.timedOut(retransmit.Path{Listener: e.listener, Addr: pbx}, invite)
			return
		}
	}
}
