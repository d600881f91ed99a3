package ban_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"sipward/policy/ban"
)

func nth(i int) string { return fmt.Sprintf("10.0.%d.%d/32", i/256, i%256) }

// tries adds bans of n sources from the given one on and returns how many were
// accepted.
func tries(t *testing.T, table *ban.Table, from, n int, now int64, change func(*ban.Record)) int {
	t.Helper()
	accepted := 0
	for i := range n {
		r := block(nth(from+i), now, hour)
		if change != nil {
			change(&r)
		}
		switch _, err := table.Add(r, now); {
		case err == nil:
			accepted++
		case !errors.Is(err, ban.ErrBreaker):
			t.Fatal(err)
		}
	}
	return accepted
}

func TestBreakerByRate(t *testing.T) {
	var told []string
	table := newTable(t, ban.Config{BreakerPerMinute: 10, OnBreaker: func(f ban.Fuse, open bool) {
		told = append(told, fmt.Sprint(f, " ", open))
	}})
	weak := func(r *ban.Record) { r.Proven = false }
	if n := tries(t, table, 0, 8, start, nil); n != 8 {
		t.Fatalf("%d accepted", n)
	}
	if n := tries(t, table, 8, 8, start+59*second, nil); n != 2 {
		t.Fatalf("%d accepted", n)
	}
	// A flood of forged sources has a fuse of its own, and so have the proven ones.
	if n := tries(t, table, 100, 50, start+59*second, weak); n != 10 {
		t.Fatalf("%d accepted", n)
	}
	for _, f := range table.Breaker(start + 59*second) {
		if open := f.Fuse != ban.FuseGood; f.Open != open || open && (f.Since != start+59*second || f.Refused == 0 || f.Limit != 10) {
			t.Errorf("%+v", f)
		}
	}
	// A person's command is not stopped, nor what is already banned.
	mustAdd(t, table, command("198.51.100.1/32", 0), start+60*second)
	mustAdd(t, table, block(nth(0), start+60*second, 2*hour), start+60*second)
	// One source that comes again and again does not hold it open; many do.
	for i := range 200 {
		now := start + (60+int64(i))*second
		tries(t, table, 500, 1, now, nil)
		tries(t, table, 1000+i, 1, now, weak)
	}
	states := table.Breaker(start + 260*second)
	if !states[0].Open || states[1].Open {
		t.Errorf("unproven %+v, proven %+v", states[0], states[1])
	}
	if !table.Banned(adr("10.0.1.244"), start+260*second) { // source 500
		t.Error("the fuse has closed, but the source was not banned")
	}
	// Silence closes it, without anyone asking.
	table.Sweep(start + 400*second)
	want := []string{"proven true", "unproven true", "proven false", "unproven false"}
	if !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

func TestBreakerByGoodShare(t *testing.T) {
	standing := 100
	table := newTable(t, ban.Config{BreakerGoodShare: 0.05, Standing: func() int { return standing }})
	good := func(r *ban.Record) { r.Good = true }
	if n := tries(t, table, 0, 20, start, good); n != 5 {
		t.Fatalf("%d of 100 good sources were banned", n)
	}
	if n := tries(t, table, 100, 5, start, nil); n != 0 {
		t.Errorf("%d others were banned by a rule that is out of hand", n)
	}
	if !table.ResetBreaker() || table.ResetBreaker() {
		t.Error("the command does not close it once")
	}
	if n := tries(t, table, 100, 5, start, nil); n != 5 {
		t.Errorf("%d accepted after the reset", n)
	}
	standing = 4 // on a small site a share says nothing
	if n := tries(t, table, 200, 20, start+hour, good); n != 2 {
		t.Errorf("%d of 4 good sources were banned", n)
	}
}

func TestBreakerClosesWhenTurnedOff(t *testing.T) {
	table := newTable(t, ban.Config{BreakerPerMinute: 1})
	tries(t, table, 0, 5, start, nil)
	table.Reload(ban.Config{})
	if n := tries(t, table, 0, 5, start, nil); n != 5 {
		t.Errorf("%d are banned", n)
	}
}

// TestBreakerWindow compares the count of the last minute with a naive one.
func TestBreakerWindow(t *testing.T) {
	table := newTable(t, ban.Config{BreakerPerMinute: 1 << 30, MaxEntries: 1 << 20})
	var times []int64
	now := start
	for i := range 5000 {
		now += int64(i*7919%300) * second / 10
		if i%500 == 0 {
			now += 5 * minute
		}
		mustAdd(t, table, ban.Record{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 32), Until: now + second, Proven: true}, now)
		times = append(times, now/second)
		want := 0
		for _, s := range times {
			if now/second-s < 60 {
				want++
			}
		}
		if got := table.Breaker(now)[1].Count; got != want {
			t.Fatalf("ban %d: %d within a minute, want %d", i, got, want)
		}
	}
}

// TestBreakerAfterClockSetBack: a clock that is corrected by a day keeps no fuse open for
// that day, and bans of different minutes do not add up in it.
func TestBreakerAfterClockSetBack(t *testing.T) {
	table := newTable(t, ban.Config{BreakerPerMinute: 10})
	if n := tries(t, table, 0, 11, start, nil); n != 10 {
		t.Fatalf("%d accepted", n)
	}
	now := start - 24*hour
	tries(t, table, 100, 1, now, nil)
	now += 2 * 60 * second
	if n := tries(t, table, 200, 1, now, nil); n != 1 {
		t.Error("two calm minutes after the clock was set back the fuse is still open")
	}
	for i := range 30 { // one in a minute, which is far below the limit
		now += 60 * second
		if n := tries(t, table, 300+i, 1, now, nil); n != 1 {
			t.Fatalf("ban %d, a minute after the one before, is refused", i)
		}
	}
}
