package policy

import (
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Every structure that counts is compared with one that is too slow and too
// large to be used, but plain.

func drawStep(t *rapid.T, most time.Duration) int64 {
	return int64(rapid.IntRange(0, int(most/time.Millisecond)).Draw(t, "ms")) * int64(time.Millisecond)
}

// age is the age of a moment as the tables see it, in whole ticks.
func age(at, now int64) int64 { return (now>>tickBits - at>>tickBits) << tickBits }

type naiveGuess struct {
	at      int64
	failed  bool
	account uint16
}

// naiveTries is tries without bounds.
type naiveTries map[uint32]naiveGuess

func (n naiveTries) count(now, period int64) (failed, pending int) {
	for _, g := range n {
		switch {
		case g.failed && age(g.at, now) < period:
			failed++
		case !g.failed && age(g.at, now) < pendingTime:
			pending++
		}
	}
	return failed, pending
}

func (n naiveTries) ask(id uint32, account uint16, now, period int64, limit int) askVerdict {
	failed, pending := n.count(now, period)
	g, known := n[id]
	live := known && (g.failed && age(g.at, now) < period || !g.failed && age(g.at, now) < pendingTime)
	switch {
	case failed >= limit:
		return askTooMany
	case live:
		return askPass
	case failed+pending >= limit:
		return askWait
	}
	n[id] = naiveGuess{at: now, account: account}
	return askPass
}

func (n naiveTries) fail(id uint32, account uint16, now, period int64) (int, bool) {
	g, known := n[id]
	fresh := !known || !g.failed || age(g.at, now) >= period
	if fresh {
		n[id] = naiveGuess{at: now, failed: true, account: account}
	}
	failed, _ := n.count(now, period)
	return failed, fresh
}

func TestTriesAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const period = int64(20 * time.Second)
		limit := rapid.IntRange(1, slots).Draw(t, "limit")
		var v tries
		n := naiveTries{}
		now := int64(time.Hour)
		for i := range rapid.IntRange(1, 400).Draw(t, "steps") {
			now += drawStep(t, 2*time.Second)
			id := uint32(rapid.IntRange(1, 30).Draw(t, "id"))
			account := uint16(rapid.IntRange(1, 3).Draw(t, "account"))
			v.touch(now)
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			default:
				want := n.ask(id, account, now, period, limit)
				if got := v.ask(guessed{id: id, account: account}, now, period, limit); got != want {
					t.Fatalf("step %d: ask is %d, want %d", i, got, want)
				}
			case 4, 5, 6: // only what was asked is answered
				if g, ok := n[id]; !ok || g.failed || age(g.at, now) >= pendingTime {
					continue
				}
				wantN, wantFresh := n.fail(id, account, now, period)
				gotN, gotFresh := v.fail(guessed{id: id, account: account}, now, period)
				if gotN != wantN || gotFresh != wantFresh {
					t.Fatalf("step %d: fail is %d, %v, want %d, %v", i, gotN, gotFresh, wantN, wantFresh)
				}
			case 7:
				v.settle(id)
				if g, ok := n[id]; ok && !g.failed {
					delete(n, id)
				}
			case 8:
				v.forgive(account)
				for id, g := range n {
					if g.failed && g.account == account {
						delete(n, id)
					}
				}
			}
			gf, gp := v.count(now, period)
			wf, wp := n.count(now, period)
			if gf != wf || gp != wp {
				t.Fatalf("step %d: %d failed, %d pending, want %d, %d", i, gf, gp, wf, wp)
			}
		}
	})
}

// Beyond the slots, failures are counted by quarters of the period: never one
// that is older than the period, always those of its latest three quarters.
func TestTriesBeyondTheSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		period := int64(rapid.IntRange(4, 100).Draw(t, "period")) * second
		var v tries
		var failed []int64
		now := int64(time.Hour)
		for i := range rapid.IntRange(1, 300).Draw(t, "steps") {
			now += drawStep(t, time.Second)
			v.touch(now)
			got, _ := v.fail(guessed{id: uint32(i + 1), account: 1}, now, period)
			failed = append(failed, now)
			least, most := 0, 0
			for _, at := range failed {
				if now-at < period*3/4-2<<tickBits {
					least++
				}
				if now-at < period+2<<tickBits {
					most++
				}
			}
			if got < least || got > most {
				t.Fatalf("step %d: %d failures, want %d to %d", i, got, least, most)
			}
		}
	})
}

