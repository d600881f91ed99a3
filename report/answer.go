package report

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"sipward/policy/dbfile"
)

// Report is the answer to a Query. Its texts may come from strangers: whoever shows
// them escapes them.
type Report struct {
	Generated time.Time           `json:"generated"`
	From      time.Time           `json:"from"`
	To        time.Time           `json:"to"` // not part of the range
	Filters   map[string][]string `json:"filters,omitempty"`
	By        []string            `json:"by,omitempty"`

	// Groups are the first of all groups; what the others have together is in Others.
	Groups      []Group `json:"groups"`
	Others      Counts  `json:"others"`
	OtherGroups int     `json:"other_groups"`
	Total       Counts  `json:"total"`
	// Series has a point for each Bucket (minute, hour or day) of the range, oldest
	// first, at most MaxTop.
	Bucket string  `json:"bucket"`
	Series []Point `json:"series"`
	// Acts holds the latest acts, if the query asked for them.
	Acts []Act `json:"acts_listed,omitempty"`

	// Lost counts messages of the range that were never counted, because there were too
	// many at once. Unreadable counts minutes of the journal that cannot be understood.
	Lost       uint64 `json:"lost"`
	Unreadable int    `json:"unreadable,omitempty"`
	// Trouble says why the database could not be read; what is in memory was.
	Trouble string `json:"trouble,omitempty"`
}

// Group is what messages and acts with the same Key have together.
type Group struct {
	Key []string `json:"key"` // in the order of Report.By; of time RFC 3339
	Counts
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	Samples []Sample  `json:"samples,omitempty"`
}

// Sample is one message of many.
type Sample struct {
	Time      time.Time    `json:"time"`
	Source    netip.Prefix `json:"source"`
	Port      uint16       `json:"port"`
	Transport string       `json:"transport"`
	Method    string       `json:"method,omitempty"`
	Account   string       `json:"account,omitempty"`
	Action    string       `json:"action"`
	Reason    string       `json:"reason"`
	Status    int          `json:"status,omitempty"`
	Detail    string       `json:"detail,omitempty"`
}

// Point is one bucket of the series.
type Point struct {
	Time time.Time `json:"time"`
	Counts
}

