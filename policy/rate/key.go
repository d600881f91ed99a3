// Package rate holds limits and counts per source in memory whose size is
// fixed when it is made, whatever strangers send.
//
// Both tables are set-associative: a keyed hash of the source chooses a
// bucket, and a bucket holds a few sources beside its own small lock, so
// workers only meet when their sources share a bucket. The key of the hash is
// random for each process: a stranger cannot choose addresses that fall into
// someone's bucket. When a bucket is full the source that is least worth
// remembering makes room; each table says which that is.
//
// A source is an IPv4 address, or an IPv6 prefix (a /64 unless told
// otherwise), since a host commonly holds a whole one.
package rate

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"net/netip"
)

// DefaultSources is the number of sources that a table has room for when its
// configuration does not say.
const DefaultSources = 1 << 18

// DefaultIPv6Bits is the length of the IPv6 prefix that counts as one source.
const DefaultIPv6Bits = 64

// Config sizes a table.
type Config struct {
	Sources  int // room for this many sources, rounded up; 0: DefaultSources
	IPv6Bits int // length of the IPv6 prefix that is one source; 0: DefaultIPv6Bits
}

// keyer maps a source to a bucket and to a fingerprint within it.
type keyer struct {
	seed       maphash.Seed
	maskHi     uint64 // masks for the halves of an IPv6 address
	maskLo     uint64
	bucketMask uint32
}

func newKeyer(cfg Config, ways int) keyer {
	sources, v6 := cfg.Sources, cfg.IPv6Bits
	if sources <= 0 {
		sources = DefaultSources
	}
	if v6 <= 0 || v6 > 128 {
		v6 = DefaultIPv6Bits
	}
	buckets := uint32(1) << bits.Len32(uint32((sources-1)/ways))
	return keyer{
		seed:       maphash.MakeSeed(),
		maskHi:     ^(^uint64(0) >> min(v6, 64)),
		maskLo:     ^(^uint64(0) >> max(v6-64, 0)),
		bucketMask: buckets - 1,
	}
}

// of returns the bucket and the fingerprint of addr: different bits of one
// hash. Two sources that share both share a limit; for a given source that is
// one chance in 2^32 for each other one in its bucket.
func (k *keyer) of(addr netip.Addr) (bucket, fingerprint uint32) {
	b := addr.As16()
	if !addr.Is4() {
		binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])&k.maskHi)
		binary.BigEndian.PutUint64(b[8:], binary.BigEndian.Uint64(b[8:])&k.maskLo)
	}
	h := maphash.Bytes(k.seed, b[:])
	return uint32(h>>32) & k.bucketMask, uint32(h)
}
