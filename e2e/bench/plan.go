//go:build linux

package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"sipward/e2e/bench/load"
)

// Rates at which everybody's CPU time is compared; those of design.md's budget.
const (
	lowRate  = 5_000
	highRate = 40_000
	maxRate  = 320_000
)

// Series is all that was measured of one subject with one kind of load.
type Series struct {
	Subject string    `json:"subject"`
	Flow    load.Flow `json:"flow"`
	Sources int       `json:"sources"`
	Max     int       `json:"loss_free_max"` // transactions or calls per second
	Points  []Point   `json:"points"`
}

// at is the loss-free step at a rate, the one of median cost if there are several, nil if there is none.
func (s *Series) at(rate int) *Point {
	var points []*Point
	for i := range s.Points {
		if p := &s.Points[i]; p.Pass && p.Target == rate {
			points = append(points, p)
		}
	}
	if len(points) == 0 {
		return nil
	}
	slices.SortFunc(points, func(a, b *Point) int { return cmp.Compare(a.CPU, b.CPU) })
	return points[(len(points)-1)/2]
}

// measureSubject starts one edge and measures transactions from one source, which has the edge's
// locks and tables contend for one entry, registrations with their challenge from many, and calls.
func (l *lab) measureSubject(o options, s subject, rep *Report) error {
	fmt.Fprintf(l.log, "%s\n", s.name)
	proc, target, err := l.startSubject(s)
	if err != nil {
		return err
	}
	defer l.stop(proc)
	b := &bench{lab: l, name: s.name, target: target, proc: proc, step: o.step}
	one, err := b.series(o, load.Register, 1, lowRate, 2)
	if err != nil {
		return err
	}
	if err := b.introduce(o.sources); err != nil {
		return err
	}
	many, err := b.series(o, load.Challenge, o.sources, max(one.Max/2, lowRate), 1.25)
	if err != nil {
		return err
	}
	calls, err := b.series(o, load.Call, o.sources, max(one.Max/4, 250), 1.5)
	if err != nil {
		return err
	}
	rep.Series = append(rep.Series, one, many, calls)
	return nil
}

// introduceRate is slow enough for each subject, in registrations per second.
const introduceRate = 2_500

// introduce has each source register once before anything is measured: that thousands of phones are
// new within the same second is not what an edge is built for, and sipward holds strangers back when
// it is busy.
func (b *bench) introduce(sources int) error {
	_, err := b.lab.generate(load.Config{
		Target: b.target, Sources: sources, Rate: introduceRate, Flow: load.Challenge,
		Duration: time.Duration(sources) * time.Second / introduceRate,
	})
	return err
}

// series searches the highest rate, and adds those of everybody's rates that the search did not try.
func (b *bench) series(o options, flow load.Flow, sources, start int, factor float64) (*Series, error) {
	s := &Series{Subject: b.name, Flow: flow, Sources: sources}
	var err error
	s.Max, err = search(start, maxRate, factor, o.resolution, func(rate int) (bool, error) {
		return b.pass(flow, sources, rate, &s.Points)
	})
	if err != nil || flow == load.Call {
		return s, err
	}
	for _, rate := range []int{lowRate, highRate} {
		if rate > s.Max || s.at(rate) != nil {
			continue
		}
		if _, err := b.pass(flow, sources, rate, &s.Points); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// rounds is how often each cost is measured for sipward and the bare forwarder in turn.
const rounds = 3

// measureCosts measures sipward and the bare forwarder in turn at the rates at which their costs are
// compared: what the machine does by itself then meets both.
func (l *lab) measureCosts(o options, rep *Report) error {
	var pair []*bench
	for _, s := range subjects(o.buffer) {
		if s.name != nameSipward && s.name != nameBare || rep.ofSubject(s.name) == nil {
			continue
		}
		proc, target, err := l.startSubject(s)
		if err != nil {
			return err
		}
		defer l.stop(proc)
		b := &bench{lab: l, name: s.name, target: target, proc: proc, step: o.step}
		if err := b.introduce(o.sources); err != nil {
			return err
		}
		pair = append(pair, b)
	}
	if len(pair) < 2 {
		return nil
	}
	fmt.Fprintln(l.log, "costs, in turn")
	for _, own := range rep.ofSubject(nameSipward) {
		if own.Flow == load.Call {
			continue
		}
		for _, rate := range rep.compared(own) {
			for range rounds {
				for _, b := range pair {
					if _, err := b.pass(own.Flow, own.Sources, rate, &rep.find(b.name, own).Points); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}
