// Package upstream keeps the pool of PBXes: which of them are up, and which
// one an account belongs to.
//
// Each PBX is probed with OPTIONS (RFC 3261 §11). An account is always sent to
// the same PBX as long as that one is up, by rendezvous hashing: every node and
// every restart agrees without sharing anything, and when a PBX goes down only
// its own accounts move.
package upstream

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sipward/policy"
)

// Defaults of Config.
const (
	DefaultInterval = 5 * time.Second
	DefaultRetry    = time.Second
	DefaultTimeout  = 2 * time.Second
	DefaultFall     = 3
	DefaultRise     = 2
)

// streamHold is how long new connections avoid a PBX that refused one, while
// there is another.
const streamHold = 5 * time.Second

// Target is a PBX as configured.
type Target struct {
	Address netip.AddrPort
	// Weight is its share of the accounts in proportion to the others'. 0: a
	// reserve, used only while no PBX with a weight is up.
	Weight int
	// UDP and TCP say which of the two the PBX speaks on Address. With neither, and without
	// TLS, it speaks both.
	UDP, TCP bool
	// TLS is a client's configuration to speak TLS with the PBX, on TLSPort of the same
	// address (0: DefaultTLSPort); nil: it does not. Without a ServerName the certificate
	// must be for the address.
	TLS     *tls.Config
	TLSPort uint16
}

// Config describes a pool.
type Config struct {
	PBXes []Target // at least one; no address twice

	Interval time.Duration // between probes of a PBX that is well; 0: DefaultInterval; negative: no probes, all count as up
	Retry    time.Duration // between probes while they fail, and until the PBX is up again; 0: DefaultRetry
	Timeout  time.Duration // for an answer; 0: DefaultTimeout
	Fall     int           // failed probes in a row until it is down; 0: DefaultFall
	Rise     int           // good probes in a row until it is up again; 0: DefaultRise

	// Transport is how to probe: OPTIONS over UDP, or a connection that is opened and
	// closed (policy.TCP), with a handshake if it is for TLS. A PBX that speaks one of the
	// two alone is probed by that.
	Transport policy.Transport

	// Local returns the address of ours to probe dst from, so that the PBX sees
	// the probes come from where the calls come from. nil, or an invalid
	// address: the system chooses.
	Local func(dst netip.Addr) netip.Addr

	// OnChange is told of each PBX that goes down or comes up. It must not
	// block. nil: nobody is told.
	OnChange func(Change)
	Logger   *slog.Logger // nil: slog.Default()
}

// Change is a PBX that went down or came up.
type Change struct {
	Address netip.AddrPort
	Up      bool
	Err     error // why it went down
}

// withDefaults checks cfg and fills in what is zero.
func (cfg Config) withDefaults() (Config, error) {
	if len(cfg.PBXes) == 0 {
		return cfg, errors.New("upstream: no PBX is configured")
	}
	seen := map[netip.AddrPort]bool{}
	for _, t := range cfg.PBXes {
		switch {
		case !t.Address.IsValid() || t.Address.Port() == 0 || t.Address.Addr().IsUnspecified():
			return cfg, fmt.Errorf("upstream: %q is not the address and port of a PBX", t.Address)
		case t.Weight < 0 || t.Weight > maxWeight:
			return cfg, fmt.Errorf("upstream: PBX %s has the weight %d; it must be between 0 and %d", t.Address, t.Weight, maxWeight)
		case seen[t.Address]:
			return cfg, fmt.Errorf("upstream: PBX %s is listed twice", t.Address)
		case t.TLS != nil && t.TCP && t.tlsAddr() == t.Address:
			return cfg, fmt.Errorf("upstream: PBX %s cannot speak TCP and TLS on one port", t.Address)
		}
		seen[t.Address] = true
	}
	cfg.Interval = cmp.Or(cfg.Interval, DefaultInterval)
	cfg.Retry = cmp.Or(cfg.Retry, DefaultRetry)
	cfg.Timeout = cmp.Or(cfg.Timeout, DefaultTimeout)
	cfg.Fall = cmp.Or(cfg.Fall, DefaultFall)
	cfg.Rise = cmp.Or(cfg.Rise, DefaultRise)
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return cfg, nil
}

// Pool is safe for use by any number of goroutines.
type Pool struct {
	members  atomic.Pointer[members] // replaced by Reload, never changed
	reloaded chan struct{}           // tells Run
	mu       sync.Mutex              // held by Reload
}

// members is the pool of one configuration.
type members struct {
	cfg       Config
	all       []*PBX // in the order of the configuration
	logs      *logTable
	weighted  []candidate
	reserve   []candidate
	datagrams bool                    // some PBX speaks UDP
	byAddr    map[netip.AddrPort]*PBX // by what stands for it in the configuration
	byPort    map[netip.AddrPort]*PBX // by whatever it listens on
	byHost    map[netip.Addr]*PBX     // the first of that address
	byID      map[uint16]*PBX
}

// New makes a pool. Before the first probe, and without Run, every PBX counts
// as up.
func New(cfg Config) (*Pool, error) {
	p := &Pool{reloaded: make(chan struct{}, 1)}
	if err := p.Reload(cfg); err != nil {
		return nil, err
	}
	return p, nil
}

