package upstream

import (
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
)

// candidate is a PBX in the hash.
type candidate struct {
	pbx       *PBX
	datagrams bool // it speaks UDP
	seed      uint64
	weight    uint64
}

// Pick returns the PBX of an account among those that are up and speak UDP, or nil when
// there is none. The account is compared byte for byte. It does not allocate.
func (p *Pool) Pick(account []byte) *PBX {
	m := p.members.Load()
	if len(m.all) == 1 {
		return m.only(datagrams)
	}
	return m.pick(account, datagrams)
}

// PickStream is Pick for what came over a reliable transport, for which every PBX will do: it
// passes over PBXes that refused a connection lately, unless no other is left.
func (p *Pool) PickStream(account []byte) *PBX {
	m := p.members.Load()
	if len(m.all) == 1 {
		return m.only(anything)
	}
	if pbx := m.pick(account, accepting); pbx != nil {
		return pbx
	}
	return m.pick(account, anything)
}

// need is what is asked of a PBX besides that it is up.
type need uint8

const (
	anything  need = iota
	datagrams      // it speaks UDP
	accepting      // it has not refused a connection lately
)

func (m *members) only(n need) *PBX {
	if pbx := m.all[0]; pbx.up.Load() && (n != datagrams || m.datagrams) {
		return pbx
	}
	return nil
}

func (m *members) pick(account []byte, n need) *PBX {
	h := hashBytes(account)
	for _, group := range [...][]candidate{m.weighted, m.reserve} {
		if pbx := m.choose(group, h, n); pbx != nil {
			return pbx
		}
	}
	return nil
}

// choose does weighted rendezvous hashing (highest random weight): each
// candidate draws a number in (0,1) that depends on it and the account alone,
// and the least -log(draw)/weight wins. So each has its share, and without one
// candidate only those accounts move that it had won.
func (m *members) choose(group []candidate, account uint64, n need) *PBX {
	var best *candidate
	var least uint64
	for i := range group {
		c := &group[i]
		if !c.pbx.up.Load() || n == accepting && c.pbx.refusing() || n == datagrams && !c.datagrams {
			continue
		}
		score := m.logs.negative(mix(account^c.seed, c.seed))
		// score/c.weight < least/best.weight, without dividing.
		if best == nil || score*best.weight < least*c.weight {
			best, least = c, score
		}
	}
	if best == nil {
		return nil
	}
	return best.pbx
}

// maxWeight keeps choose's products within 64 bits: a score has at most 39.
const maxWeight = 1_000_000

// logTable holds log2(1+i/256) × 2^32. Integers, and not math.Log: that is
// slower, and differs between processors in its last bit.
type logTable [257]uint64

func newLogTable() *logTable {
	var t logTable
	for i := range t {
		t[i] = uint64(math.Round(math.Log2(1+float64(i)/256) * (1 << 32)))
	}
	return &t
}

// negative returns -log2(x/2^64) × 2^32, by linear interpolation.
func (t *logTable) negative(x uint64) uint64 {
	zeros := bits.LeadingZeros64(x | 1)
	x = (x | 1) << zeros
	i, rest := x>>55&0xff, x>>23&0xffffffff
	return uint64(zeros+1)<<32 - t[i] - (t[i+1]-t[i])*rest>>32
}

// The hash must be the same on every node and after a restart, and needs to
// be even, not secret: whoever chooses his account's name to come to a certain
// PBX gains nothing. The constants are the fractional digits of pi.
const (
	pi0 = 0x243f6a8885a308d3
	pi1 = 0x13198a2e03707344
	pi2 = 0xa4093822299f31d0
)

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^pi0, b^pi1)
	hi, lo = bits.Mul64(hi^lo^pi2, pi0)
	return hi ^ lo
}

func hashBytes(b []byte) uint64 {
	h := uint64(len(b)) ^ pi2
	for len(b) >= 8 {
		h = mix(h^binary.LittleEndian.Uint64(b), pi2)
		b = b[8:]
	}
	var last uint64
	for i, c := range b {
		last |= uint64(c) << (8 * i)
	}
	return mix(h^last, pi0)
}

func hashAddress(ap netip.AddrPort) uint64 {
	var b [18]byte
	a := ap.Addr().As16()
	copy(b[:], a[:])
	binary.BigEndian.PutUint16(b[16:], ap.Port())
	return hashBytes(b[:])
}

func stableID(ap netip.AddrPort) uint16 { return uint16(hashAddress(ap) >> 48) }
