package main

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sipward/admin"
	"sipward/conf"
	"sipward/listsync/kernel"
	"sipward/policy"
)

// mirror is the kernel's copy of the bans and of who is in good standing. Nothing on
// the packet path waits for it.
type mirror struct {
	*kernel.Mirror
	log *slog.Logger

	changes chan kernel.Entry // of standings
	lost    chan struct{}     // holds something when changes were lost
	full    chan struct{}     // holds something when a receive queue was filling
	limit   atomic.Pointer[conf.Overload]
	limited chan struct{} // holds something when limit has changed
}

// standingQueue is how many changes of standings may wait. When there are more, they
// are lost, and all standings are read anew.
const standingQueue = 4096

func newMirror(s *state, c *conf.Config, told func(kernel.Event), log *slog.Logger) (*mirror, error) {
	m := &mirror{
		log:     log,
		changes: make(chan kernel.Entry, standingQueue), lost: make(chan struct{}, 1),
		full: make(chan struct{}, 1), limited: make(chan struct{}, 1),
	}
	cfg := kernelConfig(c)
	cfg.Bans, cfg.Notify, cfg.Log = kernel.Bans(s.bans), told, log
	var err error
	m.Mirror, err = kernel.New(cfg)
	return m, err
}

func kernelConfig(c *conf.Config) kernel.Config {
	cfg := kernel.Config{
		Backend: kernel.Backend(c.Kernel.Backend), Scope: kernel.Scope(c.Kernel.Scope), Name: c.Kernel.Name,
		NoRules: !c.Kernel.ManageRule, MaxEntries: c.Kernel.MaxEntries, Interval: c.Kernel.Interval, RemoveOnExit: c.Kernel.OnExit == conf.KernelRemove,
	}
	seen := map[kernel.Port]bool{}
	for _, l := range slices.Concat(protected(c), c.TFTP.Listen) {
		p := kernel.Port{Protocol: unix.IPPROTO_UDP, Port: l.Addr.Port()}
		if !l.Transport.Datagrams() {
			p.Protocol = unix.IPPROTO_TCP
		}
		if !seen[p] {
			seen[p] = true
			cfg.Ports = append(cfg.Ports, p)
		}
	}
	return cfg
}

// kernelNotices are the kinds of what the mirror tells.
var kernelNotices = map[kernel.EventKind]policy.NoticeKind{
	kernel.EventDown: policy.NoticeKernelDown, kernel.EventUp: policy.NoticeKernelUp,
	kernel.EventFull: policy.NoticeKernelFull, kernel.EventRoom: policy.NoticeKernelRoom,
	kernel.EventRepaired: policy.NoticeKernelRepaired,
}

// hearKernel passes on what the mirror tells. It never waits.
func (e *edge) hearKernel(ev kernel.Event) {
	e.engine.Tell(policy.Notice{
		Time: time.Now().UnixNano(), Kind: kernelNotices[ev.Kind], Quiet: ev.Quiet, Text: ev.Text,
		Commands: []string{"sipward kernel status"},
	})
}

// standing is told of each change by the policy. It never waits.
func (m *mirror) standing(source netip.Prefix, until int64) {
	select {
	case m.changes <- kernel.Entry{Prefix: source, Until: until}:
	default:
		raise(m.lost)
	}
}

// queueFull is told when a receive queue fills. It never waits.
func (m *mirror) queueFull() { raise(m.full) }

// raise puts something into a channel that has room for one.
func raise(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// setLists puts the lists in force that the kernel holds, too. Who is let in whatever
// he does is on the allow list there.
func (m *mirror) setLists(l lists) {
	var allow []netip.Prefix
	for _, k := range l.known() {
		for _, x := range k.set.Entries() {
			allow = append(allow, x.Prefix)
		}
	}
	var deny []netip.Prefix
	for _, x := range l.deny.Entries() {
		deny = append(deny, x.Prefix)
	}
	m.SetLists(allow, deny)
}

// setGood makes the standings those of the engine.
func (m *mirror) setGood(e *policy.Engine) {
	var all []kernel.Entry
	e.EachGoodSource(time.Now().UnixNano(), func(p netip.Prefix, until int64) {
		all = append(all, kernel.Entry{Prefix: p, Until: until})
	})
	m.SetGood(all)
}

// followStandings passes standings on until ctx ends.
func (m *mirror) followStandings(ctx context.Context, e *policy.Engine) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case x := <-m.changes:
			m.Good(x.Prefix, x.Until)
		case <-m.lost:
			for range len(m.changes) { // the engine has done what they tell of
				<-m.changes
			}
			m.setGood(e)
			select { // not more than one part in some thousands of a processor
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
}

// setLimit puts the limit of strangers of a configuration in force.
func (m *mirror) setLimit(o conf.Overload) {
	m.limit.Store(&o)
	raise(m.limited)
}

// calm is how long the limit of strangers stays after it was needed last.
const calm = 20 * time.Second

// limitStrangers keeps the limit as it is configured. When that is auto, it begins when
// a receive queue fills, and ends when for a while none did and the limit has dropped
// nothing.
func (m *mirror) limitStrangers(ctx context.Context) error {
	timer := time.NewTimer(0)
	timer.Stop()
	defer timer.Stop()
	on := false
	var dropped uint64
	end := func() {
		on = false
		timer.Stop()
		m.LimitStrangers(max(int(m.limit.Load().KernelStrangers), 0))
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.limited:
			end()
		case <-m.full:
			o := m.limit.Load()
			if o.KernelStrangers != conf.KernelLimitAuto {
				continue
			}
			timer.Reset(calm)
			if !on {
				on = true
				n := autoLimit(o)
				m.LimitStrangers(n)
				m.log.Warn("a receive queue fills: the kernel limits what strangers send", "packets_per_second", n)
			}
		case <-timer.C:
			_, now, err := m.Dropped(ctx)
			if err == nil && now > dropped {
				dropped = now
				timer.Reset(calm)
				continue
			}
			end()
			m.log.Info("the flood is over: the kernel limits strangers no more")
		}
	}
}

// autoLimit is twice what sipward would read of strangers, so that its own limit, which
// knows messages from packets, is the one that decides as long as the queues are short.
func autoLimit(o *conf.Overload) int {
	const unlimited = 10_000
	if o.Strangers == 0 {
		return unlimited
	}
	return min(2*o.Strangers, 1_000_000)
}

// Kernel implements admin.Backend.
func (e *edge) Kernel(ctx context.Context) kernel.Status {
	_, _, _ = e.mirror.Dropped(ctx) // why it may not work is in the status
	return e.mirror.Status()
}

// SyncKernel implements admin.Backend.
func (e *edge) SyncKernel(ctx context.Context) (kernel.Status, error) {
	if err := e.mirror.Sync(ctx); err != nil {
		return kernel.Status{}, refused("%v", err)
	}
	return e.mirror.Status(), nil
}

// ClearKernel implements admin.Backend.
func (e *edge) ClearKernel(ctx context.Context) (kernel.Status, error) {
	err := e.mirror.Clear(ctx)
	return e.mirror.Status(), err
}

var _ admin.Backend = (*edge)(nil)
