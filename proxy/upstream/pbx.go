package upstream

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// heardStep is how coarsely Heard keeps time, so that a busy PBX's worker
// threads do not write the same cache line for every message.
const heardStep = int64(100 * time.Millisecond)

// PBX is one PBX of a pool. The pointer stays the same over a reload.
type PBX struct {
	addr  netip.AddrPort
	id    uint16
	wake  chan struct{} // asks for a probe
	links atomic.Pointer[links]

	up         atomic.Bool
	streamHold atomic.Int64 // Unix ns until which new connections avoid it
	heard      atomic.Int64 // Unix ns of the last message from it

	mu     sync.Mutex
	health health
}

// health is what the probes have found.
type health struct {
	fails, goods int // in a row
	since        time.Time
	lastErr      string
	rtt          time.Duration
}

func newPBX(addr netip.AddrPort, id uint16) *PBX {
	p := &PBX{addr: addr, id: id, wake: make(chan struct{}, 1)}
	p.up.Store(true)
	return p
}

// Addr returns the address that the PBX listens on.
func (p *PBX) Addr() netip.AddrPort { return p.addr }

// ID returns a number that stands for the PBX in tokens: never 0, the same
// after a restart and on every node with the same PBXes.
func (p *PBX) ID() uint16 { return p.id }

// Up says whether the PBX counts as up.
func (p *PBX) Up() bool { return p.up.Load() }

// Heard notes that a message came from the PBX at now (Unix nanoseconds). One
// that answers phones but not our probes is not taken for down.
func (p *PBX) Heard(now int64) {
	if d := now - p.heard.Load(); d > heardStep || d < -heardStep { // below: the clock was set back
		p.heard.Store(now)
	}
}

// heardSince allows for the coarseness of Heard. What lies ahead was noted before the clock was set back.
func (p *PBX) heardSince(t time.Time) bool {
	heard := p.heard.Load()
	return heard >= t.UnixNano()-heardStep && heard <= time.Now().UnixNano()+heardStep
}

// refusing says whether new connections avoid the PBX.
func (p *PBX) refusing() bool {
	left := p.streamHold.Load() - time.Now().UnixNano()
	return 0 < left && left <= int64(streamHold) // more: the clock was set back
}

func (p *PBX) probeNow() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// good takes note of a good probe and says whether the PBX came up by it.
func (p *PBX) good(rtt time.Duration, rise int) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := &p.health
	h.fails, h.rtt = 0, rtt
	h.goods++
	if p.up.Load() || h.goods < rise {
		return false
	}
	h.since = time.Now()
	p.up.Store(true)
	return true
}

// bad takes note of a failed probe and says whether the PBX went down by it.
func (p *PBX) bad(err error, fall int) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := &p.health
	h.goods, h.lastErr = 0, err.Error()
	h.fails++
	if !p.up.Load() || h.fails < fall {
		return false
	}
	h.since = time.Now()
	p.up.Store(false)
	return true
}

// well says whether there is no reason to look sooner than usual.
func (p *PBX) well() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up.Load() && p.health.fails == 0
}

func (p *PBX) state() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return State{
		Address: p.addr, ID: p.id, Up: p.up.Load(), Since: p.health.since, Failures: p.health.fails,
		LastErr: p.health.lastErr, RTT: p.health.rtt, Refusing: p.refusing(),
	}
}
