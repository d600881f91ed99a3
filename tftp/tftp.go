// Package tftp relays TFTP (RFC 1350) to a server inside, packet by packet, and guards
// it with the lists, bans, counters and notices that SIP has.
//
// A request (RRQ, WRQ) that passes the gate, the limits and the checks of its file
// name makes a transfer: one socket with a random port towards the client, connected, so
// that the kernel lets in what this client sends and nothing else, and one with a random
// port towards the server, which takes the port that the server answers from and no other
// (RFC 1350 §4: the TIDs). Packets pass as they came, options and all (RFC 2347).
//
// UDP sources can be forged. Until a client has acknowledged the first answer from the
// port that only this answer told it, one packet goes to it for each of its requests, and
// no more: whatever the server repeats, whatever window was asked for. That
// acknowledgement is the proof of address that TFTP allows, about 15 bits.
//
// Memory is bounded: a transfer costs two sockets and two goroutines, two buffers of the
// block size, and no more than Settings.MaxTransfers exist. When there are that many,
// the oldest that has ended or was never acknowledged makes room.
package tftp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sipward/policy"
	"sipward/policy/event"
	"sipward/policy/rate"
)

// Config makes a Server.
type Config struct {
	// Listen holds the addresses that clients send requests to.
	Listen []netip.AddrPort
	// Upstream is the TFTP server inside.
	Upstream netip.AddrPort
	Engine   *policy.Engine
	Events   *event.Bus // nil: nobody is shown the requests
	Worker   int        // shard of the engine's counters
	IPv6Bits int        // of an address that make one source; 0: 64
	Settings Settings
}

// Settings are what can change at run time.
type Settings struct {
	// More than Threshold requests of a source within Period, and it is limited to
	// LimitedRate a minute until it has stayed under the threshold for a whole period.
	// Threshold 0: there is no limit. Other limits begin their counts anew.
	Threshold   int
	Period      time.Duration // above zero
	LimitedRate int
	// Action is what is done about a source over the limit beside that: ban it, or with
	// notify and watch not even limit it. The same for names of files that lead astray.
	Action policy.Action
	// Missing distinct files within Period that do not exist are one too many; 0: they
	// do not count. MissingAction is what is done then.
	Missing       int
	MissingAction policy.Action

	AllowWrite    bool // let WRQ pass
	AllowAbsolute bool // let file names pass that begin with a slash

	MaxTransfers int // in all; 0: DefaultMaxTransfers
	MaxPerSource int // of one source; 0: as many as in all
	// Strangers is how many requests of all strangers together pass in a second; 0: all.
	Strangers   int
	IdleTimeout time.Duration // without a packet of the client; 0: 30 s
}

// DefaultMaxTransfers is the cap of transfers unless told otherwise.
const DefaultMaxTransfers = 500

// live is what is in force.
type live struct {
	Settings
	limiter   *limiter
	strangers rate.Limit
}

// Server relays TFTP.
type Server struct {
	cfg       Config
	live      atomic.Pointer[live]
	listeners []*listener
	transfers registry
	strangers *rate.Limiter
	stats     stats
	wg        sync.WaitGroup // of the goroutines of transfers
}

// listener is a socket that requests come to.
type listener struct {
	conn *net.UDPConn
	addr netip.AddrPort
	// wildcard says that a request may have been sent to any address of this machine,
	// and that answers must come from that one.
	wildcard bool
}

// New binds the listeners. Nothing passes before Run.
func New(cfg Config) (*Server, error) {
	if cfg.IPv6Bits <= 0 {
		cfg.IPv6Bits = rate.DefaultIPv6Bits
	}
	if cfg.Events == nil {
		cfg.Events = new(event.Bus)
	}
	s := &Server{cfg: cfg, strangers: rate.NewLimiter(rate.Config{Sources: 1})}
	s.transfers.init()
	s.Reload(cfg.Settings)
	for _, a := range cfg.Listen {
		l, err := listen(a)
		if err != nil {
			s.Close()
			return nil, err
		}
		s.listeners = append(s.listeners, l)
	}
	return s, nil
}

