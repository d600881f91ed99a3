package tftp

import (
	"net/netip"
	"sync/atomic"

	"sipward/policy"
)

// sweep ends transfers that have waited for too long or whose source is shut out, and
// limits that are no longer due.
func (s *Server) sweep(now int64) {
	g := s.cfg.Engine.Gate()
	for _, t := range s.transfers.snapshot() {
		if t.expired(now) || !g.Standing(t.client.Addr().WithZone(""), now).Pass() {
			t.cut(&s.stats.cut)
		}
	}
	rules := s.live.Load()
	if rules.Threshold <= 0 {
		return
	}
	var freed []netip.Addr
	rules.limiter.sweep(now, func(a netip.Addr) { freed = append(freed, a) })
	if rules.Action.Kind == policy.ActionWatch || rules.Action.Kind == policy.ActionNotify {
		return
	}
	for _, a := range freed {
		s.tellCalm(a, now)
	}
}

// stats counts since the start.
type stats struct {
	started, completed, failed, cut, evicted, sockets atomic.Uint64
	withheld, ignored, toClient, toServer             atomic.Uint64
}

// Stats counts transfers and packets since the start, but for what is at present.
type Stats struct {
	Open     int // transfers at present
	HalfOpen int // of them those whose client has not shown its address yet
	Limited  int // sources that are limited at present

	Started   uint64
	Completed uint64
	Failed    uint64 // by an ERROR of either side
	Cut       uint64 // because they took too long, or their source was shut out
	Evicted   uint64 // to make room
	Sockets   uint64 // not started, because the system gave no socket

	Withheld uint64 // packets of the server kept from a client that has not shown its address
	Ignored  uint64 // packets that do not belong to their transfer
	ToClient uint64 // bytes
	ToServer uint64
}

// Stats returns the counts.
func (s *Server) Stats() Stats {
	c := &s.stats
	st := Stats{
		Limited: s.live.Load().limiter.limitedSources(),
		Started: c.started.Load(), Completed: c.completed.Load(), Failed: c.failed.Load(), Cut: c.cut.Load(),
		Evicted: c.evicted.Load(), Sockets: c.sockets.Load(), Withheld: c.withheld.Load(), Ignored: c.ignored.Load(),
		ToClient: c.toClient.Load(), ToServer: c.toServer.Load(),
	}
	st.Open, st.HalfOpen = s.transfers.count()
	return st
}