// Reload puts another configuration in force, or returns an error and leaves
// all as it is. A PBX that is in both keeps its health and its ID.
func (p *Pool) Reload(cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members.Store(newMembers(cfg, p.members.Load()))
	select {
	case p.reloaded <- struct{}{}:
	default:
	}
	return nil
}

func newMembers(cfg Config, old *members) *members {
	m := &members{
		cfg:    cfg,
		logs:   newLogTable(),
		byAddr: map[netip.AddrPort]*PBX{},
		byPort: map[netip.AddrPort]*PBX{},
		byHost: map[netip.Addr]*PBX{},
		byID:   map[uint16]*PBX{},
	}
	// In order of address, so that the IDs do not depend on the order of the
	// configuration even where two hashes are equal.
	targets := slices.Clone(cfg.PBXes)
	slices.SortFunc(targets, func(a, b Target) int { return a.Address.Compare(b.Address) })
	for _, t := range targets {
		if old == nil || old.byAddr[t.Address] == nil {
			continue
		}
		pbx := old.byAddr[t.Address]
		m.byAddr[t.Address], m.byID[pbx.id] = pbx, pbx
	}
	for _, t := range targets {
		if m.byAddr[t.Address] != nil {
			continue
		}
		id := stableID(t.Address)
		for id == 0 || m.byID[id] != nil {
			id++
		}
		pbx := newPBX(t.Address, id)
		m.byAddr[t.Address], m.byID[id] = pbx, pbx
	}
	maps.Copy(m.byPort, m.byAddr)
	for _, t := range cfg.PBXes {
		pbx := m.byAddr[t.Address]
		links := t.links()
		pbx.links.Store(links)
		m.datagrams = m.datagrams || links.datagram != nil
		if addr := t.tlsAddr(); t.TLS != nil && m.byPort[addr] == nil {
			m.byPort[addr] = pbx
		}
		m.all = append(m.all, pbx)
		if m.byHost[t.Address.Addr()] == nil {
			m.byHost[t.Address.Addr()] = pbx
		}
		c := candidate{pbx: pbx, datagrams: links.datagram != nil, seed: hashAddress(t.Address), weight: uint64(t.Weight)}
		if t.Weight == 0 {
			c.weight = 1
			m.reserve = append(m.reserve, c)
		} else {
			m.weighted = append(m.weighted, c)
		}
	}
	return m
}

// Len returns the number of PBXes, up or not.
func (p *Pool) Len() int { return len(p.members.Load().all) }

// Hosts returns the addresses of all PBXes, each once, in order.
func (p *Pool) Hosts() []netip.Addr {
	return slices.SortedFunc(maps.Keys(p.members.Load().byHost), netip.Addr.Compare)
}

// Has says whether addr is the address of a PBX, with whatever port.
func (p *Pool) Has(addr netip.Addr) bool { return p.members.Load().byHost[addr] != nil }

// ByAddr returns the first PBX with that address, or nil.
func (p *Pool) ByAddr(addr netip.Addr) *PBX { return p.members.Load().byHost[addr] }

// ByAddrPort returns the PBX that listens on exactly that address and port, or nil.
func (p *Pool) ByAddrPort(ap netip.AddrPort) *PBX { return p.members.Load().byPort[ap] }

// ByID returns the PBX with that ID, or nil.
func (p *Pool) ByID(id uint16) *PBX { return p.members.Load().byID[id] }

// IDOf returns the ID of the PBX that sends from ap, or 0 if it is none. A PBX
// may send from another port than it listens on, as on a connection that it
// opened; the first PBX of that address is meant then.
func (p *Pool) IDOf(ap netip.AddrPort) uint16 {
	m := p.members.Load()
	pbx := m.byPort[ap]
	if pbx == nil {
		pbx = m.byHost[ap.Addr()]
	}
	if pbx == nil {
		return 0
	}
	return pbx.id
}

// MarkDown is how the data path reports that p refused a connection, or could
// not be reached over one. New connections avoid it for a few seconds, as long
// as there is another (see PickStream), and it is probed at once. It is not
// taken out for datagrams by this alone: a PBX whose connections strangers have
// used up still answers on UDP.
func (p *Pool) MarkDown(pbx *PBX, why error) {
	now := time.Now()
	until := now.Add(streamHold).UnixNano()
	if old := pbx.streamHold.Swap(until); old < now.UnixNano() {
		p.members.Load().cfg.Logger.Warn("PBX refuses connections", "pbx", pbx.addr.String(), "error", why)
	}
	pbx.probeNow()
}

// State is the health of a PBX, for status displays.
type State struct {
	Address  netip.AddrPort
	ID       uint16
	Weight   int
	Up       bool
	Since    time.Time     // when it went up or down; zero: never since the start
	Failures int           // probes failed in a row
	LastErr  string        // of the last failed probe, also if others went well since
	RTT      time.Duration // of the last good probe; 0: none yet
	Refusing bool          // connections avoid it
}

// State returns the health of every PBX in the order of the configuration.
func (p *Pool) State() []State {
	m := p.members.Load()
	out := make([]State, 0, len(m.all))
	for i, pbx := range m.all {
		s := pbx.state()
		s.Weight = m.cfg.PBXes[i].Weight
		out = append(out, s)
	}
	return out
}
