package policy

import (
	"net/netip"
	"sync/atomic"
	"time"

	"sipward/policy/gate"
	"sipward/policy/rate"
)

// Engine decides. It is safe for use by any number of goroutines. Its memory
// is fixed when it is made.
type Engine struct {
	rules     atomic.Pointer[Config]
	gate      *gate.Gate
	counters  *Counters
	malformed *rate.Counter
	faults    tally
	replies   tally
}

// New makes an engine with all its memory.
func New(cfg Config) *Engine {
	table := rate.Config{Sources: cfg.Sources, IPv6Bits: cfg.IPv6Bits}
	e := &Engine{
		gate:      gate.New(gate.Config{Rules: gateRules(cfg), Bans: cfg.Bans, Table: table}),
		counters:  NewCounters(cfg.Workers),
		malformed: rate.NewCounter(table),
	}
	e.store(cfg)
	return e
}

func gateRules(cfg Config) gate.Rules {
	return gate.Rules{
		Allow:      cfg.Allow,
		PBX:        cfg.PBX,
		Trusted:    cfg.Trunks,
		Deny:       cfg.Deny,
		FloodRate:  cfg.Flood.Rate,
		FloodBurst: cfg.Flood.Burst,
		GoodFactor: cfg.Flood.GoodFactor,
	}
}

func (e *Engine) store(cfg Config) {
	if cfg.Malformed.Period <= 0 {
		cfg.Malformed.Period = time.Minute
	}
	e.rules.Store(&cfg)
}

// Reload puts other rules in force; every count goes on from where it is.
func (e *Engine) Reload(cfg Config) {
	e.gate.Swap(gateRules(cfg))
	e.store(cfg)
}

// Gate returns the gate that stands before parsing.
func (e *Engine) Gate() *gate.Gate { return e.gate }

// Counters returns the counters of messages by reason. The engine itself
// counts nothing there: a later step may still change a message's fate, so who
// ends it counts it.
func (e *Engine) Counters() *Counters { return e.counters }

// Count counts a message of a worker with its final reason.
func (e *Engine) Count(worker int, r Reason) { e.counters.Shard(worker).Add(r) }

// Decide judges a request that has passed the gate and the scanner. It does
// not allocate.
func (e *Engine) Decide(r *Request, now int64) Decision {
	if r.FromPBX {
		return Decision{Verdict: Pass, Reason: ReasonPBX}
	}
	return FromGate(r.Gate)
}

// Observe takes note of a response that is about to go back to a source, and
// says what is to become of the response itself.
func (e *Engine) Observe(o *Outcome, now int64) Decision {
	if i := o.Status / 100; i > 0 && i < len(replyClasses) {
		e.replies.add(replyClasses[i])
	}
	return Decision{Verdict: Pass, Reason: ReasonPass}
}

var replyClasses = [...]string{1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx", 6: "6xx"}

// Malformed judges a message that the scanner refused for the given fault (one
// of its constant words). It is never forwarded; up to the threshold it is
// answered, so that the owner of an honest but broken phone sees why, and after
// that the source's refused messages are dropped without an answer for the rest
// of the period. Its good messages go on: on UDP anyone can send refused
// messages in another's name.
func (e *Engine) Malformed(src netip.AddrPort, transport Transport, fault string, now int64) Decision {
	e.faults.add(fault)
	rule := e.rules.Load().Malformed
	n := e.malformed.Add(src.Addr(), now, rule.Period)
	if rule.Threshold > 0 && int64(n) > int64(rule.Threshold) {
		return Decision{Verdict: Drop, Reason: ReasonMalformed}
	}
	return Decision{Verdict: Reject, Reason: ReasonMalformed, Code: 400}
}

// Faults returns how many messages were refused, by fault.
func (e *Engine) Faults() map[string]uint64 { return e.faults.snapshot() }

// Replies returns how many responses went back to sources, by class ("2xx").
func (e *Engine) Replies() map[string]uint64 { return e.replies.snapshot() }
