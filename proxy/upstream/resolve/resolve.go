// Package resolve finds where to send a request to a SIP URI (RFC 3263): NAPTR,
// SRV, then A and AAAA records, with a cache that the packet path can ask
// without waiting, and a memory of targets that do not answer.
package resolve

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Transport is a transport as far as RFC 3263 distinguishes them.
type Transport uint8

// The transports. Any, the zero value, leaves the choice to DNS.
const (
	Any Transport = iota
	UDP
	TCP
	TLS
)

var transportNames = [...]string{"any", "udp", "tcp", "tls"}

// String returns the transport's name, as in a URI parameter.
func (t Transport) String() string {
	if int(t) < len(transportNames) {
		return transportNames[t]
	}
	return "unknown"
}

// port returns the default port (RFC 3261 §19.1.2).
func (t Transport) port() uint16 {
	if t == TLS {
		return 5061
	}
	return 5060
}

// Target is an address to send to, and how.
type Target struct {
	Addr      netip.AddrPort
	Transport Transport // never Any
}

// The reasons for which a look-up can fail, besides those of the network.
var (
	ErrBadName  = errors.New("not a host name")
	ErrNotFound = errors.New("no such host or service")
	ErrServer   = errors.New("no name server gave an answer")
)

// Defaults of Config.
const (
	DefaultTimeout  = time.Second
	DefaultAttempts = 2
	DefaultCache    = 4096
	DefaultSilence  = 3 * time.Second
	DefaultRetry    = 30 * time.Second
)

// Config describes a Resolver. The zero value is useful.
type Config struct {
	Servers    []string // name servers as host:port; none: those of ResolvConf
	ResolvConf string   // read again when it changes; "": /etc/resolv.conf

	Timeout  time.Duration // for one question to one server; 0: DefaultTimeout
	Attempts int           // times that all servers are asked in turn; 0: DefaultAttempts

	NoIPv4, NoIPv6 bool        // families that we cannot send with
	PreferIPv6     bool        // of a host with both, try IPv6 first
	Transports     []Transport // that we can send with, best first, for Any; none: UDP, TCP

	Cache int // names remembered; 0: DefaultCache

	// Silence is how long a target may leave requests unanswered until others
	// are tried; 0: DefaultSilence. The default is a little less than the 3.5 s
	// after which RFC 3261 sends a request for the fourth time.
	Silence time.Duration
	// Retry is how long a target that failed is passed over; it doubles each
	// time that it fails again, to ten times this at most; 0: DefaultRetry.
	Retry time.Duration

	Now func() time.Time // nil: time.Now
}

// Resolver is safe for use by any number of goroutines. It has none of its own.
type Resolver struct {
	cfg    Config
	dns    *asker
	cache  *cache
	memory *memory
	flight flights
}

