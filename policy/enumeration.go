package policy

import (
	"sync"
	"sync/atomic"
)

// probes remembers for each source the accounts that it has tried without
// success.
//
// A phone is asked for its password before it succeeds, and after an outage all
// phones of an office come at once. So accounts count in two ways: those that
// have been without success for two seconds, and, with a hundred more allowed,
// all. The first is for patient scanners; the second stops a fast one.
//
// Memory: 137 bytes for a source, and 1,553 for one of the few with more than
// eight accounts. When a bucket is full, the source that was idle for longest
// makes room, counting each account as ten seconds; of those with many accounts
// the same.
type probes struct {
	few   *table[fewProbes]
	many  *table[manyProbes]
	until atomic.Int64 // when the last sentence ends; while there is none nobody looks for his
}

const (
	fewSlots  = 8
	manySlots = 128 // also the highest limit
	patience  = 2 * second
	fastExtra = 100
)

type fewProbes struct {
	slots [fewSlots]probe
	many  bool // they have moved to the table of those with many
	last  int64
	sentence
}

type manyProbes struct {
	slots [manySlots]probe
	last  int64
}

// probe is an account tried without success.
type probe struct {
	account uint32
	at      uint32 // ticks: since when it has been without success
	flags   probeFlags
}

type probeFlags uint8

const (
	probeProven probeFlags = 1 << iota // the source was not forged
	probeFailed                        // with a failure that has weight
	probeAwaits                        // credentials for it are with the PBX
)

func newProbes(sources int) probes {
	used := func(slots []probe) (n int64) {
		for i := range slots {
			if slots[i].account != 0 {
				n++
			}
		}
		return n
	}
	return probes{
		few: newTable(sources, func(v *fewProbes, now int64) int64 {
			if v.until > now {
				return 1 << 61
			}
			return v.last + used(v.slots[:])*10*second
		}),
		many: newTable(max(sources/64, ways), func(v *manyProbes, _ int64) int64 {
			return v.last + used(v.slots[:])*10*second
		}),
	}
}

// slots returns the probes of an entry, in one table or the other. unlock is not
// nil if that took another lock.
func (p *probes) slots(v *fewProbes, source uint64, now int64) (slots []probe, unlock *sync.Mutex) {
	if !v.many {
		return v.slots[:], nil
	}
	b := p.many.lock(source)
	m := p.many.claim(b, source, now)
	m.last = now
	return m.slots[:], &b.mu
}

// spread moves the probes of an entry to the table of those with many.
func (p *probes) spread(v *fewProbes, source uint64, now int64) (slots []probe, unlock *sync.Mutex) {
	v.many = true
	slots, unlock = p.slots(v, source, now)
	clear(slots)
	copy(slots, v.slots[:])
	return slots, unlock
}

// touch forgets what is too old for ticks, and what has been served.
func (v *fewProbes) touch(now, period int64) {
	if v.until != 0 && v.until <= now {
		*v = fewProbes{}
	}
	if age := now - v.last; age > period || age < -skew {
		*v = fewProbes{sentence: v.sentence}
	}
	v.last = now
}

// add notes that an account was tried without success, and counts.
func (p *probes) add(source, account uint64, flags probeFlags, now, period int64) (n probeCount, served bool) {
	b := p.few.lock(source)
	defer b.mu.Unlock()
	v := p.few.claim(b, source, now)
	v.touch(now, period)
	slots, unlock := p.slots(v, source, now)
	i := place(slots, uint32(account>>8)|1, now, period)
	if i < 0 && !v.many {
		slots, unlock = p.spread(v, source, now)
		i = fewSlots
	}
	if i < 0 {
		i = leastOf(slots, now)
	}
	slots[i].note(uint32(account>>8)|1, flags, now, period)
	n = countProbes(slots, now, period)
	if unlock != nil {
		unlock.Unlock()
	}
	return n, v.until > now
}

// place returns the slot of an account, or a free one; -1 if there is none.
func place(slots []probe, account uint32, now, period int64) int {
	free := -1
	for i := range slots {
		if slots[i].account == account {
			return i
		}
		if free < 0 && !slots[i].live(now, period) {
			free = i
		}
	}
	return free
}

// leastOf returns the oldest slot, of the unproven ones if there are any.
func leastOf(slots []probe, now int64) int {
	at, most := 0, int64(-1)
	for i := range slots {
		age := since(slots[i].at, now)
		if slots[i].flags&probeProven == 0 {
			age += 1 << 60
		}
		if age > most {
			at, most = i, age
		}
	}
	return at
}

func (b *probe) live(now, period int64) bool { return b.account != 0 && within(b.at, now, period) }

// note puts an account into the slot. The time since when it has had no success
// stays, as far as it matters: two seconds.
func (b *probe) note(account uint32, flags probeFlags, now, period int64) {
	switch {
	case b.account != account || !b.live(now, period):
		*b = probe{account: account, at: ticks(now)}
	case since(b.at, now) > patience:
		b.at = ticks(now - patience)
	}
	b.flags = b.flags&^probeAwaits | flags
}

