package conf

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Report is about the journal that reports are made of.
type Report struct {
	// Enabled keeps a journal.
	Enabled bool
	// Retention is how long what happened is remembered.
	Retention time.Duration
	// MaxBytes bounds the journal on disk; beyond it the oldest goes first.
	MaxBytes int
	// Schedule are the reports that are mailed.
	Schedule []ReportSchedule
}

// The words of ReportSchedule.Every.
const (
	ReportDaily  = "daily"
	ReportWeekly = "weekly"
)

// ReportSchedule is a report that is mailed again and again.
type ReportSchedule struct {
	Every string
	At    TimeOfDay
	Day   Weekday // of a weekly one
	// Channel is the name of a channel of type smtp.
	Channel string
	// By is as in a query; whether there are such dimensions is not checked here.
	By []string
	// Top is how many groups there are. Zero: as many as in a query that does not say.
	Top int
	// Last is how long before its time it begins. Zero: where the one before ended.
	Last time.Duration
}

func (s ReportSchedule) String() string {
	when := s.Every
	if s.Every == ReportWeekly {
		when += " " + time.Weekday(s.Day).String()
	}
	return fmt.Sprintf("%s %s to %s by %v top %d last %s", when, s.At, s.Channel, s.By, s.Top, showDuration(s.Last))
}

// TimeOfDay is in minutes since midnight, as the clock on the wall shows them.
type TimeOfDay int

func (t TimeOfDay) String() string { return fmt.Sprintf("%02d:%02d", int(t)/60, int(t)%60) }

// Weekday is a time.Weekday.
type Weekday time.Weekday

func reportKeys() []key {
	return []key{
		bind("node", `""`, onRestart, word("name", nodeRule), func(c *Config) *string { return &c.Node }),
		bind("report.enabled", "true", onRestart, trueOrFalse(), func(c *Config) *bool { return &c.Report.Enabled }),
		bind("report.retention", "90d", onRestart, duration(time.Hour, 3660*24*time.Hour), func(c *Config) *time.Duration { return &c.Report.Retention }),
		bind("report.max_bytes", "1GiB", onRestart, size(1<<20, 1<<40), func(c *Config) *int { return &c.Report.MaxBytes }),
		bind("report.schedule", "[]", onReload, listOf("list of sections", reportSchedule()), func(c *Config) *[]ReportSchedule { return &c.Report.Schedule }),
	}
}

func reportSchedule() kind[ReportSchedule] {
	type s = ReportSchedule
	var days []choice[Weekday]
	for d := range 7 {
		days = append(days, choice[Weekday]{strings.ToLower(time.Weekday(d).String()), Weekday(d)})
	}
	return item("a schedule", s{At: 7 * 60, Day: Weekday(time.Monday)}, checkSchedule,
		in("every", "", words(ReportDaily, ReportWeekly), func(v *s) *string { return &v.Every }),
		in("at", "07:00", scalar("time of day", parseTimeOfDay), func(v *s) *TimeOfDay { return &v.At }),
		in("day", "monday", oneOf(nil, days...), func(v *s) *Weekday { return &v.Day }),
		in("channel", "", word("name of a channel", channelRule), func(v *s) *string { return &v.Channel }),
		in("by", "[]", listOf("list of dimensions", word("dimension", lineRule)), func(v *s) *[]string { return &v.By }),
		in("top", "0", wholeNumber(0, 10_000), func(v *s) *int { return &v.Top }),
		in("last", "0", duration(0, 366*24*time.Hour), func(v *s) *time.Duration { return &v.Last }),
	)
}

func parseTimeOfDay(text string) (TimeOfDay, error) {
	t, err := time.Parse("15:04", text)
	if err != nil || len(text) != len("15:04") {
		return 0, fmt.Errorf(`%s is not a time of day; write hours and minutes, such as "07:00"`, quote(text))
	}
	return TimeOfDay(t.Hour()*60 + t.Minute()), nil
}

func checkSchedule(d *decoder, key string, n *node, given []string, s *ReportSchedule) {
	for _, name := range []string{"every", "channel"} {
		if !slices.Contains(given, name) {
			d.fail(n.at, join(key, name), "this is missing; add it")
		}
	}
	if s.Every == ReportDaily && slices.Contains(given, "day") {
		d.fail(n.fieldAt("day"), join(key, "day"), "a daily report has no day; remove it, or write every: weekly")
	}
	if s.Last > 0 && s.Last < time.Hour {
		d.fail(n.fieldAt("last"), join(key, "last"), "%s is too short; write 1h or more, or 0 for all since the last report", showDuration(s.Last))
	}
}

// checkSchedules holds the schedules to the channels and the journal.
func (d *decoder) checkSchedules(c *Config) {
	if !d.clean("report.schedule", "report.enabled", "notify.channels") {
		return
	}
	var names []string
	for _, ch := range c.Notify.Channels {
		if ch.Type == NotifySMTP {
			names = append(names, ch.Name)
		}
	}
	for i, s := range c.Report.Schedule {
		at, key := d.values["report.schedule"].itemAt(i), itemKey("report.schedule", i)
		switch {
		case !c.Report.Enabled:
			d.fail(at, key, "there is no journal to report from; set report.enabled to true, or remove this")
		case !slices.Contains(names, s.Channel):
			d.fail(at, join(key, "channel"), "there is no channel %s of type smtp; %s", quote(s.Channel), suggestChannel(s.Channel, names))
		}
	}
}

var nodeForm = regexp.MustCompile(`^[A-Za-z0-9._-]{0,64}$`)

// nodeRule allows what hosts are called.
func nodeRule(text string) error {
	if !nodeForm.MatchString(text) {
		return fmt.Errorf("%s is not the name of a node; write up to 64 letters, digits, dots and hyphens, or nothing for the host's name", quote(text))
	}
	return nil
}
