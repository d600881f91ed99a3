package kernel

import (
	"context"
	"log/slog"
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

// off says that there is nothing to mirror into, and so nothing to remember.
func (m *Mirror) off() bool { return m.cfg.Backend == BackendNone }

func (m *Mirror) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Run mirrors until ctx is done. It returns nil then: that the kernel cannot be
// used is in the Status and an Event, and is tried again from time to time.
func (m *Mirror) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if m.cfg.Bans != nil && !m.off() {
		wg.Go(func() { m.follow(ctx) })
	}
	if m.off() {
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
	case !fed || m.paused || m.off():
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

// tell tells the administrator.
func (m *Mirror) tell(e Event) {
	if m.cfg.Notify != nil {
		m.cfg.Notify(e)
		return
	}
	level := slog.LevelWarn
	if e.Quiet {
		level = slog.LevelInfo
	}
	m.log.Log(context.Background(), level, e.Text, "event", e.Kind)
}
