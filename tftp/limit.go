package tftp

import (
	"hash/maphash"
	"math"
	"net/netip"
	"sync"
	"time"
)

// minute is what the limited rate is per, whatever the period.
const minute = int64(time.Minute)

// ways is the number of sources in a bucket.
const ways = 8

// nameSlots is how many names of files are remembered of a source; a limit on them
// cannot be higher.
const nameSlots = 128

// forgives is how many missing files a source is forgiven for each file that it gets.
// Phones ask for files that need not exist beside those that do; a sweep finds nothing.
const forgives = 8

// defaultSources is the number of sources that are remembered unless told otherwise.
const defaultSources = 4096

// quota says how much a source may ask for.
type quota struct {
	threshold int           // requests within period
	period    time.Duration // above zero
	rate      int           // requests a minute that pass while the source is limited
}

// limiter counts the requests of each source, exactly: a source that has asked for
// more than the threshold within any period is limited until, since then, a whole period
// has passed with no more than that. While it is limited, a request passes if fewer than the
// limited rate have passed within the minute before it.
//
// It remembers the times of as many requests as that takes, so the memory of a source is
// 8 bytes × (threshold + 1 + limited rate) and 1,168 bytes for names: 8.2 MiB for 4,096
// sources with the defaults, allocated at once and never again.
//
// When a bucket is full, the source that was idle for longest makes room, those that
// are limited last: forged sources do not make one free that asks for too much.
type limiter struct {
	seed    maphash.Seed
	bits    int // of an IPv6 address that make one source
	quota   quota
	buckets []bucket
	times   []int64 // of all sources: requests, then those that passed
}

type bucket struct {
	mu   sync.Mutex
	keys [ways]uint64 // 0: empty
	vals [ways]counts
}

// counts is what is known of a source.
type counts struct {
	addr          netip.Addr
	asked, passed ring
	limited       bool
	since         int64 // when it was limited
	last          int64 // its last request
	refused       int64 // until when all is refused that it asks for
	names         [nameSlots]name
}

// name is the name of a file, as a hash, and when it was asked for in vain, or with
// success.
type name struct {
	hash uint32 // 0: none
	at   uint32 // Unix time in seconds
}

// found is the lowest bit of the hash of a name: the file is there.
const found = 1

// ring is where the next time goes; the times stand in limiter.times.
type ring struct{ next, used int32 }

// newLimiter makes a limiter with all its memory.
func newLimiter(sources, bits int, q quota) *limiter {
	n := max(sources/ways, 1)
	l := &limiter{seed: maphash.MakeSeed(), bits: bits, quota: q, buckets: make([]bucket, n)}
	l.times = make([]int64, n*ways*l.stride())
	return l
}

// stride is how many times there are of one source.
func (l *limiter) stride() int { return l.quota.threshold + 1 + l.quota.rate }

// source returns the source that an address belongs to.
func source(addr netip.Addr, bits int) netip.Addr {
	if addr.Is4() {
		return addr
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return addr
	}
	return p.Addr()
}

// at returns the locked bucket of a source and its place there, -1 if it is not known.
func (l *limiter) at(addr netip.Addr) (b *bucket, key uint64, base, i int) {
	a := source(addr, l.bits).As16()
	key = maphash.Bytes(l.seed, a[:]) | 1
	n := int(key >> 32 % uint64(len(l.buckets)))
	b = &l.buckets[n]
	b.mu.Lock()
	for i := range b.keys {
		if b.keys[i] == key {
			return b, key, n * ways, i
		}
	}
	return b, key, n * ways, -1
}

// claim returns the place of a source that may be new.
func (l *limiter) claim(addr netip.Addr) (b *bucket, c *counts, at int) {
	b, key, base, i := l.at(addr)
	if i < 0 {
		i = b.victim()
		b.keys[i], b.vals[i] = key, counts{addr: source(addr, l.bits)}
	}
	return b, &b.vals[i], base + i
}

// victim returns the place for a new source.
func (b *bucket) victim() int {
	best, least := 0, int64(math.MaxInt64)
	for i := range b.keys {
		worth := b.vals[i].last
		switch {
		case b.keys[i] == 0:
			return i
		case b.vals[i].limited:
			worth += math.MaxInt64 / 2
		}
		if worth < least {
			best, least = i, worth
		}
	}
	return best
}

// rings returns the memory of the two rings of a source.
func (l *limiter) rings(at int) (asked, passed []int64) {
	all := l.times[at*l.stride() : (at+1)*l.stride()]
	return all[:l.quota.threshold+1], all[l.quota.threshold+1:]
}

func (r *ring) push(times []int64, now int64) {
	if len(times) == 0 {
		return
	}
	times[r.next] = now
	r.next = (r.next + 1) % int32(len(times))
	r.used = min(r.used+1, int32(len(times)))
}

// oldest returns the time that a full ring will forget next.
func (r *ring) oldest(times []int64) (at int64, full bool) {
	if int(r.used) < len(times) || len(times) == 0 {
		return 0, false
	}
	return times[r.next], true
}

// within counts the times that are not yet as old as age.
func (r *ring) within(times []int64, now, age int64) (n int) {
	for i := range int(r.used) {
		if now-times[i] < age {
			n++
		}
	}
	return n
}

// over says whether more than the threshold came within the period before now.
func (l *limiter) over(c *counts, asked []int64, now int64) bool {
	at, full := c.asked.oldest(asked)
	return full && now-at < int64(l.quota.period)
}

// frees ends the limit of a source that has been calm for long enough. Times that lie ahead
// are of before the clock was set back, and would last until it has caught up: they are
// forgotten.
func (l *limiter) frees(c *counts, asked []int64, now int64) bool {
	if c.last-now > minute {
		was := c.limited
		*c = counts{addr: c.addr}
		return was
	}
	if !c.limited || now-c.since < int64(l.quota.period) || l.over(c, asked, now) {
		return false
	}
	c.limited = false
	return true
}

