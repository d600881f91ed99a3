// Package gate decides before parsing whether a packet's source is heard at
// all: lists, bans and a coarse rate, from the source address alone.
package gate

import (
	"net/netip"
	"sync/atomic"

	"sipward/policy/iplist"
	"sipward/policy/rate"
)

// Verdict is what Check says of a source. The zero Verdict is Pass.
type Verdict uint8

// The verdicts. Those that drop come last: see Verdict.Pass.
const (
	Pass        Verdict = iota // on no list, and within the flood limit
	PassAllowed                // on the allow list: nothing else was asked
	PassPBX                    // one of our own PBXes
	PassTrusted                // a trunk within its flood limit
	DropDeny                   // on the deny list
	DropBan                    // banned
	DropFlood                  // over the flood limit
)

var verdictNames = [...]string{"pass", "pass-allowed", "pass-pbx", "pass-trusted", "drop-deny", "drop-ban", "drop-flood"}

// String returns the verdict's name.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return "unknown"
}

// Pass says whether the packet goes on; else it is dropped without an answer.
func (v Verdict) Pass() bool { return v < DropDeny }

// Bans answers whether a source is banned. It is asked for each packet of a
// stranger, so it must not allocate, nor wait.
type Bans interface {
	Banned(addr netip.Addr, now int64) bool
}

// Standings answers whether a source is in good standing: it holds something that
// a PBX accepted. It is asked for each packet of a source that is over the limit
// for strangers, so it must not allocate, nor wait.
type Standings interface {
	Good(addr netip.Addr, now int64) bool
}

// Rules are what a Gate goes by. They are not changed after they are handed
// over.
type Rules struct {
	Allow   *iplist.Set // beats everything; nil: empty
	PBX     *iplist.Set // our own PBXes: not limited; nil: empty
	Trusted *iplist.Set // trunks, always in good standing: neither denied nor banned, limited at GoodFactor times the rate; nil: empty
	Deny    *iplist.Set // nil: empty

	FloodRate  float64 // messages per second from a source; 0: no flood limit
	FloodBurst int     // how many of them may come at once; 0: 1
	GoodFactor int     // rate and burst of a source in good standing, as a multiple; 0: 10
}

// Config makes a Gate.
type Config struct {
	Rules Rules
	Bans  Bans        // nil: nobody is banned
	Good  Standings   // nil: trunks alone are in good standing
	Table rate.Config // sources that the flood limit remembers; Sources 0: DefaultSources
}

// DefaultSources is the number of sources that the flood limit remembers unless
// told otherwise, in 1 MiB. It need not be the number of all sources that there
// are: one that is not ahead of its rate at the moment is forgotten without
// loss. At 100 messages a second a message is forgiven after 10 ms, so a flood
// of 300,000 forged sources a second leaves 3,000 that matter; and a table that
// fits into a processor's second cache is what makes such a flood cheap.
const DefaultSources = 1 << 16

// Gate is safe for use by any number of goroutines.
type Gate struct {
	rules atomic.Pointer[compiled]
	bans  Bans
	good  Standings
	flood *rate.Limiter
	// excess limits what sources in good standing send beyond the limit for
	// strangers, so that only of those who exceed it the standing is asked. No
	// stranger comes into it.
	excess *rate.Limiter
}

// compiled is Rules in the form that Check reads.
type compiled struct {
	Rules
	// known covers Allow, PBX and Trusted together, so that a stranger, who is
	// in none of them, costs one look-up and not three.
	known     *iplist.Set
	limit     rate.Limit
	goodLimit rate.Limit
	excess    rate.Limit // what goodLimit is more than limit
}

// New makes a gate. The memory of its flood limit is allocated now, for good.
func New(cfg Config) *Gate {
	if cfg.Table.Sources <= 0 {
		cfg.Table.Sources = DefaultSources
	}
	g := &Gate{bans: cfg.Bans, good: cfg.Good, flood: rate.NewLimiter(cfg.Table)}
	if g.good != nil {
		g.excess = rate.NewLimiter(cfg.Table)
	}
	g.Swap(cfg.Rules)
	return g
}

// Swap puts other rules in force at once. Who was how far into his flood limit
// stays known.
func (g *Gate) Swap(r Rules) {
	if r.GoodFactor <= 0 {
		r.GoodFactor = 10
	}
	var known []iplist.Entry
	for _, s := range []*iplist.Set{r.Allow, r.PBX, r.Trusted} {
		known = append(known, s.Entries()...)
	}
	limit := rate.PerSecond(r.FloodRate, r.FloodBurst)
	g.rules.Store(&compiled{
		Rules:     r,
		known:     iplist.New(known),
		limit:     limit,
		goodLimit: limit.Times(r.GoodFactor),
		excess:    rate.PerSecond(r.FloodRate*float64(r.GoodFactor-1), max(r.FloodBurst, 1)*(r.GoodFactor-1)),
	})
}

// Check judges a packet from addr at now (nanoseconds of a clock that does not
// run backwards). It counts the packet for the flood limit. It does not
// allocate.
func (g *Gate) Check(addr netip.Addr, now int64) Verdict {
	r := g.rules.Load()
	if r.known.Contains(addr) {
		return g.checkKnown(r, addr, now)
	}
	if r.Deny.Contains(addr) {
		return DropDeny
	}
	if g.bans != nil && g.bans.Banned(addr, now) {
		return DropBan
	}
	if !g.flood.Allow(addr, now, r.limit) && !g.spared(r, addr, now) {
		return DropFlood
	}
	return Pass
}

// spared says whether a source that is over the limit for strangers is in good
// standing, and within the rest of the limit for those.
func (g *Gate) spared(r *compiled, addr netip.Addr, now int64) bool {
	return r.GoodFactor > 1 && g.good != nil && g.good.Good(addr, now) && g.excess.Allow(addr, now, r.excess)
}

func (g *Gate) checkKnown(r *compiled, addr netip.Addr, now int64) Verdict {
	v := r.standingKnown(addr)
	if v == PassTrusted && !g.flood.Allow(addr, now, r.goodLimit) {
		return DropFlood
	}
	return v
}

// Standing is Check without counting anything and without the flood limit: for
// those who ask about a source and not about a packet, such as the accepting
// of a connection or a command.
func (g *Gate) Standing(addr netip.Addr, now int64) Verdict {
	r := g.rules.Load()
	switch {
	case r.known.Contains(addr):
		return r.standingKnown(addr)
	case r.Deny.Contains(addr):
		return DropDeny
	case g.bans != nil && g.bans.Banned(addr, now):
		return DropBan
	}
	return Pass
}

// standingKnown says why a source is known.
func (r *compiled) standingKnown(addr netip.Addr) Verdict {
	switch {
	case r.Allow.Contains(addr):
		return PassAllowed
	case r.PBX.Contains(addr):
		return PassPBX
	}
	return PassTrusted
}

// Rules returns the rules in force, for those who explain a verdict.
func (g *Gate) Rules() Rules { return g.rules.Load().Rules }
