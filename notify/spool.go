package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// spool holds the events that wait to be sent by one channel, oldest first, each in a
// file of its own. What cannot be written is kept in memory alone, and said.
//
// Who uses it holds the lock of its queue.
type spool struct {
	dir  string
	size int
	keep time.Duration

	waiting []entry
	busy    int // of them, from the oldest, that are being sent: they are not lost to make room
	last    int64
	err     error // why the latest one is not on disk; nil: it is

	lost uint64 // since a delivery said so
	full uint64 // of them in all: made room
	old  uint64 // and: waited too long
}

type entry struct {
	name  string    // of its file
	added time.Time // with a monotonic reading
	event Event
}

const suffix = ".json"

// open reads what the last one has left, beside what has been put already. What cannot
// be understood is put aside, with a name of its own.
func (s *spool) open(now time.Time) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	removeUnfinished(s.dir)
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var bad []error
	for _, f := range files {
		path := filepath.Join(s.dir, f.Name())
		if !strings.HasSuffix(f.Name(), suffix) {
			continue
		}
		e := entry{name: f.Name()}
		if slices.ContainsFunc(s.waiting, func(o entry) bool { return o.name == e.name }) {
			continue
		}
		nanos, err := readEntry(path, &e)
		if err != nil {
			bad = append(bad, fmt.Errorf("%s, put aside: %w", path, errors.Join(err, os.Rename(path, path+".bad"))))
			continue
		}
		e.added = ofNow(time.Unix(0, nanos), now)
		s.waiting = append(s.waiting, e)
		s.last = max(s.last, nanos)
	}
	slices.SortFunc(s.waiting, func(a, b entry) int { return strings.Compare(a.name, b.name) }) // which is that of time
	s.shrink()
	return errors.Join(bad...)
}

// readEntry reads an event, and from the name of its file when it was added.
func readEntry(path string, e *entry) (nanos int64, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscanf(e.name, "%020d-", &nanos); err != nil {
		return 0, err
	}
	return nanos, json.Unmarshal(text, &e.event)
}

// put adds an event, unless it is there already.
func (s *spool) put(ev Event, now time.Time) {
	if slices.ContainsFunc(s.waiting, func(e entry) bool { return e.event.ID == ev.ID }) {
		return
	}
	s.last = max(s.last+1, now.UnixNano()) // names never repeat and never go back
	e := entry{name: fmt.Sprintf("%020d-%s%s", s.last, ev.ID, suffix), added: now, event: ev}
	text, err := json.Marshal(ev)
	if err == nil {
		err = writeFile(filepath.Join(s.dir, e.name), text)
	}
	s.err = err
	s.waiting = append(s.waiting, e)
	s.shrink()
}

// shrink makes room when there are too many: the oldest goes that is not being sent.
func (s *spool) shrink() {
	for len(s.waiting) > s.size && s.busy < len(s.waiting) {
		s.drop(s.busy)
		s.lost++
		s.full++
	}
}

// take returns up to n events to send; they are busy until release or done.
func (s *spool) take(n int, now time.Time) []Event {
	for len(s.waiting) > 0 && now.Sub(s.waiting[0].added) > s.keep {
		s.drop(0)
		s.lost++
		s.old++
	}
	s.busy = min(n, len(s.waiting))
	events := make([]Event, s.busy)
	for i := range events {
		events[i] = s.waiting[i].event
	}
	return events
}

// release says that those which were taken have not been sent.
func (s *spool) release() { s.busy = 0 }

// done forgets those that were taken.
func (s *spool) done() {
	for range s.busy {
		s.drop(0)
	}
	s.busy = 0
}

func (s *spool) drop(i int) {
	err := os.Remove(filepath.Join(s.dir, s.waiting[i].name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.err = err
	}
	s.waiting = slices.Delete(s.waiting, i, i+1)
}
