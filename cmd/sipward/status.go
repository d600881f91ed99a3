package main

import (
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"sipward/admin"
	"sipward/conf"
	"sipward/policy"
	"sipward/proxy/netio"
	"sipward/report"
)

// reachable returns the outside listeners, without those that nobody asked for and
// whose address family this machine does not have.
func reachable(c *conf.Config, log *slog.Logger) []conf.Listener {
	if !c.Listen.OutsideIsDefault || hasIPv6() {
		return c.Listen.Outside
	}
	log.Info("this machine has no IPv6; listening on IPv4 alone")
	var out []conf.Listener
	for _, l := range c.Listen.Outside {
		if l.Addr.Addr().Is4() {
			out = append(out, l)
		}
	}
	return out
}

func hasIPv6() bool {
	c, err := net.ListenPacket("udp6", "[::]:0")
	if err != nil {
		return false
	}
	c.Close()
	return true
}

var _ admin.Backend = (*edge)(nil)

// reasons counts messages by what became of them.
func (e *edge) reasons() map[string]uint64 {
	all := map[string]uint64{}
	for r, n := range e.engine.Counters().Snapshot() {
		if n > 0 {
			all[policy.Reason(r).String()] = n
		}
	}
	return all
}

// verdicts counts SIP messages by verdict.
func (e *edge) verdicts() map[string]uint64 {
	all := map[string]uint64{}
	e.engine.Counters().Each(func(c policy.Class, _ policy.Reason, n uint64) {
		if _, _, v, isSIP := c.Parts(); isSIP {
			all[v.String()] += n
		}
	})
	return all
}

// Status implements admin.Backend.
func (e *edge) Status() admin.Status {
	c, l := e.inForce()
	st := e.server.Stats()
	s := admin.Status{
		Version: versionString(), PID: os.Getpid(), Started: e.started, Config: c.path,
		Mode:    c.conf.Mode.String(),
		Outside: outsideOf(c.conf), Inside: insideOf(c.conf),
		Reasons: e.reasons(), Verdicts: e.verdicts(), Faults: e.engine.Faults(), Replies: e.engine.Counters().Replies(),
		Allow: l.allow.Len(), Deny: l.deny.Len(), Trunks: l.trunks.Len(),
		TCP: admin.TCP{
			Open: st.TCP.Open, Accepted: st.TCP.Accepted,
			Refused: st.TCP.RefusedGate + st.TCP.RefusedTotal + st.TCP.RefusedSource + st.TCP.RefusedHandshake,
			Slow:    st.TCP.ClosedMessage, Idle: st.TCP.ClosedIdle, Faults: st.TCP.ClosedFault,
		},
		Retransmit: admin.Retransmit{
			Transactions: st.Repeats.Entries, Bytes: st.Repeats.Bytes, Timers: st.Repeats.Sent, Replays: st.Repeats.Replayed,
			Absorbed: st.Repeats.Absorbed, TimedOut: st.Repeats.TimedOut, Refused: st.Repeats.Refused,
		},
	}
	s.Guards = guardStatus(c.conf, s.Reasons, e.engine.Would(), e.state.bans)
	s.Bans = banCounts(e.state.bans.Stats())
	s.Bans.GoodSources = e.engine.GoodSources()
	now := time.Now().UnixNano()
	s.Bans.Quarantines = len(e.engine.Quarantines(now))
	s.Breaker = fuses(e.state.bans.Breaker(now))
	s.KnownPlaces = append([]string{}, e.engine.KnownPlaces()...)
	s.Notices = noticesOf(e.engine.Notices(0))
	s.Store = storeStatus(e.state.store.Health())
	s.Journal = journalStatus(e.journal)
	s.Kernel = e.mirror.Status()
	s.Notify = e.notifier.Status()
	s.Reports = []report.ScheduleStatus{}
	if e.reports != nil {
		s.Reports = e.reports.Status(time.Now())
	}
	if slices.ContainsFunc(c.conf.Listen.Outside, func(l conf.Listener) bool { return l.Transport == conf.TransportDTLS }) {
		s.DTLS = dtlsStatus(&st.DTLS)
	}
	s.Certificates = certificateStatus(e.store, time.Now())
	s.TFTP = e.files.status(c.conf)
	s.DNS = e.names.status(c.conf)
	for _, u := range st.UDP {
		s.UDP = append(s.UDP, admin.UDP{
			Listener: u.Addr.String(), Received: u.Packets, Sent: u.Sent,
			SendErrors: u.SendErrors + u.SendDrops, QueueDrops: u.KernelDrops,
		})
	}
	for _, p := range e.pool.State() {
		s.PBX = append(s.PBX, admin.PBX{Address: p.Address, Weight: p.Weight, Up: p.Up, Since: p.Since, Why: p.LastErr})
	}
	return s
}

func dtlsStatus(d *netio.DTLSStats) *admin.DTLS {
	return &admin.DTLS{
		Open: d.Open, Accepted: d.Accepted, Refused: d.RefusedGate + d.RefusedTotal + d.RefusedSource + d.RefusedHandshake,
		Failed: d.HandshakesFailed, Idle: d.ClosedIdle, Moved: d.Moves, Replaced: d.Replaced, Cookies: d.Cookies,
		Malformed: d.BadCookies + d.BadHellos, Strays: d.Strays, Oversize: d.Oversize, Lost: d.QueueDrops + d.KernelDrops,
	}
}
