package rate_test

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"sipward/policy/rate"
)

func sources(n int) []netip.Addr {
	r := rand.New(rand.NewPCG(5, 6))
	out := make([]netip.Addr, n)
	for i := range out {
		out[i] = v4(r.Uint32())
	}
	return out
}

func BenchmarkLimiter(b *testing.B) {
	for _, v := range []struct {
		name string
		n    int
	}{{"one-source", 1}, {"1k-sources", 1 << 10}, {"1M-sources", 1 << 20}} {
		b.Run(v.name, func(b *testing.B) {
			l, addrs, lim := rate.NewLimiter(rate.Config{}), sources(v.n), rate.PerSecond(100, 400)
			b.ReportAllocs()
			now := int64(time.Hour)
			for i := 0; b.Loop(); i++ {
				now += 1000
				l.Allow(addrs[i&(len(addrs)-1)], now, lim)
			}
		})
	}
}

func BenchmarkLimiterParallel(b *testing.B) {
	l, addrs, lim := rate.NewLimiter(rate.Config{}), sources(1<<16), rate.PerSecond(100, 400)
	var worker atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		now := int64(time.Hour)
		for i := int(worker.Add(1)) * 9973; pb.Next(); i++ {
			now += 1000
			l.Allow(addrs[i&(len(addrs)-1)], now, lim)
		}
	})
}

func BenchmarkCounter(b *testing.B) {
	c, addrs := rate.NewCounter(rate.Config{}), sources(1<<16)
	b.ReportAllocs()
	now := int64(time.Hour)
	for i := 0; b.Loop(); i++ {
		now += 1000
		c.Add(addrs[i&(len(addrs)-1)], now, time.Minute)
	}
}

func TestNoAllocations(t *testing.T) {
	l, c, addrs := rate.NewLimiter(rate.Config{}), rate.NewCounter(rate.Config{}), sources(1024)
	addrs = append(addrs, netip.MustParseAddr("2001:db8::1"))
	lim := rate.PerSecond(100, 400)
	i := 0
	if n := testing.AllocsPerRun(2000, func() {
		a := addrs[i%len(addrs)]
		l.Allow(a, int64(i), lim)
		c.Add(a, int64(i), time.Minute)
		i++
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
