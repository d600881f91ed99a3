// Package dbfile looks after a file that is an SQLite database of sipward's own: it
// makes it and brings its layout up to date, tells trouble that passes from damage,
// and sets a damaged file aside.
package dbfile

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// File is one database and what it should look like. It is not changed once used.
type File struct {
	Path string        // its folder must exist
	Busy time.Duration // how long to wait for another process that has locked it
	// ApplicationID tells this kind of database from others; not 0.
	ApplicationID int
	// Schema makes layout 1 in an empty database. Each of Upgrades leads from a layout
	// to the next, the first from 1 to 2; a new database gets them, too.
	Schema, Upgrades []string
	Conns            int // connections at most
	CacheKiB         int // of each connection
}

// version is the layout that this program knows.
func (f *File) version() int { return 1 + len(f.Upgrades) }

// Open opens the database, with a write-ahead log and durable commits, and makes its
// tables if it has none.
func (f *File) Open() (*sql.DB, error) {
	file, err := os.OpenFile(f.Path, os.O_RDWR|os.O_CREATE, 0o600) // SQLite would make it readable for all
	if errors.Is(err, syscall.EROFS) {
		if _, missing := os.Stat(f.Path); missing != nil { // it was never there, so this is no disk that has failed
			return nil, fmt.Errorf("%s cannot be made: its file system is read-only; make it writable, or choose another folder", f.Path)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	q := url.Values{
		"_pragma": {
			"busy_timeout(" + strconv.FormatInt(f.Busy.Milliseconds(), 10) + ")",
			"journal_mode(WAL)", "synchronous(FULL)", "journal_size_limit(16777216)",
			"cache_size(-" + strconv.Itoa(f.CacheKiB) + ")",
		},
		"_txlock": {"immediate"},
	}
	db, err := f.open(q)
	if err != nil {
		return nil, err
	}
	if err := f.migrate(db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func (f *File) open(q url.Values) (*sql.DB, error) {
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: f.Path, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(f.Conns)
	return db, nil
}

// OpenToRead opens the database as it is on the disk, for reading, where Open fails because
// nothing can be written. Nobody may write to it meanwhile. It fails when what is in the
// file is not all: the log beside it holds the rest, and cannot be used without writing.
func (f *File) OpenToRead() (*sql.DB, error) {
	if log, err := os.Stat(f.Path + "-wal"); err == nil && log.Size() > 0 {
		return nil, fmt.Errorf("%s was not closed, and cannot be read without writing", f.Path)
	}
	db, err := f.open(url.Values{"mode": {"ro"}, "immutable": {"1"}})
	if err != nil {
		return nil, err
	}
	var app, have int
	err = db.QueryRow(`SELECT application_id, user_version FROM pragma_application_id, pragma_user_version`).Scan(&app, &have)
	if err == nil && (app != f.ApplicationID || have != f.version()) {
		err = fmt.Errorf("%s has another layout", f.Path)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func (f *File) migrate(db *sql.DB) error {
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
	case app == f.ApplicationID && have == f.version():
		return nil
	case app == f.ApplicationID && have > f.version():
		return fmt.Errorf("%s was written by a newer sipward (layout %d, this one knows %d)", f.Path, have, f.version())
	case app == f.ApplicationID && have > 0: // an older one
	case app != 0 || have != 0 || tables > 0:
		return fmt.Errorf("%s is a database of another program", f.Path)
	case pages > 1:
		return errWiped
	}
	steps := f.Upgrades[max(have-1, 0):]
	if have == 0 {
		steps = slices.Concat(f.Schema, f.Upgrades)
	}
	for _, stmt := range append(slices.Clone(steps), fmt.Sprint(`PRAGMA application_id = `, f.ApplicationID), fmt.Sprint(`PRAGMA user_version = `, f.version())) {
		if _, err := tx.Exec(stmt); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// SetAside moves the file out of the way under a name that is returned, so that a new
// one can be made. The database must be closed.
func (f *File) SetAside() (string, error) {
	base := f.Path + ".corrupt-" + time.Now().UTC().Format("20060102T150405Z")
	aside := base
	for n := 2; ; n++ {
		if _, err := os.Lstat(aside); errors.Is(err, os.ErrNotExist) {
			break
		}
		aside = base + "-" + strconv.Itoa(n)
	}
	if err := os.Rename(f.Path, aside); err != nil {
		return "", fmt.Errorf("set damaged database aside: %w", err)
	}
	_ = os.Rename(f.Path+"-wal", aside+"-wal") // most often there is none
	_ = os.Remove(f.Path + "-shm")
	return aside, nil
}

func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff // without the extended part
	}
	return 0
}

// IsPassing says whether the same may work later without anyone's doing anything about
// the file: it is locked, the disk is full, or read-only since it has failed.
func IsPassing(err error) bool {
	switch code(err) {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY:
		return true
	}
	return IsLocked(err) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EROFS)
}

// IsLocked says whether another process uses the file.
func IsLocked(err error) bool {
	c := code(err)
	return c == sqlite3.SQLITE_BUSY || c == sqlite3.SQLITE_LOCKED
}

// errWiped is a database that has pages but says that it is empty, as when its
// first page was overwritten with zeros.
var errWiped = errors.New("the database has lost its contents")

// IsDamaged says whether the file cannot be used any more.
func IsDamaged(err error) bool {
	if errors.Is(err, errWiped) {
		return true
	}
	c := code(err)
	return c == sqlite3.SQLITE_CORRUPT || c == sqlite3.SQLITE_NOTADB
}

// Batch is a transaction with its prepared statements.
type Batch struct {
	tx    *sql.Tx
	stmts map[string]*sql.Stmt
}

// Exec runs a statement of the transaction.
func (b *Batch) Exec(query string, args ...any) error {
	stmt := b.stmts[query]
	if stmt == nil {
		var err error
		if stmt, err = b.tx.Prepare(query); err != nil {
			return err
		}
		b.stmts[query] = stmt // closed with the transaction
	}
	_, err := stmt.Exec(args...)
	return err
}

// Transact calls f in one transaction, which is on disk when it returns nil.
func Transact(db *sql.DB, f func(*Batch) error) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	if err := f(&Batch{tx, make(map[string]*sql.Stmt)}); err != nil {
		_ = tx.Rollback() // SQLite may have done it already
		return err
	}
	return tx.Commit()
}

// sayEvery is how often a failure that lasts is worth a line in the log.
const sayEvery = time.Minute

// Trouble is what people ask about a database that cannot be used. The zero Trouble is
// none.
type Trouble struct {
	Error  string // why it cannot be read or written at present; empty: it can
	Since  int64  // since when, Unix nanoseconds
	Errors uint64 // failures since the start
	said   time.Time
}

// Failed notes a failure. It reports true when that should be logged.
func (t *Trouble) Failed(err error, now time.Time) (say bool) {
	t.Errors++
	if t.Error == "" {
		t.Since = now.UnixNano()
	}
	t.Error = err.Error()
	if say = now.Sub(t.said) >= sayEvery; say {
		t.said = now
	}
	return say
}

// Worked notes a success. It reports true when there was trouble before.
func (t *Trouble) Worked() (was bool) {
	was = t.Error != ""
	t.Error, t.Since = "", 0
	if was {
		t.said = time.Time{}
	}
	return was
}
