package report

import (
	"fmt"
	"strings"
	"time"
)

// Schedule says when a report is made, of what, and by which channel it is mailed.
type Schedule struct {
	Weekly bool         // instead of daily
	Day    time.Weekday // of a weekly one
	At     int          // minutes since midnight, as the clock on the wall shows them
	// Channel is a name that the Mailer knows.
	Channel string
	// Last is how long before its time the report begins. Zero: where the one before ended.
	Last time.Duration
	By   []string // as in a Query
	Top  int      // as in a Query
}

// period is its word for people.
func (s *Schedule) period() string {
	if s.Weekly {
		return "weekly"
	}
	return "daily"
}

// name tells schedules apart in the journal. One that is changed is another.
func (s *Schedule) name() string {
	return fmt.Sprintf("%s %s %02d:%02d %s %s %d %s", s.period(), s.Day, s.At/60, s.At%60, s.Channel, strings.Join(s.By, ","), s.Top, s.Last)
}

// on returns its time on the date that is days after that of t, if there is one. Each date
// has one: where the clock is put forward past it, an hour beside it; where it is put back
// and comes twice, one of them.
func (s *Schedule) on(t time.Time, days int) (time.Time, bool) {
	y, m, d := t.Date()
	date := time.Date(y, m, d+days, 0, 0, 0, 0, time.UTC)
	y, m, d = date.Date()
	return time.Date(y, m, d, s.At/60, s.At%60, 0, 0, t.Location()), !s.Weekly || date.Weekday() == s.Day
}

// next returns its first time after t.
func (s *Schedule) next(t time.Time) time.Time {
	for days := -1; ; days++ {
		if at, ok := s.on(t, days); ok && at.After(t) {
			return at
		}
	}
}

// last returns its last time before t.
func (s *Schedule) last(t time.Time) time.Time {
	for days := 1; ; days-- {
		if at, ok := s.on(t, days); ok && at.Before(t) {
			return at
		}
	}
}

// ScheduleStatus is how a schedule has done. Counts are since the start.
type ScheduleStatus struct {
	Every   string    `json:"every"` // daily or weekly
	At      string    `json:"at"`    // on the clock on the wall: 07:00, monday 07:00
	Channel string    `json:"channel"`
	By      []string  `json:"by"`
	Next    time.Time `json:"next"`          // when it is due next
	Last    time.Time `json:"last,omitzero"` // when a report was mailed last, kept over restarts; zero: none was
	Mailed  uint64    `json:"mailed"`
	// Failures counts attempts; GivenUp those reports that were not mailed within a day.
	Failures uint64 `json:"failures"`
	GivenUp  uint64 `json:"given_up"`
	// Error says why the latest attempt failed; it goes when a report is mailed.
	Error string    `json:"error,omitempty"`
	Due   time.Time `json:"due,omitzero"`   // of the report that is being tried
	Again time.Time `json:"again,omitzero"` // when that is tried again
}

// clock is when it is due, for people.
func (s *Schedule) clock() string {
	text := fmt.Sprintf("%02d:%02d", s.At/60, s.At%60)
	if s.Weekly {
		text = strings.ToLower(s.Day.String()) + " " + text
	}
	return text
}

// query asks for the report of one of its times.
func (s *Schedule) query(due time.Time) *Query {
	from := s.last(due)
	if s.Last > 0 {
		from = due.Add(-s.Last)
	}
	return &Query{From: from.Truncate(time.Minute), To: due, By: s.By, Top: s.Top}
}

// subject names the report of one of its times.
func (s *Schedule) subject(node string, due time.Time) string {
	return "[sipward " + node + "] " + s.period() + " report of " + due.Format("2006-01-02 15:04")
}
