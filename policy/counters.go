package policy

import (
	"sync/atomic"
	"unsafe"
)

// cacheLine is at least as large as what processors fetch at a time: 64 bytes,
// in pairs on some.
const cacheLine = 128

// Shard counts the messages of one worker by reason. Adding never touches a
// cache line of another worker's.
type Shard struct {
	counts [NumReasons]atomic.Uint64
	_      [(cacheLine - unsafe.Sizeof([NumReasons]atomic.Uint64{})%cacheLine) % cacheLine]byte
}

// Add counts one message.
func (s *Shard) Add(r Reason) {
	if int(r) < NumReasons {
		s.counts[r].Add(1)
	}
}

// Counters counts messages by reason: each message once, by whoever decided
// its fate, with its final reason.
type Counters struct {
	shards []Shard
}

// NewCounters makes counters with a shard for each worker.
func NewCounters(workers int) *Counters {
	return &Counters{shards: make([]Shard, max(workers, 1))}
}

// Shard returns the shard of a worker. Any number will do: those beyond the
// number of workers share.
func (c *Counters) Shard(worker int) *Shard {
	return &c.shards[uint(worker)%uint(len(c.shards))]
}

// Snapshot returns the sums over all shards, indexed by Reason. They are not
// of one instant: a message may be counted while they are added up.
func (c *Counters) Snapshot() [NumReasons]uint64 {
	var sums [NumReasons]uint64
	for i := range c.shards {
		for r := range sums {
			sums[r] += c.shards[i].counts[r].Load()
		}
	}
	return sums
}
