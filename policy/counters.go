package policy

import (
	"sync/atomic"
	"unsafe"
)

// cacheLine is at least as large as what processors fetch at a time: 64 bytes,
// in pairs on some.
const cacheLine = 128

// A Class is what kind of message is counted: which side it came from, its method and what
// became of it. The zero Class is that of what is no SIP message.
type Class uint8

const (
	classMethods  = 16 // and room for one that is not known
	classVerdicts = 4
	// NumClasses is the number of classes; a Class is an index below it.
	NumClasses = 1 + 2*classMethods*classVerdicts
	// NoMethod is the method of a message that was not read so far. Those that are known
	// are below it.
	NoMethod = classMethods - 1
)

// ClassOf returns the class of a SIP message. The numbers of methods are the caller's.
func ClassOf(fromPBX bool, method uint8, v Verdict) Class {
	c := min(method, NoMethod)*classVerdicts + uint8(v)%classVerdicts
	if fromPBX {
		c += classMethods * classVerdicts
	}
	return Class(1 + c)
}

// Parts takes a class apart; false is that of what is no SIP message.
func (c Class) Parts() (fromPBX bool, method uint8, v Verdict, sip bool) {
	if c == 0 {
		return false, NoMethod, Pass, false
	}
	n := uint8(c) - 1
	fromPBX = n >= classMethods*classVerdicts
	return fromPBX, n / classVerdicts % classMethods, Verdict(n % classVerdicts), true
}

type shardCounts struct {
	messages [NumClasses][NumReasons]atomic.Uint64
	replies  [len(replyClasses)]atomic.Uint64
}

var replyClasses = [...]string{1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx", 6: "6xx"}

// Shard counts the messages of one worker by class and reason, in about 75 KiB of which it
// uses little. Adding never touches a cache line of another worker's.
type Shard struct {
	// The padding is in front: at the end a padding of no bytes would take some.
	_      [(cacheLine - unsafe.Sizeof(shardCounts{})%cacheLine) % cacheLine]byte
	counts shardCounts
}

// Add counts one message.
func (s *Shard) Add(c Class, r Reason) {
	if int(c) < NumClasses && int(r) < NumReasons {
		s.counts.messages[c][r].Add(1)
	}
}

// Reply counts a response that goes back to a source, by the class of its status.
func (s *Shard) Reply(status int) {
	if i := status / 100; i > 0 && i < len(replyClasses) {
		s.counts.replies[i].Add(1)
	}
}

// Counters counts messages by class and reason: each message once, by whoever decided
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

// Snapshot returns the sums over all shards and classes, indexed by Reason. They are not
// of one instant: a message may be counted while they are added up.
func (c *Counters) Snapshot() [NumReasons]uint64 {
	var sums [NumReasons]uint64
	c.Each(func(_ Class, r Reason, n uint64) { sums[r] += n })
	return sums
}

// Each calls f with each count that is not zero, summed over all shards.
func (c *Counters) Each(f func(c Class, r Reason, n uint64)) {
	for class := range NumClasses {
		for r := range NumReasons {
			n := uint64(0)
			for i := range c.shards {
				n += c.shards[i].counts.messages[class][r].Load()
			}
			if n > 0 {
				f(Class(class), Reason(r), n)
			}
		}
	}
}

// Replies returns how many responses went back to sources, by class ("2xx").
func (c *Counters) Replies() map[string]uint64 {
	out := map[string]uint64{}
	for class, name := range replyClasses {
		n := uint64(0)
		for i := range c.shards {
			n += c.shards[i].counts.replies[class].Load()
		}
		if n > 0 {
			out[name] = n
		}
	}
	return out
}
