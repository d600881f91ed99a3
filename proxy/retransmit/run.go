package retransmit

import (
	"context"
	"time"
)

// Run sends again what is due until ctx ends; then it returns nil. While there are no
// entries it sleeps.
func (t *Table) Run(ctx context.Context) error {
	var out batch
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if t.entries.Load() == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-t.wake:
			}
		}
		now := time.Now().UnixNano()
		timer.Reset(time.Duration(tick - now%tick))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		t.advance(time.Now().UnixNano(), &out)
	}
}

// A batch is what comes up while a shard is locked, and is sent when it is not.
type batch struct {
	b   []byte
	due []due
}

type due struct {
	path     Path
	message  []byte // in batch.b
	timedOut bool
}

const (
	// maxBatch bounds how long a shard is locked.
	maxBatch = 64
	// maxBatchBytes is how much memory is kept for the next batch.
	maxBatchBytes = 256 << 10
)

// advance does what is due until now.
func (t *Table) advance(now int64, out *batch) {
	for i := range t.shards {
		for done := false; !done; {
			out.b, out.due = out.b[:0], out.due[:0]
			done = t.collect(&t.shards[i], now, out)
			for _, d := range out.due {
				if d.timedOut {
					t.cfg.TimedOut(d.path, d.message)
				} else {
					t.cfg.Send(d.path, d.message)
				}
			}
			if cap(out.b) > maxBatchBytes {
				out.b = nil
			}
		}
	}
}

// collect takes from a shard what is due, and reports whether that is all.
func (t *Table) collect(s *shard, now int64, out *batch) (all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wheel.tick > now/tick {
		s.setBack(now)
	}
	return s.wheel.advance(now, func(e *entry) bool {
		if len(out.due) == maxBatch || len(out.b) > maxBatchBytes {
			return false
		}
		switch {
		case e.ends <= now:
			if e.state == calling && e.invite() {
				t.timedOut.Add(1)
				out.add(e, true)
			}
			t.remove(s, e)
		case e.again != 0 && e.again <= now:
			t.sent.Add(1)
			out.add(e, false)
			e.repeated(now)
			s.wheel.put(e)
		default:
			s.wheel.put(e)
		}
		return true
	})
}

// setBack is for a clock that was set back: nothing waits for longer than if it had begun now.
func (s *shard) setBack(now int64) {
	s.wheel.tick = now / tick
	for _, e := range s.entries {
		if e.again != 0 {
			e.again = min(e.again, now+e.interval)
		}
		longest := lifetime
		if e.invite() && (e.state == proceeding || e.state == asked) {
			longest = ringing
		}
		e.ends = min(e.ends, now+int64(longest))
		s.wheel.put(e)
	}
}

// add copies e's message: it may be gone when the shard is not locked any more.
func (b *batch) add(e *entry, timedOut bool) {
	from := len(b.b)
	b.b = append(b.b, e.message.b...)
	b.due = append(b.due, due{path: e.path, message: b.b[from:len(b.b):len(b.b)], timedOut: timedOut})
}