// admission is what the limiter says of a request.
type admission struct {
	pass           bool // it is within the limit
	refused        bool // the source is refused whatever it asks for
	entered, freed bool // the source is limited from now on, or was until now
}

// ask counts a request. It does not allocate.
func (l *limiter) ask(addr netip.Addr, now int64) (a admission) {
	b, c, at := l.claim(addr)
	defer b.mu.Unlock()
	asked, passed := l.rings(at)
	a.freed = l.frees(c, asked, now)
	c.asked.push(asked, now)
	c.last = now
	if !c.limited && l.over(c, asked, now) {
		c.limited, c.since, a.entered = true, now, true
	}
	a.refused = c.refused > now
	a.pass = !a.refused
	if c.limited {
		if t, full := c.passed.oldest(passed); len(passed) == 0 || full && now-t < minute {
			a.pass = false
		}
	}
	if a.pass {
		c.passed.push(passed, now)
	}
	return a
}

// refuse refuses a source until a time.
func (l *limiter) refuse(addr netip.Addr, until int64) {
	b, c, _ := l.claim(addr)
	c.refused = until
	b.mu.Unlock()
}

// forgive forgets what is known of a source.
func (l *limiter) forgive(addr netip.Addr) {
	b, _, _, i := l.at(addr)
	if i >= 0 {
		b.keys[i], b.vals[i] = 0, counts{}
	}
	b.mu.Unlock()
}

// sweep ends the limits of those who ask no more, and tells freed of each. It is called
// with no lock held.
func (l *limiter) sweep(now int64, freed func(netip.Addr)) {
	for n := range l.buckets {
		b := &l.buckets[n]
		b.mu.Lock()
		for i := range b.vals {
			asked, _ := l.rings(n*ways + i)
			if c := &b.vals[i]; l.frees(c, asked, now) {
				freed(c.addr)
			}
		}
		b.mu.Unlock()
	}
}

// limitedSources counts those that are limited.
func (l *limiter) limitedSources() (n int) {
	for i := range l.buckets {
		b := &l.buckets[i]
		b.mu.Lock()
		for j := range b.vals {
			if b.vals[j].limited {
				n++
			}
		}
		b.mu.Unlock()
	}
	return n
}

// state is what is known of a source, for people.
type state struct {
	asked, missing int // within the period
	passed         int // within the minute, while it is limited
	limited        bool
	refused        bool // whatever it asks for
}

func (l *limiter) state(addr netip.Addr, now int64) (s state) {
	b, _, base, i := l.at(addr)
	defer b.mu.Unlock()
	if i < 0 {
		return s
	}
	c := &b.vals[i]
	asked, passed := l.rings(base + i)
	s.limited = c.limited && !l.frees(&counts{asked: c.asked, limited: true, since: c.since}, asked, now)
	s.refused = c.refused > now
	s.asked = c.asked.within(asked, now, int64(l.quota.period))
	s.passed = c.passed.within(passed, now, minute)
	s.missing = l.countMissing(c, now)
	return s
}

func (l *limiter) hash(file []byte) uint32 {
	h := maphash.Bytes(l.seed, file)
	if h = h >> 32 &^ found; h == 0 {
		h = 1 << 31
	}
	return uint32(h)
}

// live says whether a name still counts.
func (l *limiter) live(n *name, now int64) bool {
	age := now/int64(time.Second) - int64(n.at)
	return n.hash != 0 && age >= 0 && age < int64((l.quota.period+time.Second-1)/time.Second)
}

// slot returns the place of a name: its own, or a free one, or that of the oldest.
func (l *limiter) slot(c *counts, hash uint32, now int64) (slot *name, known bool) {
	for i := range c.names {
		n := &c.names[i]
		switch {
		case n.hash&^found == hash && l.live(n, now):
			return n, true
		case slot == nil, !l.live(n, now), l.live(slot, now) && n.at < slot.at:
			slot = n
		}
	}
	return slot, false
}

// miss notes that a file is not there. When there are limit different ones of that kind it
// returns their number, and forgets them; else 0.
func (l *limiter) miss(addr netip.Addr, file []byte, limit int, now int64) (tooMany int) {
	hash := l.hash(file)
	b, c, _ := l.claim(addr)
	defer b.mu.Unlock()
	n, known := l.slot(c, hash, now)
	if known { // a phone that tries again
		return 0
	}
	*n = name{hash: hash, at: uint32(now / int64(time.Second))}
	if m := l.countMissing(c, now); m >= min(limit, nameSlots) {
		c.names = [nameSlots]name{}
		return m
	}
	return 0
}

// got notes that a file is there and has reached its source: missing ones are forgiven
// for it, the oldest first, but not twice for the same file.
func (l *limiter) got(addr netip.Addr, file []byte, now int64) {
	hash := l.hash(file)
	b, c, _ := l.claim(addr)
	defer b.mu.Unlock()
	n, known := l.slot(c, hash, now)
	if known && n.hash&found != 0 {
		return
	}
	*n = name{hash: hash | found, at: uint32(now / int64(time.Second))}
	for range forgives {
		var oldest *name
		for i := range c.names {
			if n := &c.names[i]; l.live(n, now) && n.hash&found == 0 && (oldest == nil || n.at < oldest.at) {
				oldest = n
			}
		}
		if oldest == nil {
			return
		}
		*oldest = name{}
	}
}

func (l *limiter) countMissing(c *counts, now int64) (n int) {
	for i := range c.names {
		if l.live(&c.names[i], now) && c.names[i].hash&found == 0 {
			n++
		}
	}
	return n
}
