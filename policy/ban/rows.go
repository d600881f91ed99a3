package ban

import (
	"database/sql"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sipward/policy/dbfile"
)

// The keys of rows that wait to be written.
type (
	banKey      netip.Prefix
	evidenceKey netip.Prefix
)

// banRow is the row of one prefix.
type banRow struct {
	prefix netip.Prefix
	rec    *Record // nil: not banned
	steps  []int64 // not changed by anyone
	forget int64
}

const insertBan = `INSERT OR REPLACE INTO bans
	(prefix, kind, proven, start, until, reason, guard, origin, comment, steps, forget)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

func (b banRow) write(to *dbfile.Batch) error {
	p := b.prefix.String()
	if b.rec == nil && len(b.steps) == 0 {
		return to.Exec(`DELETE FROM bans WHERE prefix = ?`, p)
	}
	r := b.rec
	if r == nil {
		r = &Record{Until: -1}
	}
	return to.Exec(insertBan, p, int64(r.Kind), r.Proven, r.Start, r.Until,
		r.Reason, r.Guard, r.Origin, r.Comment, formatSteps(b.steps), b.forget)
}

// evidenceRow is the evidence of one ban; without data there is none any more.
type evidenceRow struct {
	prefix netip.Prefix
	data   []byte
}

func (e evidenceRow) write(to *dbfile.Batch) error {
	if len(e.data) == 0 {
		return to.Exec(`DELETE FROM evidence WHERE prefix = ?`, e.prefix.String())
	}
	return to.Exec(`INSERT OR REPLACE INTO evidence (prefix, data) VALUES (?, ?)`, e.prefix.String(), e.data)
}

func formatSteps(steps []int64) string {
	var b []byte
	for i, s := range steps {
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendInt(b, s, 10)
	}
	return string(b)
}

func parseSteps(text string) ([]int64, error) {
	var steps []int64
	for f := range strings.FieldsSeq(text) {
		s, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return nil, err
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// evidence reads the evidence of the ban of p; nil: there is none.
func (s *Store) evidence(p netip.Prefix) ([]byte, error) {
	db := s.db.Load()
	if db == nil {
		return nil, nil
	}
	var data []byte
	err := db.QueryRow(`SELECT data FROM evidence WHERE prefix = ?`, p.String()).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return data, err
}

func (s *Store) badRows(n int) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	s.health.BadRows += n
	s.mu.Unlock()
	s.log.Warn("rows of the ban database could not be understood and were passed over", "path", s.path, "rows", n)
}

// maxUnstored is how many rows may wait for an unproven ban still to be
// written. Who forges sources makes such bans as fast as he can send; they last
// for minutes only, and are not worth a disk that is busy with nothing else.
const maxUnstored = 100

var _ owner = (*Table)(nil)

// persist hands the state of e to the store, and its evidence if there is new
// one. The table's lock is held.
func (t *Table) persist(e *entry, data []byte) {
	if t.store == nil || t.loading {
		return
	}
	gone := e.rec == nil && len(e.starts) == 0
	if gone && !e.stored {
		return
	}
	if e.rec != nil && e.class == unproven && t.store.waiting() >= maxUnstored {
		t.stats.Unstored++
		return
	}
	e.stored = !gone
	t.store.put(banKey(e.prefix), t.row(e))
	if e.rec == nil || len(data) > 0 {
		t.store.put(evidenceKey(e.prefix), evidenceRow{e.prefix, data})
	}
}

func (t *Table) row(e *entry) banRow {
	b := banRow{e.prefix, e.rec, e.starts, t.forgets(e)}
	if e.rec != nil {
		b.forget = max(b.forget, e.rec.deadline())
	}
	return b
}

// all implements owner.
func (t *Table) all(put func(row)) {
	t.mu.Lock()
	rows := make([]banRow, 0, len(t.entries))
	for _, e := range t.entries {
		rows = append(rows, t.row(e))
		e.stored = true
	}
	exhibits := make([]evidenceRow, 0, len(t.evidence.of))
	for p, x := range t.evidence.of {
		exhibits = append(exhibits, evidenceRow{p, x.data})
	}
	t.unlock()
	for _, r := range rows {
		put(r)
	}
	for _, r := range exhibits {
		put(r)
	}
}

// load implements owner.
func (t *Table) load(db *sql.DB, now int64) error {
	var n int
	if err := db.QueryRow(`SELECT count(*) FROM bans`).Scan(&n); err != nil {
		return err
	}
	rows, err := db.Query(`SELECT prefix, kind, proven, start, until, reason, guard, origin, comment, steps
		FROM bans WHERE forget > ?`, now)
	if err != nil {
		return err
	}
	defer rows.Close()
	t.expect(n)
	bad, words := 0, make(map[string]string)
	for rows.Next() {
		// Into any, since database/sql converts numbers by way of their text.
		var c [10]any
		err := rows.Scan(&c[0], &c[1], &c[2], &c[3], &c[4], &c[5], &c[6], &c[7], &c[8], &c[9])
		if err == nil {
			err = t.restoreRow(c, words, now)
		}
		if err != nil {
			bad++
		}
	}
	t.store.badRows(bad)
	return rows.Err()
}

var errBadRow = errors.New("ban: a column holds something else than it should")

func (t *Table) restoreRow(c [10]any, words map[string]string, now int64) error {
	var n [4]int64
	var text [6]string
	for i := range n {
		var ok bool
		if n[i], ok = c[1+i].(int64); !ok {
			return errBadRow
		}
	}
	for i, v := range []any{c[0], c[5], c[6], c[7], c[8], c[9]} {
		var ok bool
		if text[i], ok = v.(string); !ok {
			return errBadRow
		}
	}
	p, err := netip.ParsePrefix(text[0])
	if err != nil {
		return err
	}
	steps, err := parseSteps(text[5])
	if err != nil {
		return err
	}
	if n[0] < 0 || n[0] > int64(Manual) {
		return errBadRow
	}
	return t.restore(Record{
		Prefix: p, Kind: Kind(n[0]), Proven: n[1] != 0, Start: n[2], Until: n[3],
		Reason: intern(words, text[1]), Guard: intern(words, text[2]), Origin: intern(words, text[3]), Comment: text[4],
	}, steps, now)
}

// intern returns one string for all rows that hold the same word.
func intern(words map[string]string, w string) string {
	if same, ok := words[w]; ok {
		return same
	}
	words[w] = w
	return w
}

// expect makes room for n more bans at once.
func (t *Table) expect(n int) {
	t.mu.Lock()
	defer t.unlock()
	if len(t.entries) > 0 {
		return
	}
	t.entries = make(map[netip.Prefix]*entry, n)
	t.live = make([]*Record, 0, n)
	t.sources.v4.Store(newHosts(t.sources.v4.Load().secret, n))
}

// restore takes in a row of the store. What memory has of the same prefix is
// newer, and is there only when the store could not be read at once.
func (t *Table) restore(r Record, steps []int64, now int64) error {
	ended := !r.InForce(now)
	p, err := CheckPrefix(r.Prefix)
	if err == nil && !ended {
		r, err = check(r, now)
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.unlock()
	old := t.inForce(p, now)
	if old == nil && t.entries[p] == nil && t.store.waits(banKey(p)) {
		return nil // lifted meanwhile
	}
	if !ended && (old != nil && !surpasses(&r, old) || t.makeRoom(&r, old, now) != nil) {
		ended = true
	}
	if ended && len(steps) == 0 {
		return nil
	}
	t.loading = true
	defer func() { t.loading = false }()
	e := t.entry(p)
	e.stored = true
	e.starts = slices.Concat(steps, e.starts)
	if ended {
		if e.rec == nil {
			t.recall(e)
		}
		return nil
	}
	r.Blocks = t.blocks(e, now)
	t.enforce(e, r)
	return nil
}