// New makes a resolver.
func New(cfg Config) *Resolver {
	orDefault(&cfg.ResolvConf, "/etc/resolv.conf")
	orDefault(&cfg.Timeout, DefaultTimeout)
	orDefault(&cfg.Attempts, DefaultAttempts)
	orDefault(&cfg.Cache, DefaultCache)
	orDefault(&cfg.Silence, DefaultSilence)
	orDefault(&cfg.Retry, DefaultRetry)
	if len(cfg.Transports) == 0 {
		cfg.Transports = []Transport{UDP, TCP}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Resolver{
		cfg:    cfg,
		dns:    newAsker(&cfg),
		cache:  newCache(cfg.Cache),
		memory: newMemory(cfg.Silence, cfg.Retry),
	}
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Cached returns the target for one transaction if that takes no question to a
// name server: the host is an address, or its name is in the cache. seed stands
// for the transaction: the same one gives the same target, so that
// retransmissions, CANCEL and ACK follow the request. Targets that failed are
// passed over while there are others. port 0 means that the URI has none. It
// does not allocate.
func (r *Resolver) Cached(host []byte, port uint16, transport Transport, seed uint64) (Target, bool) {
	if addr, ok := Numeric(host); ok {
		return numericTarget(addr, port, transport), true
	}
	now := r.cfg.Now().UnixNano()
	a := r.cache.find(host, port, transport)
	if a == nil || now >= a.expires || len(a.endpoints) == 0 {
		return Target{}, false
	}
	return r.choose(a, seed, now), true
}

// Lookup returns all targets in the order in which to try them: the first is
// the one that Cached would return, and those that failed lately come last. It
// asks name servers if the cache does not know.
func (r *Resolver) Lookup(ctx context.Context, host string, port uint16, transport Transport, seed uint64) ([]Target, error) {
	if addr, ok := Numeric([]byte(host)); ok {
		return []Target{numericTarget(addr, port, transport)}, nil
	}
	name, ok := canonical(host)
	if !ok {
		return nil, fmt.Errorf("resolve %.80q: %w", host, ErrBadName)
	}
	a, err := r.answer(ctx, key{name, port, transport})
	if err == nil {
		err = a.err
	}
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", name, err)
	}
	return r.order(a, seed, r.cfg.Now().UnixNano()), nil
}

// answer returns what is known of k, after asking if need be. Those who ask for
// one thing at the same time share one question.
func (r *Resolver) answer(ctx context.Context, k key) (*answer, error) {
	for {
		old := r.cache.get(k)
		if old != nil && r.cfg.Now().UnixNano() < old.expires {
			return old, nil
		}
		a, err := r.flight.do(ctx, k, func() (*answer, error) { return r.ask(ctx, k, old) })
		// The one who asked for all may have gone; then it is our turn.
		if ctx.Err() == nil && errors.Is(err, context.Canceled) {
			continue
		}
		return a, err
	}
}

// ask locates k and caches the outcome, good or bad. When the name servers fail,
// what was known before is good for a while longer (RFC 8767), and they get
// little time then: a call over a trunk does not depend on a resolver that is
// being restarted.
func (r *Resolver) ask(ctx context.Context, k key, old *answer) (*answer, error) {
	useOld := old != nil && len(old.endpoints) > 0 && r.cfg.Now().UnixNano() < old.learned+int64(maxStale)
	limited, cancel := ctx, context.CancelFunc(func() {})
	if useOld {
		limited, cancel = context.WithTimeout(ctx, staleWait)
	}
	defer cancel()
	a := r.locate(limited, k)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, ctx.Err()
	case limited.Err() != nil && len(a.endpoints) == 0:
		a = &answer{err: fmt.Errorf("%w in time", ErrServer), ttl: brokenTTL}
	}
	now := r.cfg.Now()
	if errors.Is(a.err, ErrServer) && useOld {
		kept := *old
		kept.expires = now.Add(staleTTL).UnixNano()
		r.cache.put(k, &kept, now.UnixNano())
		return &kept, nil
	}
	a.learned = now.UnixNano()
	a.expires = now.Add(a.ttl).UnixNano()
	r.cache.put(k, a, now.UnixNano())
	return a, nil
}

// Sent notes that a request which must be answered (any but ACK) was sent to a
// target at now (Unix nanoseconds). It reports whether this is the first one that waits
// for an answer, as [Resolver.Waiting] has it.
func (r *Resolver) Sent(target netip.AddrPort, now int64) (first bool) {
	return r.memory.sent(target, now)
}

// Waiting reports whether the target has answered nothing since the first request that
// was sent to it at since.
func (r *Resolver) Waiting(target netip.AddrPort, since int64) bool {
	return r.memory.waiting(target, since)
}

// Failed notes at now that a target refused, or could not be reached.
func (r *Resolver) Failed(target netip.AddrPort, now int64) { r.memory.failed(target, now) }

// Good notes that a target has sent a response, whatever its status.
func (r *Resolver) Good(target netip.AddrPort) { r.memory.good(target) }
