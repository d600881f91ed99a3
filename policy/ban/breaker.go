package ban

import (
	"fmt"
	"net/netip"
	"time"
)

// goodLeast is the least number of sources in good standing whose bans open the
// breaker: on a small site one phone may be a tenth of all.
const goodLeast = 3

var (
	errTooFast = fmt.Errorf("%w: too many sources banned within a minute", ErrBreaker)
	errTooGood = fmt.Errorf("%w: too large a share of the sources in good standing banned within a minute", ErrBreaker)
)

// Fuse names one of the breaker's limits.
type Fuse string

// The fuses. Unproven and proven evidence have one each: who forges a thousand
// sources must not be able to turn off the ban that his own guessing earns.
const (
	FuseUnproven Fuse = "unproven" // bans per minute on unproven evidence
	FuseProven   Fuse = "proven"   // bans per minute on proven evidence
	FuseGood     Fuse = "good"     // share of the sources in good standing; when open, all automatic bans stop
)

// FuseState is what people ask about a fuse.
type FuseState struct {
	Fuse    Fuse
	Open    bool   // automatic bans are refused
	Since   int64  // when it opened, Unix nanoseconds
	Limit   int    // sources a minute; 0: none
	Count   int    // closed: sources banned within the last minute; open: sources refused in the present minute, as far as they matter
	Refused uint64 // how many times a ban was refused since the start
}

// fuse opens when more than its limit happens within a minute. It closes after
// a whole minute in which no more than that would have happened. Then it is
// distinct sources that count, since one that is not banned comes again and
// again, and must not hold it open for ever.
type fuse struct {
	name    Fuse
	limit   int
	window  [60]int // new bans by second
	total   int     // their sum
	second  int64   // the last one in window
	open    bool
	since   int64
	minute  int64                     // start of the present minute of an open fuse
	seen    map[netip.Prefix]struct{} // sources refused in it, as many as matter
	refused uint64
}

// clockSkew is how far a time that is passed in may lie before another one (s). What is
// further back is of a clock that was set back.
const clockSkew = 2

// count moves the window on to now and returns what is in it.
func (f *fuse) count(now int64) int {
	s := now / int64(time.Second)
	if f.second-s > clockSkew { // what is in it would stay there until the clock has caught up
		f.window, f.total, f.second = [60]int{}, 0, s
	}
	for ; f.second < s && f.total > 0; f.second++ {
		next := &f.window[(f.second+1)%60]
		f.total -= *next
		*next = 0
	}
	f.second = max(f.second, s)
	return f.total
}

func (f *fuse) add(now int64) {
	f.count(now)
	f.window[f.second%60]++
	f.total++
}

// settle closes the fuse when it is time, and says whether it did.
func (f *fuse) settle(now int64) bool {
	const minute = int64(time.Minute)
	f.minute = min(f.minute, now) // or a clock that was set back would keep it open
	if !f.open || f.limit > 0 && now-f.minute < minute {
		return false
	}
	if f.limit > 0 && len(f.seen) > f.limit && now-f.minute < 2*minute {
		f.minute = now
		clear(f.seen)
		return false
	}
	f.reset()
	return true
}

func (f *fuse) reset() {
	f.open, f.since, f.seen = false, 0, nil
	f.window, f.total = [60]int{}, 0
}

// trips says whether a new ban of p is one too many, and whether the fuse has
// opened with it.
func (f *fuse) trips(p netip.Prefix, now int64) (refused, opened bool) {
	if !f.open && (f.limit <= 0 || f.count(now) < f.limit) {
		return false, false
	}
	if !f.open {
		f.open, f.since, f.minute, opened = true, now, now, true
		f.seen = make(map[netip.Prefix]struct{})
	}
	if len(f.seen) <= f.limit {
		f.seen[p] = struct{}{}
	}
	f.refused++
	return true, opened
}

func (f *fuse) state(now int64) FuseState {
	s := FuseState{Fuse: f.name, Open: f.open, Since: f.since, Limit: max(f.limit, 0), Refused: f.refused}
	if f.open {
		s.Count = len(f.seen)
	} else {
		s.Count = f.count(now)
	}
	return s
}

// breaker stops automatic banning when it goes so fast, or hits so many sources
// in good standing, that a wrong rule is likelier than an attack. The table's
// lock guards it.
type breaker struct {
	share    float64
	standing func() int
	// turned collects which fuses opened (true) or closed, for who holds the
	// lock to tell when he has given it back.
	turned                 []turn
	unproven, proven, good fuse
}

type turn struct {
	fuse Fuse
	open bool
}

func (b *breaker) configure(perMinute int, share float64, standing func() int) {
	b.unproven.name, b.proven.name, b.good.name = FuseUnproven, FuseProven, FuseGood
	b.unproven.limit, b.proven.limit = perMinute, perMinute
	b.share, b.standing = share, standing
}

func (b *breaker) fuses() [3]*fuse { return [...]*fuse{&b.unproven, &b.proven, &b.good} }

func (b *breaker) rate(proven bool) *fuse {
	if proven {
		return &b.proven
	}
	return &b.unproven
}

// settle closes what has been calm for long enough.
func (b *breaker) settle(now int64) {
	b.good.limit = 0
	if b.share > 0 && b.standing != nil {
		b.good.limit = max(goodLeast-1, int(b.share*float64(b.standing())))
	}
	for _, f := range b.fuses() {
		if f.settle(now) {
			b.turned = append(b.turned, turn{f.name, false})
		}
	}
}

// refuse says why a new automatic ban must not be made; nil: it may be, and
// must then be counted.
func (b *breaker) refuse(r *Record, now int64) error {
	b.settle(now)
	switch {
	case r.Good && b.trips(&b.good, r.Prefix, now):
		return errTooGood
	case b.good.open:
		b.good.refused++
		return errTooGood
	case b.trips(b.rate(r.Proven), r.Prefix, now):
		return errTooFast
	}
	return nil
}

func (b *breaker) trips(f *fuse, p netip.Prefix, now int64) bool {
	refused, opened := f.trips(p, now)
	if opened {
		b.turned = append(b.turned, turn{f.name, true})
	}
	return refused
}

func (b *breaker) count(r *Record, now int64) {
	b.rate(r.Proven).add(now)
	if r.Good {
		b.good.add(now)
	}
}

// Breaker returns the state of each fuse.
func (t *Table) Breaker(now int64) []FuseState {
	t.mu.Lock()
	t.breaker.settle(now)
	var states []FuseState
	for _, f := range t.breaker.fuses() {
		states = append(states, f.state(now))
	}
	t.unlock()
	return states
}

// ResetBreaker lets automatic bans be made again at once, and says whether they
// had been stopped.
func (t *Table) ResetBreaker() bool {
	t.mu.Lock()
	defer t.unlock()
	was := false
	for _, f := range t.breaker.fuses() {
		if f.open {
			was = true
			t.breaker.turned = append(t.breaker.turned, turn{f.name, false})
		}
		f.reset()
	}
	return was
}