func TestTriesForgetWhatTicksCannotTell(t *testing.T) {
	var v tries
	now := int64(time.Hour)
	v.touch(now)
	for i := range uint32(5) {
		v.fail(guessed{id: i + 1, account: 1}, now, 60*second)
	}
	for _, later := range []int64{1 << (32 + tickBits), 1<<(32+tickBits) + second, 1 << (31 + tickBits)} {
		w := v
		w.touch(now + later)
		if n, _ := w.count(now+later, 60*second); n != 0 {
			t.Errorf("%v later: %d failures", time.Duration(later), n)
		}
	}
	w := v
	w.touch(now - int64(time.Minute))
	if n, _ := w.count(now-int64(time.Minute), 60*second); n != 0 {
		t.Errorf("a minute earlier: %d failures", n)
	}
}

func TestProbesAgainstNaive(t *testing.T) {
	const period = 60 * second
	type naive struct {
		at    int64
		flags probeFlags
	}
	rapid.Check(t, func(t *rapid.T) {
		p := newProbes(64)
		n := map[uint64]*naive{}
		now := int64(time.Hour)
		s := &subject{source: 77}
		for i := range rapid.IntRange(1, 300).Draw(t, "steps") {
			now += drawStep(t, time.Second)
			s.now, s.account = now, uint64(rapid.IntRange(1, 110).Draw(t, "account"))<<9
			for a, v := range n {
				if age(v.at, now) >= period {
					delete(n, a)
				}
			}
			v := n[s.account]
			switch rapid.IntRange(0, 7).Draw(t, "what") {
			case 0:
				p.change(s, s.account, func(b *probe) { *b = probe{} })
				delete(n, s.account)
			case 1:
				p.change(s, s.account, func(b *probe) { b.flags |= probeAwaits })
				if v != nil {
					v.flags |= probeAwaits
				}
			default:
				flags := probeFlags(rapid.IntRange(0, 3).Draw(t, "flags"))
				if v == nil {
					v = &naive{at: now}
					n[s.account] = v
				} else if age(v.at, now) > patience {
					v.at = now - patience
				}
				v.flags = v.flags&^probeAwaits | flags
				got, _ := p.add(s.source, s.account, flags, now, period)
				var want probeCount
				for _, v := range n {
					if v.flags&probeAwaits != 0 {
						continue
					}
					aged := 0
					if age(v.at, now) >= patience-1<<tickBits {
						aged = 1
					}
					class := int(v.flags & probeProven)
					want.all[class]++
					want.aged[class] += aged
					if v.flags&3 == 3 {
						want.allFailed++
						want.agedFailed += aged
					}
				}
				if got != want {
					t.Fatalf("step %d: %+v, want %+v", i, got, want)
				}
			}
		}
	})
}

// With more accounts than there is room for, those from proven sources stay.
func TestProbesKeepTheProven(t *testing.T) {
	p := newProbes(64)
	now := int64(time.Hour)
	for i := range uint64(10) {
		p.add(77, (i+1)<<9, probeProven, now, 60*second)
	}
	var n probeCount
	for i := range uint64(10_000) {
		now += int64(time.Millisecond)
		n, _ = p.add(77, (i+100)<<9, 0, now, 60*second)
	}
	if n.all != [2]int{manySlots - 10, 10} {
		t.Errorf("%v accounts, want %v", n.all, [2]int{manySlots - 10, 10})
	}
}

func TestAccountAgainstNaive(t *testing.T) {
	const window = 600 * second
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, sourceSlots-1).Draw(t, "limit")
		var a account
		n := map[uint64]int64{}
		now := int64(time.Hour)
		for i := range rapid.IntRange(1, 200).Draw(t, "steps") {
			now += drawStep(t, 40*time.Second)
			source := uint64(rapid.IntRange(1, sourceSlots).Draw(t, "source")) << 9
			n[source] = now
			maps.DeleteFunc(n, func(_ uint64, at int64) bool { return age(at, now) >= window })
			if got, want := a.note(source, now, window, limit), len(n) > limit; got != want {
				t.Fatalf("step %d: over is %v with %d sources, limit %d", i, got, len(n), limit)
			}
		}
	})
}

// Limits beyond the slots are sampled: about right, and never far below.
func TestAccountSampled(t *testing.T) {
	k := newKeys(64)
	for _, limit := range []int{40, 100, 1000} {
		var a account
		n := 0
		for over := false; !over; n++ {
			over = a.note(k.join(uint64(limit), uint64(n)), int64(time.Hour)+int64(n), 600*second, limit)
		}
		if n < limit/2 || n > limit*2 {
			t.Errorf("limit %d is exceeded with %d sources", limit, n)
		}
	}
}

