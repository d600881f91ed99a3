//go:build linux

// Package load generates SIP transactions or calls at a given rate, whatever happens to the
// answers (open loop), and counts what is answered in time. SIPp and its one timer wheel saturate
// before a fast forwarder does; this generator sends small batches on a precise clock and needs
// no more than two threads and no memory per transaction beyond a time stamp.
package load

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"sipward/e2e/bench/mmsg"
)

// T1 is RFC 3261's round-trip estimate (§17.1.1.1). An answer later than that counts as lost: the
// phone would have sent its request again.
const T1 = 500 * time.Millisecond

// Flow is what is generated.
type Flow string

// The flows. MessagesPer says how many messages of each cross the edge.
const (
	Register    Flow = "register"    // REGISTER, 200
	Credentials Flow = "credentials" // the same with credentials, as a phone renews its registration
	Challenge   Flow = "challenge"   // REGISTER, 401, REGISTER with credentials, 200
	Call        Flow = "call"        // INVITE, 180, 200, ACK, BYE, 200
)

// MessagesPer is how many messages one transaction or call makes the edge forward.
func (f Flow) MessagesPer() int {
	switch f {
	case Challenge:
		return 4
	case Call:
		return 6
	}
	return 2
}

// Config of one run.
type Config struct {
	Target   netip.AddrPort
	Port     uint16 // the sources' port
	Sources  int    // how many addresses to send from, 1 … MaxSources
	Rate     int    // transactions or calls per second
	Duration time.Duration
	Flow     Flow
	Network  [2]byte // the sources' first two octets; zero: 127.1
}

// Result counts one run. Answered + Lost + Late = Sent. Times are those of whole transactions or
// calls.
type Result struct {
	Sent       int           `json:"sent"`
	Answered   int           `json:"answered"` // complete within T1
	Late       int           `json:"late"`
	Lost       int           `json:"lost"`
	Refused    int           `json:"refused"`    // send errors
	Unexpected int           `json:"unexpected"` // wrong status, wrong branch, unknown Call-ID or a repeated answer
	Dropped    int           `json:"dropped"`    // by the generator's own receive queue: not the edge's fault
	Rate       float64       `json:"rate"`       // as sent
	P50        time.Duration `json:"p50_ns"`
	P99        time.Duration `json:"p99_ns"`
	Max        time.Duration `json:"max_ns"`
}

// Generator owns the socket of one run. A sending and a receiving goroutine share it.
type Generator struct {
	cfg     Config
	sock    *mmsg.Socket
	run     uint32 // tells this run's answers from a former one's
	total   int
	sources []uint32

	sentAt []atomic.Int64 // nanoseconds since epoch, by sequence number; 0: not sent
	epoch  time.Time
	stop   atomic.Bool

	seq      int // the next to send; this and the next two are the sender's
	refused  int
	finished time.Duration
	rx       *receiver
}

// New binds the generator's socket. run marks this run's messages; opt.ReceiveTimeout is New's own.
func New(cfg Config, run uint32, opt mmsg.Options) (*Generator, error) {
	if cfg.Sources < 1 || cfg.Sources > MaxSources || cfg.Rate < 1 {
		return nil, fmt.Errorf("generate %d/s from %d sources: out of range", cfg.Rate, cfg.Sources)
	}
	if cfg.Network == ([2]byte{}) {
		cfg.Network = [2]byte{127, 1}
	}
	opt.ReceiveTimeout = 10_000
	sock, err := mmsg.Listen(netip.AddrPortFrom(netip.IPv4Unspecified(), cfg.Port), opt)
	if err != nil {
		return nil, err
	}
	local, err := sock.LocalAddr()
	if err != nil {
		return nil, err
	}
	cfg.Port = local.Port()
	g := &Generator{
		cfg:   cfg,
		sock:  sock,
		run:   run,
		total: int(float64(cfg.Rate) * cfg.Duration.Seconds()),
		epoch: time.Now(),
	}
	g.sentAt = make([]atomic.Int64, g.total)
	g.sources = sources(cfg.Network, cfg.Sources)
	g.rx = newReceiver(g)
	return g, nil
}

// Run sends everything, waits until all is answered or T1 has passed since the last, and counts. It
// stops early once it is certain that something is lost or late.
func (g *Generator) Run(ctx context.Context) (Result, error) {
	defer g.sock.Close()
	done := make(chan error, 1)
	go g.rx.loop(done)
	err := g.send(ctx)
	if err == nil {
		g.drain()
	}
	g.stop.Store(true)
	if rerr := <-done; err == nil {
		err = rerr
	}
	r := g.result()
	drops, derr := g.sock.Drops()
	r.Dropped = int(drops)
	return r, errors.Join(err, derr)
}

// drain waits for the stragglers.
func (g *Generator) drain() {
	deadline := time.Now().Add(T1)
	for time.Now().Before(deadline) && g.rx.complete.Load() < int64(g.seq) {
		time.Sleep(time.Millisecond)
	}
}

func (g *Generator) result() Result {
	r := Result{
		Sent:       g.seq,
		Answered:   int(g.rx.complete.Load()) - g.rx.late,
		Late:       g.rx.late,
		Refused:    g.refused + g.rx.refused,
		Unexpected: g.rx.unexpected,
		P50:        g.rx.latency.quantile(0.50),
		P99:        g.rx.latency.quantile(0.99),
		Max:        g.rx.latency.max,
	}
	r.Lost = r.Sent - r.Answered - r.Late
	if g.finished > 0 {
		r.Rate = float64(r.Sent) / g.finished.Seconds()
	}
	return r
}

// now is nanoseconds since the run's start.
func (g *Generator) now() int64 { return int64(time.Since(g.epoch)) }
