package ban

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"sipward/policy/dbfile"
)

const (
	// gather is how long the writer waits for more after the first thing to
	// write: a kill -9 loses at most this and the time that a write takes.
	gather = 20 * time.Millisecond
	// batchRows bounds a transaction, and so what a failure repeats.
	batchRows = 2000
	// maxPending bounds what waits while the database cannot be written. Then
	// nothing in particular waits, and the database is made anew from memory.
	maxPending = 1 << 19
	// laterRows rows that are in no hurry are written every laterEvery at most: when all
	// phones of a town register anew, packets need the processor more.
	laterRows  = 100
	laterEvery = 250 * time.Millisecond

	purgeEvery = 10 * time.Minute
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// put hands over a row, in place of the one that waits under the same key.
func (s *Store) put(key any, r row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending[key] = r; len(s.pending) > s.maxPending {
		s.rewrite = true
		clear(s.pending)
	}
	s.kick()
}

// putLater hands over a row that is in no hurry. The caller bounds the number of keys.
func (s *Store) putLater(key any, r row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.later[key] = r
}

func (s *Store) hasLater() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.later) > 0
}

func (s *Store) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending)
}

func (s *Store) waits(key any) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.pending[key]
	return ok
}

func (s *Store) kick() {
	select {
	case s.kicked <- struct{}{}:
	default:
	}
}

// sync returns when everything that was put before is on disk.
func (s *Store) sync() error {
	if err := s.flush(time.Now()); err != nil {
		return fmt.Errorf("%w: %w", ErrNotStored, err)
	}
	return nil
}

// run writes until ctx is done, and then once more.
func (s *Store) run(ctx context.Context) {
	purge := time.NewTicker(purgeEvery)
	defer purge.Stop()
	later := time.NewTicker(laterEvery)
	defer later.Stop()
	retry := firstRetry
	for {
		select {
		case <-ctx.Done():
			s.mu.Lock()
			s.stopping = true
			s.mu.Unlock()
			s.flush(time.Now()) //nolint:errcheck // counted and logged there
			return
		case <-s.kicked:
		case <-later.C:
			if !s.hasLater() {
				continue
			}
		case <-purge.C:
			s.put(purgeKey{}, purgeRow(time.Now().UnixNano()))
		}
		sleep(ctx, gather)
		for err := s.flush(time.Now()); err != nil && ctx.Err() == nil; err = s.flush(time.Now()) {
			sleep(ctx, retry)
			retry = min(2*retry, lastRetry)
		}
		retry = firstRetry
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// flush writes what waits. What cannot be written goes on waiting.
func (s *Store) flush(now time.Time) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	err := s.write(now)
	if dbfile.IsDamaged(err) {
		if err = s.setAside(err); err == nil {
			err = s.write(now)
		}
	}
	if err != nil {
		s.failed(err)
		return err
	}
	s.worked()
	return nil
}

func (s *Store) write(now time.Time) error {
	if err := s.open(now.UnixNano()); err != nil {
		return err
	}
	db := s.db.Load()
	if s.takeRewrite() {
		if err := s.writeAll(db); err != nil {
			s.mu.Lock()
			s.rewrite = true
			s.mu.Unlock()
			return err
		}
	}
	// What comes while this is written waits for the next time, so that a
	// command returns however fast bans are made.
	rows := s.take(now)
	for len(rows) > 0 {
		if err := writeSome(db, rows); err != nil {
			s.giveBack(rows)
			return err
		}
	}
	return nil
}

func (s *Store) takeRewrite() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.rewrite
	if s.rewrite = false; was {
		clear(s.later) // memory has it
	}
	return was
}

// take takes the rows that wait, and some of those that are in no hurry.
func (s *Store) take(now time.Time) map[any]row {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := s.pending
	s.pending = make(map[any]row)
	n := laterRows
	switch {
	case s.stopping:
		n = len(s.later)
	case now.Sub(s.laterAt) < laterEvery:
		return rows
	}
	s.laterAt = now
	for k, r := range s.later {
		if n--; n < 0 {
			break
		}
		rows[k] = r
		delete(s.later, k)
	}
	return rows
}

// giveBack lets rows wait again, but where something newer has come meanwhile.
func (s *Store) giveBack(rows map[any]row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, r := range rows {
		_, newer := s.pending[k]
		if _, newest := s.later[k]; !newer && !newest {
			s.pending[k] = r
		}
	}
}

// writeSome writes a batch of rows, and takes them out of rows when they are on
// disk.
func writeSome(db *sql.DB, rows map[any]row) error {
	written := make([]any, 0, min(len(rows), batchRows))
	err := dbfile.Transact(db, func(b *dbfile.Batch) error {
		for k, r := range rows {
			if len(written) == batchRows {
				break
			}
			if err := r.write(b); err != nil {
				return err
			}
			written = append(written, k)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, k := range written {
		delete(rows, k)
	}
	return nil
}

// writeAll makes the database anew, in one transaction so that a crash in
// between loses nothing.
func (s *Store) writeAll(db *sql.DB) error {
	return dbfile.Transact(db, func(b *dbfile.Batch) error {
		for _, table := range []string{"bans", "lists", "places", "quarantines"} { // not evidence, of which memory may hold less
			if err := b.Exec("DELETE FROM " + table); err != nil {
				return err
			}
		}
		for _, h := range s.owners {
			var err error
			h.all(func(r row) {
				if err == nil {
					err = r.write(b)
				}
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// failed notes a failure, and says so now and then.
func (s *Store) failed(err error) {
	s.mu.Lock()
	say := s.health.Failed(err, time.Now())
	errs, waiting := s.health.Errors, len(s.pending)
	s.mu.Unlock()
	if say {
		s.log.Error("cannot use the ban database; bans go on in memory and will be written later",
			"path", s.path, "error", err, "errors", errs, "waiting", waiting)
	}
}

func (s *Store) worked() {
	s.mu.Lock()
	was := s.health.Worked()
	s.mu.Unlock()
	if was {
		s.log.Info("the ban database works again", "path", s.path)
	}
}

type purgeKey struct{}

// purgeRow drops what was no longer needed at that time.
type purgeRow int64

func (now purgeRow) write(b *dbfile.Batch) error {
	if err := b.Exec(`DELETE FROM bans WHERE forget <= ?`, int64(now)); err != nil {
		return err
	}
	return b.Exec(`DELETE FROM evidence WHERE prefix NOT IN (SELECT prefix FROM bans WHERE until = 0 OR until > ?)`, int64(now))
}
