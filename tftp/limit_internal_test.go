package tftp

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

var attacker = netip.MustParseAddr("192.0.2.1")

func testLimiter(q quota) *limiter { return newLimiter(64, 64, q) }

// TestLimitAsWritten: 100 requests pass in the minute, then 10 per minute, and the source
// is free again after a calm minute.
func TestLimitAsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := testLimiter(quota{100, time.Minute, 10})
		ask := func(n int, every time.Duration) (passed, entered, freed int) {
			for range n {
				a := l.ask(attacker, time.Now().UnixNano())
				if a.pass {
					passed++
				}
				if a.entered {
					entered++
				}
				if a.freed {
					freed++
				}
				time.Sleep(every)
			}
			return
		}
		// The 101st request within a minute is the first that does not pass.
		if p, e, f := ask(100, 500*time.Millisecond); p != 100 || e != 0 || f != 0 {
			t.Fatalf("of the first 100 requests %d passed, limited %d times, freed %d times", p, e, f)
		}
		if p, e, f := ask(20, 500*time.Millisecond); p != 0 || e != 1 || f != 0 {
			t.Fatalf("of 20 more in the same minute %d passed, limited %d times, freed %d times", p, e, f)
		}
		// From then on 10 pass in each minute, as long as more than 100 are asked for.
		ask(240, 250*time.Millisecond) // until the first hundred are more than a minute old
		for m := range 5 {
			if p, e, f := ask(240, 250*time.Millisecond); p != 10 || e != 0 || f != 0 {
				t.Fatalf("in minute %d of the limit %d of 240 passed, limited %d times, freed %d times", m, p, e, f)
			}
		}
		// Half a minute of calm is not enough.
		time.Sleep(30 * time.Second)
		if p, _, f := ask(20, 0); p == 20 || f != 0 {
			t.Fatalf("after half a minute %d of 20 passed, freed %d times", p, f)
		}
		// A whole minute with no more than 100 requests is.
		time.Sleep(time.Minute)
		if p, e, f := ask(100, 0); p != 100 || e != 0 || f != 1 {
			t.Fatalf("after a calm minute %d of 100 passed, limited %d times, freed %d times", p, e, f)
		}
		if p, e, _ := ask(50, 0); p != 0 || e != 1 {
			t.Fatalf("of 50 more %d passed, limited %d times", p, e)
		}
		// Nobody has to ask for that to be told.
		var freed []netip.Addr
		tell := func(a netip.Addr) { freed = append(freed, a) }
		time.Sleep(59 * time.Second)
		if l.sweep(time.Now().UnixNano(), tell); len(freed) != 0 || l.limitedSources() != 1 {
			t.Fatalf("freed after 59 s: %v", freed)
		}
		time.Sleep(time.Second)
		if l.sweep(time.Now().UnixNano(), tell); len(freed) != 1 || freed[0] != attacker || l.limitedSources() != 0 {
			t.Fatalf("freed after 60 s: %v", freed)
		}
	})
}

// TestClockSetBack: who was limited, or close to it, is not kept from asking until a clock
// that was set back has caught up.
func TestClockSetBack(t *testing.T) {
	q := quota{10, time.Minute, 2}
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC).UnixNano()
	for _, asked := range []int{q.threshold + 1, 3 * q.threshold} {
		l := testLimiter(q)
		for range asked {
			l.ask(attacker, now)
		}
		l.refuse(attacker, now+minute)
		back := now - 24*60*minute
		for i := range q.threshold {
			if a := l.ask(attacker, back); !a.pass || a.entered {
				t.Fatalf("%d requests and a day back, number %d: %+v", asked, i+1, a)
			}
		}
		l.ask(attacker, back)
		if a := l.ask(attacker, back); a.pass {
			t.Error("then it has no limit any more")
		}
		l = testLimiter(q)
		for range asked {
			l.ask(attacker, now)
		}
		freed := 0
		if l.sweep(back, func(netip.Addr) { freed++ }); freed != 1 || l.limitedSources() != 0 {
			t.Errorf("%d requests and a day back: %d freed, %d limited", asked, freed, l.limitedSources())
		}
	}
}

// TestCalmIsUnderTheThreshold: who goes on, but with no more than the threshold in a
// period, is free after it.
func TestCalmIsUnderTheThreshold(t *testing.T) {
	l := testLimiter(quota{10, time.Minute, 1})
	now := int64(time.Hour)
	for range 11 {
		l.ask(attacker, now)
	}
	for i := range 11 {
		now += int64(6 * time.Second)
		if a := l.ask(attacker, now); a.freed != (i == 9) {
			t.Fatalf("after %v: %+v", time.Duration(i+1)*6*time.Second, a)
		}
	}
}

// naive is the limiter in its simplest form.
type naive struct {
	q             quota
	asked, passed []int64
	limited       bool
	since         int64
}

func within(times []int64, now int64, age int64) (n int) {
	for _, t := range times {
		if now-t < age {
			n++
		}
	}
	return n
}

func (m *naive) ask(now int64) (a admission) {
	p := int64(m.q.period)
	if m.limited && now-m.since >= p && within(m.asked, now, p) <= m.q.threshold {
		m.limited, a.freed = false, true
	}
	m.asked = append(m.asked, now)
	if !m.limited && within(m.asked, now, p) > m.q.threshold {
		m.limited, m.since, a.entered = true, now, true
	}
	a.pass = !m.limited || within(m.passed, now, minute) < m.q.rate
	if a.pass {
		m.passed = append(m.passed, now)
	}
	return a
}

