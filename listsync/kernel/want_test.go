package kernel

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestWantedAgainstNaive applies random changes, and what changes says to a
// naive copy of the kernel: it must hold what is wanted then.
func TestWantedAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const now = int64(1000)
		limit := rapid.IntRange(1, 12).Draw(t, "max")
		w := newWanted(limit)
		kernel := make(map[netip.Prefix]time.Duration)
		timed, static := make(map[netip.Prefix]int64), make(map[netip.Prefix]bool)
		prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
			return netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/32", rapid.IntRange(0, 15).Draw(t, "host")))
		})
		until := rapid.SampledFrom([]int64{0, 500, 2000, 3000})
		flush := func() {
			for _, o := range w.changes(now) {
				_, there := kernel[o.prefix]
				if o.fresh && there {
					t.Fatalf("%v is said to be fresh and is there", o.prefix)
				}
				delete(kernel, o.prefix)
				if !o.del {
					kernel[o.prefix] = o.left
				}
			}
		}
		check := func() {
			flush()
			want := make(map[netip.Prefix]time.Duration)
			for p, u := range timed {
				if u == 0 || u > now {
					want[p] = time.Duration(max(u-now, 0))
				}
			}
			for p := range static {
				want[p] = 0
			}
			for p, left := range kernel {
				if l, ok := want[p]; !ok || l != left {
					t.Fatalf("the kernel has %v for %v, want %v (%v)", p, left, l, ok)
				}
			}
			if len(kernel) > limit {
				t.Fatalf("the kernel has %d entries of %d", len(kernel), limit)
			}
			if w.over() == 0 && len(kernel) != len(want) {
				t.Fatalf("the kernel has %v, want %v", kernel, want)
			}
			if w.over() != len(w.items)-w.in || w.in > limit {
				t.Fatalf("over %d, in %d, items %d", w.over(), w.in, len(w.items))
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				p, u := prefix.Draw(t, "prefix"), until.Draw(t, "until")
				timed[p] = u
				w.timed(Entry{p, u}, false)
			},
			"remove": func(t *rapid.T) {
				p := prefix.Draw(t, "prefix")
				delete(timed, p)
				w.timed(Entry{Prefix: p}, true)
			},
			"lists": func(t *rapid.T) {
				clear(static)
				for _, p := range rapid.SliceOfN(prefix, 0, 5).Draw(t, "static") {
					static[p] = true
				}
				w.resetStatic(static)
			},
			"reset": func(t *rapid.T) {
				timed = rapid.MapOfN(prefix, until, 0, 10).Draw(t, "timed")
				w.resetTimed(timed)
			},
			"replace": func(*rapid.T) {
				clear(kernel)
				for _, e := range w.all(now) {
					kernel[e.prefix] = e.left
				}
				valid := 0
				for _, i := range w.items {
					if _, ok := i.left(now); ok {
						valid++
					}
				}
				if len(kernel) != min(valid, limit) {
					t.Fatalf("%d entries are in, want %d of at most %d", len(kernel), valid, limit)
				}
			},
			"sweep": func(*rapid.T) { w.sweep(now) },
			"flush": func(*rapid.T) { flush() },
			"":      func(*rapid.T) { check() },
		})
	})
}

func TestElements(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7/24":         "[192.0.2.0/24]",
		"0.0.0.0/0":            "[0.0.0.0/1 128.0.0.0/1]",
		"::/0":                 "[::/1 8000::/1]",
		"2001:db8::1/64":       "[2001:db8::/64]",
		"::ffff:192.0.2.1/128": "[192.0.2.1/32]",
		"::ffff:192.0.2.1/120": "[192.0.2.0/24]",
	} {
		if got := fmt.Sprint(elements(netip.MustParsePrefix(in))); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	if got := elements(netip.Prefix{}); len(got) != 0 {
		t.Errorf("of no prefix: %v", got)
	}
}

func TestAgree(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		have, want, longest time.Duration
		agree               bool
	}{
		{0, 0, 0, true}, {0, day, 0, false}, {day, 0, 0, false}, {day, day + time.Second, 0, true}, {day, day + time.Minute, 0, false},
		{20 * day, 90 * day, 24 * day, true}, {11 * day, 90 * day, 24 * day, false}, {0, 90 * day, 24 * day, false},
	} {
		if got := agree(c.have, c.want, c.longest); got != c.agree {
			t.Errorf("agree(%v, %v, %v) = %v", c.have, c.want, c.longest, got)
		}
	}
}
