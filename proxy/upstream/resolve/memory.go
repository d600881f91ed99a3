package resolve

import (
	"net/netip"
	"sync"
	"time"
)

// Retransmissions of a request to one target that count as silence, and the
// pause after which a request is no retransmission of the one before (RFC 3261
// §17.1.1.2: the intervals double from 500 ms).
const (
	minUnanswered = 3
	longPause     = int64(10 * time.Second)
)

// maxBackoff is how many times Retry a target is passed over at most.
const maxBackoff = 10

// memoryShards and shardTargets bound the memory: 2048 targets in all, with
// about 100 bytes each. When a shard is full it forgets one that is not known to
// have failed, or any; a target that is forgotten is merely tried again.
const (
	memoryShards = 16
	shardTargets = 128
)

// status is how a target stands towards one transaction.
type status uint8

const (
	fine    status = iota // or nothing is known
	onTrial               // its time is over, and this transaction may try it
	down                  // it has failed, or another transaction is trying it
)

// memory remembers which targets do not answer. A target that was passed over
// for its time is tried by one transaction first, and used by the others when it
// has answered that.
type memory struct {
	silence, retry int64
	shards         [memoryShards]memoryShard
}

type memoryShard struct {
	mu sync.Mutex
	m  map[netip.AddrPort]*record
}

type record struct {
	since, last int64 // first and last request without an answer; 0: none
	unanswered  int   // number of them
	until       int64 // passed over until then
	backoff     int64 // how long; 0: it has not failed
	trial       uint64
	trialUntil  int64 // when the transaction that tries it has lost its claim
}

func newMemory(silence, retry time.Duration) *memory {
	m := &memory{silence: int64(silence), retry: int64(retry)}
	for i := range m.shards {
		m.shards[i].m = map[netip.AddrPort]*record{}
	}
	return m
}

// shard returns the target's shard, locked.
func (m *memory) shard(ap netip.AddrPort) *memoryShard {
	s := &m.shards[hashAddr(ap)%memoryShards]
	s.mu.Lock()
	return s
}

// record returns the target's record, made if there is none.
func (s *memoryShard) record(ap netip.AddrPort) *record {
	if r := s.m[ap]; r != nil {
		return r
	}
	if len(s.m) >= shardTargets {
		s.forgetOne()
	}
	r := &record{}
	s.m[ap] = r
	return r
}

func (s *memoryShard) forgetOne() {
	var victim netip.AddrPort
	for ap, r := range s.m {
		victim = ap
		if r.backoff == 0 {
			break
		}
	}
	delete(s.m, victim)
}

func (m *memory) sent(ap netip.AddrPort, now int64) (first bool) {
	s := m.shard(ap)
	defer s.mu.Unlock()
	r := s.record(ap)
	if r.since == 0 || now-r.last > longPause {
		r.since, r.unanswered = now, 0
	}
	r.last = now
	r.unanswered++
	return r.unanswered == 1
}

func (m *memory) waiting(ap netip.AddrPort, since int64) bool {
	s := m.shard(ap)
	defer s.mu.Unlock()
	r := s.m[ap]
	return r != nil && r.since == since
}

func (m *memory) good(ap netip.AddrPort) {
	s := m.shard(ap)
	defer s.mu.Unlock()
	delete(s.m, ap)
}

func (m *memory) failed(ap netip.AddrPort, now int64) {
	s := m.shard(ap)
	defer s.mu.Unlock()
	m.fail(s.record(ap), now)
}

// fail takes several failures at once, as of several transactions, for one.
func (m *memory) fail(r *record, now int64) {
	r.since, r.unanswered = 0, 0
	if now < r.until {
		return
	}
	r.backoff = min(max(2*r.backoff, m.retry), maxBackoff*m.retry)
	r.until = now + r.backoff
	r.trial, r.trialUntil = 0, 0
}

func (m *memory) status(ap netip.AddrPort, seed uint64, now int64) status {
	s := m.shard(ap)
	defer s.mu.Unlock()
	r := s.m[ap]
	if r == nil {
		return fine
	}
	if r.since != 0 && r.unanswered >= minUnanswered && now-r.since >= m.silence {
		m.fail(r, now)
	}
	switch {
	case r.backoff == 0:
		return fine
	case now < r.until, now < r.trialUntil && r.trial != seed:
		return down
	}
	return onTrial
}

// claim makes the transaction the one that tries the target, and says whether it
// is. It has twice the time of silence to get an answer.
func (m *memory) claim(ap netip.AddrPort, seed uint64, now int64) bool {
	s := m.shard(ap)
	defer s.mu.Unlock()
	r := s.m[ap]
	switch {
	case r == nil:
		return true
	case now < r.trialUntil:
		return r.trial == seed
	}
	r.trial, r.trialUntil = seed, now+2*m.silence
	return true
}

func (m *memory) size() (n int) {
	for i := range m.shards {
		m.shards[i].mu.Lock()
		n += len(m.shards[i].m)
		m.shards[i].mu.Unlock()
	}
	return n
}
