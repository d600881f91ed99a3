package proxy

import (
	"testing"
	"time"
)

// TestLatency: one message in 64 is timed, and the histogram holds it.
func TestLatency(t *testing.T) {
	p := benchPath(t)
	task := p.handlers[0].(*worker).task
	for range 10 * sampleEvery {
		task.now = p.s.now() - int64(3*time.Millisecond)
		task.measure()
	}
	l := p.s.Stats().UDPLatency
	n := uint64(0)
	for i, c := range l.Counts {
		n += c
		if c > 0 && i < len(l.Bounds) && l.Bounds[i] < 5*time.Millisecond {
			t.Errorf("%d of 3 ms are below %v", c, l.Bounds[i])
		}
	}
	if n != 10 || l.Sum < 30*time.Millisecond || l.Sum > 10*time.Second {
		t.Errorf("%d timed, %v together", n, l.Sum)
	}
	h := new(histogram)
	for _, d := range []time.Duration{-time.Second, 0, latencyBounds[0], latencyBounds[0] + 1, time.Hour} {
		h.add(d)
	}
	if l := sumUp([]*histogram{h}); l.Counts[0] != 3 || l.Counts[1] != 1 || l.Counts[len(latencyBounds)] != 1 {
		t.Errorf("counts %v", l.Counts)
	}
}
