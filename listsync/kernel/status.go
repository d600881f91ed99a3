package kernel

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Status says how the mirror is.
type Status struct {
	Configured Backend `json:"configured"`
	Backend    Backend `json:"backend"`          // in use; none: user space is alone
	Reason     string  `json:"reason,omitempty"` // why the kernel does not follow at the moment
	Scope      Scope   `json:"scope"`
	Strangers  int     `json:"strangers"` // packets per second; 0: no limit
	MaxEntries int     `json:"max_entries"`

	Sets []SetStatus `json:"sets"`

	DroppedBans      uint64 `json:"dropped_bans"` // packets, as of the last comparison
	DroppedStrangers uint64 `json:"dropped_strangers"`

	Resyncs    uint64    `json:"resyncs"`
	Repairs    uint64    `json:"repairs"`
	Failures   uint64    `json:"failures"`
	LastSync   time.Time `json:"last_sync,omitzero"`
	LastRepair time.Time `json:"last_repair,omitzero"`
}

// SetStatus is one of the kernel's sets.
type SetStatus struct {
	Name    string `json:"name"`
	Entries int    `json:"entries"` // in the kernel
	Over    int    `json:"over"`    // for which it has no room
	Pending int    `json:"pending"` // that it has not been told of yet
}

// Status returns how the mirror is, without asking the kernel.
func (m *Mirror) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.status
	s.Strangers = m.strangers
	s.Sets = make([]SetStatus, numSets)
	for i := range m.wanted {
		w := &m.wanted[i]
		s.Sets[i] = SetStatus{Name: set(i).String(), Entries: w.in, Over: w.over(), Pending: len(w.dirty)}
	}
	if s.Backend == BackendNone {
		for i := range s.Sets {
			s.Sets[i].Entries = 0
		}
	}
	return s
}

// readDropped reads the counts of the rules. They are for people: without them
// everything else goes on.
func (m *Mirror) readDropped() {
	d, err := m.backend.dropped()
	if err != nil {
		m.log.Debug("kernel: cannot read the counts of the rules", "error", err)
		return
	}
	m.mu.Lock()
	d = m.before.plus(d)
	m.status.DroppedBans, m.status.DroppedStrangers = d.bans, d.strangers
	m.mu.Unlock()
}

// up notes that the kernel follows.
func (m *Mirror) up(now time.Time) {
	cause := m.cause
	m.failures, m.retry, m.cause = 0, time.Time{}, nil
	m.check = now.Add(m.cfg.Interval)
	m.mu.Lock()
	was := m.status.Reason
	m.status.Backend, m.status.Reason = m.backend.name(), ""
	m.mu.Unlock()
	switch {
	case was == "" && cause != nil:
		m.repaired(cause.Error())
	case was != "":
		m.tell(Event{EventUp, fmt.Sprintf("Bans are mirrored into the kernel's %s.", m.backend.name()), true})
	}
}

// down notes why the kernel does not follow, and says so once for each reason.
// A backend that was in use stays in use: its entries are in force.
func (m *Mirror) down(err error) {
	reason := "switched off"
	if err != nil {
		reason = err.Error()
	}
	m.mu.Lock()
	was := m.status.Reason
	m.status.Reason = reason
	m.mu.Unlock()
	switch {
	case reason == was:
		return
	case err == nil:
		m.log.Info("kernel: bans are not mirrored", "reason", reason)
		return
	}
	m.tell(Event{EventDown, fmt.Sprintf("Bans are not mirrored into the kernel, user space enforces them alone: %s.", reason), errors.Is(err, errPaused)})
}

// errPaused is what Status says after Clear.
var errPaused = errors.New("cleared by command; a sync mirrors again")

// ask has Run do something.
func (m *Mirror) ask(ctx context.Context, do func() error) error {
	a := ask{do, make(chan error, 1)}
	select {
	case m.asks <- a:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-a.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Sync makes everything in the kernel anew. It ends what Clear began.
func (m *Mirror) Sync(ctx context.Context) error {
	return m.ask(ctx, func() error {
		if m.off() {
			return errors.New("kernel: switched off by configuration")
		}
		m.mu.Lock()
		fed := m.fed
		m.mu.Unlock()
		if !fed {
			return errors.New("kernel: the bans have not been loaded yet")
		}
		m.paused = false
		err := m.resync()
		if err != nil {
			m.failed(err, time.Now())
			return err
		}
		m.up(time.Now())
		return nil
	})
}

// Check compares the kernel with the lists now, repairs what differs, and reads
// the counts of the rules.
func (m *Mirror) Check(ctx context.Context) error {
	return m.ask(ctx, func() error {
		if m.backend == nil || m.paused {
			return errors.New("kernel: " + m.Status().Reason)
		}
		m.check = time.Time{}
		now := time.Now()
		err := m.follows(now)
		if err != nil {
			m.failed(err, now)
		}
		return err
	})
}

// Dropped reads from the kernel how many packets the rules have dropped.
func (m *Mirror) Dropped(ctx context.Context) (bans, strangers uint64, err error) {
	err = m.ask(ctx, func() error {
		if m.backend == nil {
			return errors.New("kernel: " + m.Status().Reason)
		}
		m.readDropped()
		s := m.Status()
		bans, strangers = s.DroppedBans, s.DroppedStrangers
		return nil
	})
	return bans, strangers, err
}

// Clear takes all that is the mirror's out of the kernel, until Sync.
func (m *Mirror) Clear(ctx context.Context) error {
	return m.ask(ctx, func() error {
		m.paused = true
		m.clean("")
		if m.backend != nil {
			m.backend.close()
			m.backend = nil
		}
		m.mu.Lock()
		m.status.Backend = BackendNone
		m.mu.Unlock()
		m.down(errPaused)
		return nil
	})
}
