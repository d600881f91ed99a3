package report_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // Berlin and Beirut put their clocks forward, the latter at midnight

	"pgregory.net/rapid"

	"sipward/report"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func TestScheduleNext(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	daily := func(hour, minute int) report.Schedule { return report.Schedule{At: hour*60 + minute} }
	monday := report.Schedule{Weekly: true, Day: time.Monday, At: 7 * 60}
	for _, c := range []struct {
		name       string
		s          report.Schedule
		after      string // local
		want       string // RFC 3339
		hoursSince time.Duration
	}{
		{"later today", daily(7, 0), "2026-01-05 06:59", "2026-01-05T07:00:00+01:00", 24},
		{"not now", daily(7, 0), "2026-01-05 07:00", "2026-01-06T07:00:00+01:00", 24},
		{"next year", daily(0, 0), "2026-12-31 00:01", "2027-01-01T00:00:00+01:00", 24},
		{"the clock was put forward", daily(7, 0), "2026-03-29 00:00", "2026-03-29T07:00:00+02:00", 23},
		{"the clock was put back", daily(7, 0), "2026-10-25 00:00", "2026-10-25T07:00:00+01:00", 25},
		{"this week", monday, "2026-01-04 23:00", "2026-01-05T07:00:00+01:00", 7 * 24},
		{"next week", monday, "2026-01-05 07:00", "2026-01-12T07:00:00+01:00", 7 * 24},
		{"a short week", monday, "2026-03-29 12:00", "2026-03-30T07:00:00+02:00", 7*24 - 1},
	} {
		after, err := time.ParseInLocation("2006-01-02 15:04", c.after, berlin)
		if err != nil {
			t.Fatal(err)
		}
		got := c.s.Next(after)
		if got.Format(time.RFC3339) != c.want {
			t.Errorf("%s: %s, want %s", c.name, got.Format(time.RFC3339), c.want)
		}
		if q := c.s.Query(got); !q.To.Equal(got) || q.To.Sub(q.From) != c.hoursSince*time.Hour {
			t.Errorf("%s: from %s to %s, want %d hours", c.name, q.From, q.To, c.hoursSince)
		}
	}
}

// Whatever the clock does, each date has one time and reports follow each other without a
// gap.
func TestScheduleEachDateOnce(t *testing.T) {
	zones := []*time.Location{zone(t, "Europe/Berlin"), zone(t, "Asia/Beirut"), zone(t, "Australia/Lord_Howe"), zone(t, "America/Havana"), time.UTC}
	rapid.Check(t, func(t *rapid.T) {
		s := report.Schedule{
			At: rapid.IntRange(0, 24*60-1).Draw(t, "at"), Weekly: rapid.Bool().Draw(t, "weekly"),
			Day: time.Weekday(rapid.IntRange(0, 6).Draw(t, "day")),
		}
		loc := rapid.SampledFrom(zones).Draw(t, "zone")
		at := time.Unix(rapid.Int64Range(1_700_000_000, 1_800_000_000).Draw(t, "now"), 0).In(loc)
		period := 24 * time.Hour
		if s.Weekly {
			period = 7 * 24 * time.Hour
		}
		at = s.Next(at)
		for range 400 {
			next := s.Next(at)
			if d := next.Sub(at) - period; d < -time.Hour || d > time.Hour {
				t.Fatalf("%s, then %s", at, next)
			}
			if q := s.Query(next); !q.From.Equal(at) || !q.To.Equal(next) {
				t.Fatalf("after %s: from %s to %s", at, q.From, q.To)
			}
			at = next
		}
	})
}

// posted remembers the subjects of mails.
type posted []string

func (p *posted) Mail(_ context.Context, _, subject, _, _ string, _ []byte) error {
	*p = append(*p, subject)
	return nil
}

// TestScheduleClockSetBack: what a clock that was wrong made of the dates keeps no report from
// being mailed at its time by the right one, and none is mailed twice because the clock was set
// back a little.
func TestScheduleClockSetBack(t *testing.T) {
	j := open(t, report.Config{Path: filepath.Join(t.TempDir(), "journal.db")})
	var mails posted
	s := report.NewScheduler(j, &mails, []report.Schedule{{At: 7 * 60, Channel: "ops"}})
	step := func(when string, want int) {
		t.Helper()
		now, err := time.ParseInLocation(time.DateTime, when, time.Local)
		if err != nil {
			t.Fatal(err)
		}
		if next := s.Step(t.Context(), now); next.Sub(now) > 25*time.Hour {
			t.Errorf("at %s: more is done at %s", when, next)
		}
		if len(mails) != want {
			t.Fatalf("at %s: %d mails, want %d: %q", when, len(mails), want, mails)
		}
	}
	step("2026-03-10 06:00:00", 0)
	step("2026-03-10 07:00:02", 1)
	step("2026-03-10 06:59:58", 1) // set back by some seconds
	step("2026-03-10 07:00:02", 1)
	step("2031-03-10 08:00:00", 2) // far ahead
	step("2026-03-10 08:00:00", 2) // and right again
	step("2026-03-11 06:59:00", 2)
	step("2026-03-11 07:00:02", 3)
	if want := " daily report of 2026-03-11 07:00"; !strings.HasSuffix(mails[2], want) {
		t.Errorf("%q, want one that ends with %q", mails[2], want)
	}
	// One that starts with a clock that was set back by some seconds does not mail it again.
	s = report.NewScheduler(j, &mails, []report.Schedule{{At: 7 * 60, Channel: "ops"}})
	step("2026-03-11 06:59:58", 3)
	step("2026-03-11 07:00:02", 3)
	step("2026-03-12 07:00:02", 4)
}
