package main

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sipward/admin"
)

const (
	topBans    = 50   // that are remembered
	topSources = 2000 // that are counted at a time; when there are more, the others are counted together
	topSpan    = 30 * time.Second
)

// topView is what `sipward top` shows. It is not for use by several goroutines.
type topView struct {
	last     admin.Status
	at, prev time.Time // of last, and of the status before it
	before   admin.Status
	failed   error // why last is old

	// sources counts stopped messages in two spans of time, of which the older one is
	// complete.
	sources [2]map[netip.Addr]*topSource
	lost    [2]uint64   // not shown by sipward, or too many sources
	since   time.Time   // of the newer span
	bans    []admin.Ban // the latest last
}

type topSource struct {
	messages        uint64
	reason, account string // of the last one
}

func newTopView() *topView {
	return &topView{sources: [2]map[netip.Addr]*topSource{{}, {}}}
}

func (v *topView) status(s *admin.Status, err error, now time.Time) {
	if v.failed = err; err != nil {
		return
	}
	v.before, v.prev = v.last, v.at
	v.last, v.at = *s, now
	if v.prev.IsZero() || v.before.PID != s.PID { // the counters have begun anew
		v.before, v.prev = *s, now
	}
}

// turn begins another span when the newer one is over.
func (v *topView) turn(now time.Time) {
	if now.Sub(v.since) < topSpan {
		return
	}
	v.sources = [2]map[netip.Addr]*topSource{{}, v.sources[0]}
	v.lost = [2]uint64{0, v.lost[0]}
	v.since = now
}

func (v *topView) message(m *admin.Event, now time.Time) {
	v.turn(now)
	source, err := netip.ParseAddrPort(m.Source)
	if err != nil {
		return
	}
	s := v.sources[0][source.Addr()]
	if s == nil {
		if len(v.sources[0]) >= topSources {
			v.lost[0]++
			return
		}
		s = new(topSource)
		v.sources[0][source.Addr()] = s
	}
	s.messages++
	s.reason, s.account = m.Reason, m.Account
}

func (v *topView) lose(n uint64, now time.Time) {
	v.turn(now)
	v.lost[0] += n
}

func (v *topView) ban(c admin.BanChange) {
	v.bans = slices.DeleteFunc(v.bans, func(b admin.Ban) bool { return b.Prefix == c.Ban.Prefix })
	if c.Change == "removed" || c.Change == "expired" {
		return
	}
	v.bans = append(v.bans, c.Ban)
	v.bans = v.bans[max(len(v.bans)-topBans, 0):]
}

// Colours, by number of ANSI.
const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
)

// screen collects lines.
type screen struct {
	b      strings.Builder
	width  int // 0: any
	left   int // lines; negative: any number
	colour bool
}

// line adds a line, cut to the width. paint is the colour of all of it, or "".
func (s *screen) line(paint, format string, args ...any) {
	if s.left == 0 {
		return
	}
	s.left--
	text := fmt.Sprintf(format, args...)
	if s.width > 0 && utf8.RuneCountInString(text) > s.width {
		text = string([]rune(text)[:s.width])
	}
	if s.colour && paint != "" {
		text = "\x1b[" + paint + "m" + text + "\x1b[0m"
	}
	if s.width > 0 {
		text += clearLine + "\r" // raw mode does not return by itself
	}
	s.b.WriteString(text + "\n")
}

// render draws the view for a terminal; without a size it is for a file, and complete.
func (v *topView) render(width, height int, now time.Time, colour bool) string {
	v.turn(now)
	s := &screen{width: width, left: height - 1, colour: colour}
	rows := (height - 14) / 3 // of each of the three tables
	if height == 0 {
		s.left, rows = -1, topBans
	}
	rows = max(rows, 2)
	v.head(s, now)
	v.rates(s, rows)
	v.who(s, rows)
	v.latest(s, rows, now)
	return s.b.String()
}

