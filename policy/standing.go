package policy

import (
	"math"
	"net/netip"
	"sync/atomic"

	"sipward/policy/gate"
)

// Standing is how a source is regarded. All but strangers are in good standing.
type Standing uint8

// The standings, from the worst to the best.
const (
	Stranger Standing = iota
	Good              // holds a binding or a dialog that a PBX accepted
	Trunk             // on the list of trunks
	Allowed           // on the allow list, or a PBX: never judged
)

var standingNames = [...]string{"stranger", "good", "trunk", "allowed"}

// String returns the standing's stable word.
func (s Standing) String() string {
	if int(s) < len(standingNames) {
		return standingNames[s]
	}
	return "unknown"
}

// Standing returns how a source is regarded at now. It does not allocate.
func (e *Engine) Standing(addr netip.Addr, now int64) Standing {
	return e.standing(e.gate.Standing(addr, now), e.keys.source(addr), now)
}

func (e *Engine) standing(v gate.Verdict, source uint64, now int64) Standing {
	switch v {
	case gate.PassAllowed, gate.PassPBX:
		return Allowed
	case gate.PassTrusted:
		return Trunk
	}
	if e.known.good(source, now) {
		return Good
	}
	return Stranger
}

// standings tells the gate who is in good standing.
type standings struct{ *Engine }

var _ gate.Standings = standings{}

// Good implements gate.Standings.
func (e standings) Good(addr netip.Addr, now int64) bool {
	return e.known.held.Load() > 0 && e.known.good(e.keys.source(addr), now)
}

// GoodSources returns how many sources are in good standing because of bindings
// and dialogs. Those whose standing has just ended may still be counted. It is
// quick and takes no lock.
func (e *Engine) GoodSources() int { return int(e.known.held.Load()) }

// The sizes of the tables that only a PBX's consent fills. Strangers, however
// many, cannot push anyone out of them.
const (
	defaultKnown  = 1 << 16
	grantsPerGood = 2
)

// Bounds for what a PBX grants, so that an odd answer does not last for ever.
const (
	second     = int64(1_000_000_000)
	maxBinding = 30 * 24 * 3600 * second
	maxDialog  = 12 * 3600 * second
)

// known holds who is in good standing: the sources, and the grants (bindings and
// dialogs) that they owe it to.
//
// Memory: 49 bytes for a source and 33 for a grant. When a bucket is full, the
// one whose standing ends first makes room, and before it one that may have been
// forged by someone who holds a valid password.
//
// A binding that ends early takes the standing with it when it was the source's
// last. If others are left, the standing may last as long as the latest of all
// had been granted for.
type known struct {
	sources *table[good]
	grants  *table[grant]
	held    atomic.Int64 // sources in the table
}

// good is a source in good standing.
type good struct {
	bindings, dialogs       uint32
	bindingsEnd, dialogsEnd int64
	recalled                int64 // the end of a standing from before a restart
	proven                  bool  // at least one grant went to a proven address
}

// grant is one binding or dialog of a source.
type grant struct {
	source uint64
	until  int64
	placed uint32 // hours: when the place was written down
	kind   grantKind
	proven bool
}

type grantKind uint8

const (
	grantBinding grantKind = iota
	grantDialog
	// grantOffer: a dialog whose caller may be forged. It counts for nothing
	// before he has shown that he got the answer.
	grantOffer
)

func newKnown(sources int) known {
	rank := func(until int64, proven bool) int64 {
		if !proven {
			return until - math.MaxInt64/2
		}
		return until
	}
	return known{
		sources: newTable(sources, func(g *good, _ int64) int64 { return rank(g.end(), g.proven) }),
		grants:  newTable(sources*grantsPerGood, func(g *grant, _ int64) int64 { return rank(g.until, g.proven) }),
	}
}

// end returns when the standing ends.
func (g *good) end() int64 { return max(g.bindingsEnd, g.dialogsEnd, g.recalled) }

