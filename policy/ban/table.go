package ban

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The defaults of Config.
const (
	DefaultMaxEntries    = 200_000
	DefaultRemember      = 30 * 24 * time.Hour
	DefaultIPv6Bits      = 64
	DefaultEvidenceBytes = 16 << 20
)

// Config is what a Table goes by.
type Config struct {
	Store         *Store // nil: in memory only
	IPv6Bits      int    // length of the IPv6 prefix that is one source; 0: DefaultIPv6Bits
	EvidenceBytes int    // evidence kept in memory; what does not fit is read from the store, or gone without one; 0: DefaultEvidenceBytes

	// What follows can be changed by Reload.

	// MaxEntries caps the automatic bans, and once more the sources that are
	// no longer banned but have steps on the ladder. 0: DefaultMaxEntries.
	// When a ban does not fit, an unproven one makes room first, the one that
	// ends soonest; then the proven one that ends soonest, but never for an
	// unproven one: that is refused with ErrFull.
	MaxEntries int
	Threshold  int           // this many proven dynamic blocks of a prefix make the last of them permanent; 0: never
	Remember   time.Duration // how long a block counts for Threshold; 0: DefaultRemember

	BreakerPerMinute int        // automatic bans within a minute beyond which they stop, for unproven and proven evidence each; 0: no limit
	BreakerGoodShare float64    // share of the sources in good standing (0 to 1) whose bans within a minute stop all automatic bans; 0: no limit
	Standing         func() int // how many sources are in good standing; called with the table locked, so it must be quick and not call back; nil: no limit by share
	// OnBreaker is told when automatic bans stop and when they go on again. It
	// is called by whoever noticed, so it must not wait. May be nil.
	OnBreaker func(fuse Fuse, open bool)

	Log *slog.Logger // nil: silent
}

