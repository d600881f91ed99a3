package ban

import (
	"cmp"
	"database/sql"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"sipward/policy/dbfile"
)

// Quarantine is an account that is shut out from a source, which itself is not
// banned.
type Quarantine struct {
	Source  netip.Prefix
	Account string // as the policy spells it
	Since   int64  // Unix nanoseconds
	Until   int64
}

// MaxQuarantines is how many are kept. Only accounts that fail from sources in
// good standing come into quarantine; when there are as many, a further one is
// forgotten at a restart.
const MaxQuarantines = 4096

// Quarantines keeps the quarantines in force, for people and for the time after
// a restart. What is enforced stands with the policy.
type Quarantines struct {
	store *Store // nil: in memory only
	mu    sync.Mutex
	of    map[quarantineKey]Quarantine
}

type quarantineKey struct {
	source  netip.Prefix
	account string
}

func (q *Quarantine) key() quarantineKey { return quarantineKey{q.Source, q.Account} }

// NewQuarantines makes a Quarantines and loads what the store holds, if there is
// one.
func NewQuarantines(store *Store, now int64) (*Quarantines, error) {
	qs := &Quarantines{store: store, of: make(map[quarantineKey]Quarantine)}
	if store == nil {
		return qs, nil
	}
	if err := store.attach(qs, now); err != nil {
		return nil, fmt.Errorf("load quarantines: %w", err)
	}
	return qs, nil
}

// Add notes a quarantine, in place of an earlier one of the same account and
// source.
func (qs *Quarantines) Add(q Quarantine) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	if _, known := qs.of[q.key()]; known || len(qs.of) < MaxQuarantines {
		qs.of[q.key()] = q
		qs.put(q)
	}
}

// put hands a quarantine to the store. The lock is held.
func (qs *Quarantines) put(q Quarantine) {
	if qs.store != nil {
		qs.store.put(q.key(), quarantineRow(q))
	}
}

// Purge forgets those that have ended.
func (qs *Quarantines) Purge(now int64) {
	qs.remove(func(q *Quarantine) bool { return q.Until <= now })
}

// Take removes and returns those of a source.
func (qs *Quarantines) Take(source netip.Prefix) []Quarantine {
	return qs.remove(func(q *Quarantine) bool { return q.Source == source })
}

func (qs *Quarantines) remove(which func(*Quarantine) bool) (removed []Quarantine) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	for k, q := range qs.of {
		if which(&q) {
			removed = append(removed, q)
			delete(qs.of, k)
			q.Until = 0
			qs.put(q)
		}
	}
	return removed
}

// InForce returns those in force, those that end first in front.
func (qs *Quarantines) InForce(now int64) []Quarantine {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	var all []Quarantine
	for _, q := range qs.of {
		if q.Until > now {
			all = append(all, q)
		}
	}
	slices.SortFunc(all, func(a, b Quarantine) int {
		return cmp.Or(cmp.Compare(a.Until, b.Until), a.Source.Addr().Compare(b.Source.Addr()), cmp.Compare(a.Account, b.Account))
	})
	return all
}

// quarantineRow is the row of a quarantine; one that ends at 0 is lifted.
type quarantineRow Quarantine

func (r quarantineRow) write(b *dbfile.Batch) error {
	if r.Until == 0 {
		return b.Exec(`DELETE FROM quarantines WHERE source = ? AND account = ?`, r.Source.String(), r.Account)
	}
	return b.Exec(`INSERT OR REPLACE INTO quarantines (source, account, since, until) VALUES (?, ?, ?, ?)`,
		r.Source.String(), r.Account, r.Since, r.Until)
}

var _ owner = (*Quarantines)(nil)

func (qs *Quarantines) load(db *sql.DB, now int64) error {
	rows, err := db.Query(`SELECT source, account, since, until FROM quarantines WHERE until > ? LIMIT ?`, now, MaxQuarantines)
	if err != nil {
		return err
	}
	defer rows.Close()
	bad := 0
	for rows.Next() {
		var q Quarantine
		var source string
		err := rows.Scan(&source, &q.Account, &q.Since, &q.Until)
		if err == nil {
			q.Source, err = netip.ParsePrefix(source)
		}
		if err != nil {
			bad++
			continue
		}
		qs.restore(q)
	}
	qs.store.badRows(bad)
	return rows.Err()
}

// restore takes in a row of the store. What memory has of it is newer, and is
// there only when the store could not be read at once.
func (qs *Quarantines) restore(q Quarantine) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	if _, known := qs.of[q.key()]; !known && !qs.store.waits(q.key()) {
		qs.of[q.key()] = q
	}
}

func (qs *Quarantines) all(put func(row)) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	for _, q := range qs.of {
		put(quarantineRow(q))
	}
}
