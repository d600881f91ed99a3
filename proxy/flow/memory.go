package flow

import "sync"

// Memory remembers for a while that a key was seen: a nonce that was issued to an
// address, a To tag that was sent to it. A key is a keyed hash, so that nobody can aim at
// a bucket.
//
// Its size is fixed when it is made: 16 bytes a key. Strangers fill it; in a full bucket
// the key that ends first makes room. What is forgotten costs a source its proof of
// address for one request, and nothing else.
type Memory struct {
	buckets []bucket
	locks   [memoryLocks]paddedMutex
}

const (
	ways        = 8
	memoryLocks = 256
)

type bucket [ways]struct {
	key   uint64
	until int64 // Unix nanoseconds; 0: free
}

type paddedMutex struct {
	sync.Mutex
	_ [56]byte
}

// NewMemory makes a Memory for about the given number of keys, rounded up to a power
// of two.
func NewMemory(keys int) *Memory {
	n := 1
	for n*ways < keys {
		n *= 2
	}
	return &Memory{buckets: make([]bucket, n)}
}

func (m *Memory) at(key uint64) (*bucket, *paddedMutex) {
	i := key & uint64(len(m.buckets)-1)
	return &m.buckets[i], &m.locks[i%memoryLocks]
}

// Add remembers key until the given time (Unix nanoseconds). It reports whether the
// key was remembered already at now.
func (m *Memory) Add(key uint64, now, until int64) (known bool) {
	b, mu := m.at(key)
	mu.Lock()
	defer mu.Unlock()
	oldest := 0
	for i := range b {
		e := &b[i]
		if e.key == key && e.until > now {
			e.until = max(e.until, until)
			return true
		}
		if e.until < b[oldest].until {
			oldest = i
		}
	}
	b[oldest].key, b[oldest].until = key, until
	return false
}

// Has reports whether key is remembered at now.
func (m *Memory) Has(key uint64, now int64) bool {
	_, ok := m.Find(key, 0, now)
	return ok
}

// Find returns the first key that is remembered at now and differs from key in the bits of
// but at most, which must not be among the 32 lowest.
func (m *Memory) Find(key, but uint64, now int64) (found uint64, ok bool) {
	b, mu := m.at(key)
	compared := ^but
	key &= compared
	mu.Lock()
	for i := range b {
		if b[i].key&compared == key && b[i].until > now {
			found, ok = b[i].key, true
			break
		}
	}
	mu.Unlock()
	return found, ok
}

// Bytes returns what the Memory takes.
func (m *Memory) Bytes() int { return len(m.buckets) * ways * 16 }
