package ban

import (
	"net/netip"

	"github.com/gaissmai/bart"
)

// wide is an immutable table of the bans of prefixes that are not a single
// source. They are few, since people make them, so each change makes a new one,
// which shares what did not change with the old one.
//
// A look-up in a bart.Table finds the longest prefix only, but a shorter one
// that covers it may last longer. So each prefix carries the latest end of all
// that cover it, itself included. An end that has passed does no harm there:
// the latest of several ends is over only when all are.
//
// Most addresses are in none of them, and the filter says so with one bit.
type wide struct {
	ends   *bart.Table[int64]
	filter filter
}

func (w *wide) banned(addr netip.Addr, now int64) bool {
	end, ok := w.ends.Lookup(addr)
	return ok && end > now
}

// with returns a table that holds p, too. latest says the latest end of all
// prefixes that cover a given one, p among them.
func (w *wide) with(p netip.Prefix, latest func(netip.Prefix) int64) *wide {
	next := &wide{ends: &bart.Table[int64]{}}
	if w != nil {
		*next = *w
	}
	next.ends = renew(next.ends.InsertPersist(p, latest(p)), p, latest)
	next.filter.add(p)
	return next
}

// without returns a table that does not hold p, nil when nothing is left.
// latest no longer counts p.
func (w *wide) without(p netip.Prefix, latest func(netip.Prefix) int64) *wide {
	if w == nil {
		return nil
	}
	ends := w.ends.DeletePersist(p)
	if ends.Size() == 0 {
		return nil
	}
	next := &wide{ends: renew(ends, p, latest)}
	for q := range next.ends.All() {
		next.filter.add(q)
	}
	return next
}

// renew gives every prefix inside p its latest end.
func renew(ends *bart.Table[int64], p netip.Prefix, latest func(netip.Prefix) int64) *bart.Table[int64] {
	for q, old := range ends.Subnets(p) {
		if end := latest(q); end != old {
			ends = ends.InsertPersist(q, end)
		}
	}
	return ends
}

// filter has a bit for each block of addresses that holds a part of a banned
// prefix: 8 KiB, which stay in a processor's first cache. A block is an IPv4 /16
// or an IPv6 /32, of which 2^16 share a bit.
type filter [1 << (16 - 6)]uint64

func (f *filter) add(p netip.Prefix) {
	a, blockBits, first := p.Addr(), 16, uint32(0)
	if a.Is4() {
		first = uint32(key4(a)) >> 16
	} else {
		blockBits, first = 32, uint32(upper(a)>>32)
	}
	for i := range uint32(1) << max(blockBits-p.Bits(), 0) {
		b := fold(first + i)
		f[b>>6] |= 1 << (b & 63)
	}
}

func (f *filter) has(block uint32) bool {
	b := fold(block)
	return f[b>>6]&(1<<(b&63)) != 0
}

func fold(block uint32) uint16 { return uint16(block) ^ uint16(block>>16) }
