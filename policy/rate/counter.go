package rate

import (
	"math"
	"net/netip"
	"sync"
	"time"
)

// counterWays is the number of sources in a bucket: what fills two cache lines.
const counterWays = 7

// Counter counts events per source in a period that begins with the source's
// first event and is over when it has passed; the next event begins another.
//
// Memory: 18.3 bytes for each source that it has room for (about 8 MiB for
// DefaultSources, after rounding up to a power of two), allocated at once and
// never again.
//
// When a bucket is full, a source whose period is over makes room; if there is
// none, the one with the lowest count, and of those the one whose period ends
// first. So sources that do something once cannot push out one that keeps
// doing it.
type Counter struct {
	keyer
	buckets []counterBucket
}

type counterBucket struct {
	mu          sync.Mutex
	fingerprint [counterWays]uint32
	count       [counterWays]uint32
	start       [counterWays]int64 // ns
}

// NewCounter makes a counter with all its memory.
func NewCounter(cfg Config) *Counter {
	k := newKeyer(cfg, counterWays)
	return &Counter{keyer: k, buckets: make([]counterBucket, k.bucketMask+1)}
}

// Sources returns the number of sources there is room for.
func (c *Counter) Sources() int { return len(c.buckets) * counterWays }

// Add counts an event of addr at now (nanoseconds, not negative) and returns
// how many there have been in its period, this one included. It does not
// allocate and may be called from any goroutine.
func (c *Counter) Add(addr netip.Addr, now int64, period time.Duration) uint32 {
	i, fp := c.of(addr)
	b := &c.buckets[i]
	b.mu.Lock()
	n := b.add(fp, now, int64(period))
	b.mu.Unlock()
	return n
}

// Count returns what Add returned last, or 0 when the period is over or the
// source is not known.
func (c *Counter) Count(addr netip.Addr, now int64, period time.Duration) uint32 {
	i, fp := c.of(addr)
	b := &c.buckets[i]
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.fingerprint {
		if b.fingerprint[i] == fp && b.live(i, now, int64(period)) {
			return b.count[i]
		}
	}
	return 0
}

// live says whether the slot's period runs. One that begins in the future, as
// after a clock that stepped back, does not.
func (b *counterBucket) live(slot int, now, period int64) bool {
	age := now - b.start[slot]
	return b.count[slot] > 0 && age < period && age > -clockSkew
}

func (b *counterBucket) add(fp uint32, now, period int64) uint32 {
	for i := range b.fingerprint {
		if b.fingerprint[i] == fp && b.live(i, now, period) {
			if b.count[i] < math.MaxUint32 {
				b.count[i]++
			}
			return b.count[i]
		}
	}
	slot := b.victim(fp, now, period)
	b.fingerprint[slot], b.count[slot], b.start[slot] = fp, 1, now
	return 1
}

// victim returns the slot for a new period of fp: its own if it has one, so
// that no source is in a bucket twice.
func (b *counterBucket) victim(fp uint32, now, period int64) int {
	best, bestCount, bestStart := 0, uint32(math.MaxUint32), int64(math.MaxInt64)
	for i := range b.fingerprint {
		if b.fingerprint[i] == fp {
			return i
		}
		count := b.count[i]
		if !b.live(i, now, period) {
			count = 0
		}
		if count < bestCount || count == bestCount && b.start[i] < bestStart {
			best, bestCount, bestStart = i, count, b.start[i]
		}
	}
	return best
}
