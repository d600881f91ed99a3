package ban

import (
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// StoreConfig says where a Store is.
type StoreConfig struct {
	Path string        // the database; its folder must exist
	Busy time.Duration // how long to wait for another process that has locked it; 0: 2 s
	Log  *slog.Logger  // nil: silent
}

// Store keeps bans, ladder steps, quarantines, list entries and known places in
// one SQLite database. What it is given waits in memory, the last state of each thing, and
// is written in batches; what a person commanded is written before the command
// returns. The database failing stops neither the table nor its readers: the
// Store goes on trying and Health says so.
type Store struct {
	path string
	busy time.Duration
	log  *slog.Logger
	db   atomic.Pointer[sql.DB] // nil: not open at the moment

	// writing is held by the one who writes, opens or replaces the database.
	// It is taken before an owner's lock, and that before mu.
	writing sync.Mutex
	owners  []*holding
	closed  bool

	mu         sync.Mutex
	pending    map[any]row
	maxPending int
	later      map[any]row // see putLater
	laterAt    time.Time   // when some of it was written last
	stopping   bool
	rewrite    bool // the database must be made anew from what is in memory
	health     Health
	said       time.Time // when a failure was logged last
	kicked     chan struct{}
	ready      chan struct{}
	lists      lists
}

// Health is what people ask about the store. The zero Health is that of a table
// without one.
type Health struct {
	Path     string // empty: there is no store, a restart forgets all
	Loaded   bool   // what it held is in force
	Error    string // why it cannot be read or written at present; empty: it can
	Since    int64  // since when, Unix nanoseconds
	Errors   uint64 // failures since the start
	Pending  int    // things that wait to be written
	BadRows  int    // rows that could not be understood and were passed over
	SetAside string // where a damaged database was moved to; empty: it never was
}

// OK says whether there is a store and it works.
func (h Health) OK() bool { return h.Path != "" && h.Loaded && h.Error == "" }

// row is something that can be written to the database, by itself.
type row interface {
	write(*batch) error
}

// owner holds in memory what the Store keeps on disk.
type owner interface {
	// load takes in what the database holds. What is in memory is newer.
	load(db *sql.DB, now int64) error
	// all calls put with every row that belongs into the database.
	all(put func(row))
}

type holding struct {
	owner
	loaded bool
}

const (
	applicationID = 0x73697077 // "sipw"
	version       = 2
)

var schema = []string{
	`CREATE TABLE bans (
		prefix  TEXT PRIMARY KEY,
		kind    INTEGER NOT NULL, -- 0 dynamic, 1 permanent, 2 manual
		proven  INTEGER NOT NULL,
		start   INTEGER NOT NULL, -- Unix time in nanoseconds, like all times here
		until   INTEGER NOT NULL, -- 0: for ever; -1: not banned, the row is for its steps
		reason  TEXT NOT NULL,
		guard   TEXT NOT NULL,
		origin  TEXT NOT NULL,
		comment TEXT NOT NULL,
		steps   TEXT NOT NULL,    -- starts of its proven dynamic blocks
		forget  INTEGER NOT NULL  -- when the row is no longer needed
	) WITHOUT ROWID`,
	`CREATE TABLE evidence (prefix TEXT PRIMARY KEY, data BLOB NOT NULL)`,
	`CREATE TABLE lists (
		list    TEXT NOT NULL,
		prefix  TEXT NOT NULL,
		comment TEXT NOT NULL,
		created INTEGER NOT NULL,
		PRIMARY KEY (list, prefix)
	) WITHOUT ROWID`,
	`CREATE TABLE places (
		account TEXT PRIMARY KEY,
		sources TEXT NOT NULL     -- address@last-registration, in Unix seconds
	) WITHOUT ROWID`,
	`PRAGMA application_id = ` + strconv.Itoa(applicationID),
}

// upgrades lead from each layout to the next: the first from 1 to 2. A new
// database gets them, too.
var upgrades = []string{
	`CREATE TABLE quarantines (
		source  TEXT NOT NULL,    -- a prefix
		account TEXT NOT NULL,
		since   INTEGER NOT NULL,
		until   INTEGER NOT NULL,
		PRIMARY KEY (source, account)
	) WITHOUT ROWID`,
}

// Open opens the database, and makes it if need be. A damaged one is set aside.
// One that cannot be read now, because another process has locked it or the disk
// is full, is opened later, by Run.
func Open(cfg StoreConfig) (*Store, error) {
	if cfg.Busy <= 0 {
		cfg.Busy = 2 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("open ban store: %w", err)
	}
	s := &Store{
		path: path, busy: cfg.Busy, log: cfg.Log,
		pending: make(map[any]row), maxPending: maxPending, later: make(map[any]row),
		kicked: make(chan struct{}, 1),
		ready:  make(chan struct{}),
		health: Health{Path: path},
	}
	s.lists.store = s
	if err := s.attach(&s.lists, time.Now().UnixNano()); err != nil {
		s.Close()
		return nil, fmt.Errorf("open ban store: %w", err)
	}
	return s, nil
}

// attach adds an owner and loads what is his. That the database is locked, or
// the disk full, is no error here: traffic has to go on, and Run tries again.
func (s *Store) attach(o owner, now int64) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.owners = append(s.owners, &holding{owner: o})
	err := s.open(now)
	if isPassing(err) {
		s.mu.Lock()
		s.health.Loaded = false
		s.mu.Unlock()
		s.failed(err)
		s.kick()
		return nil
	}
	return err
}

