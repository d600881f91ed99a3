package policy

import (
	"net/netip"
	"time"

	"sipward/policy/gate"
	"sipward/policy/iplist"
	"sipward/policy/rate"
)

// DNS is the guard of the DNS front.
type DNS struct {
	Clients *iplist.Set // who may ask; nil: nobody
	// Strangers is what is done about all others. They are never answered but with a
	// refusal, whatever it says.
	Strangers Action
	Rate      float64 // questions per second from a source; 0: no limit
	Burst     int     // how many of them may come at once; 0: 1
	// Action is what is done about questions over the limit. ActionReject means REFUSED.
	Action Action
}

// asking is what is remembered of those who ask questions.
type asking struct {
	limit *rate.Limiter
	over  *rate.Counter // questions over the limit
	// refusals limits how many strangers are told that they are refused: their addresses
	// may be forged.
	refusals *rate.Limiter
}

// askers is how many sources are remembered. Only those who may ask are, or who are told
// that they may not.
const askers = 4096

func newAsking(bits int) asking {
	cfg := rate.Config{Sources: askers, IPv6Bits: bits}
	return asking{limit: rate.NewLimiter(cfg), over: rate.NewCounter(cfg), refusals: rate.NewLimiter(cfg)}
}

// refusalLimit is how often a stranger is told.
var refusalLimit = rate.PerSecond(1, 5)

// MayAsk says whether a source may ask the DNS front anything. It counts nothing but what
// it refuses.
func (e *Engine) MayAsk(src netip.AddrPort, transport Transport, now int64) Decision {
	addr := src.Addr()
	v := e.gate.Standing(addr, now)
	if !v.Pass() {
		return FromGate(v)
	}
	rule := &e.rules.Load().DNS
	if rule.Clients.Contains(addr) {
		return Decision{Verdict: Pass, Reason: ReasonDNSAsked}
	}
	s := e.subjectOf(addr, now)
	e.charge(&s, charge{
		reason: ReasonDNSStranger, action: rule.Strangers, block: s.rules.Register.BlockTime, proven: transport.Connected(),
		detail: "a question to the DNS front, which is not for it",
	})
	if rule.Strangers.Kind == ActionReject && e.asking.refusals.Allow(addr, now, refusalLimit) {
		return Decision{Verdict: Reject, Reason: ReasonDNSStranger}
	}
	return Decision{Verdict: Drop, Reason: ReasonDNSStranger}
}

// Question judges a question to the DNS front. It does not allocate unless somebody is
// banned.
func (e *Engine) Question(src netip.AddrPort, transport Transport, now int64) Decision {
	d := e.MayAsk(src, transport, now)
	rule := &e.rules.Load().DNS
	addr := src.Addr()
	if d.Verdict != Pass || rule.Rate <= 0 || e.asking.limit.Allow(addr, now, rate.PerSecond(rule.Rate, rule.Burst)) {
		return d
	}
	if e.gate.Standing(addr, now) == gate.PassAllowed {
		return d
	}
	const period = time.Minute
	n := e.asking.over.Add(addr, now, period)
	switch {
	case rule.Action.watches(), rule.Action.Kind == ActionBan && int(n) == max(rule.Burst, 1):
		s := e.subjectOf(addr, now)
		e.charge(&s, charge{
			reason: ReasonDNSLimit, action: rule.Action, block: s.rules.Register.BlockTime, proven: transport.Connected(),
			count: int(n), period: period, detail: "questions over the limit of the DNS front",
		})
	}
	over := rule.Action.decide(ReasonDNSLimit, 0)
	if over.Verdict == Pass {
		over.Reason = d.Reason
	}
	return over
}

// Answered tells the administrator of something about the answers of upstreams: once an
// hour for each reason and upstream. name is what was asked for.
func (e *Engine) Answered(upstream netip.Addr, r Reason, name, text string, now int64) {
	key := uint64(1)
	if upstream.IsValid() {
		key = e.keys.source(upstream)
	}
	if !e.notices.begins(e.keys.join(key, uint64(r)<<8|uint64(NoticeDNS)), now, 3600*second) {
		return
	}
	e.tell(Notice{
		Time: now, Kind: NoticeDNS, Reason: r, Source: upstream, Account: name,
		Text: r.Explain() + " Now: " + text + ".", Commands: []string{"sipward status"},
	})
}