// count returns the number and the end of the grants of a kind.
func (g *good) count(kind grantKind) (n *uint32, end *int64) {
	if kind == grantDialog {
		return &g.dialogs, &g.dialogsEnd
	}
	return &g.bindings, &g.bindingsEnd
}

func (k *known) good(source uint64, now int64) bool {
	b := k.sources.lock(source)
	defer b.mu.Unlock()
	g := b.find(source)
	return g != nil && g.end() > now
}

// placeHours is how often the place of a binding is written down.
const placeHours = 12

// grant puts a binding or a dialog in force. place says that it is time to write
// down where it is.
func (k *known) grant(key uint64, to grant, now int64) (place bool) {
	b := k.grants.lock(key)
	g, old, lost := k.grants.replace(b, key, now)
	if !lost {
		old = *g
	}
	renewed := !lost && old.source == to.source && old.until > now
	if renewed && old.kind == grantDialog {
		to.kind = grantDialog // an offer of what is accepted changes nothing
	}
	renewed = renewed && old.kind == to.kind
	hour := uint32(now / (3600 * second))
	to.placed = old.placed
	if place = !renewed || hour-old.placed >= placeHours; place {
		to.placed = hour
	}
	*g = to
	b.mu.Unlock()
	if !renewed && old.source != 0 {
		k.revoke(old, now)
	}
	if to.kind != grantOffer {
		k.count(to, renewed, now)
	}
	return place
}

// accept puts the dialog of an offer in force: its caller has shown that he got
// the answer.
func (k *known) accept(key uint64, now int64) {
	b := k.grants.lock(key)
	g := b.find(key)
	if g == nil || g.kind != grantOffer || g.until <= now {
		b.mu.Unlock()
		return
	}
	g.kind, g.proven = grantDialog, true
	to := *g
	b.mu.Unlock()
	k.count(to, false, now)
}

// count adds a grant to its source.
func (k *known) count(to grant, renewed bool, now int64) {
	s := k.sources.lock(to.source)
	defer s.mu.Unlock()
	v, _, lost := k.sources.replace(s, to.source, now)
	if *v == (good{}) && !lost {
		k.held.Add(1)
	}
	n, end := v.count(to.kind)
	if *end <= now {
		*n = 0
	}
	if !renewed || *n == 0 {
		*n++
	}
	*end = max(*end, to.until)
	v.proven = v.proven || to.proven
}

// end ends a binding or a dialog.
func (k *known) end(key uint64, now int64) {
	b := k.grants.lock(key)
	g := b.find(key)
	if g == nil {
		b.mu.Unlock()
		return
	}
	old := *g
	b.drop(key)
	b.mu.Unlock()
	k.revoke(old, now)
}

// revoke takes a grant, which is no longer in the table, from its source.
func (k *known) revoke(old grant, now int64) {
	if old.kind == grantOffer {
		return
	}
	b := k.sources.lock(old.source)
	defer b.mu.Unlock()
	v := b.find(old.source)
	if v == nil {
		return
	}
	n, end := v.count(old.kind)
	if *n > 0 && old.until > now {
		*n--
	}
	if *n == 0 {
		*end = 0
	}
	if v.end() <= now {
		b.drop(old.source)
		k.held.Add(-1)
	}
}

// recall gives standing to a source that had it before a restart.
func (k *known) recall(source uint64, until, now int64) {
	b := k.sources.lock(source)
	defer b.mu.Unlock()
	v, _, lost := k.sources.replace(b, source, now)
	if *v == (good{}) && !lost {
		k.held.Add(1)
	}
	v.recalled = max(v.recalled, until)
	v.proven = true
}

// sweep forgets the sources whose standing has ended, in one part of the table.
// Nothing depends on it but the number of those held.
func (k *known) sweep(part, parts int, now int64) {
	for i := part; i < len(k.sources.buckets); i += parts {
		b := &k.sources.buckets[i]
		b.mu.Lock()
		for j := range b.keys {
			if b.keys[j] != 0 && b.vals[j].end() <= now {
				b.keys[j], b.vals[j] = 0, good{}
				k.held.Add(-1)
			}
		}
		b.mu.Unlock()
	}
}
