package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
)

// Quarantine is an account that is shut out from a source in good standing.
type Quarantine struct {
	Source  netip.Prefix
	Account string
	Since   int64 // Unix nanoseconds
	Until   int64
}

// quarantines lists those in force, for people. What is enforced stands in the
// table of pairs; the list may miss some when there are more than maxListed.
type quarantines struct {
	mu sync.Mutex
	of map[uint64]Quarantine // by key of the pair
}

// maxListed caps the lists that are kept for people.
const maxListed = 4096

func (q *quarantines) add(key uint64, v Quarantine) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.of == nil {
		q.of = map[uint64]Quarantine{}
	}
	if len(q.of) < maxListed {
		q.of[key] = v
	}
}

// purge forgets those that have ended.
func (q *quarantines) purge(now int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for k, v := range q.of {
		if v.Until <= now {
			delete(q.of, k)
		}
	}
}

// take removes and returns those of a source.
func (q *quarantines) take(p netip.Prefix) []uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	var taken []uint64
	for k, v := range q.of {
		if v.Source == p {
			taken = append(taken, k)
			delete(q.of, k)
		}
	}
	return taken
}

// Quarantines returns the quarantines in force, those that end first in front.
func (e *Engine) Quarantines(now int64) []Quarantine {
	q := &e.guesses.list
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []Quarantine
	for _, v := range q.of {
		if v.Until > now {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b Quarantine) int {
		return cmp.Or(cmp.Compare(a.Until, b.Until), a.Source.Addr().Compare(b.Source.Addr()), cmp.Compare(a.Account, b.Account))
	})
	return all
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
	q := Quarantine{Source: e.keys.prefix(s.addr), Account: string(s.name()), Since: s.now, Until: until}
	e.guesses.list.add(s.pair(&e.keys), q)
	e.tell(Notice{
		Time: s.now, Kind: NoticeQuarantine, Reason: ReasonQuarantine, Source: s.addr, Account: q.Account,
		Text: "The account failed " + times(rule.HitCount) + " within " + rule.MonitPeriod.String() +
			" from an address where others are registered. The account is shut out from there for " +
			rule.BlockTime.String() + "; the others go on. Most often a phone has an old password.",
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
	switch string(r.Method) {
	case "ACK", "BYE", "CANCEL":
		return Decision{}
	case "REGISTER":
	default:
		if r.InDialog && r.Proven {
			return Decision{}
		}
	}
	if !e.inQuarantine(s) {
		return Decision{}
	}
	if s.rules.Register.Action.watches() {
		return Decision{Would: ReasonQuarantine}
	}
	return Decision{Verdict: Drop, Reason: ReasonQuarantine}
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
