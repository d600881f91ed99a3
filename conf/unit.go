package conf

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var (
	durationForm = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$`)
	durationPart = regexp.MustCompile(`([0-9.]+)(ms|s|m|h|d)`)
)

// duration reads a time between two bounds; see parseDuration.
func duration(lowest, highest time.Duration) kind[time.Duration] {
	name := "duration " + showDuration(lowest) + " to " + showDuration(highest)
	return scalar(name, func(text string) (time.Duration, error) { return parseDuration(text, lowest, highest) })
}

// parseDuration reads what time.ParseDuration reads, with days and without units
// below a millisecond.
func parseDuration(text string, lowest, highest time.Duration) (time.Duration, error) {
	switch {
	case text == "0":
		text = "0s"
	case wholeNumberForm.MatchString(text):
		return 0, fmt.Errorf("%s has no unit; write %ss for seconds, or use ms, m, h or d", shorten(text), strings.TrimPrefix(shorten(text), "-"))
	case !durationForm.MatchString(text):
		return 0, fmt.Errorf("%s is not a duration; write a number and its unit without a space, such as 500ms, 60s, 5m, 1h or 30d", quote(text))
	}
	var sum float64
	for _, part := range durationPart.FindAllStringSubmatch(text, -1) {
		n, err := strconv.ParseFloat(part[1], 64)
		if err != nil {
			return 0, fmt.Errorf("%s is not a duration; write a number and its unit", quote(text))
		}
		sum += n * float64(durationUnit(part[2]))
	}
	if sum < float64(lowest) || sum > float64(highest) {
		return 0, fmt.Errorf("%s is out of range; write %s to %s", shorten(text), showDuration(lowest), showDuration(highest))
	}
	return time.Duration(sum), nil
}

// MaxBlockTime is the longest time that a ban may have an end.
const MaxBlockTime = 365 * 24 * time.Hour

// ParseBlockTime reads how long a ban shall last as the configuration would.
func ParseBlockTime(text string) (time.Duration, error) {
	return parseDuration(text, time.Second, MaxBlockTime)
}

// ShowDuration writes a duration as the configuration does: 1h, not 1h0m0s.
func ShowDuration(d time.Duration) string { return showDuration(d) }

func durationUnit(unit string) time.Duration {
	switch unit {
	case "ms":
		return time.Millisecond
	case "s":
		return time.Second
	case "m":
		return time.Minute
	case "h":
		return time.Hour
	default:
		return 24 * time.Hour
	}
}

// showDuration writes a duration as people do: 1h, not 1h0m0s.
func showDuration(d time.Duration) string {
	switch {
	case d == 0:
		return "0s"
	case d%(24*time.Hour) == 0:
		return strconv.Itoa(int(d/(24*time.Hour))) + "d"
	case d%time.Hour == 0:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	case d%time.Minute == 0:
		return strconv.Itoa(int(d/time.Minute)) + "m"
	}
	return d.String()
}

var sizeForm = regexp.MustCompile(`^([0-9]+)(|B|KiB|MiB|GiB)$`)

// sizeUnit returns the power of two that a unit stands for.
func sizeUnit(unit string) uint {
	switch unit {
	case "KiB":
		return 10
	case "MiB":
		return 20
	case "GiB":
		return 30
	default:
		return 0
	}
}

// size reads a number of bytes.
func size(lowest, highest int) kind[int] {
	name := "size " + showSize(lowest) + " to " + showSize(highest)
	return scalar(name, func(text string) (int, error) {
		m := sizeForm.FindStringSubmatch(text)
		if m == nil {
			return 0, fmt.Errorf("%s is not a size; write a number of bytes, or one with KiB, MiB or GiB and no space, such as 64KiB", quote(text))
		}
		n, err := strconv.ParseInt(m[1], 10, 32)
		bytes := n << sizeUnit(m[2])
		if err != nil || bytes < int64(lowest) || bytes > int64(highest) {
			return 0, fmt.Errorf("%s is out of range; write %s to %s", shorten(text), showSize(lowest), showSize(highest))
		}
		return int(bytes), nil
	})
}

func showSize(n int) string {
	for _, unit := range []string{"GiB", "MiB", "KiB"} {
		if n > 0 && n%(1<<sizeUnit(unit)) == 0 {
			return strconv.Itoa(n>>sizeUnit(unit)) + unit
		}
	}
	return strconv.Itoa(n)
}

var percentForm = regexp.MustCompile(`^(0|[1-9][0-9]?|100)%$`)

// percent reads a share in whole hundredths.
func percent() kind[Percent] {
	const name = "share 0% to 100%"
	return scalar(name, func(text string) (Percent, error) {
		m := percentForm.FindStringSubmatch(text)
		if m == nil {
			return 0, fmt.Errorf("%s is not a share; write a whole number from 0 to 100 and a percent sign, such as 10%%", quote(text))
		}
		n, err := strconv.Atoi(m[1])
		return Percent(n), err
	})
}
