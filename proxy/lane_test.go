package proxy

import (
	"math"
	"testing"
	"time"
)

// budget returns what all lanes together may pass per second; +Inf without a limit.
func (o *overload) budget() float64 {
	bits := o.limit.Load()
	if bits == 0 {
		return math.Inf(1)
	}
	return math.Float64frombits(bits) * float64(max(o.visited.Load(), 1))
}

// TestOverloadPBXBehind: a PBX that answers half of what it is asked has strangers
// held back within a few intervals, and let go again when it has caught up.
func TestOverloadPBXBehind(t *testing.T) {
	o := &overload{lanes: []*lane{new(lane), new(lane)}}
	budget := math.Inf(1)
	for range 5 {
		budget = o.adapt(budget, totals{strangers: 2000, asked: 2000, answered: 1000}, 0.1)
	}
	if o.set(budget); o.budget() > 2000 {
		t.Errorf("after half a second strangers may still send %.0f/s", o.budget())
	}
	for range 40 {
		budget = o.adapt(budget, totals{strangers: 2000, asked: 2000, answered: 500}, 0.1)
	}
	if o.set(budget); o.budget() < leastStrangers {
		t.Errorf("strangers are shut out: %.0f/s", o.budget())
	}
	for range 100 {
		budget = o.adapt(budget, totals{strangers: 10, asked: 2000, answered: 2000}, 0.1)
	}
	if o.set(budget); !math.IsInf(o.budget(), 1) {
		t.Errorf("ten quiet seconds later strangers are held to %.0f/s", o.budget())
	}
}

// TestOverloadPause: a PBX that thinks for a tenth of a second is not overloaded.
func TestOverloadPause(t *testing.T) {
	o := &overload{lanes: []*lane{new(lane)}}
	budget := math.Inf(1)
	for i := range 40 {
		d := totals{strangers: 200, asked: 200, answered: 200}
		if i == 20 {
			d.answered = 0
		}
		if budget = o.adapt(budget, d, 0.1); !math.IsInf(budget, 1) {
			t.Fatalf("interval %d: strangers are held to %.0f/s", i, budget)
		}
	}
}

// TestOverloadQueue: a receive queue that fills is enough.
func TestOverloadQueue(t *testing.T) {
	fill := 0.6
	o := &overload{lanes: []*lane{new(lane)}, fill: []func() float64{func() float64 { return 0 }, func() float64 { return fill }}}
	told := 0
	o.full = func() { told++ }
	if b := o.adapt(math.Inf(1), totals{strangers: 10_000}, 0.1); b > 50_000 || told != 1 {
		t.Errorf("budget %.0f/s", b)
	}
	fill = 0
	if b := o.adapt(1000, totals{strangers: 100}, 0.1); b <= 1000 {
		t.Errorf("budget %.0f/s does not grow in quiet", b)
	}
	budget := 100.0
	for i := range 3 * enough {
		budget = o.adapt(budget, totals{strangers: 20, refused: 10}, 0.1)
		if math.IsInf(budget, 1) {
			t.Fatalf("the budget is lifted after %d intervals in which strangers were refused", i+1)
		}
	}
	for range enough {
		budget = o.adapt(budget, totals{strangers: 20}, 0.1)
	}
	if !math.IsInf(budget, 1) {
		t.Errorf("budget %.0f/s after half a second in which nobody was refused", budget)
	}
}

// TestOverloadStatic: the configured budget holds whatever the load, and whether strangers
// come to one worker or to all.
func TestOverloadStatic(t *testing.T) {
	for _, come := range []int{1, 2, 3} {
		o := &overload{lanes: []*lane{new(lane), new(lane), new(lane)}}
		o.static.Store(1000)
		o.set(math.Inf(1))
		passed := 0
		for ns := int64(0); ns < 10*int64(time.Second); ns += 100_000 { // 10,000/s to each for 10 s
			if ns%int64(controlEvery) == 0 {
				o.interval()
				o.set(math.Inf(1))
			}
			for _, l := range o.lanes[:come] {
				if o.take(l, ns) {
					passed++
				}
			}
		}
		if passed < 9800 || passed > 10_500 {
			t.Errorf("%d passed in 10 s to %d of three workers, want about 10,000", passed, come)
		}
		if o.budget() != 1000 {
			t.Errorf("budget %.0f/s, want 1000", o.budget())
		}
	}
}

// TestOverloadAfterClockSetBack: a clock that is set back shuts nobody out until it has caught up.
func TestOverloadAfterClockSetBack(t *testing.T) {
	o := &overload{lanes: []*lane{new(lane)}}
	o.static.Store(1000)
	o.set(math.Inf(1))
	now := int64(100 * time.Hour)
	o.take(o.lanes[0], now)
	now -= int64(time.Hour)
	passed := 0
	for range 1000 {
		now += int64(10 * time.Millisecond)
		if o.take(o.lanes[0], now) {
			passed++
		}
	}
	if passed != 1000 {
		t.Errorf("%d of 1000 passed, at a tenth of the budget", passed)
	}
}