func (c Config) withDefaults() Config {
	if c.MaxEntries <= 0 {
		c.MaxEntries = DefaultMaxEntries
	}
	if c.Remember <= 0 {
		c.Remember = DefaultRemember
	}
	if c.IPv6Bits <= 0 || c.IPv6Bits > 128 {
		c.IPv6Bits = DefaultIPv6Bits
	}
	if c.EvidenceBytes <= 0 {
		c.EvidenceBytes = DefaultEvidenceBytes
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Table is the ban table. It is safe for use by any number of goroutines.
//
// A ban takes about 400 bytes of memory, without its evidence, which has a
// budget of its own; a source of which only ladder steps are left, about 250.
type Table struct {
	// What Banned reads, without a lock.
	sources sources
	wide    [2]atomic.Pointer[wide] // IPv4, IPv6; nil: no such bans

	store    *Store
	ipv6Bits int

	mu       sync.Mutex
	cfg      Config
	entries  map[netip.Prefix]*entry
	live     []*Record // all bans in force, in no order, for quick snapshots
	bits     [2][129]int
	queues   [numClasses]queue
	evidence evidence
	breaker  breaker
	seq      uint64
	subs     []*Subscription
	stats    Stats
	loading  bool  // what the store has need not be written to it
	sweepAt  int64 // when the sweeper wakes up by itself
	wake     chan struct{}
}

// Stats counts what the table holds and has done.
type Stats struct {
	Dynamic, Permanent, Manual int // bans held; those whose end the sweeper has not yet seen included
	Unproven                   int // of the dynamic ones
	Recalled                   int // sources without a ban but with steps on the ladder

	Added    uint64 // new bans
	Expired  uint64 // bans that ended by themselves
	Evicted  uint64 // bans that made room for another
	Full     uint64 // bans refused with ErrFull
	Breaker  uint64 // bans refused with ErrBreaker
	Lost     uint64 // times that a subscriber fell behind
	Unstored uint64 // unproven bans that were not written to the store because there were too many at once
}

// New makes a table. What the store holds is in force when New returns, unless
// the store cannot be read now: then Run goes on trying, and Health says so.
func New(cfg Config, now int64) (*Table, error) {
	cfg = cfg.withDefaults()
	t := &Table{
		store:    cfg.Store,
		ipv6Bits: cfg.IPv6Bits,
		cfg:      cfg,
		entries:  make(map[netip.Prefix]*entry),
		evidence: evidence{budget: cfg.EvidenceBytes},
		sweepAt:  forever,
		wake:     make(chan struct{}, 1),
	}
	t.sources.init(rand.Uint64(), cfg.IPv6Bits, minSlots/2)
	t.breaker.configure(cfg.BreakerPerMinute, cfg.BreakerGoodShare, cfg.Standing)
	if t.store == nil {
		return t, nil
	}
	if err := t.store.attach(t, now); err != nil {
		return nil, fmt.Errorf("load bans: %w", err)
	}
	return t, nil
}

// Reload puts other limits in force. Bans that are in force stay as they are.
func (t *Table) Reload(cfg Config) {
	cfg = cfg.withDefaults()
	t.mu.Lock()
	defer t.unlock()
	t.cfg = cfg
	t.breaker.configure(cfg.BreakerPerMinute, cfg.BreakerGoodShare, cfg.Standing)
}

// unlock gives back the table's lock and then tells of what the breaker did
// meanwhile.
func (t *Table) unlock() {
	turned, log, hook := t.breaker.turned, t.cfg.Log, t.cfg.OnBreaker
	t.breaker.turned = nil
	t.mu.Unlock()
	for _, c := range turned {
		if c.open {
			log.Warn("automatic bans stopped: too many at once", "fuse", c.fuse)
		} else {
			log.Info("automatic bans go on", "fuse", c.fuse)
		}
		if hook != nil {
			hook(c.fuse, c.open)
		}
	}
}

// Banned says whether addr is banned at now. It takes no lock and does not
// allocate. What has ended is not banned, whether the sweeper has come or not.
func (t *Table) Banned(addr netip.Addr, now int64) bool {
	if !addr.Is4() {
		return t.banned6(addr, now)
	}
	key := key4(addr)
	if t.sources.v4.Load().until(key) > now {
		return true
	}
	w := t.wide[0].Load()
	return w != nil && w.filter.has(uint32(key)>>16) && w.banned(addr, now)
}

func (t *Table) banned6(addr netip.Addr, now int64) bool {
	if addr.Is4In6() {
		return t.Banned(addr.Unmap(), now)
	}
	if !addr.IsValid() {
		return false
	}
	half := upper(addr)
	if k := t.sources.key6(half); k != 0 && t.sources.v6.Load().until(k) > now {
		return true
	}
	w := t.wide[1].Load()
	return w != nil && w.filter.has(uint32(half>>32)) && w.banned(addr, now)
}

// Source returns the prefix that is banned when addr misbehaves: the address
// itself for IPv4, the configured prefix for IPv6.
func (t *Table) Source(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = t.ipv6Bits
	}
	return netip.PrefixFrom(addr, bits).Masked()
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// cover calls f with each ban of a prefix that covers p, p's own last. The
// lock is held.
func (t *Table) cover(p netip.Prefix, f func(*Record)) {
	used := &t.bits[family(p.Addr())]
	for n := range p.Bits() + 1 {
		if used[n] == 0 {
			continue
		}
		if e := t.entries[netip.PrefixFrom(p.Addr(), n).Masked()]; e != nil && e.rec != nil {
			f(e.rec)
		}
	}
}

// latest returns the latest end of all bans that cover p. The lock is held.
func (t *Table) latest(p netip.Prefix) int64 {
	var end int64
	t.cover(p, func(r *Record) { end = max(end, r.deadline()) })
	return end
}

// Covering returns the bans in force that cover the whole of p, the one that
// lasts longest first, and of two that end together the narrower. Evidence is
// left out.
func (t *Table) Covering(p netip.Prefix, now int64) []Record {
	if !p.IsValid() {
		return nil
	}
	var all []Record
	t.mu.Lock()
	t.cover(p.Masked(), func(r *Record) {
		if r.InForce(now) {
			all = append(all, *r)
		}
	})
	t.unlock()
	slices.Reverse(all)
	slices.SortStableFunc(all, func(a, b Record) int {
		switch x, y := a.deadline(), b.deadline(); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	return all
}

// Lookup returns the ban of addr that lasts longest, with its evidence.
func (t *Table) Lookup(addr netip.Addr, now int64) (Record, bool) {
	addr = addr.Unmap().WithZone("")
	all := t.Covering(netip.PrefixFrom(addr, addr.BitLen()), now)
	if len(all) == 0 {
		return Record{}, false
	}
	r := all[0]
	r.Evidence = t.evidenceOf(r.Prefix)
	return r, true
}

// evidenceOf looks into memory, then into the store. Evidence is for people:
// that it cannot be read now is no reason to hide the ban.
func (t *Table) evidenceOf(p netip.Prefix) []byte {
	t.mu.Lock()
	e, log := t.evidence.get(p), t.cfg.Log
	t.unlock()
	if e != nil || t.store == nil {
		return e
	}
	e, err := t.store.evidence(p)
	if err != nil {
		log.Warn("cannot read the evidence of a ban", "prefix", p, "error", err)
	}
	return e
}

// Snapshot returns all bans, evidence left out, and the number of the last
// change that is contained in them. A ban that has just ended may still be among
// them; its Expired change follows.
func (t *Table) Snapshot() ([]Record, uint64) {
	live, seq := t.records()
	records := make([]Record, len(live))
	for i, r := range live {
		records[i] = *r
	}
	return records, seq
}

// Each calls f with each ban, in no order, evidence left out. One that has just ended may
// still be among them. The records are the table's own, and are not to be changed.
func (t *Table) Each(f func(*Record)) {
	live, _ := t.records()
	for _, r := range live {
		f(r)
	}
}

// records returns all bans and the number of the last change. Records are not changed once
// they are in live, so that the lock, which a worker may wait for, is held for the copying
// of pointers only.
func (t *Table) records() ([]*Record, uint64) {
	t.mu.Lock()
	defer t.unlock()
	return slices.Clone(t.live), t.seq
}

// Stats returns the counts.
func (t *Table) Stats() Stats {
	t.mu.Lock()
	defer t.unlock()
	s := t.stats
	s.Unproven = len(t.queues[unproven])
	s.Recalled = len(t.queues[recalled])
	return s
}