func (v *topView) head(s *screen, now time.Time) {
	st := &v.last
	s.line(bold, "sipward %s  %s  up %s  q quits", safe(st.Version), st.Mode, now.Sub(st.Started).Round(time.Second))
	if v.failed != nil {
		s.line(red, "%s", safe(v.failed.Error()))
	}
	up := 0
	for _, p := range st.PBX {
		if p.Up {
			up++
		}
	}
	paint := ""
	if up < len(st.PBX) {
		paint = red
	}
	s.line(paint, "pbx %d of %d up   good sources %d   quarantines %d", up, len(st.PBX), st.Bans.GoodSources, st.Bans.Quarantines)
	s.line("", "bans %d for a time, %d for ever, %d by command   kernel %s", st.Bans.Dynamic, st.Bans.Permanent, st.Bans.Manual, st.Kernel.Backend)
	for _, f := range st.Breaker {
		if f.Open {
			s.line(red, "BREAKER automatic bans have stopped (%s)", f.Name)
		}
	}
}

// perSecond returns what has been counted between the last two looks, the largest first.
func (v *topView) perSecond(before, now map[string]uint64) (names []string, rate map[string]float64) {
	rate = map[string]float64{}
	span := v.at.Sub(v.prev).Seconds()
	for name, n := range now {
		if d := n - before[name]; d > 0 && span > 0 {
			rate[name] = float64(d) / span
		}
	}
	names = slices.SortedFunc(maps.Keys(rate), func(a, b string) int { return cmp.Or(cmp.Compare(rate[b], rate[a]), cmp.Compare(a, b)) })
	return names, rate
}

func (v *topView) rates(s *screen, rows int) {
	_, verdicts := v.perSecond(v.before.Verdicts, v.last.Verdicts)
	s.line("", "")
	s.line(bold, "messages a second   pass %.1f   drop %.1f   reject %.1f   hold %.1f",
		verdicts["pass"], verdicts["drop"], verdicts["reject"], verdicts["hold"])
	names, rate := v.perSecond(v.before.Reasons, v.last.Reasons)
	for _, name := range names[:min(len(names), rows)] {
		paint := yellow
		if slices.Contains([]string{"pass", "allow-list", "pbx", "trunk"}, name) {
			paint = green
		}
		s.line(paint, "  %10.1f  %s", rate[name], name)
	}
}

func (v *topView) who(s *screen, rows int) {
	all := map[netip.Addr]topSource{}
	for i := range v.sources { // the newer span first: its reason is the latest
		for a, src := range v.sources[i] {
			sum, known := all[a]
			if !known {
				sum = *src
			} else {
				sum.messages += src.messages
			}
			all[a] = sum
		}
	}
	sources := slices.SortedFunc(maps.Keys(all), func(a, b netip.Addr) int {
		return cmp.Or(cmp.Compare(all[b].messages, all[a].messages), a.Compare(b))
	})
	more := ""
	if lost := v.lost[0] + v.lost[1]; lost > 0 {
		more = fmt.Sprintf("   %d more not looked at", lost)
	}
	s.line("", "")
	s.line(bold, "stopped, by source: %s%s", count(len(all), "source", "sources"), more)
	for _, a := range sources[:min(len(sources), rows)] {
		src := all[a]
		s.line("", "  %10d  %-39s  %-18s  %s", src.messages, a, src.reason, safe(src.account))
	}
}

func (v *topView) latest(s *screen, rows int, now time.Time) {
	s.line("", "")
	s.line(bold, "latest bans")
	shown := 0
	for _, b := range slices.Backward(v.bans) {
		left := "for ever"
		if !b.Until.IsZero() {
			if !b.Until.After(now) {
				continue
			}
			left = b.Until.Sub(now).Round(time.Second).String()
		}
		if shown++; shown > rows {
			return
		}
		s.line("", "  %s  %-39s  %-18s  %s", clock(b.Start), show(b.Prefix), b.Reason, left)
	}
}
