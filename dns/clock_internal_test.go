package dns

import (
	"testing"
	"time"
)

// TestClockSetBack: what was remembered for a second is not given for a day, because the
// clock was set back.
func TestClockSetBack(t *testing.T) {
	s := &Server{}
	s.live.Store(&live{Settings: Settings{ServeStale: 48 * time.Hour}})
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC).UnixNano()
	day := int64(24 * time.Hour)
	e := &entry{born: now, expires: now + int64(time.Second), full: packed{wire: make([]byte, headerSize)}}
	if !s.fresh(e, now) || s.fresh(e, now-day) || s.fresh(e, now+day) {
		t.Errorf("fresh: at once %t, a day back %t, a day later %t, want true, false, false", s.fresh(e, now), s.fresh(e, now-day), s.fresh(e, now+day))
	}
	e.born -= 2 * day
	e.expires -= day + int64(time.Second)
	e.failed.Store(now)
	if !s.fresh(e, now) || s.fresh(e, now-day) {
		t.Errorf("out of date, and just failed to be renewed: at once %t, a day back %t, want true, false", s.fresh(e, now), s.fresh(e, now-day))
	}
}
