//go:build linux

package main

import (
	"fmt"

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

// at is the last loss-free step at a rate, nil if there is none.
func (s *Series) at(rate int) *Point {
	for i := len(s.Points) - 1; i >= 0; i-- {
		if p := &s.Points[i]; p.Pass && p.Target == rate {
			return p
		}
	}
	return nil
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

// measureCommon fills in what a comparison of sipward with the bare forwarder lacks: the highest rate
// that both carry.
func (l *lab) measureCommon(o options, rep *Report) error {
	for _, s := range subjects(o.buffer) {
		var missing []*Series
		for _, own := range rep.Series {
			if own.Subject == s.name && own.Flow != load.Call && rep.common(own) > 0 && own.at(rep.common(own)) == nil {
				missing = append(missing, own)
			}
		}
		if len(missing) == 0 {
			continue
		}
		fmt.Fprintf(l.log, "%s at the common rate\n", s.name)
		if err := l.fill(o, s, missing, rep); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) fill(o options, s subject, missing []*Series, rep *Report) error {
	proc, target, err := l.startSubject(s)
	if err != nil {
		return err
	}
	defer l.stop(proc)
	b := &bench{lab: l, name: s.name, target: target, proc: proc, step: o.step}
	for _, own := range missing {
		if _, err := b.pass(own.Flow, own.Sources, rep.common(own), &own.Points); err != nil {
			return err
		}
	}
	return nil
}
