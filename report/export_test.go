package report

import (
	"context"
	"strconv"
	"time"

	"sipward/policy/event"
)

// Count counts an event, as Run does.
func (j *Journal) Count(ev *event.Event) {
	bus := new(event.Bus)
	sub := bus.Subscribe(1)
	defer sub.Close()
	bus.Publish(ev)
	j.take(sub, 1)
}

// Flush writes everything that waits.
func (j *Journal) Flush(now time.Time) error { return j.flush(now, true) }

// Add remembers an act without waiting for the disk.
func (j *Journal) Add(a Act) { j.add(a) }

// Tidy removes what is too old or too much.
func (j *Journal) Tidy(now time.Time) { j.tidy(now) }

// Exec runs a statement.
func (j *Journal) Exec(query string) error {
	_, err := j.db.Load().Exec(query)
	return err
}

// ReadSegment reads a segment as a query does.
func ReadSegment(data []byte, q *Query) error {
	return newTally(q).segment(0, "", 0, data)
}

// CountMinute returns a function that counts an event of the current minute, without the
// queue.
func CountMinute() func(ev *event.Event) {
	m := newMinute()
	return func(ev *event.Event) { m.add(ev, 1, 64) }
}

// PackEvents makes a segment of events.
func PackEvents(events []event.Event) []byte {
	m := newMinute()
	for i := range events {
		_, second := minuteOf(events[i].Time)
		m.add(&events[i], second, 64)
	}
	return m.pack()
}

// Sources counts one message each of n sources for a report by source, and returns what is
// then in memory.
func Sources(q *Query, n int) (any, error) {
	t := newTally(q)
	for i := range n {
		k := groupKey{t.by[0].number([]byte("198.51." + strconv.Itoa(i)))}
		if _, err := t.group(k, 0); err != nil {
			return t, err
		}
	}
	return t, nil
}

// Step does what is to be done at a time for the one schedule of a Scheduler that does not run,
// and returns when there is more.
func (s *Scheduler) Step(ctx context.Context, now time.Time) time.Time {
	return s.step(ctx, s.plans[0], now)
}

// Next returns the first time of a schedule after t.
func (s *Schedule) Next(t time.Time) time.Time { return s.next(t) }

// Query asks for the report of one of the schedule's times.
func (s *Schedule) Query(due time.Time) *Query { return s.query(due) }
