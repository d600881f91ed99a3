package policy

import (
	"net/netip"
	"time"

	"sipward/policy/gate"
)

// Malformed judges a message that the parser refused for the given fault (one of
// its constant words). It is never forwarded. Up to the threshold it is
// answered, so that the owner of an honest but broken phone sees why; what
// follows is dropped for the rest of the period, and gets the source banned if
// that is the action and it may be; with the action reject it is answered with
// that code. A decision to reject without a code asks for the code that names the
// fault. The good messages of a source that is not
// banned go on: on UDP anyone can send refused messages in another's name.
func (e *Engine) Malformed(src netip.AddrPort, transport Transport, fault string, now int64) Decision {
	return e.refused(src, transport, ReasonMalformed, fault, now)
}

// BadHandshake judges a connection whose handshake has failed for the given fault by the
// rule for malformed messages. Its source is proven, and there is nothing to answer.
func (e *Engine) BadHandshake(src netip.AddrPort, transport Transport, fault string, now int64) {
	e.refused(src, transport, ReasonBadHandshake, fault, now)
}

func (e *Engine) refused(src netip.AddrPort, transport Transport, reason Reason, fault string, now int64) Decision {
	e.faults.add(fault)
	answer := Decision{Verdict: Reject, Reason: reason}
	s := e.subjectOf(src.Addr(), now)
	rule := &s.rules.Malformed
	if e.regard(&s) == Allowed {
		return answer
	}
	proven := transport.Connected()
	n := e.malformed[index(proven)].Add(s.addr, now, rule.Period)
	if rule.Threshold <= 0 || int64(n) <= int64(rule.Threshold) {
		return answer
	}
	if int64(n) == int64(rule.Threshold)+1 {
		e.charge(&s, charge{
			reason: reason, action: rule.Action, block: s.rules.Register.BlockTime, proven: proven,
			count: int(n), period: rule.Period, detail: "refused messages and handshakes",
		})
	}
	switch rule.Action.Kind {
	case ActionNotify, ActionWatch:
		answer.Would = reason
		return answer
	}
	return rule.Action.decide(reason, 0)
}

// Flooded takes note of a message that the gate would drop because its source
// sends too many, and returns the gate's last word: if the guard only watches, that
// of a source within its limit. Only with the action ban it leads to one: when a
// source goes on, and within a minute as many messages are dropped as may come at
// once.
func (e *Engine) Flooded(src netip.AddrPort, transport Transport, now int64) gate.Verdict {
	rule := &e.rules.Load().Flood
	switch {
	case rule.Action.watches():
		s := e.subjectOf(src.Addr(), now)
		e.wouldAct(&s, ReasonFlood, rule.Action)
		return e.gate.Standing(s.addr, now)
	case rule.Action.Kind != ActionBan:
		return gate.DropFlood
	}
	const period = time.Minute
	n := e.flooded.Add(src.Addr(), now, period)
	if int64(n) != int64(rule.Burst) {
		return gate.DropFlood
	}
	s := e.subjectOf(src.Addr(), now)
	if e.regard(&s) == Allowed {
		return gate.DropFlood
	}
	e.charge(&s, charge{
		reason: ReasonFlood, action: rule.Action, block: s.rules.Register.BlockTime, proven: transport.Connected(),
		count: int(n), period: period, detail: "messages over the flood limit",
	})
	return gate.DropFlood
}

// subjectOf returns the source of a message of which nothing else is known.
func (e *Engine) subjectOf(addr netip.Addr, now int64) subject {
	return subject{addr: addr, now: now, rules: e.rules.Load(), source: e.keys.source(addr), gate: e.gate.Standing(addr, now)}
}
