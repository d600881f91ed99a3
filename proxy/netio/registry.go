package netio

import (
	"math/rand/v2"
	"sync"
)

const registryShards = 64

// registry finds connections by their number. It holds no more than the caps
// on accepting, and those who dial, let in.
type registry [registryShards]struct {
	mu    sync.RWMutex
	conns map[uint64]*Conn
}

func (r *registry) init() {
	for i := range r {
		r[i].conns = make(map[uint64]*Conn)
	}
}

// add gives c a number that no other connection has. It is random, so that a
// token that names a connection of an earlier run does not meet another one.
func (r *registry) add(c *Conn) {
	for {
		id := rand.Uint64() & (1<<48 - 1)
		s := &r[id%registryShards]
		s.mu.Lock()
		if _, taken := s.conns[id]; !taken && id != 0 {
			c.id = id
			s.conns[id] = c
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
	}
}

func (r *registry) get(id uint64) *Conn {
	s := &r[id%registryShards]
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.conns[id]
}

func (r *registry) remove(c *Conn) {
	s := &r[c.id%registryShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c.id)
}

// each calls f for every connection there is, without holding a lock.
func (r *registry) each(f func(c *Conn)) {
	var batch []*Conn
	for i := range r {
		s := &r[i]
		batch = batch[:0]
		s.mu.RLock()
		for _, c := range s.conns {
			batch = append(batch, c)
		}
		s.mu.RUnlock()
		for _, c := range batch {
			f(c)
		}
	}
}
