package resolve

import (
	"context"
	"hash/maphash"
	"sync"
	"time"
)

// How long answers live, whatever their TTL says.
const (
	minTTL      = 5 * time.Second
	maxTTL      = time.Hour
	maxNegative = 5 * time.Minute
	noSOATTL    = 30 * time.Second // for a negative answer that does not say (RFC 2308 §5)
	brokenTTL   = 5 * time.Second  // when no server answered
	partlyTTL   = 30 * time.Second // when some questions were not answered
	staleTTL    = 30 * time.Second // for another use of an old answer
	staleWait   = time.Second      // for a new answer while there is an old one
	maxStale    = 24 * time.Hour   // how long after it was learned
)

// key is what is looked up: the name in its canonical form.
type key struct {
	name      string
	port      uint16
	transport Transport
}

// answer is what is known of a key. It is not changed once it is in the cache.
type answer struct {
	endpoints []endpoint // in order of rank
	err       error      // when there are none
	ttl       time.Duration
	learned   int64 // Unix ns
	expires   int64
}

// cacheShards keeps workers that look up different names apart.
const cacheShards = 16

// cache holds a fixed number of answers. When a shard is full, an answer that
// has expired makes room, or else one of a few that are looked at, the one that
// expires first; it is then asked for again when it is needed.
type cache struct {
	seed   maphash.Seed
	each   int // entries in a shard
	shards [cacheShards]cacheShard
}

type cacheShard struct {
	mu sync.RWMutex
	m  map[key]*answer
}

func newCache(size int) *cache {
	c := &cache{seed: maphash.MakeSeed(), each: max(size/cacheShards, 1)}
	for i := range c.shards {
		c.shards[i].m = map[key]*answer{}
	}
	return c
}

// find is get for a host as it was received. It does not allocate.
func (c *cache) find(host []byte, port uint16, transport Transport) *answer {
	var buf [maxName + 1]byte
	name, ok := appendCanonical(buf[:0], host)
	if !ok {
		return nil
	}
	s := &c.shards[maphash.Bytes(c.seed, name)%cacheShards]
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[key{string(name), port, transport}]
}

func (c *cache) shard(k key) *cacheShard {
	return &c.shards[maphash.String(c.seed, k.name)%cacheShards]
}

func (c *cache) get(k key) *answer {
	s := c.shard(k)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[k]
}

func (c *cache) put(k key, a *answer, now int64) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.m[k]; !ok && len(s.m) >= c.each {
		s.makeRoom(now)
	}
	s.m[k] = a
}

// makeRoom looks at a few entries only: Go starts each walk at another place.
func (s *cacheShard) makeRoom(now int64) {
	const look = 16
	var victim key
	first, n := int64(0), 0
	for k, a := range s.m {
		if n == 0 || a.expires < first {
			victim, first = k, a.expires
		}
		if n++; n == look || first < now {
			break
		}
	}
	delete(s.m, victim)
}

func (c *cache) size() (n int) {
	for i := range c.shards {
		c.shards[i].mu.RLock()
		n += len(c.shards[i].m)
		c.shards[i].mu.RUnlock()
	}
	return n
}

// flights lets those who want the same thing at the same time wait for the one
// of them who asks. He does so in his own goroutine: nothing runs on after the
// callers have left.
type flights struct {
	mu sync.Mutex
	m  map[key]*oneFlight
}

type oneFlight struct {
	done chan struct{}
	a    *answer
	err  error
}

func (f *flights) do(ctx context.Context, k key, ask func() (*answer, error)) (*answer, error) {
	f.mu.Lock()
	if one := f.m[k]; one != nil {
		f.mu.Unlock()
		select {
		case <-one.done:
			return one.a, one.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if f.m == nil {
		f.m = map[key]*oneFlight{}
	}
	one := &oneFlight{done: make(chan struct{}), err: context.Canceled} // should ask panic
	f.m[k] = one
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.m, k)
		f.mu.Unlock()
		close(one.done)
	}()
	one.a, one.err = ask()
	return one.a, one.err
}