func TestSetupsAgainstNaive(t *testing.T) {
	type call struct {
		at    int64
		state setupState
	}
	rapid.Check(t, func(t *rapid.T) {
		k := newKeys(64)
		limit := rapid.IntRange(1, 6).Draw(t, "limit")
		e := New(Config{Sources: 2048, Invite: Invite{RateLimit: limit}})
		s := &subject{source: k.source(netipAddr(1)), addr: netipAddr(1), rules: e.rules.Load()}
		n := map[uint64]*call{}
		now := int64(time.Hour)
		for i := range rapid.IntRange(1, 200).Draw(t, "steps") {
			now += drawStep(t, 20*time.Second)
			s.now = now
			tx := uint64(rapid.IntRange(1, 20).Draw(t, "transaction"))
			maps.DeleteFunc(n, func(_ uint64, c *call) bool {
				if c.state != setupRinging {
					return now-c.at >= repeatTime
				}
				return now/callSlice-c.at/callSlice >= callSlices
			})
			ringing := 0
			for _, c := range n {
				if c.state == setupRinging {
					ringing++
				}
			}
			if got := e.setups.count(s.source, now); got != ringing {
				t.Fatalf("step %d: %d calls, want %d", i, got, ringing)
			}
			if rapid.IntRange(0, 2).Draw(t, "what") == 0 {
				e.setups.end(e.keys.join(s.source, tx), now)
				if c := n[tx]; c != nil && c.state == setupRinging {
					c.state, c.at = setupEnded, now
				}
				continue
			}
			c := n[tx]
			if c == nil {
				c = &call{at: now}
				if ringing >= limit {
					c.state = setupRefused
				}
				n[tx] = c
			}
			d := e.limitInvites(s, &Request{Method: []byte("INVITE"), Transaction: tx})
			if refused := c.state == setupRefused; (d.Verdict == Reject) != refused {
				t.Fatalf("step %d: %v with %d of %d calls, refused is %v", i, d.Verdict, ringing, limit, refused)
			}
		}
	})
}

func TestKnownAgainstNaive(t *testing.T) {
	type binding struct {
		source uint64
		until  int64
	}
	rapid.Check(t, func(t *rapid.T) {
		keys, told := newKeys(64), map[netip.Prefix]int64{}
		k := newKnown(64, &keys, func(p netip.Prefix, until int64) { told[p] = until })
		n := map[uint64]binding{}
		addrs := map[uint64]netip.Addr{}
		for i := range byte(4) {
			addrs[keys.source(netipAddr(i))] = netipAddr(i)
		}
		sources := slices.SortedFunc(maps.Keys(addrs), func(a, b uint64) int { return addrs[a].Compare(addrs[b]) })
		now := int64(time.Hour)
		latest := map[uint64]int64{} // the latest end that was granted since a source had no grant
		for i := range rapid.IntRange(1, 200).Draw(t, "steps") {
			now += drawStep(t, 10*time.Second)
			source := rapid.SampledFrom(sources).Draw(t, "source")
			key := keys.join(source, uint64(rapid.IntRange(1, 4).Draw(t, "key")))
			if rapid.IntRange(0, 2).Draw(t, "what") > 0 {
				until := now + int64(rapid.IntRange(1, 60).Draw(t, "seconds"))*second
				k.grant(key, grant{source: source, until: until, proven: true}, addrs[source], now)
				n[key] = binding{source, until}
				latest[source] = max(latest[source], until)
			} else {
				k.end(key, now)
				delete(n, key)
			}
			for source := range latest {
				held := slices.ContainsFunc(slices.Collect(maps.Values(n)), func(b binding) bool {
					return b.source == source && b.until > now
				})
				got := k.good(source, now)
				if held && !got {
					t.Fatalf("step %d: %v holds a binding and is not in good standing", i, addrs[source])
				}
				if got && latest[source] <= now {
					t.Fatalf("step %d: %v is in good standing longer than anything granted", i, addrs[source])
				}
				until := told[keys.prefix(addrs[source])]
				if got && until <= now {
					t.Fatalf("step %d: %v is in good standing, and was told not to be", i, addrs[source])
				}
				if !got && until > now+tellAfter {
					t.Fatalf("step %d: %v is told to be in good standing for %v, and is not", i, addrs[source], time.Duration(until-now))
				}
			}
		}
		listed := map[netip.Prefix]int64{}
		k.each(now, func(p netip.Prefix, until int64) { listed[p] = until })
		for _, source := range sources {
			if until, ok := listed[keys.prefix(addrs[source])]; ok != k.good(source, now) || ok && until <= now {
				t.Fatalf("%v is listed until %v (%v)", addrs[source], until, ok)
			}
		}
		// When all have been ended, nobody is left.
		for key, b := range n {
			if b.until > now {
				k.end(key, now)
			}
		}
		k.sweep(0, 1, math.MaxInt64)
		if n := k.held.Load(); n != 0 {
			t.Fatalf("%d sources held in the end", n)
		}
	})
}