func listen(a netip.AddrPort) (*listener, error) {
	conn, err := net.ListenUDP(network(a.Addr()), net.UDPAddrFromAddrPort(a))
	if err != nil {
		return nil, fmt.Errorf("listen for TFTP: %w", err)
	}
	l := &listener{conn: conn, addr: a, wildcard: a.Addr().IsUnspecified()}
	if a.Port() == 0 {
		l.addr = netip.AddrPortFrom(a.Addr(), conn.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	}
	if !l.wildcard {
		return l, nil
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		err = errors.Join(err, raw.Control(func(fd uintptr) {
			if a.Addr().Is4() {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
			} else {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			}
		}))
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("listen for TFTP on %s: %w", a, err)
	}
	return l, nil
}

func network(a netip.Addr) string {
	if a.Is4() {
		return "udp4"
	}
	return "udp6"
}

// Close gives up a Server that was never run.
func (s *Server) Close() {
	for _, l := range s.listeners {
		l.conn.Close()
	}
}

// Addrs returns the addresses that are listened on, with their real ports.
func (s *Server) Addrs() []netip.AddrPort {
	var all []netip.AddrPort
	for _, l := range s.listeners {
		all = append(all, l.addr)
	}
	return all
}

// Reload puts other settings in force. Transfers go on.
func (s *Server) Reload(to Settings) {
	if to.MaxTransfers <= 0 {
		to.MaxTransfers = DefaultMaxTransfers
	}
	if to.MaxPerSource <= 0 {
		to.MaxPerSource = to.MaxTransfers
	}
	if to.IdleTimeout <= 0 {
		to.IdleTimeout = 30 * time.Second
	}
	next := &live{Settings: to, strangers: rate.PerSecond(float64(to.Strangers), to.Strangers)}
	q := quota{to.Threshold, to.Period, to.LimitedRate}
	if old := s.live.Load(); old != nil && old.limiter.quota == q {
		next.limiter = old.limiter
	} else {
		next.limiter = newLimiter(defaultSources, s.cfg.IPv6Bits, q)
	}
	s.live.Store(next)
}

// sweepEvery is how often timeouts are looked at.
const sweepEvery = 250 * time.Millisecond

// Run relays until ctx ends, and then cuts the transfers that are left.
func (s *Server) Run(ctx context.Context) error {
	var readers sync.WaitGroup
	for _, l := range s.listeners {
		readers.Go(func() { s.receive(l) })
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-ctx.Done():
			running = false
		case now := <-tick.C:
			s.sweep(now.UnixNano())
		}
	}
	s.Close()
	readers.Wait()
	for _, t := range s.transfers.snapshot() {
		t.cut(&s.stats.cut)
	}
	s.wg.Wait()
	return nil
}

// CloseSource cuts the transfers of a prefix that is shut out, and returns how many.
func (s *Server) CloseSource(p netip.Prefix) (n int) {
	for _, t := range s.transfers.snapshot() {
		if p.Contains(t.client.Addr().WithZone("")) {
			t.cut(&s.stats.cut)
			n++
		}
	}
	return n
}

// Forgive forgets what is counted of a source, and says whether it was limited or
// refused.
func (s *Server) Forgive(addr netip.Addr, now int64) (limited bool) {
	l := s.live.Load().limiter
	st := l.state(addr, now)
	l.forgive(addr)
	return st.limited || st.refused
}

// Counts returns what is counted of a source, for those who ask, and whether it is
// limited or refused.
func (s *Server) Counts(addr netip.Addr, now int64) (all []policy.Count, limited bool) {
	l := s.live.Load()
	st := l.limiter.state(addr, now)
	guard := policy.ReasonTFTPLimit.String()
	add := func(guard, what string, n, limit int, period time.Duration) {
		if n > 0 {
			all = append(all, policy.Count{Guard: guard, What: what, Count: n, Limit: limit, Period: period})
		}
	}
	if l.Threshold > 0 {
		add(guard, "requests for files", st.asked, l.Threshold, l.Period)
	}
	if st.limited {
		add(guard, "requests let through while it is limited", max(st.passed, 1), l.LimitedRate, time.Minute)
	}
	if l.Missing > 0 {
		add(policy.ReasonEnumeration.String(), "names of files that do not exist", st.missing, l.Missing, l.Period)
	}
	add(guard, "transfers at present", s.transfers.of(source(addr, s.cfg.IPv6Bits)), l.MaxPerSource, 0)
	return all, st.limited || st.refused
}
