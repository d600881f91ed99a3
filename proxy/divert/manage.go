package divert

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Rules are the rules and routes of one configuration.
type Rules struct {
	cfg Config
	mtu atomic.Int64

	mu  sync.Mutex
	set *ruleset // open while they are up
}

// New checks the configuration; nothing is changed yet.
func New(cfg Config) (*Rules, error) {
	cfg, err := cfg.checked()
	if err != nil {
		return nil, err
	}
	r := &Rules{cfg: cfg}
	r.measure()
	return r, nil
}

// Up puts everything in force, in place of what an earlier sipward has left.
func (r *Rules) Up() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.cfg.checkRoutes(); err != nil {
		return err
	}
	set, err := openRuleset(&r.cfg)
	if err != nil {
		return err
	}
	old, err := set.find()
	if err == nil {
		_, err = r.cfg.addRoutes() // before the marks
	}
	if err == nil {
		err = set.make(old)
	}
	if err != nil {
		set.close()
		return err
	}
	r.set = set
	return nil
}

// Close gives up the connection to the kernel: a table that fails open ends with it, one
// that fails closed stays.
func (r *Rules) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set != nil {
		r.set.close()
		r.set = nil
	}
}

// Down removes everything that is ours: what Up has made, or what an earlier sipward
// has left.
func (r *Rules) Down() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	set := r.set
	r.set = nil
	if set == nil {
		var err error
		if set, err = openRuleset(&r.cfg); err != nil {
			return err
		}
	}
	defer set.close()
	table, err := set.find()
	if err != nil {
		return err
	}
	if table != nil {
		if err := set.remove(table); err != nil {
			if owned(table) {
				return fmt.Errorf("%w: it belongs to a running sipward; stop that", err)
			}
			return err
		}
	}
	return r.cfg.removeRoutes()
}

// SetPBXes changes which PBXes are protected.
func (r *Rules) SetPBXes(pbxes []netip.AddrPort) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(pbxes) == 0 {
		return errors.New("divert: no PBX is configured")
	}
	r.cfg.PBXes = pbxes
	if r.set == nil {
		return nil
	}
	return r.set.update()
}

// repairEvery is how often Run looks whether others have removed anything.
const repairEvery = 2 * time.Second

// Run keeps everything in force until ctx ends, and removes it then.
func (r *Rules) Run(ctx context.Context) error {
	tick := time.NewTicker(repairEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return r.End()
		case <-tick.C:
			r.measure()
			if err := r.repair(); err != nil {
				r.cfg.Log.Error("the rules of transparent mode cannot be repaired", "err", err)
			}
		}
	}
}

// End removes what Up has made; if it was not called, nothing.
func (r *Rules) End() error {
	r.mu.Lock()
	up := r.set != nil
	r.mu.Unlock()
	if !up {
		return nil
	}
	return r.Down()
}

// repair puts back what others have removed.
func (r *Rules) repair() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set == nil {
		return nil // somebody else makes the rules
	}
	added, err := r.cfg.addRoutes()
	if err != nil {
		return err
	}
	table, err := r.set.find()
	if err == nil && table == nil {
		added = true
		err = r.set.make(nil)
	}
	if added && err == nil {
		r.cfg.Log.Warn("somebody has removed rules or routes of transparent mode; they are back")
	}
	return err
}

// MTU returns the size in bytes of the largest packet that every interface takes.
func (r *Rules) MTU() int { return int(r.mtu.Load()) }

const (
	etherMTU = 1500
	loMTU    = 65536
)

// measure reads the interfaces' MTUs; without names, those of all that are up.
func (r *Rules) measure() {
	smallest := loMTU
	names := map[string]bool{}
	for _, n := range append(append([]string(nil), r.cfg.Inside...), r.cfg.Outside...) {
		names[n] = true
	}
	all, err := net.Interfaces()
	for _, i := range all {
		if i.Flags&net.FlagUp != 0 && i.Flags&net.FlagLoopback == 0 && (len(r.cfg.Outside) == 0 || names[i.Name]) {
			smallest = min(smallest, i.MTU)
		}
	}
	if err != nil || smallest == loMTU {
		smallest = etherMTU
	}
	r.mtu.Store(int64(smallest))
}
