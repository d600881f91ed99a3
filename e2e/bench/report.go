//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"sipward/e2e/bench/load"
)

// Report is everything that a run found out.
type Report struct {
	Time    time.Time `json:"time"`
	Machine string    `json:"machine"`
	Busy    float64   `json:"busy_before"` // share of the machine that others used before the run
	Step    string    `json:"step"`
	Series  []*Series `json:"series"`
	Bars    []Bar     `json:"bars"`
}

// Bar is one demand on sipward, or a figure that is told beside them.
type Bar struct {
	Name  string  `json:"name"`
	Want  string  `json:"want"` // empty: nothing is demanded
	Value float64 `json:"value"`
	Pass  bool    `json:"pass"`
}

// The bars of issue A.
const (
	minRateRatio = 4.0 // sipward's loss-free rate by Kamailio's, stateful, the better of 1 and 2 children
	maxCostRatio = 1.5 // sipward's CPU time per message by the bare forwarder's at the same rate
	quietShare   = 0.1
)

// newReport looks at the machine first: on one that is busy the figures are worth little.
func newReport(o options) (*Report, error) {
	b0, a0, err := machineTime()
	if err != nil {
		return nil, err
	}
	time.Sleep(2 * time.Second)
	b1, a1, err := machineTime()
	if err != nil {
		return nil, err
	}
	r := &Report{Time: time.Now().UTC(), Busy: float64(b1-b0) / float64(max(a1-a0, 1)), Step: o.step.String(), Machine: machine(o)}
	if r.Busy > quietShare {
		fmt.Fprintf(os.Stderr, "warning: %.0f %% of this machine is busy with something else; these figures are no measure\n", 100*r.Busy)
	}
	return r, nil
}

func machine(o options) string {
	kernel := "unknown kernel"
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		kernel = "Linux " + unix.ByteSliceToString(u.Release[:])
	}
	s := fmt.Sprintf("%d cores, %s, %s, %s", runtime.NumCPU(), cpuModel(), kernel, runtime.Version())
	if out, err := exec.Command(o.kamailio, "-v").Output(); err == nil {
		first, _, _ := strings.Cut(string(out), "\n")
		s += ", " + strings.TrimPrefix(first, "version: ")
	}
	return s
}

// find is the series of a subject that was loaded like another one.
func (r *Report) find(subject string, like *Series) *Series {
	for _, s := range r.Series {
		if s.Subject == subject && s.Flow == like.Flow && s.Sources == like.Sources {
			return s
		}
	}
	return nil
}

// common is the highest rate that both sipward and the bare forwarder carry of a series' kind, 0
// when the series is of neither or one of them was not measured.
func (r *Report) common(s *Series) int {
	if s.Subject != nameSipward && s.Subject != nameBare {
		return 0
	}
	a, b := r.find(nameSipward, s), r.find(nameBare, s)
	if a == nil || b == nil {
		return 0
	}
	return min(a.Max, b.Max)
}

// ofSubject returns what was measured of one subject.
func (r *Report) ofSubject(name string) (all []*Series) {
	for _, s := range r.Series {
		if s.Subject == name {
			all = append(all, s)
		}
	}
	return all
}

// kamailio is the loss-free rate of stateful Kamailio, the better of 1 and 2 children; 0 if it was not measured.
func (r *Report) kamailio(s *Series) (best int) {
	for _, name := range []string{nameStateful1, nameStateful2} {
		if k := r.find(name, s); k != nil {
			best = max(best, k.Max)
		}
	}
	return best
}

// demanded are the rates at which there is a bar for sipward's cost: everybody's, and the one that it must carry.
func (r *Report) demanded(s *Series) []int {
	return []int{lowRate, highRate, int(minRateRatio * float64(r.kamailio(s)))}
}

// compared are the rates at which sipward's cost is compared with the bare forwarder's: those, and the highest that both
// carry. There the machine is full, and how much its parts get into each other's way is measured with them: the figure is told.
func (r *Report) compared(s *Series) (rates []int) {
	most := r.common(s)
	for _, rate := range append(r.demanded(s), most) {
		if rate > 0 && rate <= most && !slices.Contains(rates, rate) {
			rates = append(rates, rate)
		}
	}
	return rates
}

// judge compares sipward with its bars, as far as the others were measured.
func (r *Report) judge() {
	for _, s := range r.Series {
		if s.Subject != nameSipward {
			continue
		}
		if best := r.kamailio(s); best > 0 {
			v := float64(s.Max) / float64(best)
			r.Bars = append(r.Bars, Bar{kind(s) + ": loss-free rate by stateful Kamailio's", fmt.Sprintf("≥ %.1f", minRateRatio), v, v >= minRateRatio})
		}
		bare := r.find(nameBare, s)
		if bare == nil || s.Flow == load.Call { // which are measured at each one's own highest rate alone
			continue
		}
		for _, rate := range r.compared(s) {
			p, q := s.at(rate), bare.at(rate)
			if p == nil || q == nil {
				continue
			}
			b := Bar{Name: fmt.Sprintf("%s: CPU per message by the bare forwarder's at %d/s", kind(s), rate), Value: p.CPU / q.CPU, Pass: true}
			if slices.Contains(r.demanded(s), rate) {
				b.Want, b.Pass = fmt.Sprintf("≤ %.1f", maxCostRatio), b.Value <= maxCostRatio
			}
			r.Bars = append(r.Bars, b)
		}
	}
}

func (r *Report) failed() bool {
	for _, b := range r.Bars {
		if !b.Pass {
			return true
		}
	}
	return false
}

// kind names a series' load in tables.
func kind(s *Series) string {
	switch {
	case s.Flow == load.Call:
		return "calls"
	case s.Sources == 1:
		return "one source"
	}
	return fmt.Sprintf("%d sources", s.Sources)
}

// print writes the tables for people.
func (r *Report) print(w io.Writer) {
	worst := 0.0
	for _, s := range r.Series {
		for _, p := range s.Points {
			worst = max(worst, p.Others)
		}
	}
	fmt.Fprintf(w, "%s\nsteps of %s; others used %.0f %% of the machine before, at most %.0f %% during a step\n\n", r.Machine, r.Step, 100*r.Busy, 100*worst)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "edge\tload\tloss-free/s\tCPU µs/message at %d/s\tat %d/s\tat its maximum\tp50, p99 at %d/s\t\n", lowRate, highRate, lowRate)
	for _, s := range r.Series {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t\n", s.Subject, kind(s), s.Max, cpu(s.at(lowRate)), cpu(s.at(highRate)), cpu(s.at(s.Max)), latency(s.at(lowRate)))
	}
	t.Flush()
	fmt.Fprintln(w)
	t = tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, b := range r.Bars {
		verdict := "ok"
		switch {
		case !b.Pass:
			verdict = "MISSED"
		case b.Want == "":
			verdict = "the highest of both"
		}
		fmt.Fprintf(t, "%s\t%s\t%.2f\t%s\t\n", b.Name, b.Want, b.Value, verdict)
	}
	t.Flush()
}

func cpu(p *Point) string {
	if p == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f", p.CPU)
}

func latency(p *Point) string {
	if p == nil {
		return "–"
	}
	return fmt.Sprintf("%v, %v", p.P50.Round(time.Microsecond), p.P99.Round(time.Microsecond))
}

// write stores all figures.
func (r *Report) write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
