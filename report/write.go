package report

import (
	"context"
	"database/sql"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"sipward/policy/dbfile"
)

const (
	// gather is how long the writer waits for more acts after the first one.
	gather = 20 * time.Millisecond
	// minutesEvery is how often what is being counted is written: a kill -9 loses at
	// most this.
	minutesEvery = 10 * time.Second
	// openMinutes is how long after its end a minute may still be counted into.
	openMinutes = 2
	// maxWaitingBytes bounds the minutes that wait for a disk that does not work.
	maxWaitingBytes = 32 << 20

	tidyEvery  = 10 * time.Minute
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// write writes what waits until ctx is done.
func (j *Journal) write(ctx context.Context) error {
	minutes := time.NewTicker(minutesEvery)
	defer minutes.Stop()
	tidy := time.NewTicker(tidyEvery)
	defer tidy.Stop()
	retry := firstRetry
	j.tidy(time.Now())
	for {
		all := false
		select {
		case <-ctx.Done():
			return nil
		case <-j.kicked:
			pause(ctx, gather)
		case <-minutes.C:
			all = true
		case now := <-tidy.C:
			j.tidy(now)
			continue
		}
		if err := j.flush(time.Now(), all); err != nil {
			pause(ctx, retry)
			retry = min(2*retry, lastRetry)
			j.kick()
			continue
		}
		retry = firstRetry
	}
}

func (j *Journal) kick() {
	select {
	case j.kicked <- struct{}{}:
	default:
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// flush writes acts, and if all is set what has been counted. What cannot be written
// goes on waiting.
func (j *Journal) flush(now time.Time, all bool) error {
	j.writing.Lock()
	defer j.writing.Unlock()
	if all {
		j.packMinutes(now)
	}
	err := j.writeWaiting()
	if dbfile.IsDamaged(err) {
		if err = j.setAside(err); err == nil {
			err = j.writeWaiting()
		}
	}
	if err != nil {
		j.failed(err)
		return err
	}
	j.worked()
	return nil
}

// packMinutes makes ready what has been counted since the last time.
func (j *Journal) packMinutes(now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	at, _ := minuteOf(now.UnixNano())
	for n, m := range j.open {
		j.pack(n, m)
		if n < at-openMinutes {
			j.through = max(j.through, n)
			j.finish(n, m)
		}
	}
	for j.bytes > maxWaitingBytes {
		oldest := minuteID{minute: math.MaxInt64}
		for id := range j.waiting {
			if id.minute < oldest.minute {
				oldest = id
			}
		}
		j.health.LostEvents += j.waiting[oldest].events
		j.bytes -= len(j.waiting[oldest].data)
		delete(j.waiting, oldest)
	}
}

// pack makes a minute ready to be written, if it has changed. mu is held.
func (j *Journal) pack(n int64, m *minute) {
	if !m.dirty {
		return
	}
	m.dirty = false
	id := minuteID{n, j.run}
	j.bytes -= len(j.waiting[id].data)
	j.waiting[id] = packed{m.pack(), m.events, m.lost}
	j.bytes += len(j.waiting[id].data)
}

// finish counts no more into a minute. mu is held.
func (j *Journal) finish(n int64, m *minute) {
	j.health.Events += m.events
	j.health.Folded += m.folded
	delete(j.open, n)
}

// writeWaiting writes what is ready. writing is held.
func (j *Journal) writeWaiting() error {
	if err := j.tryOpen(); err != nil {
		return err
	}
	j.mu.Lock()
	acts := slices.Clone(j.acts)
	minutes := maps.Clone(j.waiting)
	j.mu.Unlock()
	if len(acts)+len(minutes) == 0 {
		return nil
	}
	err := dbfile.Transact(j.db.Load(), func(b *dbfile.Batch) error {
		for i := range acts {
			if err := insertAct(b, &acts[i], ""); err != nil {
				return err
			}
		}
		for id, p := range minutes {
			if err := b.Exec(`INSERT OR REPLACE INTO minutes (minute, run, node, events, lost, data) VALUES (?, ?, ?, ?, ?, ?)`,
				id.minute, id.run, j.cfg.Node, int64(p.events), int64(p.lost), p.data); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.acts = j.acts[len(acts):] // others append meanwhile, and only we remove
	clear(j.waiting)
	j.bytes = 0
	return nil
}

// insertAct writes an act, under a condition if there is one.
func insertAct(b *dbfile.Batch, a *Act, where string, args ...any) error {
	source := ""
	if a.Source.IsValid() {
		source = a.Source.String()
	}
	until := int64(0)
	if !a.Until.IsZero() {
		until = a.Until.UnixNano()
	}
	return b.Exec(`INSERT INTO acts (time, node, action, source, account, guard, reason, until, by, text, failed)
		SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?`+where, append([]any{a.Time.UnixNano(), a.Node, string(a.Action),
		source, a.Account, a.Guard, a.Reason, until, a.By, a.Text, a.Failed}, args...)...)
}

// catchUp remembers the bans among acts that are not in the journal. Those of before
// its last act are: it was at work then.
func (j *Journal) catchUp(acts []Act) {
	j.flush(time.Now(), false) //nolint:errcheck // counted and logged there; then there is nothing to compare with
	j.writing.Lock()
	defer j.writing.Unlock()
	db := j.db.Load()
	if db == nil {
		return
	}
	var last sql.NullInt64
	if err := db.QueryRow(`SELECT max(time) FROM acts WHERE action = ?`, string(ActionBan)).Scan(&last); err != nil {
		j.failed(err)
		return
	}
	const slack = int64(time.Minute) // for what was on its way
	err := dbfile.Transact(db, func(b *dbfile.Batch) error {
		for i := range acts {
			a := &acts[i]
			if last.Valid && a.Time.UnixNano() < last.Int64-slack {
				continue
			}
			a.Node = j.cfg.Node
			err := insertAct(b, a, ` WHERE NOT EXISTS (SELECT 1 FROM acts WHERE time = ? AND source = ? AND action = ?)`,
				a.Time.UnixNano(), a.Source.String(), string(ActionBan))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		j.failed(err)
	}
}

// tidyRows is how many rows go at once, so that writers need not wait long.
const tidyRows = 60

// tidy removes what is too old or too much.
func (j *Journal) tidy(now time.Time) {
	for more := true; more; {
		j.writing.Lock()
		var err error
		if err = j.tryOpen(); err == nil {
			more, err = j.tidySome(j.db.Load(), now)
		}
		j.writing.Unlock()
		if err != nil {
			j.failed(err)
			return
		}
	}
}

// tidySome removes a part of what is too old or too much, and says whether there may be
// more.
func (j *Journal) tidySome(db *sql.DB, now time.Time) (more bool, err error) {
	var pages, free, size int64
	err = db.QueryRow(`SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size`).Scan(&pages, &free, &size)
	if err != nil {
		return false, err
	}
	used := (pages - free) * size
	j.mu.Lock()
	j.health.Bytes = used
	j.mu.Unlock()
	remove := func(query string, args ...any) {
		if err != nil || more {
			return
		}
		var res sql.Result
		if res, err = db.Exec(query, args...); err == nil {
			var n int64
			n, err = res.RowsAffected()
			more = n > 0
		}
	}
	if j.cfg.Retention > 0 {
		oldest := now.Add(-j.cfg.Retention)
		remove(`DELETE FROM minutes WHERE rowid IN (SELECT rowid FROM minutes WHERE minute < ? LIMIT ?)`, oldest.Unix()/60, tidyRows)
		remove(`DELETE FROM acts WHERE id IN (SELECT id FROM acts WHERE time < ? LIMIT ?)`, oldest.UnixNano(), tidyRows)
	}
	if j.cfg.MaxBytes > 0 && used > j.cfg.MaxBytes {
		remove(`DELETE FROM minutes WHERE rowid IN (SELECT rowid FROM minutes ORDER BY minute LIMIT ?)`, tidyRows)
		remove(`DELETE FROM acts WHERE id IN (SELECT id FROM acts WHERE action <> ? ORDER BY time LIMIT ?)`, string(ActionCommand), tidyRows)
	}
	return more, err
}

// parseSource reads a prefix of the journal; the zero Prefix: there is none.
func parseSource(text string) netip.Prefix {
	p, _ := netip.ParsePrefix(text)
	return p
}
