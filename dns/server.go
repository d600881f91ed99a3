package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"sipward/policy"
)

// Server is the front. It is safe for use by any number of goroutines.
type Server struct {
	cfg   Config
	live  atomic.Pointer[live]
	cache *cache
	udp   []*udpSocket
	tcp   []*tcpListener
	conns conns

	ctx     context.Context // of the flights; it ends when Run does
	cancel  context.CancelFunc
	slots   chan struct{} // of flights
	flights sync.WaitGroup
	counts  counts
}

// live is what a reload replaces.
type live struct {
	Settings
	upstreams []*upstream
}

// New opens the sockets. Nothing is answered before Run; a server that is not run must be
// closed.
func New(cfg Config) (*Server, error) {
	if len(cfg.Upstreams) == 0 {
		return nil, errors.New("dns: there is no upstream")
	}
	cfg = cfg.withDefaults()
	s := &Server{cfg: cfg, cache: newCache(cfg.CacheEntries, cfg.CacheBytes), slots: make(chan struct{}, cfg.MaxInFlight)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.conns.limit(cfg.MaxConns, cfg.MaxPerSource)
	s.live.Store(newLive(cfg.Settings, nil))
	for _, l := range cfg.Listen {
		if err := s.open(l); err != nil {
			s.Close()
			return nil, fmt.Errorf("dns: listen on %s://%s: %w", l.Transport, l.Addr, err)
		}
	}
	return s, nil
}

func (s *Server) open(l Listener) error {
	if l.Transport == policy.TCP {
		t, err := s.listenTCP(l.Addr)
		if err == nil {
			s.tcp = append(s.tcp, t)
		}
		return err
	}
	for range s.cfg.Workers {
		u, err := s.listenUDP(l.Addr, len(s.udp))
		if err != nil {
			return err
		}
		s.udp = append(s.udp, u)
	}
	return nil
}

// newLive keeps what is known of the upstreams that stay.
func newLive(set Settings, old *live) *live {
	l := &live{Settings: set.withDefaults()}
	for _, u := range set.Upstreams {
		kept := &upstream{Upstream: u}
		if old != nil {
			if i := slices.IndexFunc(old.upstreams, func(o *upstream) bool { return o.Upstream == u }); i >= 0 {
				kept = old.upstreams[i]
			}
		}
		l.upstreams = append(l.upstreams, kept)
	}
	return l
}

// Reload puts other settings in force. The cache is emptied if they would lead to other
// answers.
func (s *Server) Reload(set Settings) {
	old := s.live.Load()
	next := newLive(set, old)
	s.live.Store(next)
	for _, u := range old.upstreams {
		if !slices.Contains(next.upstreams, u) {
			u.streams.sweep(true)
		}
	}
	if old.Protection != next.Protection || !slices.Equal(old.PrivateNames, next.PrivateNames) ||
		!slices.Equal(old.Upstreams, next.Upstreams) {
		s.cache.flush()
	}
}

// Run answers until ctx ends. Questions that wait for upstreams then are given up.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, u := range s.udp {
		group.Go(u.serve)
	}
	for _, t := range s.tcp {
		group.Go(t.serve)
	}
	group.Go(func() error { return s.tidy(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		s.Close()
		return nil
	})
	err := group.Wait()
	s.conns.wait()
	s.flights.Wait()
	return err
}

// Close closes the sockets; Run calls it.
func (s *Server) Close() {
	s.cancel()
	for _, u := range s.udp {
		u.conn.Close()
	}
	for _, t := range s.tcp {
		t.listener.Close()
	}
	s.conns.close()
	for _, u := range s.live.Load().upstreams {
		u.streams.sweep(true)
	}
}

// tidy closes connections to upstreams that are not needed.
func (s *Server) tidy(ctx context.Context) error {
	tick := time.NewTicker(idleTime / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			for _, u := range s.live.Load().upstreams {
				u.streams.sweep(false)
			}
		}
	}
}

// client is who has asked, and can be told later.
type client interface {
	// answer sends an answer; it must not wait for the client. It may be called from any
	// goroutine.
	answer(q *asker, e *entry, now int64)
	// fail sends an error.
	fail(q *asker, rcode int)
	// keep says that answer or fail will be called.
	keep()
	origin() (source netip.AddrPort, t policy.Transport, worker int)
}

// handle judges a question. It appends what may be said at once to dst, or returns nil: then
// c is told later, or never.
func (s *Server) handle(c client, b []byte, q *query, dst []byte, now int64) []byte {
	source, transport, worker := c.origin()
	d := s.cfg.Engine.Question(source, transport, now)
	if d.Verdict == policy.Drop {
		s.count(worker, source, transport, d, nil)
		return nil
	}
	f := q.parse(b)
	switch {
	case f == silent:
		d = policy.Decision{Verdict: policy.Drop, Reason: policy.ReasonDNSMalformed}
		s.count(worker, source, transport, d, nil)
		return nil
	case d.Verdict == policy.Reject:
		s.count(worker, source, transport, d, q)
		return q.appendBare(dst, 0, mdns.RcodeRefused)
	case f != 0:
		d = policy.Decision{Verdict: policy.Reject, Reason: policy.ReasonDNSMalformed, Would: d.Would}
		s.count(worker, source, transport, d, q)
		return q.appendBare(dst, 0, int(f))
	}
	key := s.cache.key(q)
	sh := s.cache.shard(key)
	e := sh.get(key, q)
	if e != nil && s.fresh(e, now) {
		s.count(worker, source, transport, d, q)
		s.counts.hits.Add(1)
		if transport == policy.UDP {
			return e.appendUDP(dst, &q.asker, now)
		}
		return e.appendTCP(dst, &q.asker, now)
	}
	s.counts.misses.Add(1)
	if !s.depart(c, q, key, e, now) {
		d = policy.Decision{Verdict: policy.Reject, Reason: policy.ReasonDNSBusy, Would: d.Would}
		dst = q.appendBare(dst, 0, mdns.RcodeServerFailure)
	} else {
		dst = nil
	}
	s.count(worker, source, transport, d, q)
	return dst
}

