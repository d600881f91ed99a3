package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// resync makes everything in the kernel anew: it is how the mirror begins, and
// how it goes on when the kernel's state is not known.
func (m *Mirror) resync() error {
	if m.backend != nil {
		return m.load(m.backend)
	}
	var errs []error
	for _, open := range m.candidates() {
		b, err := open(&m.cfg)
		if err == nil {
			if err = m.load(b); err == nil {
				m.backend = b
				m.before = drops{m.status.DroppedBans, m.status.DroppedStrangers} // none but Run writes them
				m.clean(b.name())
				return nil
			}
			b.close()
		}
		errs = append(errs, err)
	}
	return oneLine(errs)
}

// load puts all that is wanted into a backend.
func (m *Mirror) load(b backend) error {
	began := time.Now()
	var c contents
	m.mu.Lock()
	for s := range m.wanted {
		w := &m.wanted[s]
		w.sweep(began.UnixNano())
		c[s] = w.all(began.UnixNano())
	}
	r := m.rules(m.strangers)
	m.mu.Unlock()
	if err := b.replace(&c, r); err != nil {
		return err
	}
	m.enforced = r.strangers
	n := 0
	for s := range c {
		n += len(c[s])
		m.tellFull(set(s))
	}
	m.mu.Lock()
	m.status.Resyncs++
	m.status.LastSync = time.Now()
	m.mu.Unlock()
	m.log.Debug("kernel: sets replaced", "backend", b.name(), "entries", n, "took", time.Since(began))
	return nil
}

// flush tells the kernel what has changed.
func (m *Mirror) flush() error {
	for s := range numSets {
		m.mu.Lock()
		ops := m.wanted[s].changes(time.Now().UnixNano())
		m.mu.Unlock()
		if len(ops) == 0 {
			continue
		}
		if err := m.backend.apply(s, ops); err != nil {
			return fmt.Errorf("change set %v: %w", s, err)
		}
		m.tellFull(s)
	}
	m.mu.Lock()
	strangers := m.strangers
	m.mu.Unlock()
	if strangers == m.enforced {
		return nil
	}
	if err := m.backend.enforce(m.rules(strangers)); err != nil {
		return fmt.Errorf("switch the limit of strangers: %w", err)
	}
	m.enforced = strangers
	return nil
}

// tellFull says once that a set has become too small, and once that none is any more. A
// set in which there is little room stays full, so that this is not said again with each
// entry that comes and goes.
func (m *Mirror) tellFull(s set) {
	m.mu.Lock()
	over, in, limit := m.wanted[s].over(), m.wanted[s].in, m.wanted[s].max
	m.mu.Unlock()
	switch was := m.full[s]; {
	case over > 0 && !was:
		m.full[s] = true
		m.tell(Event{Kind: EventFull, Text: fmt.Sprintf("The kernel's set %v is full with %d entries; %d more are enforced in user space only. Raise kernel.max_entries.", s, limit, over)})
	case was && over == 0 && in <= limit-limit/20:
		m.full[s] = false
		if m.full == [numSets]bool{} {
			m.tell(Event{EventRoom, "All entries fit into the kernel's sets again.", true})
		}
	}
}

// reconcile compares the kernel with what is wanted, if others may have changed
// it, and repairs what they have.
func (m *Mirror) reconcile() (compared bool, err error) {
	m.readDropped()
	changed, err := m.backend.changed()
	if err != nil || !changed {
		return false, err
	}
	return true, m.repair()
}

func (m *Mirror) repair() error {
	intact, err := m.backend.intact()
	if err != nil {
		return fmt.Errorf("read the rules: %w", err)
	}
	if !intact {
		return m.renew("the rules had been changed")
	}
	repaired := 0
	for s := range numSets {
		ops, err := m.differences(s)
		if errors.Is(err, errMissing) {
			return m.renew(fmt.Sprintf("the set %v was gone", s))
		}
		if err != nil {
			return fmt.Errorf("read set %v: %w", s, err)
		}
		if err := m.backend.apply(s, ops); err != nil {
			return fmt.Errorf("repair set %v: %w", s, err)
		}
		repaired += len(ops)
	}
	if repaired > 0 {
		m.repaired(fmt.Sprintf("%d entries were not as they should be", repaired))
	}
	return nil
}

// sweep forgets what has ended, and says whether there is room for some of what
// did not fit.
func (m *Mirror) sweep() (room bool) {
	for s := range numSets {
		m.mu.Lock()
		w := &m.wanted[s]
		w.sweep(time.Now().UnixNano())
		room = room || w.over() > 0 && w.in < w.max
		m.mu.Unlock()
		m.tellFull(s)
	}
	return room
}

// renew makes everything anew and says why.
func (m *Mirror) renew(why string) error {
	if err := m.load(m.backend); err != nil {
		return err
	}
	m.repaired(why)
	return nil
}

func (m *Mirror) repaired(what string) {
	m.mu.Lock()
	m.status.Repairs++
	m.status.LastRepair = time.Now()
	m.mu.Unlock()
	m.tell(Event{Kind: EventRepaired, Text: fmt.Sprintf("Somebody had changed sipward's part of the kernel's %s: %s. It is repaired.", m.backend.name(), what)})
}

// slack is how far the kernel's clock for an entry may be off: it counts
// seconds, and an entry may end while it is looked at.
const slack = 3 * time.Second

// differences returns what is to be repaired in a set. What differs is looked at
// twice: a set that grows while it is read may be shown with gaps.
func (m *Mirror) differences(s set) ([]op, error) {
	have, err := m.backend.dump(s)
	if err != nil {
		return nil, err
	}
	first := m.compare(s, have)
	if len(first) == 0 {
		return nil, nil
	}
	if have, err = m.backend.dump(s); err != nil {
		return nil, err
	}
	before := make(map[netip.Prefix]bool, len(first))
	for _, o := range first {
		before[o.prefix] = true
	}
	return slices.DeleteFunc(m.compare(s, have), func(o op) bool { return !before[o.prefix] }), nil
}

// compare returns what is to be changed in a set so that it is as wanted.
// Entries that the kernel has not been told of are left to the next flush.
func (m *Mirror) compare(s set, have []entry) []op {
	longest := m.backend.longest()
	seen := make(map[netip.Prefix]struct{}, len(have))
	var ops []op
	m.mu.Lock()
	defer m.mu.Unlock()
	w, now := &m.wanted[s], time.Now().UnixNano()
	for _, e := range have {
		seen[e.prefix] = struct{}{}
		if _, pending := w.dirty[e.prefix]; pending {
			continue
		}
		i := w.items[e.prefix]
		left, ok := i.left(now)
		switch {
		case (!ok || !i.in) && (e.left == 0 || e.left > slack):
			ops = append(ops, op{entry: e, del: true})
		case ok && i.in && !agree(e.left, left, longest):
			ops = append(ops, op{entry: entry{e.prefix, left}})
		}
	}
	for p, i := range w.items {
		if _, ok := seen[p]; ok || !i.in {
			continue
		}
		_, pending := w.dirty[p]
		if left, ok := i.left(now); ok && !pending && (left == 0 || left > slack) {
			ops = append(ops, op{entry: entry{p, left}, fresh: true})
		}
	}
	return ops
}

// agree says whether the kernel's remaining time is right. Where it cannot be
// as long as it should, it is renewed now and then.
func agree(have, want, longest time.Duration) bool {
	if longest != 0 && want > longest {
		return have > longest/2
	}
	if have == 0 || want == 0 {
		return have == want
	}
	return (have - want).Abs() <= slack
}