func TestTableKeepsTheWorthiest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab := newTable(1, func(v *int64, _ int64) int64 { return *v }) // one bucket
		n := map[uint64]int64{}
		for i := range rapid.IntRange(1, 100).Draw(t, "steps") {
			key := uint64(rapid.IntRange(1, 20).Draw(t, "key"))
			b := tab.lock(key)
			if rapid.IntRange(0, 4).Draw(t, "what") == 0 {
				b.drop(key)
				delete(n, key)
			} else {
				v, old, lost := tab.replace(b, key, 0)
				if want, ok := n[key]; ok && *v != want || !ok && *v != 0 {
					t.Fatalf("step %d: key %d has %d, want %d", i, key, *v, want)
				}
				if _, known := n[key]; !known && len(n) == ways {
					least := slices.Min(slices.Collect(maps.Values(n)))
					if !lost || old != least {
						t.Fatalf("step %d: %d made room (%v), want %d", i, old, lost, least)
					}
					maps.DeleteFunc(n, func(k uint64, v int64) bool { return v == least && b.find(k) == nil })
				} else if lost {
					t.Fatalf("step %d: %d made room without need", i, old)
				}
				*v = rapid.Int64Range(1, 1000).Draw(t, "worth")
				n[key] = *v
			}
			for key := range n {
				if v := b.find(key); v == nil || *v != n[key] {
					t.Fatalf("step %d: key %d is lost", i, key)
				}
			}
			b.mu.Unlock()
		}
	})
}

func TestAccountSpelling(t *testing.T) {
	for _, same := range [][]string{
		{"alice@example.com", "ALICE@Example.COM", "%61lice@example.com", "%41lice@example.com"},
		{"100%@x", "100%@x"}, {"a%zz@x", "A%ZZ@x"}, {"a%4", "a%4"},
	} {
		for _, a := range same {
			if got := string(appendAccount(nil, []byte(a))); got != string(appendAccount(nil, []byte(same[0]))) {
				t.Errorf("%s becomes %q", a, got)
			}
		}
	}
	for _, a := range []string{strings.Repeat("A", 1000), strings.Repeat("%41", 1000)} {
		if got := string(appendAccount([]byte("kept"), []byte(a))); got != "kept"+strings.Repeat("a", maxAccount-4) {
			t.Errorf("%.8s… becomes %q", a, got)
		}
	}
	// Without an escape each byte is spelled as it is after one.
	for c := range 256 {
		a := []byte{byte(c), 'x', byte(c)}
		if got, want := appendAccount(nil, a), appendAccount(nil, append([]byte("%58"), a...)); string(got) != string(want[1:]) {
			t.Errorf("%q becomes %q, not %q", a, got, want[1:])
		}
	}
}

// The sizes that the comments state.
func TestBytesPerEntry(t *testing.T) {
	e := New(Config{Sources: 64})
	for _, v := range []struct {
		what string
		got  float64
		want float64
	}{
		{"guesses", e.guesses.proven.bytes(), 209},
		{"known sources", e.known.sources.bytes(), 73},
		{"known grants", e.known.grants.bytes(), 33},
		{"few probes", e.probes.few.bytes(), 137},
		{"many probes", e.probes.many.bytes(), 1553},
		{"invites", e.setups.invites.bytes(), 33},
		{"calls", e.setups.calls.bytes(), 57},
		{"accounts", e.accounts.t.bytes(), 281},
		{"exhibits", e.exhibits.bytes(), 4785},
	} {
		if v.got != v.want {
			t.Errorf("%s take %v bytes, documented %v: the comment says so, too", v.what, v.got, v.want)
		}
	}
}

func netipAddr(n byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, n}) }
