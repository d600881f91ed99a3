package resolve

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"slices"
)

// draw is the place of an endpoint among those of its rank, for one transaction:
// the lowest comes first. -ln(u)/weight with an even u makes a weighted choice
// without repetition, as RFC 2782 describes it, and needs no state: the same
// seed always draws the same.
func (e *endpoint) draw(seed uint64) float64 {
	u := (float64(mix(seed^e.seed)>>11) + 0.5) / (1 << 53)
	return -math.Log(u) / e.weight
}

// before says whether e is tried before o.
func (e *endpoint) before(o *endpoint, seed uint64) bool {
	if e.rank != o.rank {
		return e.rank < o.rank
	}
	return e.draw(seed) < o.draw(seed)
}

// choose returns the target for one transaction, without allocating: the first
// that is fine, or one before it that this transaction may try again. If all
// have failed, the first of all is as good as any.
func (r *Resolver) choose(a *answer, seed uint64, now int64) Target {
	for {
		var first, best *endpoint
		bestStatus := fine
		for i := range a.endpoints {
			e := &a.endpoints[i]
			if best != nil && e.rank > best.rank {
				break
			}
			if first == nil || e.before(first, seed) {
				first = e
			}
			if s := r.memory.status(e.target.Addr, seed, now); s != down && (best == nil || e.before(best, seed)) {
				best, bestStatus = e, s
			}
		}
		switch {
		case best == nil:
			return first.target
		case bestStatus == fine, r.memory.claim(best.target.Addr, seed, now):
			return best.target
		}
		// Another transaction was faster to claim it; so now it is down for us.
	}
}

// order returns all targets: the chosen one, then those that are fine, then the
// rest.
func (r *Resolver) order(a *answer, seed uint64, now int64) []Target {
	sorted := slices.Clone(a.endpoints)
	slices.SortStableFunc(sorted, func(x, y endpoint) int {
		return cmp.Or(cmp.Compare(x.rank, y.rank), cmp.Compare(x.draw(seed), y.draw(seed)))
	})
	out := make([]Target, 0, len(sorted)+1)
	add := func(t Target) {
		if !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	add(r.choose(a, seed, now))
	for i := range sorted {
		if r.memory.status(sorted[i].target.Addr, seed, now) == fine {
			add(sorted[i].target)
		}
	}
	for i := range sorted {
		add(sorted[i].target)
	}
	return out
}

// mix spreads the bits of x evenly; it need not be secret.
func mix(x uint64) uint64 {
	hi, lo := bits.Mul64(x^0x243f6a8885a308d3, 0x13198a2e03707345)
	hi, lo = bits.Mul64(hi^lo^0xa4093822299f31d0, 0x082efa98ec4e6c89)
	return hi ^ lo
}

func hashAddr(ap netip.AddrPort) uint64 {
	b := ap.Addr().As16()
	return mix(mix(binary.BigEndian.Uint64(b[:8])^uint64(ap.Port())) ^ binary.BigEndian.Uint64(b[8:]))
}
