package policy

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"net/netip"

	"sipward/policy/rate"
)

// keys makes the keys of the tables: hashes under a secret of this engine. Two
// different things share a key with a chance of one in 2^64.
type keys struct {
	seed   maphash.Seed
	secret uint64
	v6     int // length of the IPv6 prefix that is one source
	hi, lo uint64
}

func newKeys(v6 int) keys {
	if v6 <= 0 || v6 > 128 {
		v6 = rate.DefaultIPv6Bits
	}
	seed := maphash.MakeSeed()
	return keys{
		seed:   seed,
		secret: maphash.String(seed, "join"),
		v6:     v6,
		hi:     ^(^uint64(0) >> min(v6, 64)),
		lo:     ^(^uint64(0) >> max(v6-64, 0)),
	}
}

// prefix returns the source that an address belongs to: an IPv4 address, or an
// IPv6 prefix.
func (k *keys) prefix(addr netip.Addr) netip.Prefix {
	n := k.v6
	if addr.Is4() {
		n = 32
	}
	p, _ := addr.Prefix(n) // n is in range; of an invalid address it is the zero prefix
	return p
}

// source returns the key of the source that an address belongs to.
func (k *keys) source(addr netip.Addr) uint64 {
	b := addr.As16()
	if !addr.Is4() {
		binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])&k.hi)
		binary.BigEndian.PutUint64(b[8:], binary.BigEndian.Uint64(b[8:])&k.lo)
	}
	return maphash.Bytes(k.seed, b[:]) | 1
}

// account returns the key of an account that appendAccount has spelled.
func (k *keys) account(a []byte) uint64 { return maphash.Bytes(k.seed, a) | 1 }

// maxAccount is how much of an account counts; no real one is as long.
const maxAccount = 128

// appendAccount appends user@domain, or what else names an account, in the one
// spelling that counts: escapes are resolved, and the case of letters does not
// matter. For the domain both are the rule (RFC 3261 §19.1.4), and many
// registrars look users up in that way, so who guesses must not get a fresh
// count by writing ALICE.
func appendAccount(dst, a []byte) []byte {
	if bytes.IndexByte(a, '%') < 0 { // almost always
		at := len(dst)
		dst = append(dst, a[:min(len(a), max(maxAccount-at, 0))]...)
		for i, c := range dst[at:] {
			if 'A' <= c && c <= 'Z' {
				dst[at+i] = c | 0x20
			}
		}
		return dst
	}
	for i := 0; i < len(a) && len(dst) < maxAccount; i++ {
		c := a[i]
		if c == '%' && i+2 < len(a) {
			if hi, lo := unhex(a[i+1]), unhex(a[i+2]); hi|lo < 16 {
				c = hi<<4 | lo
				i += 2
			}
		}
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 0xff
}

// join returns the key of two things together.
func (k *keys) join(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^k.secret, b^0x9E3779B97F4A7C15)
	h := hi ^ lo ^ a
	h = (h ^ h>>29) * 0xBF58476D1CE4E5B9 // ports and the like are not spread by one product
	return h ^ h>>32 | 1
}
