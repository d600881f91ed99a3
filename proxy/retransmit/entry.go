package retransmit

import (
	"sync"
	"time"
)

// An entry is one transaction. Its shard's lock guards it.
type entry struct {
	key   Key
	state state
	class Class
	place uint16 // of its source, see Table.sources
	path  Path
	flow  uint64 // see Request.Flow
	// success is the key under which the ACK to its 2xx finds it, 0 if there was none.
	success uint64
	message *buffer // what is sent again; nil: nothing

	again    int64 // when message is sent next, Unix nanoseconds; 0: when asked for
	interval int64 // how long after that it is sent once more
	ends     int64 // when the entry is forgotten

	// The wheel's.
	when       int64
	next, prev *entry
	slot       int
}

// A state is that of a transaction in RFC 3261 §17 and RFC 6026.
type state uint8

const (
	// Towards the UDP side.
	calling    state = 1 + iota // a request without a response
	proceeding                  // it has a provisional one
	completed                   // it has a final one; message is the ACK

	// From the UDP side.
	asked     // a request without a final response; message is a provisional one
	answered  // message is the final response
	accepted  // message is the 2xx to an INVITE
	confirmed // the ACK has come
)

// fromUDP reports whether the transaction is one that the UDP side began.
func (s state) fromUDP() bool { return s >= asked }

// repeat has the message sent again after T1, then at growing intervals.
func (e *entry) repeat(now int64) {
	e.interval = int64(T1)
	e.again = now + e.interval
}

// repeated computes when a message that is sent now goes out once more.
func (e *entry) repeated(now int64) {
	e.interval *= 2
	switch {
	case e.state == calling && e.invite():
	case e.state == proceeding:
		e.interval = int64(T2)
	default:
		e.interval = min(e.interval, int64(T2))
	}
	e.again = max(e.again+e.interval, now+1) // without the clock's delay
}

// last has the entry forgotten after d.
func (e *entry) last(now int64, d time.Duration) { e.ends = now + int64(d) }

// due is when something is to be done.
func (e *entry) due() int64 {
	if e.again != 0 {
		return min(e.again, e.ends)
	}
	return e.ends
}

type buffer struct{ b []byte }

// maxPooled is the capacity of the largest buffer that is kept for the next message.
const maxPooled = 8 << 10

// successes finds transactions by the ACK to their 2xx. Its lock is taken with a shard's
// lock held, never the other way round.
type successes struct {
	mu   sync.Mutex
	keys map[uint64]Key
}

func (s *successes) remember(e *entry, success uint64) {
	if success == 0 {
		return
	}
	e.success = success
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[success] = e.key
}

func (s *successes) forget(e *entry) {
	if e.success == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[e.success] == e.key {
		delete(s.keys, e.success)
	}
	e.success = 0
}

func (s *successes) find(success uint64) (Key, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.keys[success]
	return k, ok
}
