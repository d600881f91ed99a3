package ban

import (
	"container/heap"
	"net/netip"
)

// entry is what the table knows of one prefix: its ban, or, when that has
// ended, only the steps that it has climbed on the ladder.
type entry struct {
	prefix   netip.Prefix
	rec      *Record // in force; replaced, never changed; nil: the prefix is not banned
	starts   []int64 // starts of its proven dynamic blocks, oldest first
	deadline int64   // when its ban ends; without one, when its last step is forgotten
	place    int32   // of rec in Table.live
	index    int32   // in its queue
	class    class
	stored   bool // the store has, or will have, a row of it
}

// class is the queue that an entry waits in.
type class uint8

const (
	unproven class = iota // automatic bans on evidence that anyone may have forged
	proven                // automatic bans on better evidence
	manual                // bans by command
	recalled              // no ban, but steps on the ladder
	numClasses
	unqueued = numClasses
)

func classOf(r *Record) class {
	switch {
	case r.Kind == Manual:
		return manual
	case r.Proven:
		return proven
	}
	return unproven
}

// queue is a heap whose first entry ends soonest; of those that never end, the
// one that began first.
type queue []*entry

var _ heap.Interface = (*queue)(nil)

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	a, b := q[i], q[j]
	if a.deadline == b.deadline && a.rec != nil && b.rec != nil {
		return a.rec.Start < b.rec.Start
	}
	return a.deadline < b.deadline
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = int32(i), int32(j)
}

// Push is for package heap alone.
func (q *queue) Push(x any) {
	e := x.(*entry)
	e.index = int32(len(*q))
	*q = append(*q, e)
}

// Pop is for package heap alone.
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return e
}

// enqueue moves e to the queue of class c, and to its place in there.
func (t *Table) enqueue(e *entry, c class, deadline int64) {
	t.dequeue(e)
	e.class, e.deadline = c, deadline
	heap.Push(&t.queues[c], e)
	t.hurry(deadline)
}

func (t *Table) dequeue(e *entry) {
	if e.class != unqueued {
		heap.Remove(&t.queues[e.class], int(e.index))
		e.class = unqueued
	}
}
