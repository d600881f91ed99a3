package ban

import (
	"fmt"
	"time"
)

// Add puts a ban in force and returns what is in force for that very prefix
// afterwards. A ban never shortens or weakens another one of the same prefix;
// bans of different prefixes do not touch each other.
//
// A dynamic ban on proven evidence is a step of the ladder, and the step that
// reaches the threshold is permanent at once. While a prefix is blocked on
// proven evidence, more of it (messages that were under way) is no further step.
// Unproven evidence is no step, and changes nothing about a ban on better
// grounds.
//
// A Manual ban is on disk when Add returns without an error. With ErrNotStored
// it is in force, but a restart may forget it.
func (t *Table) Add(r Record, now int64) (Record, error) {
	r, err := check(r, now)
	if err != nil {
		return Record{}, err
	}
	t.mu.Lock()
	in, err := t.add(r, now)
	t.unlock()
	if err == nil && r.Kind == Manual && t.store != nil {
		err = t.store.sync()
	}
	return in, err
}

// add is Add of a checked record, with the lock held.
func (t *Table) add(r Record, now int64) (Record, error) {
	old := t.inForce(r.Prefix, now)
	if old != nil && !surpasses(&r, old) {
		return *old, nil
	}
	step := r.Kind == Dynamic && r.Proven && (old == nil || old.Kind == Manual || !old.Proven)
	fresh := r.Kind != Manual && (old == nil || step)
	if fresh {
		if err := t.breaker.refuse(&r, now); err != nil {
			t.stats.Breaker++
			return Record{}, err
		}
	}
	if err := t.makeRoom(&r, old, now); err != nil {
		return Record{}, err
	}
	e := t.entry(r.Prefix)
	if step {
		t.climb(e, now)
	}
	r.Blocks = t.blocks(e, now)
	if r.Kind == Dynamic && r.Proven && t.cfg.Threshold > 0 && r.Blocks >= t.cfg.Threshold {
		r.Kind, r.Until = Permanent, 0
	}
	if old != nil {
		succeed(&r, old, step)
	}
	if fresh {
		t.breaker.count(&r, now)
	}
	t.enforce(e, r)
	return *e.rec, nil
}

// minExtension keeps messages that were under way when a block began from
// moving its end by milliseconds, each with a change of its own.
const minExtension = int64(time.Second)

// surpasses says whether r changes anything about old, which is in force for
// the same prefix.
func surpasses(r, old *Record) bool {
	later, same := r.deadline() > old.deadline(), r.deadline() == old.deadline()
	switch {
	case r.Kind == Manual:
		return later || same && old.Kind != Manual
	case old.Kind == Manual:
		return later && r.Proven
	case old.Kind == Permanent:
		return false
	case r.Proven != old.Proven:
		return r.Proven
	case r.Kind == Permanent:
		return true
	}
	return r.Until-old.Until >= minExtension
}

// succeed hands on to r what remains of old, which it takes the place of.
func succeed(r, old *Record, step bool) {
	if old.deadline() > r.deadline() {
		r.Until = old.Until
	}
	if !step && r.Kind == old.Kind {
		r.Start = old.Start
	}
}

// makeRoom lets an automatic ban in, or says why it must stay outside. old is
// in force for the same prefix, or nil.
func (t *Table) makeRoom(r, old *Record, now int64) error {
	if r.Kind == Manual || old != nil && old.Kind != Manual {
		return nil // not one more automatic ban
	}
	if t.automatic() >= t.cfg.MaxEntries {
		t.sweep(now, sweepBatch) // what has ended makes room first
	}
	for t.automatic() >= t.cfg.MaxEntries {
		q := t.queues[unproven]
		if len(q) == 0 {
			q = t.queues[proven]
			if !r.Proven {
				t.stats.Full++
				return fmt.Errorf("%w: %d automatic bans on proven evidence", ErrFull, len(q))
			}
		}
		t.stats.Evicted++
		t.end(q[0], Change{Kind: Removed, Room: true})
	}
	return nil
}

func (t *Table) automatic() int { return len(t.queues[unproven]) + len(t.queues[proven]) }

// Merge adds the bans of another node: as they are, without steps on the
// ladder, without the breaker that they have passed over there. What is
// unproven, has ended or contradicts itself is passed over. It returns how many
// changed something.
func (t *Table) Merge(records []Record, now int64) int {
	changed := 0
	for _, r := range records {
		r, err := check(r, now)
		if err != nil || !r.Proven {
			continue
		}
		t.mu.Lock()
		old := t.inForce(r.Prefix, now)
		if (old == nil || surpasses(&r, old)) && t.makeRoom(&r, old, now) == nil {
			e := t.entry(r.Prefix)
			r.Blocks = t.blocks(e, now)
			if old != nil {
				succeed(&r, old, false)
			}
			t.enforce(e, r)
			changed++
		}
		t.unlock()
	}
	return changed
}
