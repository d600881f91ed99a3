package dns

import (
	"container/list"
	"hash/maphash"
	"sync"
	"sync/atomic"
)

const shards = 32

// cache holds answers by name and type, and who waits for which. It has a cap of answers
// and one of bytes, each shared out among its shards; when one is reached, the answer
// that was used longest ago makes room.
type cache struct {
	seed   maphash.Seed
	shards [shards]shard
}

type shard struct {
	mu      sync.Mutex
	entries map[uint64]*list.Element // of *entry
	used    list.List                // the latest in front
	bytes   int
	flights map[uint64]*flight
	waiting int // on all flights

	maxEntries, maxBytes int
	count                atomic.Int64 // of entries, for Stats
	size                 atomic.Int64
	_                    [64]byte
}

// flight is a question that is being asked of the upstreams.
type flight struct {
	name    string
	qtype   uint16
	waiters []waiter
}

// waiter is who is to be told.
type waiter struct {
	client client
	q      asker
}

// maxWaiters is how many may wait for the same answer, and maxWaiting for all those of a
// shard.
const (
	maxWaiters = 64
	maxWaiting = 256
)

func newCache(entries, bytes int) *cache {
	c := &cache{seed: maphash.MakeSeed()}
	for i := range c.shards {
		s := &c.shards[i]
		s.entries, s.flights = map[uint64]*list.Element{}, map[uint64]*flight{}
		s.maxEntries, s.maxBytes = max(entries/shards, 1), max(bytes/shards, maxOther+1024)
	}
	return c
}

// key is the hash of a question; what has the same one need not be the same question.
func (c *cache) key(q *query) uint64 {
	return maphash.Bytes(c.seed, q.name()) ^ uint64(q.qtype)*0x9e3779b97f4a7c15
}

func (c *cache) shard(key uint64) *shard { return &c.shards[key%shards] }

// get returns an answer, however old; nil: there is none. It does not allocate.
func (s *shard) get(key uint64, q *query) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	el := s.entries[key]
	if el == nil {
		return nil
	}
	e := el.Value.(*entry)
	if e.qtype != q.qtype || e.name != string(q.name()) {
		return nil
	}
	s.used.MoveToFront(el)
	return e
}

// put takes an answer in.
func (s *shard) put(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(s.entries[e.key])
	s.entries[e.key] = s.used.PushFront(e)
	s.bytes += e.cost()
	for s.used.Len() > s.maxEntries || s.bytes > s.maxBytes {
		s.remove(s.used.Back())
	}
	s.count.Store(int64(s.used.Len()))
	s.size.Store(int64(s.bytes))
}

func (s *shard) remove(el *list.Element) {
	if el == nil {
		return
	}
	e := s.used.Remove(el).(*entry)
	s.bytes -= e.cost()
	delete(s.entries, e.key)
}

// flush forgets every answer.
func (c *cache) flush() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		clear(s.entries)
		s.used.Init()
		s.bytes = 0
		s.count.Store(0)
		s.size.Store(0)
		s.mu.Unlock()
	}
}

// stats returns how many answers there are, and their size in bytes.
func (c *cache) stats() (entries int, bytes int64) {
	for i := range c.shards {
		entries += int(c.shards[i].count.Load())
		bytes += c.shards[i].size.Load()
	}
	return entries, bytes
}

// board lets a client wait for an answer. flies says that somebody is asking already;
// if not, the caller must, and then land.
func (s *shard) board(key uint64, c client, q *query) (f *flight, flies, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f = s.flights[key]
	if f != nil && (f.qtype != q.qtype || f.name != string(q.name())) {
		return nil, false, true // two questions with one hash: the other one first
	}
	if f == nil {
		if s.waiting >= maxWaiting {
			return nil, false, true
		}
		f = &flight{name: string(q.name()), qtype: q.qtype}
		s.flights[key] = f
	} else if flies = true; len(f.waiters) >= maxWaiters || s.waiting >= maxWaiting {
		return f, true, true
	}
	f.waiters = append(f.waiters, waiter{c, q.asker})
	s.waiting++
	return f, flies, false
}

// land ends a flight; if early, it goes on with nobody waiting. It returns who has waited.
func (s *shard) land(key uint64, f *flight, early bool) []waiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiters := f.waiters
	f.waiters = nil
	s.waiting -= len(waiters)
	if !early {
		delete(s.flights, key)
	}
	return waiters
}
