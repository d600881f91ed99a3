package netio

import (
	"container/list"
	"net/netip"
	"sync"
)

// admission is what limits say about a new connection.
type admission uint8

const (
	admitted admission = iota
	refusedTotal
	refusedSource
)

// limits counts accepted connections. Its map has an entry for each source
// with an open connection, so no more than the total cap; past the cap a stranger's
// makes room for a new one, or it is refused. The lock is taken to accept and to close
// a connection, never for a message.
type limits struct {
	total, strangers, perSource int // caps

	mu           sync.Mutex
	sources      map[netip.Addr]int
	open, others int       // all, and those from strangers
	strange      list.List // of *Conn: strangers', in the order in which they make room
}

// newLimits keeps a tenth of the total for exempt sources, when there may be
// any.
func newLimits(cfg TCPConfig, reserve bool) limits {
	strangers := cfg.MaxConns
	if reserve {
		strangers = max(strangers-max(strangers/10, 1), 1)
	}
	return limits{
		total:     cfg.MaxConns,
		strangers: strangers,
		perSource: cfg.MaxPerSource,
		sources:   make(map[netip.Addr]int),
	}
}

func (l *limits) acquire(source netip.Addr, exempt bool) admission {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !exempt && l.sources[source] >= l.perSource:
		return refusedSource
	case l.open >= l.total, !exempt && l.others >= l.strangers:
		return refusedTotal
	case exempt:
		l.open++
		return admitted
	}
	l.sources[source]++
	l.open++
	l.others++
	return admitted
}

// enter lists a connection that was admitted.
func (l *limits) enter(c *Conn) {
	if c.exempt {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.in.place = l.strange.PushBack(c)
}

// leave is called at the end of a connection that was entered; it may have given up its
// place before.
func (l *limits) leave(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(c)
}

// full reports whether source has as many connections as one may have.
func (l *limits) full(source netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sources[source] >= l.perSource
}

// roomLooks is how many connections makeRoom looks at: each costs the look-up of a source.
const roomLooks = 32

// makeRoom takes the place of the stranger's connection that was opened first, but for
// those that keep says have to stay, and returns it; nil if it has found none.
func (l *limits) makeRoom(keep func(netip.Addr) bool) *Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range min(l.strange.Len(), roomLooks) {
		first := l.strange.Front()
		c := first.Value.(*Conn)
		if !keep(c.remote.Addr()) {
			l.drop(c)
			return c
		}
		l.strange.MoveToBack(first)
	}
	return nil
}

// drop is called with the lock.
func (l *limits) drop(c *Conn) {
	if c.in.left {
		return
	}
	c.in.left = true
	if c.in.place != nil {
		l.strange.Remove(c.in.place)
		c.in.place = nil
	}
	l.forget(c.source, c.exempt)
}

// release undoes acquire for a connection that was not entered.
func (l *limits) release(source netip.Addr, exempt bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(source, exempt)
}

// forget is called with the lock.
func (l *limits) forget(source netip.Addr, exempt bool) {
	l.open--
	if exempt {
		return
	}
	l.others--
	if l.sources[source]--; l.sources[source] == 0 {
		delete(l.sources, source)
	}
}
