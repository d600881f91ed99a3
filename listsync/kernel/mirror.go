package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Mirror keeps the kernel's sets like the lists. Its methods may be called by
// any number of goroutines and do not wait for the kernel, but for those with a
// context.
type Mirror struct {
	cfg  Config
	log  *slog.Logger
	wake chan struct{}
	asks chan ask

	mu        sync.Mutex
	wanted    [numSets]wanted
	strangers int
	fed       bool // the bans have come for the first time
	status    Status

	// What follows belongs to Run.
	backend  backend
	before   drops     // by backends that are no longer in use
	enforced int       // the limit of strangers that the rules have
	paused   bool      // by Clear, until Sync
	retry    time.Time // when to try again after a failure; zero: nothing has failed
	failures int
	cause    error     // of the first failure, which is told of when it is known what became of it
	check    time.Time // when to compare next
	full     [numSets]bool
}

// ask is a command for Run.
type ask struct {
	do   func() error
	done chan error
}

// New makes a mirror that does nothing before Run.
func New(cfg Config) (*Mirror, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &Mirror{
		cfg:  cfg,
		log:  cfg.Log,
		wake: make(chan struct{}, 1),
		asks: make(chan ask),
		fed:  cfg.Bans == nil,
		status: Status{
			Configured: cfg.Backend, Backend: BackendNone, Scope: cfg.Scope, MaxEntries: cfg.MaxEntries,
			Reason: "not started",
		},
	}
	for s := range m.wanted {
		m.wanted[s] = newWanted(cfg.MaxEntries)
	}
	return m, nil
}

// SetLists replaces the allow list and the deny list. What is in good standing
// by configuration, such as trunks and the PBXes, belongs to allow.
func (m *Mirror) SetLists(allow, deny []netip.Prefix) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for list, prefixes := range map[set][]netip.Prefix{allow4: allow, ban4: deny} {
		var byFamily [2]map[netip.Prefix]bool
		for f := range byFamily {
			byFamily[f] = make(map[netip.Prefix]bool)
		}
		for _, p := range prefixes {
			for _, p := range elements(p) {
				byFamily[list.of(p)-list][p] = true
			}
		}
		for f := range byFamily {
			m.wanted[list+set(f)].resetStatic(byFamily[f])
		}
	}
	m.signal()
}

// Good says that a source is in good standing until then (Unix time in
// nanoseconds; 0: for ever). A time that has passed ends its standing. It is
// cheap enough to be called by whoever handles a PBX's answer.
func (m *Mirror) Good(source netip.Prefix, until int64) {
	ended := until != 0 && until <= time.Now().UnixNano()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range elements(source) {
		w := &m.wanted[good4.of(p)]
		if _, ok := w.items[p]; !ok && len(w.items) >= w.max {
			continue // one more in the lane of strangers
		}
		w.timed(Entry{p, until}, ended)
	}
	m.signal()
}

// LimitStrangers limits how many packets a second all sources together may send
// to the protected ports that are neither allowed nor in good standing. 0 ends
// the limit. With ipset IPv4 and IPv6 have a limit each, and 1,000,000 is the
// highest.
func (m *Mirror) LimitStrangers(perSecond int) {
	m.mu.Lock()
	m.strangers = max(perSecond, 0)
	m.mu.Unlock()
	m.signal()
}

func (m *Mirror) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// elements returns what the kernel's sets have for a prefix. They know no /0.
func elements(p netip.Prefix) []netip.Prefix {
	if !p.IsValid() {
		return nil
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	p = p.Masked()
	if p.Bits() > 0 {
		return []netip.Prefix{p}
	}
	upper := netip.AddrFrom4([4]byte{0x80})
	if p.Addr().Is6() {
		upper = netip.AddrFrom16([16]byte{0x80})
	}
	return []netip.Prefix{netip.PrefixFrom(p.Addr(), 1), netip.PrefixFrom(upper, 1)}
}

// resetBans makes entries the only bans.
func (m *Mirror) resetBans(entries []Entry) {
	var byFamily [2]map[netip.Prefix]int64
	for f := range byFamily {
		byFamily[f] = make(map[netip.Prefix]int64, len(entries))
	}
	for _, e := range entries {
		for _, p := range elements(e.Prefix) {
			byFamily[ban4.of(p)-ban4][p] = e.Until
		}
	}
	m.mu.Lock()
	for f := range byFamily {
		m.wanted[ban4+set(f)].resetTimed(byFamily[f])
	}
	m.fed = true
	m.mu.Unlock()
	m.signal()
}

func (m *Mirror) applyBan(e Entry, removed bool) {
	m.mu.Lock()
	for _, p := range elements(e.Prefix) {
		m.wanted[ban4.of(p)].timed(Entry{p, e.Until}, removed)
	}
	m.mu.Unlock()
	m.signal()
}

// Run mirrors until ctx is done. It returns nil then: that the kernel cannot be
// used is in the Status and an Event, and is tried again from time to time.
func (m *Mirror) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if m.cfg.Bans != nil {
		wg.Go(func() { m.follow(ctx) })
	}
	if m.cfg.Backend == BackendNone {
		m.clean("") // what another configuration has left, which nobody would lift a ban from
		m.down(nil)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(m.work(time.Now()))
		select {
		case <-ctx.Done():
			m.finish()
			return nil
		case a := <-m.asks:
			a.done <- a.do()
		case <-m.wake:
		case <-timer.C:
		}
	}
}

