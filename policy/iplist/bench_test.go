package iplist_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"sipward/policy/iplist"
)

// denyList is shaped like real ones: mostly hosts, some networks, some IPv6.
func denyList(n int) []iplist.Entry {
	r := rand.New(rand.NewPCG(1, 2))
	out := make([]iplist.Entry, 0, n)
	for range n {
		a := randomAddr(r, r.IntN(10) == 0)
		bits := a.BitLen()
		switch {
		case a.Is6():
			bits = 64
		case r.IntN(5) == 0:
			bits = 16 + r.IntN(12)
		}
		out = append(out, iplist.Entry{Prefix: netip.PrefixFrom(a, bits).Masked()})
	}
	return out
}

func randomAddr(r *rand.Rand, v6 bool) netip.Addr {
	if !v6 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], r.Uint32())
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], r.Uint64()>>3|0x2000000000000000)
	binary.BigEndian.PutUint64(b[8:], r.Uint64())
	return netip.AddrFrom16(b)
}

func probes(v6 bool) []netip.Addr {
	r := rand.New(rand.NewPCG(3, 4))
	out := make([]netip.Addr, 1<<14)
	for i := range out {
		out[i] = randomAddr(r, v6)
	}
	return out
}

func BenchmarkContains100k(b *testing.B) {
	s := iplist.New(denyList(100_000))
	for _, v := range []struct {
		name string
		v6   bool
	}{{"v4", false}, {"v6", true}} {
		b.Run(v.name, func(b *testing.B) {
			addrs := probes(v.v6)
			b.ReportAllocs()
			n := 0
			for i := 0; b.Loop(); i++ {
				if s.Contains(addrs[i&(len(addrs)-1)]) {
					n++
				}
			}
		})
	}
}

func TestContainsDoesNotAllocate(t *testing.T) {
	s := iplist.New(denyList(1000))
	addrs := probes(false)
	i := 0
	if n := testing.AllocsPerRun(1000, func() { s.Contains(addrs[i%len(addrs)]); i++ }); n != 0 {
		t.Errorf("Contains allocates %v times", n)
	}
}

func BenchmarkNew100k(b *testing.B) {
	entries := denyList(100_000)
	b.ReportAllocs()
	for b.Loop() {
		iplist.New(entries)
	}
}