// Ready is closed when the list entries are loaded: before Open returns, unless
// the database could not be read at once.
func (s *Store) Ready() <-chan struct{} { return s.ready }

// open opens the database if it is not open and loads what is not loaded. One
// that is damaged is set aside. writing is held.
func (s *Store) open(now int64) error {
	if s.closed {
		return errClosed
	}
	err := s.tryOpen(now)
	if isDamaged(err) {
		if err := s.setAside(err); err != nil {
			return err
		}
		err = s.tryOpen(now)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health.Loaded = true
	select {
	case <-s.ready:
	default:
		close(s.ready)
	}
	return nil
}

func (s *Store) tryOpen(now int64) error {
	if s.db.Load() == nil {
		db, err := s.connect()
		if err != nil {
			return err
		}
		s.db.Store(db)
	}
	for _, h := range s.owners {
		if h.loaded {
			continue
		}
		if err := h.load(s.db.Load(), now); err != nil {
			return err
		}
		h.loaded = true
	}
	return nil
}

// connect opens the database and makes its tables if it has none.
func (s *Store) connect() (*sql.DB, error) {
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600) // SQLite would make it readable for all
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	q := url.Values{
		"_pragma": {
			"busy_timeout(" + strconv.FormatInt(s.busy.Milliseconds(), 10) + ")",
			"journal_mode(WAL)", "synchronous(FULL)", "journal_size_limit(16777216)", "cache_size(-8192)",
		},
		"_txlock": {"immediate"},
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: s.path, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(3) // the writer, and readers of evidence
	if err := s.migrate(db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func (s *Store) migrate(db *sql.DB) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a Commit there is nothing to roll back
	var app, have, tables, pages int
	if err := tx.QueryRow(`SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master), page_count
		FROM pragma_application_id, pragma_user_version, pragma_page_count`).Scan(&app, &have, &tables, &pages); err != nil {
		return err
	}
	switch {
	case app == applicationID && have == version:
		return nil
	case app == applicationID && have > version:
		return fmt.Errorf("%s was written by a newer sipward (layout %d, this one knows %d)", s.path, have, version)
	case app == applicationID && have > 0: // an older one
	case app != 0 || have != 0 || tables > 0:
		return fmt.Errorf("%s is a database of another program", s.path)
	case pages > 1:
		return errWiped
	}
	steps := upgrades[max(have-1, 0):]
	if have == 0 {
		steps = slices.Concat(schema, upgrades)
	}
	for _, stmt := range append(slices.Clone(steps), `PRAGMA user_version = `+strconv.Itoa(version)) {
		if _, err := tx.Exec(stmt); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// setAside moves a damaged database out of the way, so that a new one can be
// made from what is in memory. writing is held.
func (s *Store) setAside(why error) error {
	if db := s.db.Swap(nil); db != nil {
		_ = db.Close() // of a damaged database nothing better can be expected
	}
	base := s.path + ".corrupt-" + time.Now().UTC().Format("20060102T150405Z")
	aside := base
	for n := 2; ; n++ {
		if _, err := os.Lstat(aside); errors.Is(err, os.ErrNotExist) {
			break
		}
		aside = base + "-" + strconv.Itoa(n)
	}
	if err := os.Rename(s.path, aside); err != nil {
		return fmt.Errorf("set damaged database aside: %w", err)
	}
	_ = os.Rename(s.path+"-wal", aside+"-wal") // most often there is none
	_ = os.Remove(s.path + "-shm")
	s.log.Error("the ban database is damaged; it was set aside, and a new one holds what is in force now",
		"path", s.path, "aside", aside, "error", why)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health.SetAside = aside
	s.health.Errors++
	s.rewrite = true
	s.kick()
	return nil
}

// Close closes the database. What waits to be written has been by the end of
// the table's Run.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.closed = true
	if db := s.db.Swap(nil); db != nil {
		return db.Close()
	}
	return nil
}

// Health returns the state of the store.
func (s *Store) Health() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.health
	h.Pending = len(s.pending) + len(s.later)
	return h
}

// Health returns the state of the table's store.
func (t *Table) Health() Health {
	if t.store == nil {
		return Health{}
	}
	return t.store.Health()
}

func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff // without the extended part
	}
	return 0
}

var errClosed = errors.New("the store is closed")

// isPassing says whether the same may work later without anyone's doing
// anything about the file.
func isPassing(err error) bool {
	switch code(err) {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM:
		return true
	}
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EIO)
}

// errWiped is a database that has pages but says that it is empty, as when its
// first page was overwritten with zeros.
var errWiped = errors.New("the database has lost its contents")

func isDamaged(err error) bool {
	if errors.Is(err, errWiped) {
		return true
	}
	c := code(err)
	return c == sqlite3.SQLITE_CORRUPT || c == sqlite3.SQLITE_NOTADB
}
