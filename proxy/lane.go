package proxy

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// Two lanes under load: sources in good standing are never limited here, strangers
// together have a budget. It is what the configuration says, or less: when a receive
// queue fills, or the PBXes answer fewer requests than they are sent, strangers are
// dropped first, before they are parsed, so that no forged flood costs a registered
// phone a message.

// A lane is one worker's share of the strangers' budget, and what the controller
// wants to know of the worker. The worker alone writes it, but for the controller's own;
// it fills its cache lines.
type lane struct {
	tokens float64
	last   int64

	strangers atomic.Uint64 // let in
	refused   atomic.Uint64 // over the budget
	asked     atomic.Uint64 // requests sent to PBXes that must be answered
	answered  atomic.Uint64 // responses that came back

	before totals // of the last interval; the controller's own
	_      [48]byte
}

// overload is the controller and the budget that it sets.
type overload struct {
	lanes  []*lane
	fill   []func() float64
	full   func()       // Config.QueueFull; may be nil
	static atomic.Int64 // messages per second, from the configuration; 0: none
	// visited is to how many lanes strangers came in the last interval.
	visited atomic.Int64
	// What the PBXes are asked and answer per second, smoothed; the controller's own.
	asked, answered float64
	calm            int // intervals in a row in which nothing was behind and nobody refused
	// limit is the budget in force for each visited lane in messages per second, as the
	// bits of a float64; 0: none.
	limit atomic.Uint64
}

const (
	controlEvery = 100 * time.Millisecond
	// queueHigh is how full a receive queue may be before strangers are held back.
	queueHigh = 0.5
	// smooth is over how long the requests and answers of the PBXes are compared, in
	// seconds: a moment in which a PBX thinks is no overload.
	smooth = 0.5
	// minAsked is how many requests per second say something about the PBXes.
	minAsked = 100
	// answeredLow is the share of answers below which a PBX is behind.
	answeredLow = 0.7
	// leastStrangers is what strangers always may send together, per second: a phone
	// that has just been switched on is a stranger, too.
	leastStrangers = 100
	// relax is how much the budget grows in each quiet interval.
	relax = 1.25
	// enough is after how many intervals in which no stranger was refused the budget is
	// lifted: what nobody comes near need not grow first, and an office whose power is
	// back must not wait for it.
	enough = 5
)

// take reports whether a stranger's message is within the worker's budget.
func (o *overload) take(l *lane, now int64) bool {
	limit := math.Float64frombits(o.limit.Load())
	if limit == 0 {
		l.strangers.Add(1)
		return true
	}
	l.tokens = min(l.tokens+float64(max(now-l.last, 0))/1e9*limit, max(limit/10, 1))
	l.last = now // also when the clock was set back
	if l.tokens < 1 {
		l.refused.Add(1)
		return false
	}
	l.tokens--
	l.strangers.Add(1)
	return true
}

// run adapts the budget until ctx ends.
func (o *overload) run(ctx context.Context) error {
	tick := time.NewTicker(controlEvery)
	defer tick.Stop()
	budget := math.Inf(1)
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			budget = o.adapt(budget, o.interval(), now.Sub(last).Seconds())
			last = now
			o.set(budget)
		}
	}
}

// adapt halves the budget while sipward or a PBX is behind, and lets it grow again.
func (o *overload) adapt(budget float64, d totals, seconds float64) float64 {
	rate := float64(d.strangers) / max(seconds, 1e-3)
	weight := 1 - math.Exp(-seconds/smooth)
	o.asked += (float64(d.asked)/max(seconds, 1e-3) - o.asked) * weight
	o.answered += (float64(d.answered)/max(seconds, 1e-3) - o.answered) * weight
	behind := o.asked >= minAsked && o.answered < answeredLow*o.asked
	for _, fill := range o.fill {
		if fill() > queueHigh {
			behind = true
			if o.full != nil {
				o.full()
			}
			break
		}
	}
	if o.calm++; behind || d.refused > 0 {
		o.calm = 0
	}
	if behind {
		return max(min(budget, rate)/2, leastStrangers)
	}
	budget *= relax
	if o.calm >= enough || budget > 4*rate+1e4 {
		return math.Inf(1) // nobody comes near it
	}
	return budget
}

// set puts a budget in force, the configured one if that is less.
func (o *overload) set(budget float64) {
	if static := o.static.Load(); static > 0 {
		budget = min(budget, float64(static))
	}
	if math.IsInf(budget, 1) {
		o.limit.Store(0)
		return
	}
	o.limit.Store(math.Float64bits(budget / float64(max(o.visited.Load(), 1))))
}

// totals are the sums over all lanes.
type totals struct{ strangers, refused, asked, answered uint64 }

// interval is what has happened since it was called last, and counts the lanes that strangers
// came to: a worker that none come to, as one that PBXes have for themselves, needs no share
// of the budget.
func (o *overload) interval() (d totals) {
	visited := int64(0)
	for _, l := range o.lanes {
		now := totals{l.strangers.Load(), l.refused.Load(), l.asked.Load(), l.answered.Load()}
		before := l.before
		l.before = now
		if now.strangers != before.strangers || now.refused != before.refused {
			visited++
		}
		d.strangers += now.strangers - before.strangers
		d.refused += now.refused - before.refused
		d.asked += now.asked - before.asked
		d.answered += now.answered - before.answered
	}
	o.visited.Store(visited)
	return d
}
