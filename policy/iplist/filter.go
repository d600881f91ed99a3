package iplist

import (
	"encoding/binary"
	"net/netip"
)

// filterBits is the prefix length that the filter tells apart: 2^20 bits are
// 128 KiB, which stays in a processor's second cache.
const filterBits = 20

// filterFrom is the number of IPv4 prefixes from which on a filter pays.
const filterFrom = 1024

// filter has a bit for each IPv4 /20 that holds a part of the set. During a
// flood from forged addresses nearly every address is in none of them, and one
// bit says so; to walk the tree of a large set would fetch several places in
// memory that are not in the cache.
type filter [1 << (filterBits - 6)]uint64

func newFilter(entries []Entry) *filter {
	f := new(filter)
	for _, e := range entries {
		if !e.Prefix.Addr().Is4() {
			continue
		}
		first := blockOf(e.Prefix.Addr())
		last := first + 1<<max(filterBits-e.Prefix.Bits(), 0) - 1
		for i := first; i <= last; i++ {
			f[i>>6] |= 1 << (i & 63)
		}
	}
	return f
}

func (f *filter) mayContain(addr netip.Addr) bool {
	i := blockOf(addr)
	return f[i>>6]&(1<<(i&63)) != 0
}

// blockOf returns the number of the /20 that an IPv4 address is in.
func blockOf(addr netip.Addr) uint32 {
	b := addr.As4()
	return binary.BigEndian.Uint32(b[:]) >> (32 - filterBits)
}
