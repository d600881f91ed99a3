package kernel

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// item is what is wanted for one prefix of a set.
type item struct {
	until  int64 // of timed; 0: for ever
	timed  bool  // a ban, or a standing
	static bool  // in a list of the configuration: for ever
	in     bool  // in the kernel, or about to be
}

// left returns how long the item lasts; 0: for ever; ok: it has not ended.
func (i item) left(now int64) (left time.Duration, ok bool) {
	if i.static || i.timed && i.until == 0 {
		return 0, true
	}
	if !i.timed || i.until <= now {
		return 0, false
	}
	return time.Duration(i.until - now), true
}

// wanted is a set as it should be. It holds as many items as the lists that it
// is made from, whose owners cap them, and of them the kernel as many as max.
type wanted struct {
	max   int
	items map[netip.Prefix]item
	in    int // items that are in the kernel
	// dirty has the prefixes that the kernel has not been told of; the value
	// says that they were not in it before.
	dirty map[netip.Prefix]bool
}

func newWanted(limit int) wanted {
	return wanted{max: limit, items: make(map[netip.Prefix]item), dirty: make(map[netip.Prefix]bool)}
}

// put replaces an item; one that is neither timed nor static is deleted.
func (w *wanted) put(p netip.Prefix, to item) {
	old, had := w.items[p]
	to.in = old.in
	if to == old {
		return
	}
	fresh, known := w.dirty[p]
	switch {
	case !to.timed && !to.static:
		delete(w.items, p)
		if old.in {
			w.in--
		}
		if fresh {
			delete(w.dirty, p) // it came and went before the kernel heard of it
			return
		}
	case !had && w.in < w.max:
		to.in = true
		w.in++
		w.items[p] = to
	default:
		w.items[p] = to
	}
	if old.in || to.in {
		w.dirty[p] = fresh || !known && !had
	}
}

// timed sets or ends the timed half of an item.
func (w *wanted) timed(e Entry, removed bool) {
	to := w.items[e.Prefix]
	to.until, to.timed = e.Until, true
	if removed {
		to.until, to.timed = 0, false
	}
	w.put(e.Prefix, to)
}

// resetTimed makes entries the only timed ones.
func (w *wanted) resetTimed(entries map[netip.Prefix]int64) {
	for p, i := range w.items {
		if _, ok := entries[p]; i.timed && !ok {
			w.timed(Entry{Prefix: p}, true)
		}
	}
	for p, until := range entries {
		w.timed(Entry{p, until}, false)
	}
}

// resetStatic makes prefixes the only static ones.
func (w *wanted) resetStatic(prefixes map[netip.Prefix]bool) {
	for p, i := range w.items {
		if i.static && !prefixes[p] {
			i.static = false
			w.put(p, i)
		}
	}
	for p := range prefixes {
		i := w.items[p]
		i.static = true
		w.put(p, i)
	}
}

// changes returns what the kernel has not been told of, and forgets it.
func (w *wanted) changes(now int64) []op {
	if len(w.dirty) == 0 {
		return nil
	}
	ops := make([]op, 0, len(w.dirty))
	for p, fresh := range w.dirty {
		i := w.items[p]
		left, ok := i.left(now)
		ops = append(ops, op{entry: entry{p, left}, del: !ok || !i.in, fresh: fresh})
	}
	w.forget()
	return ops
}

// forget empties dirty. One that has been large is replaced: a map is gone
// through as it was at its largest, which would cost each later change 0.1 ms.
func (w *wanted) forget() {
	if len(w.dirty) > 256 {
		w.dirty = make(map[netip.Prefix]bool)
		return
	}
	clear(w.dirty)
}

// all returns what the kernel should hold, and takes for told of all. When not
// all fit, those that last longest are in.
func (w *wanted) all(now int64) []entry {
	entries := make([]entry, 0, len(w.items))
	for p, i := range w.items {
		if left, ok := i.left(now); ok {
			entries = append(entries, entry{p, left})
		}
	}
	if len(entries) > w.max {
		slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(uint64(b.left-1), uint64(a.left-1)) })
		entries = entries[:w.max]
	}
	for p, i := range w.items {
		i.in = false
		w.items[p] = i
	}
	for _, e := range entries {
		i := w.items[e.prefix]
		i.in = true
		w.items[e.prefix] = i
	}
	w.in = len(entries)
	w.dirty = make(map[netip.Prefix]bool)
	return entries
}

// over returns how many items the kernel has no room for.
func (w *wanted) over() int { return len(w.items) - w.in }

// sweep forgets what has ended. Bans are removed by whoever feeds them, a
// standing is not.
func (w *wanted) sweep(now int64) {
	for p, i := range w.items {
		if i.timed && i.until != 0 && i.until <= now {
			w.timed(Entry{Prefix: p}, true)
		}
	}
}
