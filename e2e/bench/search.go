//go:build linux

package main

// search finds the highest rate that passes: from start up or down by factor until it is enclosed,
// then by bisection until the bracket is no wider than resolution (1.05: 5 %). 0: nothing
// down to a thirty-second of start passes.
func search(start, limit int, factor, resolution float64, pass func(rate int) (bool, error)) (int, error) {
	low, high := 0, 0
	for rate := start; low == 0 || high == 0; {
		ok, err := pass(rate)
		if err != nil {
			return 0, err
		}
		switch {
		case ok && rate == limit:
			return rate, nil
		case ok:
			low = rate
			rate = min(max(int(float64(rate)*factor), rate+1), limit)
		default:
			high = rate
			rate = int(float64(rate) / factor)
			if rate < max(start/32, 1) {
				return 0, nil
			}
		}
	}
	for float64(high) > float64(low)*resolution && high-low > 1 {
		mid := (low + high) / 2
		ok, err := pass(mid)
		if err != nil {
			return 0, err
		}
		if ok {
			low = mid
		} else {
			high = mid
		}
	}
	return low, nil
}
