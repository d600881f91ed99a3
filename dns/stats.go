package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"sipward/policy"
	"sipward/policy/event"
)

// counts is what has been done since the start.
type counts struct {
	hits, misses, stale, failures atomic.Uint64
}

// Stats is what a Server has done since it was made.
type Stats struct {
	Received, Sent  uint64 // datagrams
	Hits, Misses    uint64 // questions answered from the cache, and others
	Stale           uint64 // answers out of date
	Failures        uint64 // questions that no upstream could answer
	Entries         int    // in the cache
	Bytes           int64
	InFlight        int
	Connections     int
	ConnectionsFull uint64 // refused by a cap
	Upstreams       []UpstreamStats
}

// UpstreamStats is the state of one upstream.
type UpstreamStats struct {
	Upstream Upstream
	Up       bool
	Since    time.Time // of the state; zero: since the start
	Why      string    // it is down
	Asked    uint64
	Failed   uint64
	// Foreign counts replies that answered no question of ours: forged, or too late.
	Foreign uint64
}

// Stats returns what has been done.
func (s *Server) Stats() Stats {
	st := Stats{
		Hits: s.counts.hits.Load(), Misses: s.counts.misses.Load(), Stale: s.counts.stale.Load(),
		Failures: s.counts.failures.Load(), InFlight: len(s.slots),
		Connections: s.conns.len(), ConnectionsFull: s.conns.refused.Load(),
	}
	st.Entries, st.Bytes = s.cache.stats()
	for _, u := range s.udp {
		st.Received += u.received.Load()
		st.Sent += u.sent.Load()
	}
	for _, u := range s.live.Load().upstreams {
		st.Upstreams = append(st.Upstreams, u.stats())
	}
	return st
}

func (u *upstream) stats() UpstreamStats {
	u.mu.Lock()
	defer u.mu.Unlock()
	st := UpstreamStats{
		Upstream: u.Upstream, Up: u.fails == 0, Why: u.why,
		Asked: u.asked.Load(), Failed: u.failed.Load(), Foreign: u.foreign.Load(),
	}
	if u.since != 0 {
		st.Since = time.Unix(0, u.since)
	}
	return st
}

// Addrs returns where questions are taken, those over UDP first.
func (s *Server) Addrs() (udp, tcp []netip.AddrPort) {
	for _, u := range s.udp {
		if !slices.Contains(udp, u.addr) {
			udp = append(udp, u.addr)
		}
	}
	for _, t := range s.tcp {
		a, _ := netip.ParseAddrPort(t.listener.Addr().String())
		tcp = append(tcp, a)
	}
	return udp, tcp
}

// CloseSource closes the TCP connections of a prefix and returns how many.
func (s *Server) CloseSource(p netip.Prefix) (n int) {
	s.conns.mu.Lock()
	defer s.conns.mu.Unlock()
	for t := range s.conns.open {
		if p.Contains(t.addr.Addr()) {
			t.Close()
			n++
		}
	}
	return n
}

// methodDNS is what events call questions and replies.
const methodDNS = "DNS"

// count counts a question and shows it on the bus.
func (s *Server) count(worker int, source netip.AddrPort, t policy.Transport, d policy.Decision, q *query) {
	s.cfg.Engine.Count(worker, d.Reason)
	if !s.cfg.Events.Active() {
		return
	}
	ev := event.Event{
		Time: time.Now().UnixNano(), Source: source, Protocol: event.DNS, Transport: t, Direction: event.FromPBX,
		Verdict: d.Verdict, Reason: d.Reason, Method: methodDNS,
	}
	if q != nil && q.asked {
		ev.Account.SetString(nameText(string(q.name())))
	}
	s.cfg.Events.Publish(&ev)
}

// note counts something about an answer, shows it on the bus, and tells the administrator.
func (s *Server) note(r policy.Reason, q *question, text string) {
	s.cfg.Engine.Count(0, r)
	s.show(netip.AddrPort{}, policy.Pass, r, q.text, text)
	s.cfg.Engine.Answered(netip.Addr{}, r, q.text, text, time.Now().UnixNano())
}

func (s *Server) show(source netip.AddrPort, v policy.Verdict, r policy.Reason, name, text string) {
	if !s.cfg.Events.Active() {
		return
	}
	ev := event.Event{
		Time: time.Now().UnixNano(), Source: source, Protocol: event.DNS, Direction: event.FromOutside,
		Verdict: v, Reason: r, Method: methodDNS,
	}
	ev.Account.SetString(name)
	ev.Detail.SetString(text)
	s.cfg.Events.Publish(&ev)
}

// alarm takes note of a question that could not be answered.
func (s *Server) alarm(q *question, err error) {
	if s.ctx.Err() != nil {
		return
	}
	r := policy.ReasonDNSFailed
	switch {
	case errors.Is(err, errChain), errors.Is(err, errLarge), errors.Is(err, errLoop):
		r = policy.ReasonDNSTooLarge
	case errors.Is(err, errTrailing), errors.Is(err, errBadName):
		r = policy.ReasonDNSBadAnswer
	}
	s.note(r, q, fmt.Sprintf("no answer to %s: %v", typeText(q.qtype), err))
}

// foreign takes note of a reply that answers no question of ours.
func (s *Server) foreign(u *upstream, sent []byte) {
	u.foreign.Add(1)
	s.cfg.Engine.Count(0, policy.ReasonDNSForged)
	var q query
	if q.parse(sent) != 0 {
		return
	}
	name := nameText(string(q.name()))
	const text = "a reply that answers no question of ours was passed over, while the right one was waited for"
	s.show(u.Address, policy.Drop, policy.ReasonDNSForged, name, text)
	s.cfg.Engine.Answered(u.Address.Addr(), policy.ReasonDNSForged, name, text, time.Now().UnixNano())
}
