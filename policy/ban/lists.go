package ban

import (
	"cmp"
	"database/sql"
	"fmt"
	"net/netip"
	"slices"

	"sipward/policy/dbfile"
)

// ListEntry is a static entry of a list, made by command.
type ListEntry struct {
	Prefix  netip.Prefix
	Comment string
	Created int64 // Unix nanoseconds
}

// lists holds the entries of all lists. The store's mu guards them.
type lists struct {
	store *Store
	of    map[listKey]ListEntry
}

// listKey is also the key under which a row waits.
type listKey struct {
	list   string
	prefix netip.Prefix
}

// ListEntries returns the entries of a list ("allow", "deny"), in the order of
// their prefixes.
func (s *Store) ListEntries(list string) []ListEntry {
	s.mu.Lock()
	var all []ListEntry
	for k, e := range s.lists.of {
		if k.list == list {
			all = append(all, e)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b ListEntry) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	return all
}

// AddListEntry adds an entry, or replaces the one of the same prefix. It is on
// disk when AddListEntry returns without an error; with ErrNotStored the entry
// counts, but a restart may forget it. Which prefixes a list may hold is the
// caller's business.
func (s *Store) AddListEntry(list string, e ListEntry) error {
	if !e.Prefix.IsValid() {
		return fmt.Errorf("%w: %v is not valid", ErrPrefix, e.Prefix)
	}
	e.Prefix = e.Prefix.Masked()
	k := listKey{list, e.Prefix}
	s.lists.set(k, e)
	s.put(k, listRow{k, e, false})
	return s.sync()
}

// RemoveListEntry removes an entry and says whether there was one. It is gone
// from the disk when RemoveListEntry returns without an error.
func (s *Store) RemoveListEntry(list string, p netip.Prefix) (bool, error) {
	k := listKey{list, p.Masked()}
	s.mu.Lock()
	_, had := s.lists.of[k]
	delete(s.lists.of, k)
	s.mu.Unlock()
	if !had {
		return false, nil
	}
	s.put(k, listRow{k, ListEntry{}, true})
	return true, s.sync()
}

func (l *lists) set(k listKey, e ListEntry) {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	if l.of == nil {
		l.of = make(map[listKey]ListEntry)
	}
	l.of[k] = e
}

type listRow struct {
	listKey
	entry ListEntry
	gone  bool
}

func (r listRow) write(b *dbfile.Batch) error {
	if r.gone {
		return b.Exec(`DELETE FROM lists WHERE list = ? AND prefix = ?`, r.list, r.prefix.String())
	}
	return b.Exec(`INSERT OR REPLACE INTO lists (list, prefix, comment, created) VALUES (?, ?, ?, ?)`,
		r.list, r.prefix.String(), r.entry.Comment, r.entry.Created)
}

var _ owner = (*lists)(nil)

func (l *lists) load(db *sql.DB, _ int64) error {
	rows, err := db.Query(`SELECT list, prefix, comment, created FROM lists`)
	if err != nil {
		return err
	}
	defer rows.Close()
	bad := 0
	for rows.Next() {
		var list, prefix string
		var e ListEntry
		err := rows.Scan(&list, &prefix, &e.Comment, &e.Created)
		if err == nil {
			e.Prefix, err = netip.ParsePrefix(prefix)
		}
		if err != nil {
			bad++
			continue
		}
		if k := (listKey{list, e.Prefix}); !l.store.waits(k) { // what waits is newer
			l.set(k, e)
		}
	}
	l.store.badRows(bad)
	return rows.Err()
}

func (l *lists) all(put func(row)) {
	l.store.mu.Lock()
	rows := make([]listRow, 0, len(l.of))
	for k, e := range l.of {
		rows = append(rows, listRow{k, e, false})
	}
	l.store.mu.Unlock()
	for _, r := range rows {
		put(r)
	}
}
