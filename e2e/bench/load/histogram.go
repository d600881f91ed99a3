//go:build linux

package load

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets that are at most 1/16 wide: fixed memory, no sorting.
type histogram struct {
	count [64 * 16]uint32
	total uint64
	max   time.Duration
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.count[bucket(uint64(d))]++
	h.total++
	h.max = max(h.max, d)
}

// quantile is the upper edge of the bucket that holds the q-th part of all.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.total))
	var seen uint64
	for i, n := range h.count {
		seen += uint64(n)
		if n > 0 && seen > rank {
			return min(time.Duration(edge(i+1)), h.max)
		}
	}
	return h.max
}

// bucket numbers: the position of the highest bit, then the next four.
func bucket(v uint64) int {
	if v < 16 {
		return int(v)
	}
	e := bits.Len64(v) - 5
	return (e+1)<<4 | int(v>>e&15)
}

// edge is the lowest value of a bucket.
func edge(i int) uint64 {
	if i < 16 {
		return uint64(i)
	}
	return uint64(16|i&15) << (i>>4 - 1)
}
