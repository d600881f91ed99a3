package ban_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sipward/policy/ban"
)

// TestExpiryAtTheSecond holds that the event of an end comes at that very
// instant, also when a ban ends sooner than those that the sweeper knew of.
func TestExpiryAtTheSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := func() int64 { return time.Now().UnixNano() }
		table, err := ban.New(ban.Config{}, now())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- table.Run(ctx) }()
		sub := table.Subscribe(10)
		defer sub.Close()

		synctest.Wait() // the sweeper sleeps, with nothing to wait for
		begin := now()
		lengths := []int64{hour, 90 * second, second + 1, 200_000_000}
		for i, l := range lengths {
			mustAdd(t, table, block(nth(i), begin, l), begin)
			<-sub.C()
		}
		for i := len(lengths) - 1; i >= 0; i-- {
			c := <-sub.C()
			if late := now() - (begin + lengths[i]); c.Kind != ban.Expired || c.Record.Prefix != pfx(nth(i)) || late != 0 {
				t.Errorf("%v of %v came %v late", c.Kind, c.Record.Prefix, time.Duration(late))
			}
			if table.Banned(pfx(nth(i)).Addr(), now()) {
				t.Errorf("%s is banned after its end", nth(i))
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestManyEndAtOnce(t *testing.T) {
	table := newTable(t, ban.Config{})
	for i := range 3000 {
		mustAdd(t, table, guess(nth(i), start, hour), start)
	}
	if next := table.Sweep(start + hour - 1); next != start+hour {
		t.Errorf("next at %d", next-start)
	}
	table.Sweep(start + hour)
	if s := table.Stats(); s.Expired != 3000 || s.Dynamic != 0 {
		t.Errorf("%+v", s)
	}
}

// TestThousandPerSecond keeps up a rate of bans with the store and a subscriber
// at work.
func TestThousandPerSecond(t *testing.T) {
	if testing.Short() {
		t.Skip("takes three seconds")
	}
	table, store := withStore(t, dbPath(t), ban.Config{})
	stop := running(t, table)
	ctx, cancel := context.WithCancel(t.Context())
	followed := make(chan int)
	go func() {
		n := 0
		_ = table.Follow(ctx, 1024, func([]ban.Record) error { return nil }, func(ban.Change) error { n++; return nil })
		followed <- n
	}()
	const rate, seconds = 1000, 3
	took := make([]time.Duration, 0, rate*seconds)
	begun, most := time.Now(), 0
	for i := range rate * seconds {
		if early := time.Until(begun.Add(time.Duration(i) * time.Second / rate)); early > 0 {
			time.Sleep(early)
		}
		r := block(nth(i), time.Now().UnixNano(), hour)
		r.Evidence = make([]byte, 1024)
		before := time.Now()
		mustAdd(t, table, r, before.UnixNano())
		took = append(took, time.Since(before))
		if i%100 == 0 {
			most = max(most, store.Health().Pending)
		}
	}
	late := time.Since(begun) - seconds*time.Second
	within(t, "the store has caught up", 30*time.Second, func() bool { return store.Health().Pending == 0 })
	slices.Sort(took)
	t.Logf("Add: median %v, p99 %v, longest %v; at most %d rows waited; %v behind the plan",
		took[len(took)/2], took[len(took)*99/100], took[len(took)-1], most, late)
	stop()
	cancel()
	if n := <-followed; n == 0 {
		t.Error("the subscriber saw nothing")
	}
	if most > 3000 {
		t.Errorf("%d rows waited: the store does not keep up", most)
	}
}
