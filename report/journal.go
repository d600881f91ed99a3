package report

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sipward/policy"
	"sipward/policy/ban"
	"sipward/policy/dbfile"
	"sipward/policy/event"
)

// Config is what a Journal is made of.
type Config struct {
	Path      string        // the database; its folder must exist
	Node      string        // the name of this sipward in the journal
	IPv6Bits  int           // length of the IPv6 prefix that is one source; 0: 64
	Retention time.Duration // how long everything is kept; 0: for ever
	MaxBytes  int64         // of the database; beyond it the oldest goes first; 0: no limit
	Queue     int           // events that may wait to be counted; 0: 16384
	Busy      time.Duration // how long to wait for another process that has locked it; 0: 2 s
	Log       *slog.Logger  // nil: silent
}

// Journal remembers. Its methods may be called from any goroutine.
type Journal struct {
	cfg  Config
	file dbfile.File
	db   atomic.Pointer[sql.DB] // nil: not open at the moment

	// writing is held by the one who writes, opens or replaces the database, and is
	// taken before mu.
	writing sync.Mutex
	closed  bool

	asking chan struct{} // held by the one who reads for a report

	mu      sync.Mutex
	run     int64               // tells what is counted now from what others, or we before the clock was set back, have counted in the same minute
	open    map[int64]*minute   // what is being counted
	through int64               // minutes up to this one are not counted into any more
	waiting map[minuteID]packed // minutes that are not on disk in this state
	bytes   int                 // of waiting
	acts    []Act               // that are not on disk
	health  Health
	kicked  chan struct{}
}

// minuteID tells minutes apart.
type minuteID struct{ minute, run int64 }

// packed is a minute ready to be written.
type packed struct {
	data         []byte
	events, lost uint64
}

// Health is what people ask about the journal.
type Health struct {
	Path string
	dbfile.Trouble
	Waiting    int    // acts and minutes that wait to be written
	Events     uint64 // messages counted since the start
	LostEvents uint64 // messages that were too many for the queue, or waited too long for the disk
	Folded     uint64 // messages counted without their source, being of too many in one minute
	LostActs   uint64
	Bytes      int64  // of the database in use
	SetAside   string // where a damaged database was moved to; empty: it never was
}

// ErrNotStored: an act is remembered, but not on disk yet.
var ErrNotStored = errors.New("report: not stored")

const applicationID = 0x73697072 // "sipr"

var schema = []string{
	`CREATE TABLE acts (
		id      INTEGER PRIMARY KEY,
		time    INTEGER NOT NULL, -- Unix time in nanoseconds
		node    TEXT NOT NULL,
		action  TEXT NOT NULL,
		source  TEXT NOT NULL,    -- a prefix, or empty
		account TEXT NOT NULL,
		guard   TEXT NOT NULL,
		reason  TEXT NOT NULL,
		until   INTEGER NOT NULL, -- Unix time in nanoseconds; 0: none
		by      TEXT NOT NULL,
		text    TEXT NOT NULL,
		failed  TEXT NOT NULL
	)`,
	`CREATE INDEX acts_time ON acts (time)`,
	`CREATE TABLE minutes (
		minute INTEGER NOT NULL,  -- Unix time in minutes
		run    INTEGER NOT NULL,  -- which process counted
		node   TEXT NOT NULL,
		events INTEGER NOT NULL,
		lost   INTEGER NOT NULL,  -- events that were not counted
		data   BLOB NOT NULL,     -- see segment.go
		PRIMARY KEY (minute, run)
	)`,
}

var upgrades = []string{
	`CREATE TABLE schedules (
		name TEXT PRIMARY KEY,
		done INTEGER NOT NULL -- Unix time in seconds up to which its reports were mailed
	)`,
	// Unix time in seconds of its last mail; 0: none.
	`ALTER TABLE schedules ADD COLUMN mailed INTEGER NOT NULL DEFAULT 0`,
}