// TestLimiterAgainstNaive compares with the simplest one that there is.
func TestLimiterAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := quota{
			threshold: rapid.IntRange(1, 12).Draw(t, "threshold"),
			period:    time.Duration(rapid.IntRange(1, 120).Draw(t, "period")) * time.Second,
			rate:      rapid.IntRange(0, 12).Draw(t, "rate"),
		}
		l := testLimiter(q)
		sources := []netip.Addr{attacker, netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::1")}
		models := make([]naive, len(sources))
		for i := range models {
			models[i].q = q
		}
		now := int64(time.Hour)
		for range rapid.IntRange(1, 150).Draw(t, "requests") {
			now += int64(rapid.SampledFrom([]time.Duration{0, time.Millisecond, 500 * time.Millisecond, time.Second, 10 * time.Second, time.Minute, q.period}).Draw(t, "pause"))
			i := rapid.IntRange(0, len(sources)-1).Draw(t, "source")
			if got, want := l.ask(sources[i], now), models[i].ask(now); got != want {
				t.Fatalf("%v at %v: %+v, the naive one says %+v", sources[i], time.Duration(now), got, want)
			}
		}
	})
}

// TestSweepAndRetry: who tries the names of many phones is seen, a phone that asks again
// and again is not, nor an office whose phones ask for what is not there beside what is.
func TestSweepAndRetry(t *testing.T) {
	const limit = 30
	now := int64(time.Hour)
	mac := func(i int) []byte { return fmt.Appendf(nil, "0004f2%06x.cfg", i) }
	t.Run("sweep", func(t *testing.T) {
		l := testLimiter(quota{100, time.Minute, 10})
		for i := range limit {
			if n := l.miss(attacker, mac(i), limit, now+int64(i)*int64(time.Second)); (n >= limit) != (i == limit-1) {
				t.Fatalf("at name %d: %d", i, n)
			}
		}
	})
	t.Run("slow sweep", func(t *testing.T) {
		l := testLimiter(quota{100, time.Minute, 10})
		for i := range 200 {
			if n := l.miss(attacker, mac(i), limit, now+int64(i)*3*int64(time.Second)); n > 0 {
				t.Fatalf("20 names a minute are too many: %d", n)
			}
		}
	})
	t.Run("retry", func(t *testing.T) {
		l := testLimiter(quota{100, time.Minute, 10})
		for i := range 1000 {
			for _, file := range []string{"0004f2aabbcc.cfg", "0004f2aabbcc-license.cfg", "dialplan.xml"} {
				if n := l.miss(attacker, []byte(file), limit, now+int64(i)*int64(time.Second)/10); n > 0 {
					t.Fatalf("three names, the %d. time: %d", i, n)
				}
			}
		}
	})
	t.Run("office", func(t *testing.T) {
		l := testLimiter(quota{100, time.Minute, 10})
		for phone := range 40 {
			for _, suffix := range []string{".cfg", "-web.cfg", "-phone.cfg", "-license.cfg", "-directory.xml"} {
				if n := l.miss(attacker, append(mac(phone), suffix...), limit, now); n > 0 {
					t.Fatalf("phone %d: %d", phone, n)
				}
			}
			l.got(attacker, append(mac(phone), "found"...), now)
		}
	})
	t.Run("same file again", func(t *testing.T) {
		l := testLimiter(quota{100, time.Minute, 10})
		seen := false
		for i := range 60 {
			seen = seen || l.miss(attacker, mac(i), limit, now) > 0
			l.got(attacker, []byte("firmware.bin"), now) // known to him, and forgives nothing more
		}
		if !seen {
			t.Error("a sweep between reads of one file was not seen")
		}
	})
}

// TestLimitedStays: forged sources push out nobody who is limited.
func TestLimitedStays(t *testing.T) {
	l := testLimiter(quota{5, time.Minute, 0})
	now := int64(time.Hour)
	for range 6 {
		l.ask(attacker, now)
	}
	for i := range 100_000 {
		l.ask(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), now+int64(i))
	}
	if a := l.ask(attacker, now+int64(time.Second)); a.pass {
		t.Error("a flood of forged sources has freed a limited one")
	}
}

func TestRefuseAndForgive(t *testing.T) {
	l := testLimiter(quota{5, time.Minute, 5})
	now := int64(time.Hour)
	l.refuse(attacker, now+minute)
	if a := l.ask(attacker, now); a.pass || !a.refused {
		t.Errorf("%+v", a)
	}
	l.forgive(attacker)
	if a := l.ask(attacker, now); !a.pass {
		t.Errorf("%+v", a)
	}
	if s := l.state(attacker, now); s.asked != 1 || s.limited {
		t.Errorf("%+v", s)
	}
}

func TestLimiterNoAllocs(t *testing.T) {
	l := testLimiter(quota{100, time.Minute, 10})
	now, file := int64(time.Hour), []byte("0004f2aabbcc.cfg")
	if n := testing.AllocsPerRun(1000, func() {
		now += 1000
		l.ask(attacker, now)
		l.miss(attacker, file, 30, now)
		l.got(attacker, file, now)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLimiter(b *testing.B) {
	l := newLimiter(defaultSources, 64, quota{100, time.Minute, 10})
	now := int64(time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		now += 1000
		l.ask(attacker, now)
	}
}
