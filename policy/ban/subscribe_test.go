package ban_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sipward/policy/ban"
)

// replica is what a subscriber such as the kernel mirror keeps.
type replica struct {
	bans map[netip.Prefix]int64
	fail func(format string, args ...any)
}

func (r *replica) reset(records []ban.Record) error {
	r.bans = make(map[netip.Prefix]int64)
	for _, b := range records {
		r.bans[b.Prefix] = b.Until
	}
	return nil
}

// apply fails when a change was missed or came twice: then it would not fit.
func (r *replica) apply(c ban.Change) error {
	p := c.Record.Prefix
	_, had := r.bans[p]
	switch c.Kind {
	case ban.Added:
		if had {
			r.fail("%v was added, but is there: %+v", p, c)
		}
		r.bans[p] = c.Record.Until
	case ban.Extended:
		if !had {
			r.fail("%v was extended, but is not there: %+v", p, c)
		}
		r.bans[p] = c.Record.Until
	case ban.Removed, ban.Expired:
		if !had {
			r.fail("%v has gone, but is not there: %+v", p, c)
		}
		delete(r.bans, p)
	}
	return nil
}

func contents(table *ban.Table) map[netip.Prefix]int64 {
	all, _ := table.Snapshot()
	m := make(map[netip.Prefix]int64, len(all))
	for _, r := range all {
		m[r.Prefix] = r.Until
	}
	return m
}

// TestSubscriber reads now and then, by the rules in Subscription's comment, with
// a queue that is often too short.
func TestSubscriber(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := start
		table, err := ban.New(ban.Config{MaxEntries: 10}, now)
		if err != nil {
			t.Fatal(err)
		}
		sub := table.Subscribe(rapid.IntRange(1, 6).Draw(t, "size"))
		defer sub.Close()
		mine := &replica{fail: t.Fatalf}
		all, at := table.Snapshot()
		mine.reset(all)
		read := func() bool {
			select {
			case c := <-sub.C():
				if sub.Lost() {
					all, at = table.Snapshot()
					return mine.reset(all) == nil
				}
				if c.Seq <= at {
					return true
				}
				if c.Seq != at+1 {
					t.Fatalf("change %d follows %d", c.Seq, at)
				}
				at = c.Seq
				return mine.apply(c) == nil
			default:
				return false
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				now++
				r := anyRecord(t, now)
				_, _ = table.Add(r, now) // may be full
			},
			"remove": func(t *rapid.T) { _, _ = table.Remove(anyPrefix(t), now) },
			"wait": func(t *rapid.T) {
				now += rapid.SampledFrom([]int64{second / 2, minute, hour}).Draw(t, "time")
				table.Sweep(now)
			},
			"read one": func(t *rapid.T) { read() },
			"read all": func(t *rapid.T) {
				for read() {
				}
				if want := contents(table); !maps.Equal(mine.bans, want) {
					t.Fatalf("the subscriber has %v, the table %v", mine.bans, want)
				}
			},
		})
	})
}

func TestFollowWhileTheTableChanges(t *testing.T) {
	table := newTable(t, ban.Config{MaxEntries: 300})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	replicas := make([]*replica, 3)
	resets := make([]int, len(replicas))
	var mu sync.Mutex // so that the test may look at the replicas
	for i := range replicas {
		replicas[i] = &replica{fail: t.Errorf}
		wg.Go(func() {
			err := table.Follow(ctx, 1<<(3*i), func(all []ban.Record) error {
				mu.Lock()
				defer mu.Unlock()
				resets[i]++
				return replicas[i].reset(all)
			}, func(c ban.Change) error {
				mu.Lock()
				defer mu.Unlock()
				return replicas[i].apply(c)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 20_000 {
		a := netip.AddrFrom4([4]byte{192, 0, byte(r.IntN(2)), byte(r.IntN(256))})
		if i%3 == 0 {
			if _, err := table.Remove(table.Source(a), start); err != nil {
				t.Fatal(err)
			}
			continue
		}
		mustAdd(t, table, dynamic(a, start+hour+int64(i)*second), start)
	}
	want := contents(table)
	for i := range replicas {
		deadline := time.Now().Add(20 * time.Second)
		for equal := false; !equal; time.Sleep(time.Millisecond) {
			mu.Lock()
			equal = maps.Equal(replicas[i].bans, want)
			mu.Unlock()
			if time.Now().After(deadline) {
				t.Fatalf("follower %d does not come to the table's state", i)
			}
		}
	}
	cancel()
	wg.Wait()
	t.Log("resets:", resets, "lost:", table.Stats().Lost)
}

func TestFollowEndsWithAnError(t *testing.T) {
	table := newTable(t, ban.Config{})
	sorry := errors.New("sorry")
	if err := table.Follow(t.Context(), 1, func([]ban.Record) error { return sorry }, nil); err != sorry {
		t.Error(err)
	}
	mustAdd(t, table, block("192.0.2.1/32", start, hour), start)
	err := table.Follow(t.Context(), 1, func([]ban.Record) error {
		mustAdd(t, table, block("192.0.2.2/32", start, hour), start)
		return nil
	}, func(c ban.Change) error {
		if c.Kind != ban.Added || c.Record.Prefix != pfx("192.0.2.2/32") {
			t.Errorf("%+v", c)
		}
		return sorry
	})
	if err != sorry {
		t.Error(err)
	}
}

func TestCloseTwice(t *testing.T) {
	table := newTable(t, ban.Config{})
	sub := table.Subscribe(0)
	sub.Close()
	sub.Close()
	mustAdd(t, table, block("192.0.2.1/32", start, hour), start)
	if _, open := <-sub.C(); open {
		t.Error("a change came after Close")
	}
}
