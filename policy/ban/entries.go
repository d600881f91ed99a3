package ban

import (
	"net/netip"
	"slices"
)

// This file holds how an entry comes, changes and goes. All of it needs the
// table's lock.

// entry returns the entry of p, a new one if need be, which enforce must then
// put in force.
func (t *Table) entry(p netip.Prefix) *entry {
	e := t.entries[p]
	if e == nil {
		e = &entry{prefix: p, class: unqueued}
		t.entries[p] = e
	}
	return e
}

// inForce returns the ban of p itself, nil if there is none. One that has ended
// unseen is ended now.
func (t *Table) inForce(p netip.Prefix, now int64) *Record {
	e := t.entries[p]
	if e == nil || e.rec == nil {
		return nil
	}
	if !e.rec.InForce(now) {
		t.end(e, Change{Kind: Expired})
		return nil
	}
	return e.rec
}

// enforce puts r in force for e, in place of the ban that e may have.
func (t *Table) enforce(e *entry, r Record) {
	change := Change{Kind: Extended, Record: r}
	data := r.Evidence
	r.Evidence = nil
	if e.rec == nil {
		change.Kind = Added
		e.place = int32(len(t.live))
		t.live = append(t.live, nil)
		t.bits[family(r.Prefix.Addr())][r.Prefix.Bits()]++
		if !t.loading {
			t.stats.Added++
		}
	} else {
		t.countKind(e.rec.Kind, -1)
	}
	t.countKind(r.Kind, 1)
	e.rec = &r
	t.live[e.place] = &r
	t.enqueue(e, classOf(&r), r.deadline())
	if !t.sources.set(r.Prefix, r.deadline()) {
		w := &t.wide[family(r.Prefix.Addr())]
		w.Store(w.Load().with(r.Prefix, t.latest))
	}
	t.evidence.put(r.Prefix, data)
	t.persist(e, data)
	t.publish(change)
}

// end takes the ban of e out of force, for the reason that c says.
func (t *Table) end(e *entry, c Change) {
	p := e.prefix
	c.Record = *e.rec
	t.countKind(e.rec.Kind, -1)
	t.bits[family(p.Addr())][p.Bits()]--
	e.rec = nil
	last := len(t.live) - 1
	if moved := t.live[last]; int(e.place) != last {
		t.live[e.place] = moved
		t.entries[moved.Prefix].place = e.place
	}
	t.live[last] = nil
	t.live = t.live[:last]
	if !t.sources.set(p, 0) {
		w := &t.wide[family(p.Addr())]
		w.Store(w.Load().without(p, t.latest))
	}
	t.evidence.drop(p)
	if c.Kind == Expired {
		t.stats.Expired++
	}
	t.recall(e)
	if c.Kind != Expired { // the store knows the end of those
		t.persist(e, nil)
	}
	t.publish(c)
}

func (t *Table) countKind(k Kind, n int) {
	switch k {
	case Dynamic:
		t.stats.Dynamic += n
	case Permanent:
		t.stats.Permanent += n
	case Manual:
		t.stats.Manual += n
	}
}

// maxSteps is how many steps of a source are remembered, more if the threshold
// asks for more.
const maxSteps = 8

// climb notes a proven dynamic block of e.
func (t *Table) climb(e *entry, now int64) {
	e.starts = append(slices.Clip(e.starts), now) // Clip: the store may hold the old ones
	if n := len(e.starts) - max(maxSteps, t.cfg.Threshold); n > 0 {
		e.starts = e.starts[n:]
	}
}

// blocks returns how many blocks of e are remembered at now.
func (t *Table) blocks(e *entry, now int64) int {
	n := 0
	for _, s := range e.starts {
		if now-s < int64(t.cfg.Remember) {
			n++
		}
	}
	return n
}

// forgets returns when the last step of e is forgotten; 0: it has none.
func (t *Table) forgets(e *entry) int64 {
	if len(e.starts) == 0 {
		return 0
	}
	return e.starts[len(e.starts)-1] + int64(t.cfg.Remember)
}

// recall keeps an entry without a ban for the sake of its steps, if it has any.
func (t *Table) recall(e *entry) {
	if len(e.starts) == 0 {
		t.dequeue(e)
		delete(t.entries, e.prefix)
		return
	}
	t.enqueue(e, recalled, t.forgets(e))
	for len(t.queues[recalled]) > t.cfg.MaxEntries {
		t.forget(t.queues[recalled][0])
	}
}

// forget drops an entry without a ban.
func (t *Table) forget(e *entry) {
	e.starts = nil
	t.recall(e)
	t.persist(e, nil)
}

// Blocks returns how many proven dynamic blocks addr's source has had within
// the ladder's memory.
func (t *Table) Blocks(addr netip.Addr, now int64) int {
	p := t.Source(addr)
	t.mu.Lock()
	defer t.unlock()
	if e := t.entries[p]; e != nil {
		return t.blocks(e, now)
	}
	return 0
}

// Removal says what a Remove did and what it left.
type Removal struct {
	Record    Record   // the ban that was lifted
	Removed   bool     // there was one
	Forgotten int      // steps on the ladder that were forgotten with it
	Covered   []Record // bans of wider prefixes that still cover it, longest first
	Inside    int      // bans of narrower prefixes inside it that stay
}

// Remove lifts the ban of exactly that prefix and forgets its steps on the
// ladder: who lifts a ban by command forgives. The removal is on disk when
// Remove returns without an error; with ErrNotStored it is in force, but a
// restart may bring the ban back.
func (t *Table) Remove(p netip.Prefix, now int64) (Removal, error) {
	p, err := CheckPrefix(p)
	if err != nil {
		return Removal{}, err
	}
	t.mu.Lock()
	m := t.remove(p, now)
	live := slices.Clone(t.live)
	t.unlock()
	m.Covered = t.Covering(p, now)
	for _, r := range live {
		if r.InForce(now) && r.Prefix.Bits() > p.Bits() && p.Contains(r.Prefix.Addr()) {
			m.Inside++
		}
	}
	if t.store != nil && (m.Removed || m.Forgotten > 0) {
		err = t.store.sync()
	}
	return m, err
}

func (t *Table) remove(p netip.Prefix, now int64) Removal {
	var m Removal
	t.inForce(p, now) // ends what has expired
	e := t.entries[p]
	if e == nil {
		return m
	}
	m.Forgotten = t.blocks(e, now)
	e.starts = nil
	if e.rec == nil {
		t.forget(e)
		return m
	}
	m.Record, m.Removed = *e.rec, true
	t.end(e, Change{Kind: Removed})
	return m
}
