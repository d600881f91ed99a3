package proxy

import (
	"sync/atomic"
	"time"

	"sipward/policy"
	"sipward/sip"
)

// Each method that is known has a number below that of none.
var _ [policy.NoMethod - sip.MethodCount]struct{}

// sampleEvery is how many messages there are to one whose time is taken, so that asking the
// clock costs next to nothing.
const sampleEvery = 64

// latencyBounds are the upper bounds of the histogram, 2.5 µs to 100 ms.
var latencyBounds = [...]time.Duration{
	2500, 5 * time.Microsecond, 10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond,
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond, time.Millisecond,
	2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 100 * time.Millisecond,
}

// histogram counts times: those of one worker, or of all connections, which meet here for
// one in sampleEvery of their messages.
type histogram struct {
	counts [len(latencyBounds) + 1]atomic.Uint64
	sum    atomic.Int64 // ns
	_      [64]byte     // the next worker's is on a line of its own
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0) // the clock may have been set back
	i := 0
	for i < len(latencyBounds) && d > latencyBounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// measure takes the time of one message in sampleEvery, from when the batch that it came in
// was received until it has been decided on and handed to the sender.
func (t *task) measure() {
	if t.seen++; t.seen%sampleEvery == 0 {
		t.times.add(time.Duration(t.s.now() - t.now))
	}
}

// Latency is a histogram of how long messages took.
type Latency struct {
	// Bounds are upper bounds; Counts has one more, for what took longer than all.
	Bounds []time.Duration
	Counts []uint64
	Sum    time.Duration
}

func sumUp(all []*histogram) Latency {
	l := Latency{Bounds: latencyBounds[:], Counts: make([]uint64, len(latencyBounds)+1)}
	for _, h := range all {
		for i := range h.counts {
			l.Counts[i] += h.counts[i].Load()
		}
		l.Sum += time.Duration(h.sum.Load())
	}
	return l
}
