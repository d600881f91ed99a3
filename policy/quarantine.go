package policy

import "sipward/policy/ban"

// Quarantines returns the quarantines in force, those that end first in front.
func (e *Engine) Quarantines(now int64) []ban.Quarantine { return e.quarantines.InForce(now) }

// Resume puts the quarantines in force again that Config.Quarantines holds from
// before a restart.
func (e *Engine) Resume(now int64) {
	for _, q := range e.quarantines.InForce(now) {
		raise(&e.guesses.quarantine, q.Until)
		key := e.quarantineKey(&q)
		b := e.guesses.pairs.lock(key)
		v := e.guesses.pairs.claim(b, key, now)
		v.last, v.sentence = now, sentence{until: q.Until, kind: servedHere}
		b.mu.Unlock()
	}
}

// quarantineKey returns the key of the pair.
func (e *Engine) quarantineKey(q *ban.Quarantine) uint64 {
	return e.keys.join(e.keys.source(q.Source.Addr()), e.keys.account([]byte(q.Account)))
}

// quarantine shuts an account out from a source in good standing, which is not
// banned: the other phones behind the same address go on.
func (e *Engine) quarantine(s *subject) sentence {
	rule := &s.rules.Register
	until := s.now + int64(rule.BlockTime)
	switch {
	case rule.Action.watches():
		e.wouldAct(s, ReasonQuarantine, rule.Action)
		return sentence{until: until, kind: servedMark}
	case rule.Action.Kind != ActionBan:
		return sentence{} // its messages are refused while its failures count
	}
	raise(&e.guesses.quarantine, until)
	q := ban.Quarantine{Source: e.keys.prefix(s.addr), Account: string(s.name()), Since: s.now, Until: until}
	e.quarantines.Add(q)
	e.tell(Notice{
		Time: s.now, Kind: NoticeQuarantine, Reason: ReasonQuarantine, Source: s.addr, Account: q.Account,
		Text: "The account failed " + times(rule.HitCount) + " within " + Lasting(rule.MonitPeriod) +
			" from an address where others are registered. The account is shut out from there for " +
			Lasting(rule.BlockTime) + "; the others go on. Most often a phone has an old password.",
		Commands: []string{"sipward explain " + s.addr.String(), "sipward unban " + s.addr.String()},
	})
	return sentence{until: until, kind: servedHere}
}

// quarantined enforces it. What belongs to a call passes, or it would hang for
// ever.
func (e *Engine) quarantined(s *subject, r *Request) Decision {
	if e.guesses.quarantine.Load() <= s.now {
		return Decision{}
	}
	if r.ofCall() || !e.inQuarantine(s) {
		return Decision{}
	}
	if s.rules.Register.Action.watches() {
		return Decision{Would: ReasonQuarantine}
	}
	return Decision{Verdict: Drop, Reason: ReasonQuarantine}
}

// ofCall says whether a request belongs to a call that is up, or ends one.
func (r *Request) ofCall() bool {
	switch string(r.Method) {
	case "ACK", "BYE", "CANCEL":
		return true
	case "REGISTER":
		return false
	}
	return r.InDialog && r.Proven
}

// inQuarantine says whether the account is shut out from the source.
func (e *Engine) inQuarantine(s *subject) bool {
	if e.guesses.quarantine.Load() <= s.now {
		return false
	}
	key := s.pair(&e.keys)
	b := e.guesses.pairs.lock(key)
	defer b.mu.Unlock()
	v := b.find(key)
	return v != nil && v.until > s.now && v.kind == servedHere
}
