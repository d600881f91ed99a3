//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"sipward/e2e/bench/load"
)

// disturbed is the share of the machine from which on others spoil a step.
const disturbed = 0.05

// Point is one step: a load at one rate on one subject.
type Point struct {
	Target    int     `json:"target_rate"`
	Pass      bool    `json:"loss_free"`
	CPU       float64 `json:"cpu_us_per_message"`   // of the subject's process tree, by messages of complete transactions
	Whole     float64 `json:"whole_us_per_message"` // of generator and PBX, too, with what the kernel does in their names
	Machine   float64 `json:"machine_busy"`         // share of all cores that were busy, 0 … 1
	Others    float64 `json:"others_busy"`          // share of all cores that others than this benchmark used
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
		p.Whole = float64(after.ours-before.ours) / float64(time.Microsecond) / float64(n)
	}
	p.Machine = float64(after.busy-before.busy) / float64(max(after.all-before.all, 1))
	p.Others = max(0, float64(after.busy-before.busy-(after.ours-before.ours))/float64(max(after.all-before.all, 1)))
	p.EdgeDrops, p.PBXDrops = after.edge-before.edge, after.pbx-before.pbx
	// The generator must have kept its own pace: 1 % below is not that rate any more.
	p.Pass = p.Answered == p.Sent && p.Refused == 0 && p.Unexpected == 0 && p.Rate >= 0.99*float64(rate)
	fmt.Fprintf(b.lab.log, "  %-20s %-9s %5d source(s) %7d/s  lost %d late %d unexpected %d  CPU %.1f of %.1f µs/message  p99 %v  machine %.0f %% (others %.0f %%)%s\n",
		b.name, flow, sources, rate, p.Lost, p.Late, p.Unexpected, p.CPU, p.Whole, p.P99.Round(10*time.Microsecond), 100*p.Machine, 100*p.Others, where(p))
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

// pass is one step of a search. A step that fails by little is repeated once; one that others spoiled,
// as often as patience lasts, and then once: that may not have been the subject's fault.
func (b *bench) pass(flow load.Flow, sources, rate int, points *[]Point) (bool, error) {
	for try := 0; ; try++ {
		if err := b.lab.awaitQuiet(); err != nil {
			return false, err
		}
		p, err := b.measure(flow, sources, rate)
		if err != nil {
			return false, err
		}
		*points = append(*points, p)
		if !p.Pass {
			if err := errors.Join(b.settle(), b.alive()); err != nil {
				return false, err
			}
		}
		spoiled := p.Others >= disturbed
		if spoiled && b.lab.patience > 0 && try < 10 {
			b.lab.patience -= b.step
			continue
		}
		little := float64(p.Answered) >= 0.99*float64(rate)*b.step.Seconds()
		if p.Pass || try > 0 || !little && !spoiled {
			return p.Pass, nil
		}
	}
}

// awaitQuiet waits, as long as patience lasts, until nobody else uses the machine.
func (l *lab) awaitQuiet() error {
	const look = 300 * time.Millisecond
	for {
		busy0, all0, err := machineTime()
		if err != nil {
			return err
		}
		time.Sleep(look)
		busy1, all1, err := machineTime()
		if err != nil {
			return err
		}
		if l.patience <= 0 || float64(busy1-busy0) <= disturbed*float64(all1-all0) {
			return nil
		}
		l.patience -= look
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

// alive makes sure that overload did not end the subject's work: none of the following figures would
// mean anything. The stacks of a Go program that hangs go to its log.
func (b *bench) alive() error {
	err := b.lab.await(b.proc, b.target)
	if err == nil {
		return nil
	}
	_ = b.proc.cmd.Process.Signal(syscall.SIGQUIT) // it may have ended
	time.Sleep(time.Second)
	kept := filepath.Join(os.TempDir(), "sipward-bench-hang.log")
	log, rerr := os.ReadFile(b.proc.output)
	return errors.Join(fmt.Errorf("%s does not answer any more after a step above its maximum (its log is kept as %s): %w", b.name, kept, err),
		rerr, os.WriteFile(kept, log, 0o644))
}

type snapshot struct {
	cpu, ours, busy, all time.Duration
	edge, pbx            int
}

func (b *bench) snapshot() (s snapshot, err error) {
	if s.cpu, err = treeCPU(b.proc.cmd.Process.Pid); err != nil {
		return s, fmt.Errorf("%s: %w\n%s", b.name, err, b.proc.tail())
	}
	if s.ours, err = benchCPU(); err != nil {
		return s, err
	}
	if s.busy, s.all, err = machineTime(); err != nil {
		return s, err
	}
	if s.edge, err = udpDrops(b.proc, b.target.Port()); err != nil {
		return s, err
	}
	s.pbx, err = udpDrops(b.lab.responder, b.lab.pbx.Port())
	return s, err
}
