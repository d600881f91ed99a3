package retransmit

import "time"

// A wheel is a hashed timing wheel (Varghese and Lauck, scheme 6): an entry stands in
// the slot of the tick at which something is to be done about it. To put one there or
// to take it out takes the same time however many there are. One whose time is further
// off than a turn of the wheel is passed over meanwhile.
type wheel struct {
	slots []*entry // made with the first entry
	tick  int64    // the last one that has been looked at
}

const (
	wheelSlots = 1024
	tick       = int64(50 * time.Millisecond)
)

// put has e come up when it is due, in place of when it would have.
func (w *wheel) put(e *entry) {
	w.remove(e)
	if w.slots == nil {
		w.slots = make([]*entry, wheelSlots)
	}
	e.when = e.due()
	e.slot = int(max((e.when+tick-1)/tick, w.tick+1) % wheelSlots)
	e.next = w.slots[e.slot]
	if e.next != nil {
		e.next.prev = e
	}
	w.slots[e.slot] = e
}

// remove takes e out, if it is in.
func (w *wheel) remove(e *entry) {
	if e.when == 0 {
		return
	}
	if e.next != nil {
		e.next.prev = e.prev
	}
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		w.slots[e.slot] = e.next
	}
	e.next, e.prev, e.when = nil, nil, 0
}

// advance calls f for entries that are due until now, until f reports that it has
// enough. f may put and remove the entry that it is given. advance reports whether it
// has come to the end.
func (w *wheel) advance(now int64, f func(*entry) bool) bool {
	target := now / tick
	if w.slots == nil {
		w.tick = target
		return true
	}
	for w.tick = max(w.tick, target-wheelSlots); w.tick < target; w.tick++ {
		for e := w.slots[(w.tick+1)%wheelSlots]; e != nil; {
			next := e.next
			if e.when <= now && !f(e) {
				return false
			}
			e = next
		}
	}
	return true
}
