package flow

import "sync"

// Streams remembers which connection an account was last seen on, so that a
// request for a phone whose connection died (or which sipward forgot in a restart)
// finds the phone's new one. It only observes: without it such a request waits for
// nothing and fails, as it does without sipward.
//
// It is filled by strangers and therefore capped: a full shard forgets an arbitrary
// entry. An entry costs about 40 bytes.
type Streams struct {
	shards [streamShards]streamShard
}

const (
	streamShards = 16
	// MaxStreams is how many accounts are remembered.
	MaxStreams = 1 << 17
)

type streamShard struct {
	mu   sync.Mutex
	conn map[uint64]uint64
}

func (s *Streams) shard(key uint64) *streamShard { return &s.shards[key%streamShards] }

// Put remembers that key was last seen on conn.
func (s *Streams) Put(key, conn uint64) {
	sh := s.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.conn == nil {
		sh.conn = make(map[uint64]uint64)
	}
	if _, known := sh.conn[key]; !known && len(sh.conn) >= MaxStreams/streamShards {
		for old := range sh.conn {
			delete(sh.conn, old)
			break
		}
	}
	sh.conn[key] = conn
}

// Get returns the connection that key was last seen on.
func (s *Streams) Get(key uint64) (conn uint64, ok bool) {
	sh := s.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	conn, ok = sh.conn[key]
	return conn, ok
}

// Delete forgets key if it is still on conn.
func (s *Streams) Delete(key, conn uint64) {
	sh := s.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.conn[key] == conn {
		delete(sh.conn, key)
	}
}

// Len returns how many keys are remembered.
func (s *Streams) Len() int {
	n := 0
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		n += len(sh.conn)
		sh.mu.Unlock()
	}
	return n
}
