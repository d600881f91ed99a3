package main

import (
	"context"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"sipward/admin"
	"sipward/conf"
	"sipward/policy"
	"sipward/policy/event"
	"sipward/tftp"
)

// files is what passes TFTP on: nil if that is off.
type files struct {
	relay *tftp.Server
	own   *tftp.Files // nil if there is a server elsewhere
}

// newFiles binds the sockets of TFTP.
func (e *edge) newFiles(events *event.Bus) (*files, error) {
	c := e.config.conf
	if len(c.TFTP.Listen) == 0 {
		return nil, nil
	}
	f := &files{}
	cfg := tftp.Config{
		Upstream: c.TFTP.Upstream, Engine: e.engine, Events: events,
		Worker: e.workers, IPv6Bits: c.IPv6SourcePrefix, Settings: tftpSettings(c),
	}
	for _, l := range c.TFTP.Listen {
		cfg.Listen = append(cfg.Listen, l.Addr)
	}
	var err error
	if c.TFTP.Serve != "" {
		if f.own, err = tftp.NewFiles(c.TFTP.Serve); err != nil {
			return nil, err
		}
		cfg.Upstream = f.own.Addr()
	}
	if f.relay, err = tftp.New(cfg); err != nil {
		if f.own != nil {
			f.own.Close()
		}
		return nil, err
	}
	return f, nil
}

func tftpSettings(c *conf.Config) tftp.Settings {
	t := c.TFTP
	return tftp.Settings{
		Threshold: limit(t.Threshold, t.Action), Period: t.Period, LimitedRate: t.LimitedRate, Action: action(t.Action),
		Missing: limit(t.Missing, c.Enumeration.Action), MissingAction: action(c.Enumeration.Action),
		AllowWrite: t.AllowWrite, AllowAbsolute: t.AllowAbsolute,
		MaxTransfers: t.MaxTransfers, MaxPerSource: t.MaxPerSource, Strangers: t.Strangers, IdleTimeout: t.IdleTimeout,
	}
}

// Run serves until ctx ends.
func (f *files) Run(ctx context.Context) error {
	if f == nil {
		return nil
	}
	if f.own == nil {
		return f.relay.Run(ctx)
	}
	// The relay ends first: it tells the server to end its transfers.
	group, ctx := errgroup.WithContext(ctx)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group.Go(func() error {
		defer stop()
		return f.relay.Run(ctx)
	})
	group.Go(func() error { return f.own.Run(serving) })
	return group.Wait()
}

// close gives up what was never run.
func (f *files) close() {
	if f == nil {
		return
	}
	f.relay.Close()
	if f.own != nil {
		f.own.Close()
	}
}

func (f *files) reload(c *conf.Config) {
	if f != nil {
		f.relay.Reload(tftpSettings(c))
	}
}

// cutOff ends the transfers of a prefix and returns how many.
func (f *files) cutOff(p netip.Prefix) int {
	if f == nil {
		return 0
	}
	return f.relay.CloseSource(p)
}

// forgive forgets what is counted of a source and says whether it was limited.
func (f *files) forgive(addr netip.Addr, now int64) (limited bool) {
	return f != nil && f.relay.Forgive(addr, now)
}

func (f *files) counts(addr netip.Addr, now int64) (all []policy.Count, limited bool) {
	if f == nil {
		return nil, false
	}
	return f.relay.Counts(addr, now)
}

func (f *files) status(c *conf.Config) *admin.TFTP {
	if f == nil {
		return nil
	}
	s := f.relay.Stats()
	out := &admin.TFTP{
		Listen: urls(c.TFTP.Listen), Server: c.TFTP.Serve,
		Open: s.Open, HalfOpen: s.HalfOpen, Limited: s.Limited,
		Started: s.Started, Completed: s.Completed, Failed: s.Failed, Cut: s.Cut, Evicted: s.Evicted, NoSocket: s.Sockets,
		Withheld: s.Withheld, Ignored: s.Ignored, ToClients: s.ToClient, ToServer: s.ToServer,
	}
	if f.own == nil {
		out.Server = c.TFTP.Upstream.String()
	}
	return out
}