// Ask answers a query. One is answered at a time, so that reports cannot take more than
// one processor; the others wait until ctx ends.
func (j *Journal) Ask(ctx context.Context, q *Query) (*Report, error) {
	select {
	case j.asking <- struct{}{}:
		defer func() { <-j.asking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r := &Report{Generated: time.Now().In(q.From.Location()), From: q.From, To: q.To, Filters: q.filters(), By: q.By, Groups: []Group{}}
	t := newTally(q)
	if err := j.read(ctx, t, r); err != nil {
		return nil, j.unread(err)
	}
	r.fill(t)
	return r, nil
}

// unread explains why a query cannot be answered. A database that turns out to be damaged
// is set aside.
func (j *Journal) unread(err error) error {
	if !dbfile.IsDamaged(err) {
		return err
	}
	j.writing.Lock()
	defer j.writing.Unlock()
	if other := j.setAside(err); other != nil {
		return other
	}
	return fmt.Errorf("the journal is damaged and was set aside as %s; a new one has begun: %w", j.Health().SetAside, err)
}

// memory is what is not on disk.
type memory struct {
	minutes map[minuteID]packed
	acts    []Act
}

// begin returns what is not on disk, and a connection in which everything else can be
// seen; it is nil when the database cannot be read.
func (j *Journal) begin(ctx context.Context) (memory, *sql.Conn, error) {
	j.writing.Lock()
	defer j.writing.Unlock()
	m := j.snapshot()
	db := j.db.Load()
	if db == nil {
		return m, nil, nil
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return m, nil, err
	}
	_, err = conn.ExecContext(ctx, `BEGIN`)
	if err == nil {
		var n int // a transaction sees what was there when it read first
		err = conn.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master`).Scan(&n)
	}
	if err != nil {
		end(conn)
		conn = nil
	}
	return m, conn, err
}

func (j *Journal) snapshot() memory {
	j.mu.Lock()
	defer j.mu.Unlock()
	m := memory{minutes: maps.Clone(j.waiting), acts: slices.Clone(j.acts)}
	for n, x := range j.open {
		if x.dirty {
			m.minutes[minuteID{n, j.run}] = packed{x.pack(), x.events, x.lost}
		}
	}
	return m
}

// end gives a connection of begin back.
func end(conn *sql.Conn) {
	_, _ = conn.ExecContext(context.Background(), `ROLLBACK`) // nothing was written
	_ = conn.Close()
}

// read counts everything in the query's range.
func (j *Journal) read(ctx context.Context, t *tally, r *Report) error {
	m, conn, err := j.begin(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch {
	case err != nil:
		r.Trouble = err.Error()
	case conn == nil:
		r.Trouble = cmp.Or(j.Health().Error, "the journal is closed")
	default:
		defer end(conn)
		if !t.q.Acts {
			err = j.readMinutes(ctx, conn, &m, t, r)
		}
		if err == nil {
			err = readActs(ctx, conn, t, r)
		}
		if err != nil {
			return err
		}
	}
	for id, p := range m.minutes {
		n := id.minute
		if n*60 < t.q.From.Unix() || n*60 >= t.q.To.Unix() || t.q.Acts {
			continue
		}
		if err := t.segment(n, j.cfg.Node, p.lost, p.data); err != nil {
			return err
		}
	}
	for i := range m.acts {
		if err := r.act(t, &m.acts[i]); err != nil {
			return err
		}
	}
	return nil
}

func (j *Journal) readMinutes(ctx context.Context, conn *sql.Conn, m *memory, t *tally, r *Report) error {
	rows, err := conn.QueryContext(ctx, `SELECT minute, run, node, lost, data FROM minutes WHERE minute >= ? AND minute < ? ORDER BY minute`,
		t.q.From.Unix()/60, t.q.To.Unix()/60)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id minuteID
		var lost int64
		var node string
		var data sql.RawBytes
		if err := rows.Scan(&id.minute, &id.run, &node, &lost, &data); err != nil {
			return err
		}
		if _, newer := m.minutes[id]; newer {
			continue
		}
		switch err := t.segment(id.minute, node, uint64(lost), data); err {
		case nil:
		case errSegment:
			r.Unreadable++
		default:
			return err
		}
	}
	return rows.Err()
}

func readActs(ctx context.Context, conn *sql.Conn, t *tally, r *Report) error {
	rows, err := conn.QueryContext(ctx, `SELECT time, node, action, source, account, guard, reason, until, by, text, failed
		FROM acts WHERE time >= ? AND time < ? ORDER BY time`, t.q.From.UnixNano(), t.q.To.UnixNano())
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var a Act
		var at, until int64
		var source string
		if err := rows.Scan(&at, &a.Node, &a.Action, &source, &a.Account, &a.Guard, &a.Reason, &until, &a.By, &a.Text, &a.Failed); err != nil {
			return err
		}
		a.Time, a.Source = time.Unix(0, at), parseSource(source)
		if until != 0 {
			a.Until = time.Unix(0, until)
		}
		if err := r.act(t, &a); err != nil {
			return err
		}
	}
	return rows.Err()
}

// act counts an act, and lists it if that was asked for.
func (r *Report) act(t *tally, a *Act) error {
	if a.Time.Before(t.q.From) || !a.Time.Before(t.q.To) || !t.wantedAct(a) {
		return nil
	}
	if t.q.Acts {
		if len(r.Acts) >= 2*t.q.Top { // the latest are wanted, and they come last
			r.latest(t.q.Top)
		}
		r.Acts = append(r.Acts, *a)
	}
	return t.act(a)
}

// latest keeps the latest n acts, the latest first.
func (r *Report) latest(n int) {
	slices.SortStableFunc(r.Acts, func(a, b Act) int { return b.Time.Compare(a.Time) })
	r.Acts = r.Acts[:min(n, len(r.Acts))]
}

// fill makes the report of what was counted.
func (r *Report) fill(t *tally) {
	r.Total, r.Lost, r.Bucket = t.total, t.lost, t.bucket
	if t.q.Acts {
		r.latest(t.q.Top)
		loc := t.q.From.Location()
		for i := range r.Acts {
			a := &r.Acts[i]
			a.Time = a.Time.In(loc)
			for _, s := range []*string{&a.Node, &a.Account, &a.Guard, &a.Reason, &a.By, &a.Text, &a.Failed} {
				*s = text([]byte(*s))
			}
		}
	}
	r.fillSeries(t)
	if len(t.q.By) == 0 {
		return
	}
	best := t.top(t.q.Top)
	r.Others, r.OtherGroups = t.total, len(t.groups)-len(best)
	for _, g := range best {
		r.Groups = append(r.Groups, t.public(g))
		r.Others = r.Others.less(g.counts)
	}
}

func (c Counts) less(o Counts) Counts {
	return Counts{c.Messages - o.Messages, c.Passed - o.Passed, c.Dropped - o.Dropped, c.Rejected - o.Rejected, c.Bans - o.Bans, c.Acts - o.Acts}
}

// public returns a group as a report shows it.
func (t *tally) public(g *group) Group {
	loc := t.q.From.Location()
	out := Group{Counts: g.counts, First: time.Unix(g.first, 0).In(loc), Last: time.Unix(g.last, 0).In(loc), Samples: g.samples}
	for i, d := range t.q.By {
		name := t.name(i, g)
		if isTime(d) {
			at, _ := strconv.ParseInt(name, 10, 64) // we wrote it
			name = time.Unix(at, 0).In(loc).Format(time.RFC3339)
		}
		out.Key = append(out.Key, strings.ToValidUTF8(name, "\uFFFD"))
	}
	return out
}

// fillSeries makes a point of each bucket, of those without anything, too.
func (r *Report) fillSeries(t *tally) {
	loc := t.q.From.Location()
	to := min(t.q.To.Unix(), time.Now().Unix()+1)
	for at := t.q.From.Unix(); at < to && len(r.Series) < MaxTop; {
		at = t.start(t.bucket, at)
		p := Point{Time: time.Unix(at, 0).In(loc)}
		if c := t.series[at]; c != nil {
			p.Counts = *c
		}
		r.Series = append(r.Series, p)
		switch t.bucket {
		case ByMinute:
			at += 60
		case ByHour:
			at += 3600
		default:
			y, m, d := p.Time.Date()
			at = time.Date(y, m, d+1, 0, 0, 0, 0, loc).Unix()
		}
	}
}
