package ban_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sipward/policy/ban"
)

// model is the table as one would write it without a thought for speed.
type model struct {
	max, threshold int
	bans           map[netip.Prefix]ban.Record
	steps          map[netip.Prefix][]int64
}

const remember = 30 * day

func end(r ban.Record) int64 {
	if r.Until == 0 {
		return 1<<63 - 1
	}
	return r.Until
}

func (m *model) automatic(of bool) []ban.Record {
	var all []ban.Record
	for _, r := range m.bans {
		if r.Kind != ban.Manual && r.Proven == of {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b ban.Record) int {
		return cmp.Or(cmp.Compare(end(a), end(b)), cmp.Compare(a.Start, b.Start))
	})
	return all
}

func (m *model) sweep(now int64) {
	maps.DeleteFunc(m.bans, func(_ netip.Prefix, r ban.Record) bool { return end(r) <= now })
}

func (m *model) blocks(p netip.Prefix, now int64) int {
	n := 0
	for _, s := range m.steps[p] {
		if now-s < remember {
			n++
		}
	}
	return n
}

// add follows the rules in the comment of Table.Add, in their order.
func (m *model) add(r ban.Record, now int64) error {
	m.sweep(now)
	r.Start = now
	if r.Kind == ban.Manual {
		r.Proven = true
	}
	old, had := m.bans[r.Prefix]
	switch {
	case !had:
	case r.Kind == ban.Manual && (end(r) < end(old) || end(r) == end(old) && old.Kind == ban.Manual):
		return nil
	case r.Kind == ban.Manual:
	case old.Kind == ban.Manual && (!r.Proven || end(r) <= end(old)):
		return nil
	case old.Kind == ban.Manual:
	case old.Kind == ban.Permanent, old.Proven && !r.Proven:
		return nil
	case old.Proven == r.Proven && r.Kind == ban.Dynamic && r.Until < old.Until+second:
		return nil
	}
	if r.Kind != ban.Manual && (!had || old.Kind == ban.Manual) {
		weak, strong := m.automatic(false), m.automatic(true)
		if len(weak)+len(strong) >= m.max {
			if len(weak) == 0 && !r.Proven {
				return ban.ErrFull
			}
			delete(m.bans, append(weak, strong...)[0].Prefix)
		}
	}
	again := had && old.Kind == ban.Dynamic && old.Proven
	if r.Kind == ban.Dynamic && r.Proven && !again {
		m.steps[r.Prefix] = append(m.steps[r.Prefix], now)
	}
	r.Blocks = m.blocks(r.Prefix, now)
	if r.Kind == ban.Dynamic && r.Proven && m.threshold > 0 && r.Blocks >= m.threshold {
		r.Kind, r.Until = ban.Permanent, 0
	}
	if had && end(old) > end(r) {
		r.Until = old.Until
	}
	if had && r.Kind == old.Kind && (r.Kind == ban.Manual || !r.Proven || again) {
		r.Start = old.Start
	}
	m.bans[r.Prefix] = r
	return nil
}

func (m *model) lookup(a netip.Addr, now int64) (best ban.Record, found bool) {
	for _, r := range m.bans {
		if !r.Prefix.Contains(a) || end(r) <= now {
			continue
		}
		if !found || end(r) > end(best) || end(r) == end(best) && r.Prefix.Bits() > best.Prefix.Bits() {
			best, found = r, true
		}
	}
	return best, found
}

// The world is small, so that prefixes cover each other and come again.
func anyAddr(t *rapid.T) netip.Addr {
	if rapid.Bool().Draw(t, "v6") {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8:%x:%x::%x",
			rapid.IntRange(0, 1).Draw(t, "48"), rapid.IntRange(0, 3).Draw(t, "64"), rapid.IntRange(1, 2).Draw(t, "host")))
	}
	return netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", rapid.IntRange(0, 15).Draw(t, "host")))
}

func anyPrefix(t *rapid.T) netip.Prefix {
	a := anyAddr(t)
	bits := rapid.SampledFrom([]int{32, 32, 32, 32, 31, 30, 28, 24, 8})
	if a.Is6() {
		bits = rapid.SampledFrom([]int{64, 64, 64, 64, 128, 63, 48, 32, 16})
	}
	return netip.PrefixFrom(a, bits.Draw(t, "bits")).Masked()
}

