package ban

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"sync/atomic"
)

// hosts maps single sources (IPv4 addresses, or IPv6 prefixes of the one length
// that counts as a source) to the end of their ban. Any number of goroutines
// read it without a lock while one at a time writes.
//
// It is open-addressed with linear probing. A slot's key is written once in the
// life of a hosts and never again, so a reader that has found its key cannot be
// fooled by a slot that changes hands; lifting a ban only sets the end to zero.
// What is lifted is left behind when the slots run short and next makes a copy.
//
// In front of the slots stands a filter of a byte for each, since most packets
// come from sources that are not banned, and the slots of 100,000 bans do not
// fit into a processor's second cache: one bit of it, chosen by the key's hash,
// is set for each key.
type hosts struct {
	secret uint64 // a stranger cannot choose addresses that share a slot
	mask   uint64
	shift  uint8 // of the hash, to get a bit of the filter
	used   int   // slots with a key, ended bans included; the writer's
	slots  []slot
	filter []atomic.Uint64
}

// slot is 16 bytes. Key 0 is an empty slot.
type slot struct {
	key   atomic.Uint64
	until atomic.Int64
}

const minSlots = 1 << 10

// newHosts makes a table that n keys fill by half at most.
func newHosts(secret uint64, n int) *hosts {
	size := max(minSlots, 1<<bits.Len(uint(2*n)))
	return &hosts{
		secret: secret,
		mask:   uint64(size - 1),
		shift:  uint8(64 - bits.Len(uint(size*8-1))),
		slots:  make([]slot, size),
		filter: make([]atomic.Uint64, size*8/64),
	}
}

// hash returns a number whose low bits choose the first slot of key, and its
// high ones the bit of the filter.
func (h *hosts) hash(key uint64) uint64 {
	hi, lo := bits.Mul64(key^h.secret, 0x9E3779B97F4A7C15)
	return hi ^ lo
}

// until returns when the ban of key ends: 0 if there is none.
func (h *hosts) until(key uint64) int64 {
	i := h.hash(key)
	bit := i >> h.shift
	if h.filter[bit>>6].Load()&(1<<(bit&63)) == 0 {
		return 0
	}
	return h.find(key, i)
}

func (h *hosts) find(key, i uint64) int64 {
	for ; ; i++ {
		s := &h.slots[i&h.mask]
		switch s.key.Load() {
		case key:
			return s.until.Load()
		case 0:
			return 0
		}
	}
}

// set puts a ban of key in force, or lifts it with until 0. It reports false
// when there is no room for another key: see next.
func (h *hosts) set(key uint64, until int64) bool {
	first := h.hash(key)
	for i := first; ; i++ {
		s := &h.slots[i&h.mask]
		switch s.key.Load() {
		case key:
			s.until.Store(until)
			return true
		case 0:
			if until == 0 {
				return true
			}
			if h.used*8 >= len(h.slots)*5 { // beyond this, chains of full slots grow long
				return false
			}
			h.used++
			s.until.Store(until) // each of these makes the one before visible
			s.key.Store(key)
			bit := first >> h.shift
			h.filter[bit>>6].Or(1 << (bit & 63))
			return true
		}
	}
}

// next returns a copy with room for more, without what has been lifted.
func (h *hosts) next() *hosts {
	live := 0
	for i := range h.slots {
		if h.slots[i].until.Load() != 0 {
			live++
		}
	}
	n := newHosts(h.secret, live+live/4)
	for i := range h.slots {
		s := &h.slots[i]
		if u := s.until.Load(); u != 0 {
			n.set(s.key.Load(), u)
		}
	}
	return n
}

// sources keeps one hosts for each family and knows how an address becomes a
// key.
type sources struct {
	v4, v6 atomic.Pointer[hosts]
	mask6  uint64 // of the upper half of an IPv6 address
	bits6  int    // 0: IPv6 sources are longer than a key
}

func (s *sources) init(secret uint64, bits6, n int) {
	s.v4.Store(newHosts(secret, n))
	s.v6.Store(newHosts(secret, minSlots/2))
	if bits6 <= 64 {
		s.bits6 = bits6
		s.mask6 = ^(^uint64(0) >> bits6)
	}
}

// key4 is never 0.
func key4(a netip.Addr) uint64 {
	b := a.As4()
	return 1<<32 | uint64(binary.BigEndian.Uint32(b[:]))
}

// key6 is 0 for ffff:ffff:ffff:ffff::/64 only, which is multicast and never a
// source.
func (s *sources) key6(upper uint64) uint64 {
	return ^(upper & s.mask6)
}

// upper returns the upper half of an IPv6 address.
func upper(a netip.Addr) uint64 {
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8])
}

// holds says whether p is a single source that fits in here, and where.
func (s *sources) holds(p netip.Prefix) (table *atomic.Pointer[hosts], key uint64, ok bool) {
	switch a := p.Addr(); {
	case a.Is4() && p.Bits() == 32:
		return &s.v4, key4(a), true
	case a.Is6() && p.Bits() == s.bits6 && s.key6(upper(a)) != 0:
		return &s.v6, s.key6(upper(a)), true
	}
	return nil, 0, false
}

// set puts until in force for the source p, or lifts it with 0. It says whether
// p belongs here.
func (s *sources) set(p netip.Prefix, until int64) bool {
	table, key, ok := s.holds(p)
	if !ok {
		return false
	}
	for h := table.Load(); !h.set(key, until); {
		h = h.next()
		table.Store(h)
	}
	return true
}
