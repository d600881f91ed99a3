package gate_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"sipward/policy/gate"
	"sipward/policy/iplist"
)

func random4(r *rand.Rand) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], r.Uint32())
	return netip.AddrFrom4(b)
}

// bigGate has 100,000 deny entries, most of them hosts.
func bigGate() *gate.Gate {
	r := rand.New(rand.NewPCG(1, 2))
	deny := make([]iplist.Entry, 100_000)
	for i := range deny {
		a, bits := random4(r), 32
		if i%10 == 0 {
			bits = 20 + r.IntN(12)
		}
		deny[i].Prefix = netip.PrefixFrom(a, bits).Masked()
	}
	return gate.New(gate.Config{Rules: gate.Rules{
		Allow:   set("10.1.0.0/16", "2001:db8:1::/64"),
		PBX:     set("10.2.0.1"),
		Trusted: set("10.3.0.0/24"),
		Deny:    iplist.New(deny), FloodRate: 100, FloodBurst: 400,
	}})
}

func strangers(n int) []netip.Addr {
	r := rand.New(rand.NewPCG(7, 8))
	out := make([]netip.Addr, n)
	for i := range out {
		out[i] = random4(r)
	}
	return out
}

func BenchmarkCheck(b *testing.B) {
	g := bigGate()
	for _, v := range []struct {
		name  string
		addrs []netip.Addr
	}{
		{"one-stranger", strangers(1)},
		{"1k-strangers", strangers(1 << 10)},
		{"64k-strangers", strangers(1 << 16)},
		{"1M-forged", strangers(1 << 20)},
		{"trunk", []netip.Addr{netip.MustParseAddr("10.3.0.1")}},
		{"allowed", []netip.Addr{netip.MustParseAddr("10.1.2.3")}},
	} {
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			now := int64(time.Hour)
			for i := 0; b.Loop(); i++ {
				now += 2000
				g.Check(v.addrs[i&(len(v.addrs)-1)], now)
			}
		})
	}
}

func BenchmarkCheckParallel(b *testing.B) {
	g, addrs := bigGate(), strangers(1<<14)
	var worker atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		now := int64(time.Hour)
		for i := int(worker.Add(1)) * 9973; pb.Next(); i++ {
			now += 2000
			g.Check(addrs[i&(len(addrs)-1)], now)
		}
	})
}

func TestCheckDoesNotAllocate(t *testing.T) {
	g := bigGate()
	addrs := append(strangers(1000), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("10.3.0.1"))
	i := 0
	if n := testing.AllocsPerRun(5000, func() { g.Check(addrs[i%len(addrs)], int64(i)); i++ }); n != 0 {
		t.Errorf("Check allocates %v times", n)
	}
}