// follow takes in the bans. A feed that ends with an error is followed anew:
// the mirror may not stop because of it.
func (m *Mirror) follow(ctx context.Context) {
	for ctx.Err() == nil {
		if err := m.cfg.Bans.Follow(ctx, m.resetBans, m.applyBan); err != nil {
			m.log.Error("cannot follow the bans", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// idle is how long Run sleeps when nothing is planned.
const idle = time.Hour

// work does what is due and returns when there will be more.
func (m *Mirror) work(now time.Time) time.Duration {
	m.mu.Lock()
	fed := m.fed
	m.mu.Unlock()
	switch {
	case !fed || m.paused || m.cfg.Backend == BackendNone:
		return idle
	case now.Before(m.retry):
		return m.retry.Sub(now)
	case m.backend == nil:
		if err := m.resync(); err != nil {
			return m.failed(err, now)
		}
		m.up(now)
	}
	if err := m.follows(now); err != nil {
		return m.failed(err, now)
	}
	return max(time.Until(m.check), 0)
}

// follows brings the kernel up to date, and compares when it is time.
func (m *Mirror) follows(now time.Time) error {
	if err := m.flush(); err != nil {
		return err
	}
	if now.Before(m.check) {
		return nil
	}
	compared, err := m.reconcile()
	if err == nil && m.sweep() {
		err = m.load(m.backend)
	}
	pause := m.cfg.Interval / looks
	if compared {
		// Comparing may take one part in 200 of a processor.
		pause = max(m.cfg.Interval, 200*time.Since(now))
	}
	m.check = time.Now().Add(pause)
	return err
}

// looks is how often within an interval the kernel is asked whether others have
// changed anything, where it can tell.
const looks = 30

// The pauses after failures: first short, since most are over at once, such as a
// set that somebody has deleted.
const (
	minPause = 100 * time.Millisecond
	maxPause = 30 * time.Second
)

// failed plans the next attempt, which is made on another handle: what waits in
// this one is not known. What is in the kernel stays in force.
func (m *Mirror) failed(err error, now time.Time) time.Duration {
	pause := min(minPause<<min(m.failures, 10), maxPause)
	m.retry = now.Add(pause)
	m.mu.Lock()
	m.status.Failures++
	first := m.failures == 0 && m.status.Reason == ""
	m.mu.Unlock()
	m.failures++
	if first {
		m.cause = err
	} else {
		m.down(err)
	}
	if m.backend != nil {
		m.backend.close()
		m.backend = nil
	}
	return pause
}

// finish leaves the kernel as it shall be without sipward.
func (m *Mirror) finish() {
	if m.cfg.RemoveOnExit && !m.paused {
		m.clean("")
	}
	if m.backend == nil {
		return
	}
	var err error
	if !m.cfg.RemoveOnExit && m.enforced != 0 {
		// Nobody would renew the standings that the limit makes exceptions for.
		err = m.backend.enforce(m.rules(0))
	}
	if err != nil {
		m.log.Warn("cannot tidy up the kernel's sets", "backend", m.backend.name(), "error", err)
	}
	m.backend.close()
	m.backend = nil
}

func (m *Mirror) rules(strangers int) rules {
	return rules{scope: m.cfg.Scope, ports: m.cfg.Ports, strangers: strangers}
}

// candidates returns the backends to be tried, in that order.
func (m *Mirror) candidates() []opener {
	switch m.cfg.Backend {
	case BackendIPSet:
		return []opener{openIPSet}
	case BackendNFTables:
		return []opener{openNFTables}
	case BackendNone:
		return nil
	}
	return []opener{openIPSet, openNFTables}
}

// clean takes away what has the mirror's name in the backends but keep: the
// bans that another configuration has left there would never be lifted.
func (m *Mirror) clean(keep Backend) {
	if err := remove(&m.cfg, keep); err != nil && !errors.Is(err, ErrPermission) {
		m.log.Warn("cannot tidy up the kernel's sets", "error", err)
	}
}

// Remove takes away all that a mirror of this configuration has made in the
// kernel, for when none runs.
func Remove(cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	return remove(&cfg, "")
}

func remove(cfg *Config, keep Backend) error {
	var errs []error
	for name, open := range map[Backend]opener{BackendIPSet: openIPSet, BackendNFTables: openNFTables} {
		if name == keep {
			continue
		}
		b, err := open(cfg)
		if err == nil {
			err = b.remove()
			b.close()
		}
		switch {
		case errors.Is(err, ErrPermission):
			return err // as it is with the others
		case !errors.Is(err, ErrUnsupported):
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// notify tells the administrator.
func (m *Mirror) notify(kind EventKind, format string, args ...any) {
	if m.cfg.Notify != nil {
		m.cfg.Notify(Event{kind, fmt.Sprintf(format, args...)})
	}
}
