package upstream

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"sipward/policy"
)

// minGap is the least time between two probes of a PBX, however often the data
// path asks for one.
const minGap = 200 * time.Millisecond

// Run probes the PBXes until ctx is done; the first time at once. It returns
// nil.
func (p *Pool) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	watched := map[*PBX]context.CancelFunc{}
	for {
		m := p.members.Load()
		for pbx, stop := range watched {
			if m.byAddr[pbx.addr] != pbx {
				stop()
				delete(watched, pbx)
			}
		}
		for _, pbx := range m.all {
			if watched[pbx] != nil {
				pbx.probeNow() // the configuration may be another
				continue
			}
			one, stop := context.WithCancel(ctx)
			watched[pbx] = stop
			wg.Go(func() { p.watch(one, pbx) })
		}
		select {
		case <-ctx.Done():
			for _, stop := range watched {
				stop()
			}
			return nil
		case <-p.reloaded:
		}
	}
}

// watch probes one PBX until ctx is done.
func (p *Pool) watch(ctx context.Context, pbx *PBX) {
	for ctx.Err() == nil {
		cfg := &p.members.Load().cfg
		started := time.Now()
		if cfg.Interval < 0 {
			if pbx.good(0, 1) {
				cfg.report(Change{Address: pbx.addr, Up: true})
			}
		} else {
			p.check(ctx, cfg, pbx)
		}
		wait(ctx, pbx, cfg, started)
	}
}

// check makes one probe and draws its conclusion.
func (p *Pool) check(ctx context.Context, cfg *Config, pbx *PBX) {
	started := time.Now()
	err := cfg.probe(ctx, pbx.links.Load().probed(cfg.Transport != policy.UDP))
	rtt := time.Since(started)
	switch {
	case ctx.Err() != nil:
	case err == nil:
		if pbx.good(rtt, cfg.Rise) {
			cfg.report(Change{Address: pbx.addr, Up: true})
		}
	case !errors.Is(err, syscall.ECONNREFUSED) && pbx.heardSince(started):
		// It is silent to us but has just spoken to a phone.
		if pbx.good(0, cfg.Rise) {
			cfg.report(Change{Address: pbx.addr, Up: true})
		}
	default:
		if pbx.bad(err, cfg.Fall) {
			cfg.report(Change{Address: pbx.addr, Err: err})
		}
	}
}

// report is seldom called: a PBX changes its state after several probes only.
func (cfg *Config) report(c Change) {
	if c.Up {
		cfg.Logger.Info("PBX is up", "pbx", c.Address.String())
	} else {
		cfg.Logger.Warn("PBX is down", "pbx", c.Address.String(), "error", c.Err)
	}
	if cfg.OnChange != nil {
		cfg.OnChange(c)
	}
}

// wait returns when the next probe is due.
func wait(ctx context.Context, pbx *PBX, cfg *Config, started time.Time) {
	pause := cfg.Retry
	if cfg.Interval > 0 {
		pause = min(cfg.Retry, cfg.Interval)
		if pbx.well() {
			pause = cfg.Interval
		}
	}
	timer := time.NewTimer(pause - time.Since(started))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
		return
	case <-pbx.wake:
	}
	timer.Reset(minGap - time.Since(started))
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