// Open opens the journal, and makes it if need be. A damaged one is set aside. One that
// cannot be used now, because another process has locked it or the disk is full, is
// opened later, by Run. The caller must Close.
func Open(cfg Config) (*Journal, error) {
	if cfg.Queue <= 0 {
		cfg.Queue = 1 << 14
	}
	if cfg.IPv6Bits <= 0 {
		cfg.IPv6Bits = ban.DefaultIPv6Bits
	}
	if cfg.Busy <= 0 {
		cfg.Busy = 2 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	j := &Journal{
		cfg: cfg, run: time.Now().UnixNano(),
		file: dbfile.File{Path: path, Busy: cfg.Busy, ApplicationID: applicationID, Schema: schema, Upgrades: upgrades,
			Conns: 3, CacheKiB: 8192}, // the writer, and a reader
		asking: make(chan struct{}, 1), open: make(map[int64]*minute), waiting: make(map[minuteID]packed),
		health: Health{Path: path}, kicked: make(chan struct{}, 1),
	}
	j.writing.Lock()
	defer j.writing.Unlock()
	if err := j.tryOpen(); dbfile.IsPassing(err) {
		j.failed(err)
	} else if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	return j, nil
}

// tryOpen opens the database if it is not open. writing is held.
func (j *Journal) tryOpen() error {
	if j.closed {
		return errors.New("the journal is closed")
	}
	if j.db.Load() != nil {
		return nil
	}
	db, err := j.file.Open()
	if dbfile.IsDamaged(err) {
		if err := j.setAside(err); err != nil {
			return err
		}
		db, err = j.file.Open()
	}
	if err != nil {
		return err
	}
	j.db.Store(db)
	return nil
}

// setAside moves a damaged database out of the way. writing is held.
func (j *Journal) setAside(why error) error {
	if db := j.db.Swap(nil); db != nil {
		_ = db.Close() // of a damaged database nothing better can be expected
	}
	aside, err := j.file.SetAside()
	if err != nil {
		return err
	}
	j.cfg.Log.Error("the journal is damaged; it was set aside, and a new one has begun", "path", j.file.Path, "aside", aside, "error", why)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.health.SetAside = aside
	j.health.Errors++
	return nil
}

// Close closes the database. What waits to be written has been by the end of Run.
func (j *Journal) Close() error {
	j.writing.Lock()
	defer j.writing.Unlock()
	j.closed = true
	if db := j.db.Swap(nil); db != nil {
		return db.Close()
	}
	return nil
}

// Health returns the state of the journal.
func (j *Journal) Health() Health {
	j.mu.Lock()
	defer j.mu.Unlock()
	h := j.health
	h.Waiting = len(j.acts) + len(j.waiting)
	for _, m := range j.open {
		h.Events += m.events
		h.Folded += m.folded
	}
	return h
}

// Run counts events and remembers bans until ctx ends, then writes what waits.
func (j *Journal) Run(ctx context.Context, events *event.Bus, bans *ban.Table) error {
	sub := events.Subscribe(j.cfg.Queue)
	defer sub.Close()
	group, work := errgroup.WithContext(ctx)
	group.Go(func() error { return j.count(work, sub) })
	group.Go(func() error { return j.follow(work, bans) })
	group.Go(func() error { return j.write(work) })
	err := group.Wait()
	j.flush(time.Now(), true) //nolint:errcheck // counted and logged there
	return err
}

// countEvery is how often events are taken from the queue. Nobody waits at it in between,
// so that the packet path need not wake anybody.
const countEvery = 20 * time.Millisecond

// count counts events.
func (j *Journal) count(ctx context.Context, sub *event.Subscription) error {
	tick := time.NewTicker(countEvery)
	defer tick.Stop()
	var lost uint64
	for {
		done := false
		select {
		case <-ctx.Done():
			done = true
		case <-tick.C:
		}
		for n := len(sub.C()); n > 0; n -= takeAtOnce {
			j.take(sub, min(n, takeAtOnce))
		}
		if n := sub.Lost(); n > lost {
			j.lose(n-lost, time.Now())
			lost = n
		}
		if done {
			return nil
		}
	}
}

// takeAtOnce is how many events are counted before others may have the lock.
const takeAtOnce = 256

// take counts n events, which wait.
func (j *Journal) take(sub *event.Subscription, n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for range n {
		ev := <-sub.C()
		m, second := j.minute(ev.Time)
		m.add(&ev, second, j.cfg.IPv6Bits)
	}
}

// lateMinutes is how late something may be that is counted into the next minute that can
// still be counted into. What is later comes from a clock that was set back.
const lateMinutes = 10

// minute returns the minute that a time is counted into, and its second there. mu is held.
func (j *Journal) minute(ns int64) (*minute, uint8) {
	n, second := minuteOf(ns)
	switch late := j.through - n; {
	case late >= lateMinutes:
		j.nextRun()
	case late >= 0:
		n, second = j.through+1, 0
	}
	m := j.open[n]
	if m == nil {
		m = newMinute()
		j.open[n] = m
	}
	return m, second
}

// nextRun ends all minutes, so that the same ones can be counted once more. mu is held.
func (j *Journal) nextRun() {
	for n, m := range j.open {
		j.pack(n, m)
		j.finish(n, m)
	}
	j.through, j.run = 0, max(time.Now().UnixNano(), j.run+1)
}

// lose notes that events did not fit into the queue.
func (j *Journal) lose(n uint64, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.health.LostEvents += n
	m, _ := j.minute(now.UnixNano())
	m.lost += n
	m.dirty = true
}

// banQueue is how many changes of bans may wait.
const banQueue = 1 << 14

// follow remembers what becomes of bans. A ban that was made while nobody looked, shortly
// before a crash or because of too many at once, is remembered late; its end may be missed.
func (j *Journal) follow(ctx context.Context, bans *ban.Table) error {
	missed := func(records []ban.Record) error {
		var acts []Act
		for _, r := range records {
			acts = append(acts, actOfChange(&ban.Change{Kind: ban.Added, Record: r}, time.Time{}))
		}
		j.catchUp(acts)
		return nil
	}
	return bans.Follow(ctx, banQueue, missed, func(c ban.Change) error {
		j.add(actOfChange(&c, time.Now()))
		return nil
	})
}

// Notice remembers a notice. It does not wait for the disk.
func (j *Journal) Notice(n *policy.Notice) {
	if a, ok := actOfNotice(n); ok {
		j.add(a)
	}
}

// maxActs is how many acts may wait for a disk that does not work.
const maxActs = 50_000

// add remembers an act; it is on disk soon.
func (j *Journal) add(a Act) {
	a.Node = j.cfg.Node
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.acts) >= maxActs {
		j.health.LostActs++
		return
	}
	j.acts = append(j.acts, a)
	select {
	case j.kicked <- struct{}{}:
	default:
	}
}

// Record remembers an act and returns when it is on disk. Otherwise the error wraps
// ErrNotStored; the act is written when that is possible again.
func (j *Journal) Record(a Act) error {
	j.add(a)
	if err := j.flush(time.Now(), false); err != nil {
		return fmt.Errorf("%w: %w", ErrNotStored, err)
	}
	return nil
}

// failed notes a failure, and says so now and then.
func (j *Journal) failed(err error) {
	j.mu.Lock()
	say := j.health.Failed(err, time.Now())
	errs := j.health.Errors
	j.mu.Unlock()
	if say {
		j.cfg.Log.Error("cannot use the journal; what happens is kept in memory for a while", "path", j.file.Path, "error", err, "errors", errs)
	}
}

func (j *Journal) worked() {
	j.mu.Lock()
	was := j.health.Worked()
	j.mu.Unlock()
	if was {
		j.cfg.Log.Info("the journal works again", "path", j.file.Path)
	}
}
