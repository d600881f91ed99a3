package netio

import (
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
// with an open connection, so no more than the total cap; past the cap a new
// connection is refused. The lock is taken once to accept and once to close
// a connection, never for a message.
type limits struct {
	total, strangers, perSource int // caps

	mu           sync.Mutex
	sources      map[netip.Addr]int
	open, others int // all, and those from strangers
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
	if l.open >= l.total || !exempt && l.others >= l.strangers {
		return refusedTotal
	}
	if exempt {
		l.open++
		return admitted
	}
	if l.sources[source] >= l.perSource {
		return refusedSource
	}
	l.sources[source]++
	l.open++
	l.others++
	return admitted
}

func (l *limits) release(source netip.Addr, exempt bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if exempt {
		return
	}
	l.others--
	if l.sources[source]--; l.sources[source] == 0 {
		delete(l.sources, source)
	}
}
