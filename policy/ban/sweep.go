package ban

import (
	"context"
	"sync"
	"time"
)

// Run ends bans at their time and writes to the store, until ctx is done. Then
// it writes what is left and returns nil.
func (t *Table) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	if t.store != nil {
		wg.Go(func() { t.store.run(ctx) })
	}
	t.runSweeper(ctx)
	wg.Wait()
	return nil
}

// maxNap bounds how long the sweeper sleeps, since the clock that bans go by may
// be set, and the one that it sleeps by does not follow.
const maxNap = time.Second

func (t *Table) runSweeper(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-t.wake:
		}
		now := time.Now().UnixNano()
		next := t.Sweep(now)
		timer.Reset(time.Duration(min(next-now, int64(maxNap))))
	}
}

// sweepBatch bounds how many bans are ended under one hold of the lock, which
// workers may wait for.
const sweepBatch = 500

// Sweep ends what is over at now and returns when something else will be. Run
// does it in time; it is for who passes the time in.
func (t *Table) Sweep(now int64) (next int64) {
	for more := true; more; {
		t.mu.Lock()
		t.breaker.settle(now)
		more = t.sweep(now, sweepBatch)
		next = forever
		for _, q := range t.queues {
			if len(q) > 0 {
				next = min(next, q[0].deadline)
			}
		}
		t.sweepAt = min(next, now+int64(maxNap))
		t.unlock()
	}
	return next
}

// sweep ends up to n bans and says whether that was not all.
func (t *Table) sweep(now int64, n int) bool {
	for c := range t.queues {
		for len(t.queues[c]) > 0 && t.queues[c][0].deadline <= now {
			if n--; n < 0 {
				return true
			}
			if e := t.queues[c][0]; e.rec == nil {
				t.forget(e)
			} else {
				t.end(e, Change{Kind: Expired})
			}
		}
	}
	return false
}

// hurry wakes the sweeper if a ban ends before it would wake up. The lock is
// held.
func (t *Table) hurry(deadline int64) {
	if deadline >= t.sweepAt {
		return
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}
