package ban

import (
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"sipward/policy/dbfile"
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
	file dbfile.File
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
	kicked     chan struct{}
	ready      chan struct{}
	lists      lists
}

// Health is what people ask about the store. The zero Health is that of a table
// without one.
type Health struct {
	Path   string // empty: there is no store, a restart forgets all
	Loaded bool   // what it held is in force
	dbfile.Trouble
	Pending  int    // things that wait to be written
	BadRows  int    // rows that could not be understood and were passed over
	SetAside string // where a damaged database was moved to; empty: it never was
}

// OK says whether there is a store and it works.
func (h Health) OK() bool { return h.Path != "" && h.Loaded && h.Error == "" }

// row is something that can be written to the database, by itself.
type row interface {
	write(*dbfile.Batch) error
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

const applicationID = 0x73697077 // "sipw"

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
		path: path, log: cfg.Log,
		file: dbfile.File{Path: path, Busy: cfg.Busy, ApplicationID: applicationID, Schema: schema, Upgrades: upgrades,
			Conns: 3, CacheKiB: 8192}, // the writer, and readers of evidence
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
// the disk full, is no error here: traffic has to go on, and Run tries again. What
// can be read all the same is in force at once.
func (s *Store) attach(o owner, now int64) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.owners = append(s.owners, &holding{owner: o})
	err := s.open(now)
	if dbfile.IsPassing(err) {
		s.failed(err)
		loaded := !dbfile.IsLocked(err) && s.loadUnwritable(now)
		s.mu.Lock()
		s.health.Loaded = loaded
		s.mu.Unlock()
		s.kick()
		return nil
	}
	return err
}

// loadUnwritable loads what can be read of a database that cannot be opened, and says
// whether that is all of it. writing is held.
func (s *Store) loadUnwritable(now int64) bool {
	db, err := s.file.OpenToRead()
	if err == nil {
		err = s.load(db, now)
		db.Close()
	}
	if err != nil {
		s.log.Error("what the ban database holds is not in force yet", "path", s.path, "error", err)
	}
	return err == nil
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
	if dbfile.IsDamaged(err) {
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
		db, err := s.file.Open()
		if err != nil {
			return err
		}
		s.db.Store(db)
	}
	return s.load(s.db.Load(), now)
}

// load loads what is not loaded. writing is held.
func (s *Store) load(db *sql.DB, now int64) error {
	for _, h := range s.owners {
		if h.loaded {
			continue
		}
		if err := h.load(db, now); err != nil {
			return err
		}
		h.loaded = true
	}
	return nil
}

// setAside moves a damaged database out of the way, so that a new one can be
// made from what is in memory. writing is held.
func (s *Store) setAside(why error) error {
	if db := s.db.Swap(nil); db != nil {
		_ = db.Close() // of a damaged database nothing better can be expected
	}
	aside, err := s.file.SetAside()
	if err != nil {
		return err
	}
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

var errClosed = errors.New("the store is closed")
