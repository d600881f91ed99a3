package policy

import (
	"sync"
	"sync/atomic"
)

// accounts counts from how many sources the passwords of each account are
// guessed. An account that is attacked from too many is let in from known places
// only: where it has registered from before.
//
// Memory: 281 bytes for an account. When a bucket is full, the account with the
// fewest sources makes room; one in known-places mode is the last to go.
type accounts struct {
	t     *table[account]
	until atomic.Int64 // when the last of all modes ends, if nothing prolongs it

	mu    sync.Mutex
	modes map[uint64]string // accounts in the mode, by key, for notices; at most maxListed
}

// maxListed caps the list of accounts in the mode.
const maxListed = 4096

// sourceSlots is how many sources of an account are known one by one. Beyond it
// they are sampled.
const sourceSlots = 32

type account struct {
	id   [sourceSlots]uint32
	at   [sourceSlots]uint32 // ticks of the last failure
	last int64
	over bool // in known-places mode
}

func newAccounts(n int) accounts {
	worth := func(a *account, now int64) int64 {
		w := a.last
		for i := range a.id {
			if a.id[i] != 0 {
				w += 60 * second
			}
		}
		if a.over && now-a.last < 3600*second {
			w += 1 << 61
		}
		return w
	}
	return accounts{t: newTable(n, worth), modes: map[uint64]string{}}
}

// note counts a source and says whether there are more than limit of them within
// the window.
func (a *account) note(source uint64, now, window int64, limit int) (over bool) {
	if age := now - a.last; age > window || age < -skew {
		*a = account{}
	}
	a.last = now
	if source>>40%share(limit) != 0 {
		return a.exceeds(now, window, limit)
	}
	id := uint32(source>>8) | 1
	own, free, oldest := -1, -1, 0
	for i := range a.id {
		switch {
		case a.id[i] == id:
			own = i
		case a.id[i] == 0 || !within(a.at[i], now, window):
			free = i
		case since(a.at[i], now) > since(a.at[oldest], now):
			oldest = i
		}
	}
	switch {
	case own >= 0:
	case free >= 0:
		own = free
	default:
		own = oldest
	}
	a.id[own], a.at[own] = id, ticks(now)
	return a.exceeds(now, window, limit)
}

// share says how many sources one that is noted stands for: with a limit beyond
// the slots a fixed part of all sources stands for all.
func share(limit int) uint64 {
	return max(uint64(limit+sourceSlots-2)/(sourceSlots-1), 1)
}

// exceeds says whether more sources than limit have failed within the window.
func (a *account) exceeds(now, window int64, limit int) bool {
	n := 0
	for i := range a.id {
		if a.id[i] != 0 && within(a.at[i], now, window) {
			n++
		}
	}
	return n*int(share(limit)) > limit
}

// failAccount counts a failure for the account, from a source that is not forged. Its
// owner's own do not count: those from where he has registered before.
func (e *Engine) failAccount(s *subject) {
	rule := &s.rules.DistinctSources
	if rule.Count <= 0 || e.places == nil || len(s.name()) == 0 || e.atHome(s) {
		return
	}
	window := int64(rule.Window)
	account := s.key(&e.keys)
	b := e.accounts.t.lock(account)
	a := e.accounts.t.claim(b, account, s.now)
	was := a.over
	a.over = a.note(s.source, s.now, window, rule.Count)
	over := a.over
	b.mu.Unlock()
	if !over {
		return
	}
	raise(&e.accounts.until, s.now+window)
	if !was {
		e.enterPlaces(s)
	}
}

// atHome says whether the account has registered from the source before.
func (e *Engine) atHome(s *subject) bool {
	return e.places.Known(s.name(), e.keys.prefix(s.addr).Addr(), s.now)
}

// elsewhere refuses who asks for an account in known-places mode from a place
// that is not known. It answers 503, for a while: an honest phone comes back. What
// belongs to a call passes, and so does a REGISTER without credentials: it is no
// guess, and the challenge that answers it is how the next one proves its source.
// The mode lasts until no more sources than the limit have tried within a whole
// window, with credentials and proof of address: whoever forges sources must not keep
// the owner out of new places.
func (e *Engine) elsewhere(s *subject, r *Request) Decision {
	rule := &s.rules.DistinctSources
	if e.accounts.until.Load() <= s.now || rule.Count <= 0 || e.regard(s) >= Trunk || r.ofCall() {
		return Decision{}
	}
	window := int64(rule.Window)
	account := s.key(&e.keys)
	b := e.accounts.t.lock(account)
	defer b.mu.Unlock()
	a := b.find(account)
	if a == nil || !a.over || e.atHome(s) {
		return Decision{}
	}
	if r.HasCredentials && r.proven() {
		a.over = a.note(s.source, s.now, window, rule.Count)
	} else {
		a.over = a.exceeds(s.now, window, rule.Count)
	}
	if !a.over || !r.HasCredentials && string(r.Method) == "REGISTER" {
		return Decision{}
	}
	raise(&e.accounts.until, s.now+window)
	return Decision{Verdict: Reject, Reason: ReasonKnownPlaces, Code: 503, RetryAfter: 60}
}

func (e *Engine) enterPlaces(s *subject) {
	rule := &s.rules.DistinctSources
	account := s.key(&e.keys)
	e.accounts.mu.Lock()
	_, known := e.accounts.modes[account]
	if !known && len(e.accounts.modes) < maxListed {
		e.accounts.modes[account] = string(s.name())
	}
	e.accounts.mu.Unlock()
	if known {
		return
	}
	e.tell(Notice{
		Time: s.now, Kind: NoticeKnownPlaces, Reason: ReasonKnownPlaces, Account: string(s.name()),
		Text: "More than " + count(rule.Count, "source") + " failed for the account within " + Lasting(rule.Window) +
			". Until it calms down it is let in from the places only that it has registered from before.",
		Commands: []string{"sipward allow ADDRESS"},
	})
}

// KnownPlaces returns the accounts that are let in from known places only.
func (e *Engine) KnownPlaces() []string {
	e.accounts.mu.Lock()
	defer e.accounts.mu.Unlock()
	var all []string
	for _, name := range e.accounts.modes {
		all = append(all, name)
	}
	return all
}

// leavePlaces ends the modes whose time has come.
func (e *Engine) leavePlaces(now int64) {
	rule := e.rules.Load().DistinctSources
	var calm []string
	e.accounts.mu.Lock()
	for key, name := range e.accounts.modes {
		b := e.accounts.t.lock(key)
		a := b.find(key)
		over := a != nil && rule.Count > 0 && a.exceeds(now, int64(rule.Window), rule.Count)
		if a != nil {
			a.over = over
		}
		b.mu.Unlock()
		if !over {
			delete(e.accounts.modes, key)
			calm = append(calm, name)
		}
	}
	e.accounts.mu.Unlock()
	for _, name := range calm {
		e.tell(Notice{
			Time: now, Kind: NoticeCalm, Reason: ReasonKnownPlaces, Account: name,
			Text: "The attack on the account is over; it is let in from everywhere again.",
		})
	}
}