// retryAfter is how long after the upstreams have failed an answer that is out of date is
// given without asking them again (RFC 8767 §5).
const retryAfter = int64(5 * time.Second)

// clockSkew is how far a time may lie ahead; one further away is of before the clock was set
// back.
const clockSkew = int64(time.Second)

// fresh says whether an answer can be given without asking.
func (s *Server) fresh(e *entry, now int64) bool {
	if now < e.expires {
		return e.born-now < clockSkew
	}
	age := now - e.failed.Load() // of an answer that has not failed: half a century
	return -clockSkew < age && age < retryAfter && s.servable(e, now)
}

// servable says whether an answer can be given when no upstream has another. A failure is
// none.
func (s *Server) servable(e *entry, now int64) bool {
	return now < e.expires+int64(s.live.Load().ServeStale) && e.full.wire[3]&rcodes != mdns.RcodeServerFailure
}

// depart has the upstreams asked, unless they are being asked already. It returns false if
// there is no room for that.
func (s *Server) depart(c client, q *query, key uint64, old *entry, now int64) bool {
	sh := s.cache.shard(key)
	c.keep() // before others can see it
	f, flies, full := sh.board(key, c, q)
	if flies || full {
		return !full
	}
	select {
	case s.slots <- struct{}{}:
	default:
		for _, w := range sh.land(key, f, false)[1:] { // those who came after us
			w.client.fail(&w.q, mdns.RcodeServerFailure)
		}
		return false
	}
	if old != nil && !s.servable(old, now) {
		old = nil
	}
	s.flights.Add(1)
	go s.fly(f, key, old)
	return true
}

// patience is how long a client waits for a new answer when there is an old one (RFC 8767
// §5), less than the programs that ask.
const patience = 1800 * time.Millisecond

// failTTL is how long a failure is remembered (RFC 9520 §3.2), in seconds.
const failTTL = 1

// fly finds the answer for everybody on board.
func (s *Server) fly(f *flight, key uint64, old *entry) {
	defer s.flights.Done()
	defer func() { <-s.slots }()
	sh := s.cache.shard(key)
	if old != nil {
		timer := time.AfterFunc(patience, func() { s.tell(sh.land(key, f, true), old, &s.counts.stale) })
		defer timer.Stop()
	}
	set := s.live.Load()
	q := &question{name: f.name, text: nameText(f.name), qtype: f.qtype}
	e, err := s.find(q, set)
	now := time.Now().UnixNano()
	switch {
	case err == nil:
		e.key = key
		if e.expires > now && set == s.live.Load() {
			sh.put(e)
		}
		s.tell(sh.land(key, f, false), e, nil)
		return
	case old != nil:
		old.failed.Store(now)
		s.tell(sh.land(key, f, false), old, &s.counts.stale)
		return
	}
	s.counts.failures.Add(1)
	s.alarm(q, err)
	failed, err := pack(f.name, f.qtype, &answer{rcode: mdns.RcodeServerFailure})
	if err == nil {
		e = &entry{key: key, name: f.name, qtype: f.qtype, full: failed, small: failed, limit: set.Protection, born: now, expires: now + failTTL*int64(time.Second)}
		sh.put(e)
		s.tell(sh.land(key, f, false), e, nil)
		return
	}
	for _, w := range sh.land(key, f, false) {
		w.client.fail(&w.q, mdns.RcodeServerFailure)
	}
}

// tell gives an answer to those who have waited.
func (s *Server) tell(waiters []waiter, e *entry, n *atomic.Uint64) {
	now := time.Now().UnixNano()
	for i := range waiters {
		waiters[i].client.answer(&waiters[i].q, e, now)
	}
	if n != nil {
		n.Add(uint64(len(waiters)))
	}
}

// find gets the answer and writes it.
func (s *Server) find(q *question, set *live) (*entry, error) {
	now := time.Now().UnixNano()
	a := special(q, &set.Settings)
	if a == nil {
		ctx, cancel := context.WithTimeout(s.ctx, set.Timeout)
		defer cancel()
		var err error
		if a, err = s.ask(ctx, q, set); err != nil {
			return nil, err
		}
		now = time.Now().UnixNano()
		if set.Protection == Strict && !within(q.text, set.PrivateNames) {
			if n := a.withoutPrivate(); n > 0 {
				s.note(policy.ReasonDNSPrivate, q, "addresses that no public name has were left out of the answer")
			}
		}
	}
	e, reason, err := makeEntry(q.name, q.qtype, a, set.Protection, now)
	if reason != policy.ReasonNone {
		s.note(reason, q, fmt.Sprintf("of %d addresses those that fit into %d bytes were kept", len(a.set), maxAddresses))
	}
	return e, err
}
