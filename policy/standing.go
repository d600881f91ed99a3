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

// EachGoodSource calls f with each source in good standing because of bindings and
// dialogs, and with when it ends at the latest, as Config.Standing is told it: Unix
// time in nanoseconds. f must not call the engine.
func (e *Engine) EachGoodSource(now int64, f func(source netip.Prefix, until int64)) {
	e.known.each(now, f)
}

// GoodSourcesIn counts the sources in a prefix that are in good standing because of bindings
// and dialogs.
func (e *Engine) GoodSourcesIn(p netip.Prefix, now int64) int { return e.known.in(p, now) }

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
// Memory: 73 bytes for a source and 33 for a grant. When a bucket is full, the
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
	keys    *keys
	tell    func(netip.Prefix, int64) // Config.Standing
}

// good is a source in good standing.
type good struct {
	bindings, dialogs       uint32
	bindingsEnd, dialogsEnd int64
	recalled                int64    // the end of a standing from before a restart
	told                    int64    // the end that known.tell has been told of; 0: none
	addr                    [16]byte // one of the source
	proven                  bool     // at least one grant went to a proven address
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

func newKnown(sources int, keys *keys, tell func(netip.Prefix, int64)) known {
	rank := func(until int64, proven bool) int64 {
		if !proven {
			return until - math.MaxInt64/2
		}
		return until
	}
	return known{
		keys: keys, tell: tell,
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
	g := b.find(source)
	ok := g != nil && g.end() > now
	b.mu.Unlock()
	return ok
}

// placeHours is how often the place of a binding is written down.
const placeHours = 12

// grant puts a binding or a dialog of the source of addr in force. place says that it is time to write
// down where it is.
func (k *known) grant(key uint64, to grant, addr netip.Addr, now int64) (place bool) {
	b := k.grants.lock(key)
	var old grant
	lost := false
	g := b.find(key)
	if g != nil {
		old = *g
	} else {
		g, old, lost = k.grants.replace(b, key, now)
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
		k.count(to, addr, renewed, now)
	}
	return place
}

// accept puts the dialog of an offer in force: its caller, at addr, has shown that
// he got the answer.
func (k *known) accept(key uint64, addr netip.Addr, now int64) {
	b := k.grants.lock(key)
	g := b.find(key)
	if g == nil || g.kind != grantOffer || g.until <= now {
		b.mu.Unlock()
		return
	}
	g.kind, g.proven = grantDialog, true
	to := *g
	b.mu.Unlock()
	k.count(to, addr, false, now)
}

// claim returns the source of addr in its locked bucket. Who makes room for it is no
// longer in good standing.
func (k *known) claim(s *bucket[good], source uint64, addr netip.Addr, now int64) *good {
	v := s.find(source)
	if v == nil {
		var evicted good
		var lost bool
		if v, evicted, lost = k.sources.replace(s, source, now); lost {
			k.ended(&evicted, now)
		} else {
			k.held.Add(1)
		}
	}
	if v.addr == [16]byte{} && k.keys.source(addr) == source { // the ACK to an offer may come from elsewhere
		v.addr = addr.As16()
	}
	return v
}

// tellAfter is how much longer a standing is told to last than it does, so that not
// each renewal has to be told of.
const tellAfter = 60 * second

// lasts tells how long a standing lasts, if that is longer than was told.
func (k *known) lasts(g *good) {
	if k.tell != nil && g.end() > g.told && g.addr != [16]byte{} {
		g.told = g.end() + tellAfter
		k.tell(k.prefix(g), g.told)
	}
}

// ended tells that a standing has ended, if it was told to last longer.
func (k *known) ended(g *good, now int64) {
	if g.told > now {
		k.tell(k.prefix(g), now)
	}
}

func (k *known) prefix(g *good) netip.Prefix {
	return k.keys.prefix(netip.AddrFrom16(g.addr).Unmap())
}

// each calls f with each source in good standing and how long it lasts at most.
func (k *known) each(now int64, f func(netip.Prefix, int64)) {
	for i := range k.sources.buckets {
		b := &k.sources.buckets[i]
		b.mu.Lock()
		for j := range b.keys {
			if g := &b.vals[j]; b.keys[j] != 0 && g.end() > now && g.addr != [16]byte{} {
				g.told = g.end() + tellAfter
				f(k.prefix(g), g.told)
			}
		}
		b.mu.Unlock()
	}
}

// in counts the sources in a prefix.
func (k *known) in(p netip.Prefix, now int64) (n int) {
	for i := range k.sources.buckets {
		b := &k.sources.buckets[i]
		b.mu.Lock()
		for j := range b.keys {
			if g := &b.vals[j]; b.keys[j] != 0 && g.end() > now && g.addr != [16]byte{} && p.Overlaps(k.prefix(g)) {
				n++
			}
		}
		b.mu.Unlock()
	}
	return n
}

// count adds a grant to its source.
func (k *known) count(to grant, addr netip.Addr, renewed bool, now int64) {
	s := k.sources.lock(to.source)
	v := k.claim(s, to.source, addr, now)
	n, end := v.count(to.kind)
	if *end <= now {
		*n = 0
	}
	if !renewed || *n == 0 {
		*n++
	}
	*end = max(*end, to.until)
	v.proven = v.proven || to.proven
	k.lasts(v)
	s.mu.Unlock()
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
		k.ended(v, now)
		b.drop(old.source)
		k.held.Add(-1)
	}
}

// recall gives standing to the source of addr, which had it before a restart.
func (k *known) recall(addr netip.Addr, until, now int64) {
	source := k.keys.source(addr)
	b := k.sources.lock(source)
	defer b.mu.Unlock()
	v := k.claim(b, source, addr, now)
	v.recalled = max(v.recalled, until)
	v.proven = true
	k.lasts(v)
}

// sweep forgets the sources whose standing has ended, in one part of the table, and
// tells of those whose standing will end earlier than was told. No verdict depends
// on it.
func (k *known) sweep(part, parts int, now int64) {
	for i := part; i < len(k.sources.buckets); i += parts {
		b := &k.sources.buckets[i]
		b.mu.Lock()
		for j := range b.keys {
			switch g := &b.vals[j]; {
			case b.keys[j] == 0:
			case g.end() <= now:
				k.ended(g, now)
				b.keys[j], *g = 0, good{}
				k.held.Add(-1)
			case g.told > g.end()+2*tellAfter:
				g.told = g.end() + tellAfter
				k.tell(k.prefix(g), g.told)
			}
		}
		b.mu.Unlock()
	}
}
