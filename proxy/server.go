// Package proxy is sipward's SIP path: it receives messages on both sides, asks
// the policy about those from outside, and forwards statelessly (RFC 3261 §16.11)
// between phones, trunks and PBXes.
//
// A message is handled by one goroutine from the socket to the socket, in the memory
// of one task, without allocation and without a lock that all workers share. What has
// to wait (a name to be resolved, a trunk to be dialled) goes to a bounded slow lane.
// Nothing that is remembered here is needed to forward, see package flow, but where a stream
// goes on over UDP: see package retransmit.
package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sipward/policy"
	"sipward/policy/event"
	"sipward/policy/iplist"
	"sipward/proxy/flow"
	"sipward/proxy/netio"
	"sipward/proxy/retransmit"
	"sipward/proxy/upstream"
	"sipward/proxy/upstream/resolve"
)

// Config is what a Server is made of. Listeners and socket options are fixed for
// its life; Settings can be changed while it runs.
type Config struct {
	// Outside are the listeners that phones and trunks speak to, Inside those that
	// PBXes speak to. Without Inside the outside ones serve both.
	Outside, Inside []Listener
	UDP             netio.UDPConfig
	TCP             netio.TCPConfig
	// DTLS is for listeners of that kind; FirstListener is filled in.
	DTLS netio.DTLSConfig
	// Transparent has the messages of others pass through unchanged; the listeners are
	// then those that the packet filter leads them to. nil: proxy mode.
	Transparent *Transparent
	// DialTimeout bounds a TCP connection attempt to a PBX or a trunk; 0 means 3 s.
	DialTimeout time.Duration
	// TrunkTLS returns the configuration for connections to trunks over TLS: the certificate
	// must be for the host that the PBX has named (RFC 5922 §4). nil: there are none.
	TrunkTLS func(host string) *tls.Config
	// LookupTimeout bounds the resolution of a trunk's name; 0 means 4 s.
	LookupTimeout time.Duration
	Settings      Settings

	Key      *flow.Key
	Engine   *policy.Engine
	Pool     *upstream.Pool
	Resolver *resolve.Resolver
	// QueueFull is called, ten times a second at most, while a receive queue is more
	// than half full. It must not wait; nil: nobody is told.
	QueueFull func()
	// Explain says for people why a TLS handshake failed, and whether that speaks against
	// the other side; nil: it says what crypto/tls says, and does.
	Explain func(error) (text string, blame bool)
	// Events shows each decision to whoever subscribes; nil shows nothing.
	Events *event.Bus
	Log    *slog.Logger
}

// Settings are what a reload may change.
type Settings struct {
	// Path makes REGISTER carry a Path header (RFC 3327) instead of an aliased Contact.
	Path bool
	// Trunks are the prefixes of carriers, whose requests inside a dialog follow
	// their URIs instead of the flow they came over.
	Trunks *iplist.Set
	// Certified reports whether a client's certificate is a trunk's (RFC 5922): it is trusted
	// like those on Trunks, and requests inside a dialog go over its own connection. It is
	// asked when a connection's first message comes. nil: none is.
	Certified func(*tls.ConnectionState) bool
	// Shield drops a 401 or 407 that is not a trunk's on its way to a PBX.
	Shield bool
	// Strangers is what all sources without good standing may send together in
	// messages per second; 0: as much as sipward and the PBXes keep up with.
	Strangers int
}

// A live value is the Settings in force, immutable.
type live struct {
	path   bool
	shield bool
	trunks *iplist.Set

	certified func(*tls.ConnectionState) bool
}

// A Server is sipward's SIP path. It implements Run(ctx) error.
type Server struct {
	cfg      Config
	eps      *endpoints
	udp      *netio.UDP
	tcp      *netio.TCP
	dtls     *netio.DTLS // nil without a listener
	key      *flow.Key
	seed     maphash.Seed // of hash
	engine   *policy.Engine
	pool     *upstream.Pool
	resolver *resolve.Resolver
	events   *event.Bus
	log      *slog.Logger

	draining atomic.Bool
	live     atomic.Pointer[live]
	locals   locals
	streams  flow.Streams
	proofs   proofs
	forms    forms
	overload overload
	trunks   trunkConns
	transit  *transit // nil in proxy mode
	repeats  *retransmit.Table
	tasks    sync.Pool

	times       []*histogram // of each UDP worker
	streamTimes histogram

	slow   chan struct{}
	knocks chan struct{}
	told   atomic.Int64 // when a failed handshake was logged last, Unix ns

	ctx        context.Context // of Run; dials and look-ups end with it
	background sync.WaitGroup
}

// New binds every listener. Nothing is received before Run.
func New(cfg Config) (*Server, error) {
	eps, err := newEndpoints(cfg.Outside, cfg.Inside)
	if err != nil {
		return nil, err
	}
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = 3 * time.Second
	}
	if cfg.LookupTimeout == 0 {
		cfg.LookupTimeout = lookupTimeout
	}
	cfg.UDP.Transparent, cfg.TCP.Transparent = cfg.Transparent.sockets(), cfg.Transparent.sockets()
	s := &Server{
		cfg: cfg, eps: eps, key: cfg.Key, seed: maphash.MakeSeed(), engine: cfg.Engine, pool: cfg.Pool,
		resolver: cfg.Resolver, events: cfg.Events, log: cfg.Log,
		slow: make(chan struct{}, slowLane), knocks: make(chan struct{}, maxKnocks), proofs: newProofs(),
	}
	s.transit = newTransit(cfg.Transparent, s.now())
	s.repeats = s.newRepeats()
	if s.events == nil {
		s.events = new(event.Bus)
	}
	s.overload.full = cfg.QueueFull
	for range len(eps.udp) * max(cfg.UDP.Workers, 1) {
		s.overload.lanes = append(s.overload.lanes, new(lane))
		s.times = append(s.times, new(histogram))
	}
	s.tasks.New = func() any { return newTask(s, s.engine.Counters().Shard(0), &s.streamTimes) }
	s.put(cfg.Settings)
	if err := s.listen(); err != nil {
		s.Close()
		return nil, err
	}
	s.steer()
	for i := range eps.udp {
		for w := range max(cfg.UDP.Workers, 1) {
			s.overload.fill = append(s.overload.fill, func() float64 { return s.udp.QueueFill(i, w) })
		}
	}
	return s, nil
}

