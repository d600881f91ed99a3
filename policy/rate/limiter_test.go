package rate_test

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sipward/policy/rate"
)

func v4(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

func TestLimiterBurstThenRate(t *testing.T) {
	l := rate.NewLimiter(rate.Config{Sources: 100})
	lim := rate.PerSecond(100, 400)
	a := v4(1)
	now := int64(time.Hour)
	for i := range 400 {
		if !l.Allow(a, now, lim) {
			t.Fatalf("event %d of the burst is refused", i)
		}
	}
	if l.Allow(a, now, lim) {
		t.Fatal("an event over the burst is allowed")
	}
	allowed := 0
	for range 10_000 { // 1,000 a second for ten seconds
		now += int64(time.Millisecond)
		if l.Allow(a, now, lim) {
			allowed++
		}
	}
	if allowed != 1000 {
		t.Errorf("%d allowed in ten seconds at 100/s", allowed)
	}
	now += int64(4 * time.Second)
	for i := range 400 {
		if !l.Allow(a, now, lim) {
			t.Fatalf("event %d after a pause is refused", i)
		}
	}
}

func TestLimiterTimes(t *testing.T) {
	l := rate.NewLimiter(rate.Config{Sources: 100})
	lim := rate.PerSecond(100, 400)
	count := func(a netip.Addr, lim rate.Limit) (n int) {
		for l.Allow(a, 1, lim) {
			n++
		}
		return n
	}
	if n := count(v4(1), lim.Times(10)); n != 4000 {
		t.Errorf("ten times a burst of 400 allows %d", n)
	}
	// Half of the good limit used is half of the plain one used.
	for range 2000 {
		l.Allow(v4(2), 1, lim.Times(10))
	}
	if n := count(v4(2), lim); n != 200 {
		t.Errorf("after half of ten times the burst, %d of 400 are left", n)
	}
}

func TestZeroLimitHasNoBound(t *testing.T) {
	l := rate.NewLimiter(rate.Config{Sources: 10})
	for _, lim := range []rate.Limit{{}, rate.PerSecond(0, 1), rate.PerSecond(-1, 1), rate.Limit{}.Times(10)} {
		for range 100 {
			if !l.Allow(v4(1), 0, lim) {
				t.Fatal("refused without a limit")
			}
		}
	}
}

func TestLimiterSlowRateDoesNotOverflow(t *testing.T) {
	l := rate.NewLimiter(rate.Config{Sources: 10})
	lim := rate.PerSecond(1e-9, 1<<30)
	now := time.Now().UnixNano()
	for range 5 {
		l.Allow(v4(1), now, lim)
	}
}

func TestIPv6PrefixIsOneSource(t *testing.T) {
	lim := rate.PerSecond(1, 1)
	tests := []struct {
		bits     int
		a, b     string
		together bool
	}{
		{0, "2001:db8::1", "2001:db8::ffff:1", true},
		{0, "2001:db8::1", "2001:db8:0:1::1", false},
		{56, "2001:db8::1", "2001:db8:0:ff::1", true},
		{56, "2001:db8::1", "2001:db8:0:100::1", false},
		{128, "2001:db8::1", "2001:db8::2", false},
		{0, "192.0.2.1", "192.0.2.2", false},
	}
	for _, tt := range tests {
		l := rate.NewLimiter(rate.Config{Sources: 1000, IPv6Bits: tt.bits})
		l.Allow(netip.MustParseAddr(tt.a), 1, lim)
		if got := !l.Allow(netip.MustParseAddr(tt.b), 1, lim); got != tt.together {
			t.Errorf("/%d: %s and %s are one source: %v, want %v", tt.bits, tt.a, tt.b, got, tt.together)
		}
	}
}

func TestLimiterClockStepsBack(t *testing.T) {
	l := rate.NewLimiter(rate.Config{Sources: 10})
	lim := rate.PerSecond(10, 10)
	now := int64(100 * time.Hour)
	for l.Allow(v4(1), now, lim) {
	}
	if l.Allow(v4(1), now-int64(time.Millisecond), lim) {
		t.Error("a worker whose clock is 1 ms behind forgives a source at its limit")
	}
	if !l.Allow(v4(1), now-int64(time.Hour), lim) {
		t.Error("after a step back of an hour a source is refused")
	}
}

// naive is GCRA without a cap, as the textbook has it.
type naive map[netip.Addr]float64

func (m naive) allow(a netip.Addr, now int64, perSecond float64, burst int) bool {
	interval := float64(time.Second) / perSecond
	tat := max(m[a], float64(now))
	if tat+interval-float64(now) > interval*float64(burst)+0.5 {
		return false
	}
	m[a] = tat + interval
	return true
}

func TestLimiterAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		perSecond := float64(rapid.SampledFrom([]int{1, 10, 100, 1000}).Draw(t, "rate"))
		burst := rapid.IntRange(1, 8).Draw(t, "burst")
		lim := rate.PerSecond(perSecond, burst)
		// Six sources never fill a bucket of ten.
		l, m := rate.NewLimiter(rate.Config{Sources: 10}), naive{}
		now := int64(0)
		for i := range rapid.IntRange(1, 300).Draw(t, "events") {
			now += int64(rapid.IntRange(0, 2000).Draw(t, "ms")) * int64(time.Millisecond) / 4
			a := v4(uint32(rapid.IntRange(0, 5).Draw(t, "source")))
			if got, want := l.Allow(a, now, lim), m.allow(a, now, perSecond, burst); got != want {
				t.Fatalf("event %d of %v at %d: %v, want %v", i, a, now, got, want)
			}
		}
	})
}

// A source at its limit stays limited while strangers pass through all of the
// table many times over, and memory does not grow.
func TestLimiterUnderForgedFlood(t *testing.T) {
	l := rate.NewLimiter(rate.Config{Sources: 1 << 16})
	lim := rate.PerSecond(100, 400)
	attacker := netip.MustParseAddr("198.51.100.7")
	before := heap()
	now, allowed := int64(time.Hour), 0
	for i := range uint32(forgedSources) {
		now += 3_333 // 300,000 a second
		l.Allow(v4(i*2654435761), now, lim)
		if i%300 == 0 && l.Allow(attacker, now, lim) { // 1,000 a second
			allowed++
		}
	}
	if grown := heap() - before; grown > 64<<10 {
		t.Errorf("heap grew by %d bytes", grown)
	}
	seconds := float64(forgedSources) * 3_333 / 1e9
	if most := 400 + int(seconds*100) + 1; allowed > most {
		t.Errorf("a source at 1,000/s had %d messages in %.1f s, want at most %d", allowed, seconds, most)
	}
	runtime.KeepAlive(l)
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestBytesPerSource(t *testing.T) {
	before := heap()
	l := rate.NewLimiter(rate.Config{})
	perLimit := float64(heap()-before) / float64(l.Sources())
	before = heap()
	c := rate.NewCounter(rate.Config{})
	perCount := float64(heap()-before) / float64(c.Sources())
	t.Logf("limiter: %d sources, %.1f bytes each; counter: %d sources, %.1f bytes each",
		l.Sources(), perLimit, c.Sources(), perCount)
	if l.Sources() < rate.DefaultSources || c.Sources() < rate.DefaultSources {
		t.Error("less room than asked for")
	}
	if perLimit > 12.9 || perCount > 18.4 {
		t.Errorf("%.1f and %.1f bytes for each source: more than documented", perLimit, perCount)
	}
	runtime.KeepAlive(l)
	runtime.KeepAlive(c)
}
