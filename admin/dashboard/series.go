package dashboard

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// The resolutions that counters are kept in: the last hour in steps of five seconds, the
// last day in minutes.
const (
	fineStep   = 5 * time.Second
	fineSize   = 720
	coarseStep = time.Minute
	coarseSize = 1440
)

// Series holds how much of what came within each step of the last day: 2,160 small maps
// at most, whatever strangers send. It implements Run(ctx) error.
type Series struct {
	counters func() map[string]uint64

	mu           sync.Mutex
	fine, coarse ring
}

var _ http.Handler = (*Series)(nil)

// ring holds the latest steps.
type ring struct {
	step   time.Duration
	last   map[string]uint64 // the counters at the end of the newest step
	ended  time.Time         // that step
	steps  []step
	oldest int
}

type step struct {
	end    time.Time
	counts map[string]uint64 // what came within it
}

// NewSeries makes a Series of counters that only rise. counters is called every five
// seconds and returns a map of its own.
func NewSeries(counters func() map[string]uint64) *Series {
	return &Series{
		counters: counters,
		fine:     ring{step: fineStep, steps: make([]step, 0, fineSize)},
		coarse:   ring{step: coarseStep, steps: make([]step, 0, coarseSize)},
	}
}

// Run counts until ctx ends.
func (s *Series) Run(ctx context.Context) error {
	s.sample(time.Now())
	t := time.NewTicker(fineStep)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			s.sample(now)
		}
	}
}

func (s *Series) sample(now time.Time) {
	counts := s.counters()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fine.add(counts, now)
	s.coarse.add(counts, now)
}

// add ends a step, if it has lasted long enough. The first call only notes where the
// counters stand.
func (r *ring) add(counts map[string]uint64, now time.Time) {
	const early = time.Second // a ticker is not exact
	if r.last != nil && now.Sub(r.ended) < r.step-early {
		return
	}
	came := map[string]uint64{}
	for name, n := range counts {
		if n > r.last[name] {
			came[name] = n - r.last[name]
		}
	}
	first := r.last == nil
	r.last, r.ended = counts, now
	switch {
	case first:
	case len(r.steps) < cap(r.steps):
		r.steps = append(r.steps, step{now, came})
	default:
		r.steps[r.oldest] = step{now, came}
		r.oldest = (r.oldest + 1) % len(r.steps)
	}
}

// seriesBody is what the chart is drawn from.
type seriesBody struct {
	StepSeconds int         `json:"step_seconds"`
	Points      []seriesRow `json:"points"` // oldest first
}

type seriesRow struct {
	End    time.Time         `json:"end"`
	Counts map[string]uint64 `json:"counts"`
}

// body returns the steps that ended after since.
func (s *Series) body(coarse bool, since time.Time) seriesBody {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &s.fine
	if coarse {
		r = &s.coarse
	}
	out := seriesBody{StepSeconds: int(r.step.Seconds()), Points: []seriesRow{}}
	for i := range r.steps {
		p := r.steps[(r.oldest+i)%len(r.steps)]
		if p.end.After(since) {
			out.Points = append(out.Points, seriesRow{p.end, p.counts})
		}
	}
	return out
}

// spans are the times that the chart can show.
var spans = map[string]time.Duration{"15m": 15 * time.Minute, "1h": time.Hour, "24h": 24 * time.Hour}

// ServeHTTP implements http.Handler: what came within the span that the request names.
func (s *Series) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	span, ok := spans[r.URL.Query().Get("span")]
	if !ok {
		answer(w, http.StatusBadRequest, failure{"span is one of 15m, 1h and 24h"})
		return
	}
	answer(w, http.StatusOK, s.body(span > time.Hour, time.Now().Add(-span)))
}
