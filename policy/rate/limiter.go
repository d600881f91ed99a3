package rate

import (
	"math"
	"net/netip"
	"sync"
	"time"
)

// limiterWays is the number of sources in a bucket: what fills two cache lines.
const limiterWays = 10

// clockSkew is how far the clocks of two callers may be apart, and how far a
// clock may step back, before a remembered time counts as nonsense.
const clockSkew = int64(time.Second)

// Limit is a rate in the form that a Limiter works with. The zero Limit has no
// bound.
type Limit struct {
	interval  int64 // ns that one event takes
	tolerance int64 // ns that a source may be ahead: burst × interval
}

// PerSecond returns the limit of events per second in the long run, of which
// burst may come at once. A rate of zero or less is no limit; a burst below
// one counts as one.
func PerSecond(events float64, burst int) Limit {
	if events <= 0 || math.IsInf(events, 1) || math.IsNaN(events) {
		return Limit{}
	}
	interval := max(int64(float64(time.Second)/events), 1)
	return Limit{interval: interval, tolerance: multiply(interval, burst)}
}

// Times returns a limit with n times the rate and n times the burst. A source
// may change between a limit and its multiple at any time: both measure in the
// same units how far it is ahead.
func (l Limit) Times(n int) Limit {
	if l.interval == 0 || n <= 1 {
		return l
	}
	return Limit{interval: max(l.interval/int64(n), 1), tolerance: l.tolerance}
}

// multiply keeps the tolerance where adding it to a clock cannot overflow.
func multiply(interval int64, burst int) int64 {
	const most = int64(math.MaxInt64 / 8)
	burst = max(burst, 1)
	if interval > most/int64(burst) {
		return most
	}
	return interval * int64(burst)
}

// Limiter limits events per source with the generic cell rate algorithm (GCRA,
// ITU-T I.371): for each source it keeps one number, the theoretical arrival
// time (TAT), which is the time at which the source will have used nothing. An
// event that would push it further than the limit's tolerance into the future
// is refused, and leaves it as it is.
//
// Memory: 12.8 bytes for each source that it has room for, which is 4 MiB for
// DefaultSources, allocated at once and never again.
//
// When a bucket is full the source with the earliest TAT makes room. That is
// the one idle longest, weighed by what forgetting it would forgive: mostly it
// lies in the past, and nothing is lost. A source at its limit has its TAT as
// far in the future as it can be, so it is the last to be forgotten, however
// many others arrive.
type Limiter struct {
	keyer
	buckets []limiterBucket
}

type limiterBucket struct {
	mu          sync.Mutex
	fingerprint [limiterWays]uint32
	tat         [limiterWays]int64 // ns; 0 in a slot that was never used
}

// NewLimiter makes a limiter with all its memory.
func NewLimiter(cfg Config) *Limiter {
	k := newKeyer(cfg, limiterWays)
	return &Limiter{keyer: k, buckets: make([]limiterBucket, k.bucketMask+1)}
}

// Sources returns the number of sources there is room for.
func (l *Limiter) Sources() int { return len(l.buckets) * limiterWays }

// Allow counts an event of addr at now (nanoseconds of a clock that does not
// run backwards, not negative) and says whether it is within lim. It does not
// allocate and may be called from any goroutine.
func (l *Limiter) Allow(addr netip.Addr, now int64, lim Limit) bool {
	if lim.interval == 0 {
		return true
	}
	i, fp := l.of(addr)
	b := &l.buckets[i]
	b.mu.Lock()
	ok := b.allow(fp, now, lim)
	b.mu.Unlock()
	return ok
}

func (b *limiterBucket) allow(fp uint32, now int64, lim Limit) bool {
	slot, tat := b.find(fp)
	// A TAT that no event can have set: the clock stepped back, or the limit
	// was lowered. To start afresh is safer than to refuse for as long as that
	// takes to pass.
	if tat < now || tat-now > lim.tolerance+clockSkew {
		tat = now
	}
	if tat-now > lim.tolerance-lim.interval {
		return false
	}
	b.fingerprint[slot] = fp
	b.tat[slot] = tat + lim.interval
	return true
}

// find returns the source's slot and TAT, or the slot that makes room for it
// and zero.
func (b *limiterBucket) find(fp uint32) (slot int, tat int64) {
	for i := range b.fingerprint {
		if b.fingerprint[i] == fp {
			return i, b.tat[i]
		}
	}
	// The index in the lowest bits, which are a few nanoseconds, makes this a
	// minimum of numbers, without branches that nobody can predict.
	least := int64(math.MaxInt64)
	for i := range b.tat {
		least = min(least, b.tat[i]&^15|int64(i))
	}
	return int(least & 15), 0
}
