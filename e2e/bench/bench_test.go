//go:build linux

package main

import (
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sipward/e2e/bench/load"
)

func TestSearchFindsTheEdge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		edge := rapid.IntRange(1, 400_000).Draw(t, "edge")
		start := rapid.IntRange(1, 50_000).Draw(t, "start")
		factor := rapid.Float64Range(1.1, 2).Draw(t, "factor")
		steps := 0
		got, err := search(start, maxRate, factor, 1.05, func(rate int) (bool, error) {
			steps++
			return rate <= edge, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case got == 0:
			if edge >= max(start/16, 1) {
				t.Fatalf("found nothing, edge is %d", edge)
			}
		case got > edge, got < maxRate && float64(got)*1.05 < float64(edge)-1:
			t.Fatalf("found %d, edge is %d", got, edge)
		}
		if steps > 150 {
			t.Fatalf("%d steps", steps)
		}
	})
}

func TestParseStat(t *testing.T) {
	const line = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 9 9 20 0 5 0 1 1 1"
	pid, ppid, cpu, err := parseStat([]byte(line))
	if err != nil || pid != 42 || ppid != 7 || cpu != 2*time.Second {
		t.Errorf("got %d %d %v %v", pid, ppid, cpu, err)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 1", "a (b) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 9"} {
		if _, _, _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestTreeCPUOfThisProcess(t *testing.T) {
	before, err := treeCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); time.Since(begin) < 100*time.Millisecond; {
	}
	after, err := treeCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if after <= before {
		t.Errorf("no CPU time counted: %v, %v", before, after)
	}
}

func point(rate int, cpu float64) Point { return Point{Target: rate, Pass: true, CPU: cpu} }

func TestBars(t *testing.T) {
	r := &Report{Series: []*Series{
		{Subject: nameStateful1, Flow: load.Register, Sources: 1, Max: 9_000},
		{Subject: nameStateful2, Flow: load.Register, Sources: 1, Max: 10_500},
		{Subject: nameBare, Flow: load.Register, Sources: 1, Max: 70_000, Points: []Point{point(lowRate, 16), point(highRate, 6), point(42_000, 6), point(45_000, 6)}},
		{Subject: nameSipward, Flow: load.Register, Sources: 1, Max: 45_000, Points: []Point{point(lowRate, 20), point(highRate, 8), point(42_000, 9.5), point(45_000, 10)}},
		{Subject: nameStateful2, Flow: load.Call, Sources: 1, Max: 2_000},
		{Subject: nameSipward, Flow: load.Call, Sources: 1, Max: 7_999},
	}}
	r.judge()
	want := []bool{true, true, true, false, true, false} // the cost at 4 times Kamailio's rate, and the calls
	if len(r.Bars) != len(want) {
		t.Fatalf("%d bars: %+v", len(r.Bars), r.Bars)
	}
	for i, b := range r.Bars {
		if b.Pass != want[i] {
			t.Errorf("%+v: want pass %v", b, want[i])
		}
	}
	if !r.failed() {
		t.Error("a missed bar did not fail the run")
	}
}
