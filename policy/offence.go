package policy

import (
	"net/netip"
	"time"
)

// Offence is what the front of another protocol holds against a source.
type Offence struct {
	Source netip.Addr
	Reason Reason
	Action Action
	// Proven says that what offended shows that its source is not forged.
	Proven bool
	// Count is how many of what Detail names there were within Period; 0: Detail
	// says all.
	Count  int
	Period time.Duration
	Detail string
	// StandIn is for how long the front is to refuse the source itself where
	// banning it is not the action or is not possible.
	StandIn time.Duration
}

// Charge does about a source what a guard's action says, as for SIP: at most a ban
// for register.block_time, on unproven evidence a short one, and none of a source in
// good standing. It returns until when the front is to refuse the source itself, Unix
// time in nanoseconds; 0: it need not.
func (e *Engine) Charge(o *Offence, now int64) (refuse int64) {
	s := e.subjectOf(o.Source, now)
	if e.regard(&s) == Allowed {
		return 0
	}
	v := e.charge(&s, charge{
		reason: o.Reason, action: o.Action, block: s.rules.Register.BlockTime, proven: o.Proven,
		count: o.Count, period: o.Period, detail: o.Detail, standIn: o.StandIn,
	})
	if v.kind != servedHere {
		return 0
	}
	return v.until
}

// Exhibit keeps a request of another protocol as evidence, for explanations and for
// bans to come.
func (e *Engine) Exhibit(addr netip.Addr, r Reason, method, detail string, proven bool, now int64) {
	s := subject{source: e.keys.source(addr), now: now}
	e.exhibit(&s, exhibit{reason: r, proven: proven}, []byte(method), detail, nil)
}

// Tell tells the administrator of an episode of another protocol. Seq is filled in.
func (e *Engine) Tell(n Notice) { e.tell(n) }
