//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"time"

	"sipward/e2e/bench/load"
)

// Point is one step: a load at one rate on one subject.
type Point struct {
	Target    int     `json:"target_rate"`
	Pass      bool    `json:"loss_free"`
	CPU       float64 `json:"cpu_us_per_message"` // of the subject's process tree, by messages of complete transactions
	Machine   float64 `json:"machine_busy"`       // share of all cores that were busy, 0 … 1
	EdgeDrops int     `json:"edge_queue_drops"`
	PBXDrops  int     `json:"pbx_queue_drops"`
	load.Result
}

// bench measures one running subject.
type bench struct {
	lab    *lab
	name   string
	target netip.AddrPort
	proc   *process
	step   time.Duration
}

// measure runs one step.
func (b *bench) measure(flow load.Flow, sources, rate int) (Point, error) {
	p := Point{Target: rate}
	before, err := b.snapshot()
	if err != nil {
		return p, err
	}
	p.Result, err = b.lab.generate(load.Config{
		Target: b.target, Sources: sources, Rate: rate, Duration: b.step, Flow: flow,
	})
	if err != nil {
		return p, err
	}
	after, err := b.snapshot()
	if err != nil {
		return p, err
	}
	if n := (p.Answered + p.Late) * flow.MessagesPer(); n > 0 {
		p.CPU = float64(after.cpu-before.cpu) / float64(time.Microsecond) / float64(n)
	}
	p.Machine = float64(after.busy-before.busy) / float64(max(after.all-before.all, 1))
	p.EdgeDrops, p.PBXDrops = after.edge-before.edge, after.pbx-before.pbx
	// The generator must have kept its own pace: 1 % below is not that rate any more.
	p.Pass = p.Answered == p.Sent && p.Refused == 0 && p.Unexpected == 0 && p.Rate >= 0.99*float64(rate)
	fmt.Fprintf(b.lab.log, "  %-20s %-9s %5d source(s) %7d/s  lost %d late %d unexpected %d  CPU %.1f µs/message  p99 %v  machine %.0f %%%s\n",
		b.name, flow, sources, rate, p.Lost, p.Late, p.Unexpected, p.CPU, p.P99.Round(10*time.Microsecond), 100*p.Machine, where(p))
	return p, nil
}

// where says who dropped, and whether the generator kept up.
func where(p Point) string {
	s := ""
	if p.EdgeDrops+p.PBXDrops+p.Dropped > 0 {
		s = fmt.Sprintf("  queue drops: edge %d, PBX %d, generator %d", p.EdgeDrops, p.PBXDrops, p.Dropped)
	}
	if p.Lost == 0 && p.Late == 0 && !p.Pass {
		s += fmt.Sprintf("  sent only %.0f/s", p.Rate)
	}
	return s
}

// pass is one step of a search. A step that fails by little is repeated once: on a virtual machine
// a neighbour may have had the core for a moment.
func (b *bench) pass(flow load.Flow, sources, rate int, points *[]Point) (bool, error) {
	for try := 0; ; try++ {
		p, err := b.measure(flow, sources, rate)
		if err != nil {
			return false, err
		}
		*points = append(*points, p)
		if !p.Pass {
			if err := b.settle(); err != nil {
				return false, err
			}
		}
		if p.Pass || try == 1 || float64(p.Answered) < 0.99*float64(rate)*b.step.Seconds() {
			return p.Pass, nil
		}
	}
}

// settle waits until the subject has worked off what a step above its maximum left behind.
func (b *bench) settle() error {
	const look = 200 * time.Millisecond
	for range 25 {
		before, err := treeCPU(b.proc.cmd.Process.Pid)
		if err != nil {
			return err
		}
		time.Sleep(look)
		after, err := treeCPU(b.proc.cmd.Process.Pid)
		if err != nil || after-before <= look/10 {
			return err
		}
	}
	return nil
}

type snapshot struct {
	cpu, busy, all time.Duration
	edge, pbx      int
}

func (b *bench) snapshot() (s snapshot, err error) {
	if s.cpu, err = treeCPU(b.proc.cmd.Process.Pid); err != nil {
		return s, fmt.Errorf("%s: %w\n%s", b.name, err, b.proc.tail())
	}
	if s.busy, s.all, err = machineTime(); err != nil {
		return s, err
	}
	if s.edge, err = udpDrops(b.target.Port()); err != nil {
		return s, err
	}
	s.pbx, err = udpDrops(b.lab.pbx.Port())
	return s, err
}
