package ban

import (
	"context"
	"slices"
	"sync"
)

// Subscription is one reader's queue of changes.
//
// When the queue is full the reader has lost something: Lost then says so, and
// until it has been asked nothing more is sent. The reader asks after each
// change that it takes, before it uses it, and if something is lost starts again
// from a Snapshot and passes over the changes up to the snapshot's number.
// Follow does all that.
type Subscription struct {
	c     chan Change
	table *Table

	mu   sync.Mutex // makes "is full" and "is lost" one step, so that a reader who has emptied the queue is sure to see the mark
	lost bool
	done bool
}

// Subscribe starts to collect changes, of which up to size wait to be taken.
// Whoever subscribes must Close.
func (t *Table) Subscribe(size int) *Subscription {
	s := &Subscription{c: make(chan Change, max(size, 1)), table: t}
	t.mu.Lock()
	defer t.unlock()
	t.subs = append(t.subs, s)
	return s
}

// C delivers the changes in order. It is closed by Close.
func (s *Subscription) C() <-chan Change { return s.c }

// Lost says whether changes were lost since it was asked last.
func (s *Subscription) Lost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := s.lost
	s.lost = false
	return lost
}

// Close ends the subscription. It may be called more than once.
func (s *Subscription) Close() {
	s.table.mu.Lock()
	defer s.table.unlock()
	if s.done {
		return
	}
	s.done = true
	close(s.c) // who sends holds the table's lock
	s.table.subs = slices.DeleteFunc(s.table.subs, func(o *Subscription) bool { return o == s })
}

// send reports false when the reader has just fallen behind.
func (s *Subscription) send(c Change) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost {
		return true
	}
	select {
	case s.c <- c:
		return true
	default:
		s.lost = true
		return false
	}
}

// publish numbers a change and hands it out. The table's lock is held, which
// is what puts the changes in one order for all.
func (t *Table) publish(c Change) {
	t.seq++
	c.Seq = t.seq
	for _, s := range t.subs {
		if !s.send(c) {
			t.stats.Lost++
		}
	}
}

// Follow keeps a copy of the table up to date until ctx is done, and then
// returns nil. It calls reset with all bans, and again whenever it has fallen
// more than size changes behind, and apply with each change that follows: none
// is missed and none comes twice. An error of either ends it.
func (t *Table) Follow(ctx context.Context, size int, reset func([]Record) error, apply func(Change) error) error {
	s := t.Subscribe(size)
	defer s.Close()
	records, at := t.Snapshot()
	if err := reset(records); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-s.C():
			var err error
			if s.Lost() {
				records, at = t.Snapshot()
				err = reset(records)
			} else if c.Seq > at {
				at = c.Seq
				err = apply(c)
			}
			if err != nil {
				return err
			}
		}
	}
}
