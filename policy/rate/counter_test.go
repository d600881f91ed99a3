package rate_test

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sipward/policy/rate"
)

type naiveCount struct {
	start int64
	n     uint32
}

func TestCounterAgainstNaive(t *testing.T) {
	const period = 10 * time.Second
	rapid.Check(t, func(t *rapid.T) {
		c, m := rate.NewCounter(rate.Config{Sources: 7}), map[netip.Addr]naiveCount{}
		now := int64(0)
		for i := range rapid.IntRange(1, 300).Draw(t, "events") {
			now += int64(rapid.IntRange(0, 3000).Draw(t, "ms")) * int64(time.Millisecond)
			a := v4(uint32(rapid.IntRange(0, 5).Draw(t, "source")))
			e := m[a]
			if e.n == 0 || now-e.start >= int64(period) {
				e = naiveCount{start: now}
			}
			if got := c.Count(a, now, period); got != e.n {
				t.Fatalf("event %d: Count %d, want %d", i, got, e.n)
			}
			e.n++
			m[a] = e
			if got := c.Add(a, now, period); got != e.n {
				t.Fatalf("event %d: Add %d, want %d", i, got, e.n)
			}
		}
	})
}

// One who keeps doing it is not pushed out by many who do it once.
func TestCounterUnderForgedFlood(t *testing.T) {
	c := rate.NewCounter(rate.Config{Sources: 1 << 12})
	bad := netip.MustParseAddr("198.51.100.7")
	now := int64(0)
	for range 20 {
		c.Add(bad, now, time.Minute)
	}
	for i := range uint32(forgedSources) {
		now += int64(10 * time.Microsecond)
		c.Add(v4(i*2654435761), now, time.Minute)
	}
	if n := c.Count(bad, now, time.Minute); n != 20 {
		t.Errorf("count of the repeater is %d, want 20", n)
	}
	if n := c.Count(bad, int64(time.Minute), time.Minute); n != 0 {
		t.Errorf("count after the period is %d", n)
	}
}

func TestCounterClockStepsBack(t *testing.T) {
	c := rate.NewCounter(rate.Config{Sources: 10})
	now := int64(100 * time.Hour)
	c.Add(v4(1), now, time.Minute)
	if n := c.Add(v4(1), now-int64(time.Millisecond), time.Minute); n != 2 {
		t.Errorf("1 ms behind: %d, want 2", n)
	}
	if n := c.Add(v4(1), now-int64(time.Hour), time.Minute); n != 1 {
		t.Errorf("an hour behind: %d, want 1", n)
	}
}