// listen binds every listener, and notes the real port where 0 was asked for.
func (s *Server) listen() (err error) {
	cfg, eps := &s.cfg, s.eps
	if s.udp, err = netio.ListenUDP(cfg.UDP, addrs(eps.udp)); err != nil {
		return err
	}
	if s.tcp, err = netio.ListenTCP(cfg.TCP, streamListeners(eps.conns[:eps.streams])); err != nil {
		return err
	}
	for i, e := range eps.udp {
		e.bound(s.udp.LocalAddr(i))
	}
	for i, e := range eps.conns[:eps.streams] {
		e.bound(s.tcp.LocalAddr(i))
	}
	if len(eps.dtls()) == 0 {
		return nil
	}
	if cfg.DTLS.TLS == nil {
		return fmt.Errorf("proxy: dtls://%s has no TLS configuration", eps.dtls()[0].addr)
	}
	cfg.DTLS.FirstListener = eps.streams
	if s.dtls, err = netio.ListenDTLS(cfg.DTLS, addrs(eps.dtls())); err != nil {
		return err
	}
	for i, e := range eps.dtls() {
		e.bound(s.dtls.LocalAddr(i))
	}
	return nil
}

// newLane returns the lane of a worker.
func (s *Server) newLane(listener, worker int) *lane {
	return s.overload.lanes[s.workerOf(listener, worker)]
}

// workerOf numbers the workers of all listeners.
func (s *Server) workerOf(listener, worker int) int {
	return listener*max(s.cfg.UDP.Workers, 1) + worker
}

func addrs(eps []*endpoint) []netip.AddrPort {
	out := make([]netip.AddrPort, len(eps))
	for i, e := range eps {
		out[i] = e.addr
	}
	return out
}

func streamListeners(eps []*endpoint) []netio.StreamListener {
	out := make([]netio.StreamListener, len(eps))
	for i, e := range eps {
		out[i] = e.stream
	}
	return out
}

// Addrs returns the addresses that are bound, outside or inside, for a transport.
func (s *Server) Addrs(side flow.Side, transport policy.Transport) []netip.AddrPort {
	var out []netip.AddrPort
	for _, e := range s.eps.all {
		if e.transport == transport && (side == flow.Outside && e.outside || side == flow.Inside && e.inside) {
			out = append(out, e.addr)
		}
	}
	return out
}

// Reload puts new Settings into force, and follows the pool's; messages in flight keep the
// old ones.
func (s *Server) Reload(set Settings) {
	s.put(set)
	s.steer()
}

// steer gives the pool's PBXes workers of their own.
func (s *Server) steer() {
	if err := s.udp.Steer(s.pool.Hosts()); err != nil {
		s.log.Warn("the workers share all flows: PBXes have none of their own", "err", err)
	}
}

// put puts Settings into force.
func (s *Server) put(set Settings) {
	s.live.Store(&live{path: set.Path || s.transit != nil, trunks: set.Trunks, shield: set.Shield, certified: set.Certified})
	s.overload.static.Store(int64(set.Strangers))
	s.overload.set(math.Inf(1)) // the controller goes on from there
	s.locals.forget()
}

// Run receives and forwards until ctx ends, then closes every socket and waits for
// what is in flight. It returns nil when ctx ended it.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	s.ctx = ctx
	group.Go(func() error { return s.forgetLocals(ctx) })
	group.Go(func() error { return s.overload.run(ctx) })
	group.Go(func() error { return s.repeats.Run(ctx) })
	group.Go(func() error { return s.udp.Run(ctx, s.newWorker) })
	group.Go(func() error { return s.tcp.Run(ctx, s) })
	if s.dtls != nil {
		group.Go(func() error { return s.dtls.Run(ctx, s) })
	}
	err := group.Wait()
	s.background.Wait()
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("proxy: %w", err)
	}
	return nil
}

func (s *Server) now() int64 { return time.Now().UnixNano() }

// Stats is a snapshot for status and metrics.
type Stats struct {
	UDP     []netio.UDPStats
	TCP     netio.TCPStats
	DTLS    netio.DTLSStats
	Streams int // accounts remembered by their connection
	Repeats retransmit.Stats
	// QueueFill is how full the fullest receive queue is, 0 to 1.
	QueueFill float64
	// UDPLatency and TCPLatency (of all connections) are of one message in 64: from when it was
	// received, together with others, until it has been decided on and handed to the sender.
	UDPLatency, TCPLatency Latency
}

// Stats returns what the sockets have counted.
func (s *Server) Stats() Stats {
	st := Stats{
		UDP: s.udp.Stats(), TCP: s.tcp.Stats(), Streams: s.streams.Len(),
		Repeats:    s.repeats.Stats(),
		UDPLatency: sumUp(s.times), TCPLatency: sumUp([]*histogram{&s.streamTimes}),
	}
	if s.dtls != nil {
		st.DTLS = s.dtls.Stats()
	}
	for _, fill := range s.overload.fill {
		st.QueueFill = max(st.QueueFill, fill())
	}
	return st
}
