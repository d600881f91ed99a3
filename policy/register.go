package policy

import "sync/atomic"

// guesses counts guesses of passwords. Evidence that another may have forged is
// counted apart and never adds up with the rest: neither may stand in the way of
// the other.
//
// Memory: 209 bytes for an entry of each table. When a bucket is full, an entry
// that was idle for longest makes room, counting each failure as a minute; one
// with a running block or quarantine is the last to go.
type guesses struct {
	proven   *table[tries] // by stranger; only who gets our answers fills it
	unproven *table[tries] // by source
	pairs    *table[tries] // by source in good standing and account

	// quarantine is when the last of all quarantines ends; while there are none
	// nobody looks for his.
	quarantine atomic.Int64
}

func newGuesses(sources int) guesses {
	worth := func(t *tries, now int64) int64 {
		w := t.last + int64(t.failures)*60*second
		if t.until > now {
			w += 1 << 61
		}
		return w
	}
	return guesses{
		proven:   newTable(sources/2, worth),
		unproven: newTable(sources, worth),
		pairs:    newTable(sources/2, worth),
	}
}

// triesOf returns where the guesses of a class are counted, and under which key:
// for each account of a source in good standing by itself, so that one phone does
// not spoil it for the others behind the same address. After a restart of ours
// phones use nonces that we do not know; an account that has registered from the
// same source before is counted by itself then, too, so that who forges messages
// of others does not stand in its way.
func (e *Engine) triesOf(s *subject, proven bool) (*table[tries], uint64) {
	switch {
	case !proven && e.places != nil && e.atHome(s):
		return e.guesses.unproven, s.pair(&e.keys)
	case !proven:
		return e.guesses.unproven, s.source
	case e.regard(s) == Stranger:
		return e.guesses.proven, s.source
	}
	return e.guesses.pairs, s.pair(&e.keys)
}

// serve notes until when what was decided about a key lasts.
func (g *guesses) serve(t *table[tries], key uint64, v sentence) {
	if v.until == 0 {
		return
	}
	b := t.lock(key)
	defer b.mu.Unlock()
	if x := b.find(key); x != nil {
		x.sentence = v
	}
}

// guess limits the guesses that are with the PBX: together with those that have
// failed within the period they must not exceed the limit, so exactly as many as
// it allows are answered, however fast they come.
func (e *Engine) guess(s *subject, r *Request) Decision {
	rule := &s.rules.Register
	if rule.HitCount <= 0 || !r.HasCredentials {
		return Decision{}
	}
	switch string(r.Method) {
	case "ACK", "CANCEL": // neither is ever challenged (RFC 3261 §22.1)
		return Decision{}
	}
	if e.regard(s) == Stranger {
		e.awaitProbe(s)
	}
	proven := r.Nonce == NonceIssued
	t, key := e.triesOf(s, proven)
	b := t.lock(key)
	defer b.mu.Unlock()
	v := t.claim(b, key, s.now)
	v.touch(s.now)
	reason := ReasonRegister
	if !proven {
		reason = ReasonUnprovenNonce
	}
	if v.until != 0 {
		switch {
		case rule.Action.watches():
			return Decision{Would: reason}
		case t == e.guesses.pairs: // only what a quarantine lets through comes here
			return Decision{}
		case e.lifted(v.sentence, s):
			*v = tries{last: s.now}
		default:
			return Decision{Verdict: Drop, Reason: reason}
		}
	}
	if rule.Action.watches() {
		return Decision{}
	}
	switch v.ask(s.guessed(&e.keys, r.Method, r.Transaction, r.Credentials), s.now, s.rules.monit, rule.HitCount) {
	case askWait:
		return Decision{Verdict: Hold, Reason: ReasonGuessesInFlight}
	case askTooMany:
		return rule.Action.decide(reason, 60)
	}
	return Decision{}
}

// guessed returns what tells guesses apart. A transaction is not enough for it: to
// a PBX that keeps none each message is a guess of its own.
func (s *subject) guessed(k *keys, method []byte, transaction, credentials uint64) guessed {
	h := transaction ^ credentials*0x9E3779B97F4A7C15
	return guessed{id: uint32(h ^ h>>32), account: uint16(s.key(k) >> 16), method: methodOf(method)}
}