// probeCount counts accounts: all, and those that have been without success for
// long enough to count twice. The index is 1 for proven sources; failed counts
// those with failures that have weight.
type probeCount struct {
	all, aged             [2]int
	allFailed, agedFailed int // of the proven ones
}

func countProbes(slots []probe, now, period int64) (n probeCount) {
	for i := range slots {
		b := &slots[i]
		if !b.live(now, period) || b.flags&probeAwaits != 0 {
			continue
		}
		class, aged := int(b.flags&probeProven), 0
		if since(b.at, now) >= patience-1<<tickBits {
			aged = 1
		}
		n.all[class]++
		n.aged[class] += aged
		if b.flags&(probeProven|probeFailed) == probeProven|probeFailed {
			n.allFailed++
			n.agedFailed += aged
		}
	}
	return n
}

// change does something to the probe of an account, if there is one.
func (p *probes) change(s *subject, account uint64, f func(*probe)) {
	b := p.few.lock(s.source)
	defer b.mu.Unlock()
	v := b.find(s.source)
	if v == nil {
		return
	}
	slots, unlock := p.slots(v, s.source, s.now)
	for i := range slots {
		if slots[i].account == uint32(account>>8)|1 {
			f(&slots[i])
		}
	}
	if unlock != nil {
		unlock.Unlock()
	}
}

// serve notes until when what was decided about a source lasts. What it was
// decided on has been used up.
func (p *probes) serve(source uint64, v sentence, now int64) {
	if v.until == 0 {
		return
	}
	b := p.few.lock(source)
	defer b.mu.Unlock()
	x := p.few.claim(b, source, now)
	*x = fewProbes{last: now, sentence: v}
	raise(&p.until, v.until)
}

// probe counts the accounts that a source tries without success, from the answer
// to one of its requests.
func (e *Engine) probe(s *subject, o *Outcome) {
	rule := &s.rules.Enumeration
	if rule.Accounts <= 0 {
		return
	}
	var account uint64
	var flags probeFlags
	if o.proven() {
		flags |= probeProven
	}
	switch weight, proven := weigh(o); {
	case string(o.Method) == "OPTIONS":
		// Who asks whether many numbers are there looks for accounts, whatever the
		// answer.
		if o.Status >= 500 && o.Status < 600 || o.NoAnswer || e.regard(s) != Stranger {
			return
		}
		var buf [maxAccount]byte
		account = e.keys.account(appendAccount(buf[:0], o.Target))
	case weight > 0:
		if e.regard(s) >= Trunk {
			return
		}
		flags |= probeFailed
		if !proven {
			flags &^= probeProven
		}
	case !refuses(o.Status) || e.regard(s) != Stranger:
		return
	}
	if account == 0 {
		account = s.key(&e.keys)
	}
	e.marks.set(s.source, s.now)
	n, served := e.probes.add(s.source, account, flags, s.now, int64(rule.Period))
	if served {
		return
	}
	for class := range 2 {
		all, aged := n.all[class], n.aged[class]
		if e.regard(s) == Good {
			if class == 0 {
				continue
			}
			all, aged = n.allFailed, n.agedFailed
		}
		if aged < min(rule.Accounts, manySlots) && all < min(rule.Accounts+fastExtra, manySlots) {
			continue
		}
		e.exhibitOutcome(s, o, class == 1)
		e.probes.serve(s.source, e.charge(s, charge{
			reason: ReasonEnumeration, action: rule.Action, block: s.rules.Register.BlockTime, proven: class == 1,
			wide: true, count: all, period: rule.Period, detail: "accounts without success", standIn: rule.Period,
		}), s.now)
		return
	}
}

// forgiveProbe forgets that the account was tried: it has had success, or cannot
// be judged.
func (e *Engine) forgiveProbe(s *subject) {
	if e.marks.within(s.source, s.now, int64(s.rules.Enumeration.Period)) {
		e.probes.change(s, s.key(&e.keys), func(b *probe) { *b = probe{} })
	}
}

// awaitProbe notes that credentials for the account are with the PBX: until they
// are answered nobody can say that it has been tried without success.
func (e *Engine) awaitProbe(s *subject) {
	if e.marks.within(s.source, s.now, int64(s.rules.Enumeration.Period)) {
		e.probes.change(s, s.key(&e.keys), func(b *probe) { b.flags |= probeAwaits })
	}
}

// enumerates drops what comes from a source that has been found enumerating and
// is not banned: because that is not the action, or is not possible.
func (e *Engine) enumerates(s *subject, r *Request) Decision {
	if e.probes.until.Load() <= s.now || e.regard(s) >= Trunk {
		return Decision{}
	}
	b := e.probes.few.lock(s.source)
	defer b.mu.Unlock()
	v := b.find(s.source)
	action := s.rules.Enumeration.Action
	switch {
	case v == nil || v.until <= s.now:
		return Decision{}
	case action.watches():
		return Decision{Would: ReasonEnumeration}
	case e.lifted(v.sentence, s):
		*v = fewProbes{last: s.now}
		return Decision{}
	case e.regard(s) == Good && (e.places == nil || r.ofCall() || e.atHome(s)):
		return Decision{} // the others behind the same address go on, and so do calls
	}
	return action.decide(ReasonEnumeration, 60)
}