func anyRecord(t *rapid.T, now int64) ban.Record {
	r := ban.Record{
		Prefix: anyPrefix(t),
		Kind:   rapid.SampledFrom([]ban.Kind{ban.Dynamic, ban.Dynamic, ban.Dynamic, ban.Permanent, ban.Manual}).Draw(t, "kind"),
		Proven: rapid.Bool().Draw(t, "proven"),
		Until:  now + rapid.SampledFrom([]int64{second / 2, second, minute, hour, 20 * day}).Draw(t, "length"),
	}
	switch r.Kind {
	case ban.Permanent:
		r.Proven, r.Until = true, 0
	case ban.Manual:
		if rapid.Bool().Draw(t, "for ever") {
			r.Until = 0
		}
	}
	return r
}

func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{max: 1000, bans: map[netip.Prefix]ban.Record{}, steps: map[netip.Prefix][]int64{}}
		if full := rapid.Bool().Draw(t, "full"); full {
			m.max = rapid.IntRange(2, 12).Draw(t, "max") // also of the steps, which the model does not forget
		} else {
			m.threshold = rapid.IntRange(0, 4).Draw(t, "threshold")
		}
		now := start
		table, err := ban.New(ban.Config{MaxEntries: m.max, Threshold: m.threshold, Remember: time.Duration(remember)}, now)
		if err != nil {
			t.Fatal(err)
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				now++ // no two bans begin together, so that who makes room is certain
				r := anyRecord(t, now)
				in, err := table.Add(r, now)
				if want := m.add(r, now); !errors.Is(err, want) {
					t.Fatalf("Add: %v, want %v", err, want)
				}
				if want := m.bans[r.Prefix]; err == nil && !m.same(in, want) {
					t.Fatalf("in force\n%+v, want\n%+v", in, want)
				}
			},
			"remove": func(t *rapid.T) {
				now++
				p := anyPrefix(t)
				m.sweep(now)
				_, want := m.bans[p]
				delete(m.bans, p)
				delete(m.steps, p)
				got, err := table.Remove(p, now)
				if err != nil || got.Removed != want {
					t.Fatalf("Remove(%v): %+v, %v", p, got, err)
				}
				longest, covered := m.lookup(p.Addr(), now)
				if covered && longest.Prefix.Bits() < p.Bits() != (len(got.Covered) > 0) && len(got.Covered) == 0 {
					t.Fatalf("Remove(%v) does not see %v", p, longest.Prefix)
				}
			},
			"wait": func(t *rapid.T) {
				now += rapid.SampledFrom([]int64{1, second / 2, minute, hour, 3 * day}).Draw(t, "time")
			},
			"sweep": func(t *rapid.T) {
				if next := table.Sweep(now); next <= now {
					t.Fatalf("after a sweep something still ended %v ago", time.Duration(now-next))
				}
			},
			"": func(t *rapid.T) {
				a := anyAddr(t)
				want, banned := m.lookup(a, now)
				if got := table.Banned(a, now); got != banned {
					t.Fatalf("Banned(%v) = %v: %+v", a, got, want)
				}
				if got, ok := table.Lookup(a, now); ok != banned || banned && !m.same(got, want) {
					t.Fatalf("Lookup(%v)\n%+v, want\n%+v", a, got, want)
				}
				if got, want := table.Blocks(a, now), m.blocks(table.Source(a), now); m.max == 1000 && got != want {
					t.Fatalf("Blocks(%v) = %d, want %d", a, got, want)
				}
				checkSnapshot(t, table, m, now)
			},
		})
	})
}

// same compares what the model knows of.
func (m *model) same(a, b ban.Record) bool {
	return a.Prefix == b.Prefix && a.Kind == b.Kind && a.Until == b.Until && a.Start == b.Start && a.Proven == b.Proven &&
		(a.Blocks == b.Blocks || m.max < 1000)
}

func checkSnapshot(t *rapid.T, table *ban.Table, m *model, now int64) {
	all, _ := table.Snapshot()
	n := 0
	for _, r := range all {
		if !r.InForce(now) {
			continue // not swept yet
		}
		n++
		if want, ok := m.bans[r.Prefix]; !ok || !m.same(r, want) {
			t.Fatalf("snapshot has\n%+v, want\n%+v", r, want)
		}
	}
	m.sweep(now)
	if n != len(m.bans) {
		t.Fatalf("snapshot has %d bans, want %d", n, len(m.bans))
	}
}