// settle takes note of a guess that was answered, and not with a failure.
// accepted says that its password was right.
func (e *Engine) settle(s *subject, o *Outcome, accepted bool) {
	if !o.HasCredentials {
		return
	}
	g := s.guessed(&e.keys, o.Method, o.Transaction, o.Credentials)
	t, key := e.triesOf(s, o.Nonce == NonceIssued)
	b := t.lock(key)
	defer b.mu.Unlock()
	switch v := b.find(key); {
	case v == nil:
	case !accepted:
		v.settle(g.id)
	case v.accept(g, s.now) && t == e.guesses.pairs:
		v.success = s.now
	}
}

// weigh is the table of design §7: what an answer to a request weighs, and
// whether its source is proven.
func weigh(o *Outcome) (weight uint8, proven bool) {
	switch o.Status {
	case 401, 407:
		if o.HasCredentials && !o.Unjudged && !o.Stale {
			return 1, o.Nonce == NonceIssued
		}
	case 403, 404:
		// To other methods it is whom they call that is not found, or not
		// allowed.
		if string(o.Method) == "REGISTER" {
			return 1, o.proven()
		}
	}
	return 0, false
}

// judge counts a failure.
func (e *Engine) judge(s *subject, o *Outcome) {
	weight, proven := weigh(o)
	if weight == 0 || proven != (o.Nonce == NonceIssued) {
		e.settle(s, o, false)
	}
	if weight == 0 {
		return
	}
	e.exhibitOutcome(s, o, proven)
	if o.proven() { // who forges sources must not keep the owner out of new places
		e.failAccount(s)
	}
	rule := &s.rules.Register
	if rule.HitCount <= 0 {
		return
	}
	e.marks.set(s.source, s.now)
	t, key := e.triesOf(s, proven)
	b := t.lock(key)
	v := t.claim(b, key, s.now)
	v.touch(s.now)
	n, fresh := v.fail(s.guessed(&e.keys, o.Method, o.Transaction, o.Credentials), s.now, s.rules.monit)
	full := fresh && n >= rule.HitCount && v.until == 0
	b.mu.Unlock()
	if !full {
		return
	}
	switch {
	case e.regard(s) >= Good && proven:
		e.guesses.serve(t, key, e.quarantine(s))
		return
	case !proven && key != s.source: // an account at home: its messages are dropped, no more
		return
	}
	e.guesses.serve(t, key, e.charge(s, charge{
		reason: ReasonRegister, action: rule.Action, block: rule.BlockTime,
		proven: proven, count: n, period: rule.MonitPeriod, detail: "failures",
	}))
}

// forgiveAccount settles an accepted guess and forgets the failures of its account
// at a source: it has shown that it knows the password now. What others at the same
// source did stays.
func (e *Engine) forgiveAccount(s *subject, o *Outcome) {
	guessed := o.HasCredentials
	if guessed {
		if t, _ := e.triesOf(s, o.Nonce == NonceIssued); t != e.guesses.pairs {
			e.settle(s, o, true)
			guessed = false
		}
	}
	key := s.pair(&e.keys)
	b := e.guesses.pairs.lock(key)
	v := e.guesses.pairs.claim(b, key, s.now)
	if guessed && v.accept(s.guessed(&e.keys, o.Method, o.Transaction, o.Credentials), s.now) {
		v.success = s.now
	}
	switch {
	case v.until > s.now:
	case v.failures == 0 && v.until == 0 && s.now-v.success < longest/2: // nothing to forgive: most often
		v.last = s.now
	default:
		*v = tries{last: s.now, success: s.now}
	}
	b.mu.Unlock()
	e.forgiveProbe(s)
	if !e.marks.within(s.source, s.now, s.rules.monit) {
		return
	}
	drop(e.guesses.unproven, key)
	for _, t := range [...]*table[tries]{e.guesses.proven, e.guesses.unproven} {
		b := t.lock(s.source)
		if v := b.find(s.source); v != nil {
			v.forgive(uint16(s.key(&e.keys) >> 16))
		}
		b.mu.Unlock()
	}
}
