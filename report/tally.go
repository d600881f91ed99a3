package report

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"sipward/policy"
	"sipward/policy/event"
)

// Counts are the figures of a report.
type Counts struct {
	Messages uint64 `json:"messages"` // Passed + Dropped + Rejected
	Passed   uint64 `json:"passed"`
	Dropped  uint64 `json:"dropped"` // without an answer, or held back for a moment
	Rejected uint64 `json:"rejected"`
	Bans     uint64 `json:"bans"` // that began
	Acts     uint64 `json:"acts"` // bans, their ends, notices and commands
}

func (c *Counts) message(v policy.Verdict, n uint64) {
	c.Messages += n
	switch v {
	case policy.Pass:
		c.Passed += n
	case policy.Reject:
		c.Rejected += n
	default:
		c.Dropped += n
	}
}

func (c *Counts) act(a Action) {
	c.Acts++
	if a == ActionBan {
		c.Bans++
	}
}

// words numbers the values of one dimension.
type words struct {
	numbers map[string]uint32
	names   []string
}

func (w *words) number(b []byte) uint32 {
	n, ok := w.numbers[string(b)]
	if !ok {
		n = uint32(len(w.names))
		s := string(b)
		w.numbers[s] = n
		w.names = append(w.names, s)
	}
	return n
}

type groupKey [MaxBy]uint32

type group struct {
	key         groupKey
	counts      Counts
	first, last int64 // Unix seconds
	samples     []Sample
}

const (
	// maxGroups bounds the memory of a question to about half a GiB: nobody's report may
	// get the process killed that calls go through.
	maxGroups = 1_000_000
	// groupSamples and allSamples bound the samples of a report.
	groupSamples = 3
	allSamples   = 20_000
)

// ErrTooMany: a question would take too much memory.
var ErrTooMany = errors.New("report: the answer has too many groups; ask for a shorter time, filter, or group by less")

// tally answers a query while the journal is read.
type tally struct {
	q       *Query
	bucket  string // of the series: minute, hour or day
	by      []words
	index   map[groupKey]int32
	groups  []group
	total   Counts
	series  map[int64]*Counts
	lost    uint64
	samples int
	guards  map[string]string // of reasons

	u   unpacker
	row packedRow
	seg segment
}

// The texts of rows, which are looked at once in each segment.
const (
	textReason = iota
	textSource
	textAccount
	textMethod
	numTexts
)

// segment is what is known of the segment that is read.
type segment struct {
	start  int64 // Unix seconds
	node   string
	series *Counts
	ids    [MaxBy][]uint32       // of its strings by dimension, plus one; 0: not known yet
	passes [numTexts][]uint8     // what filters say of its strings: 0 not known yet, 1 pass, 2 do not
	fixed  [MaxBy]uint32         // of dimensions that are the same for all its rows
	verd   [policy.Hold + 1]bool // verdicts that the filter lets pass
}

func newTally(q *Query) *tally {
	t := &tally{q: q, index: make(map[groupKey]int32), series: make(map[int64]*Counts), bucket: bucketOf(q), guards: make(map[string]string)}
	for range q.By {
		t.by = append(t.by, words{numbers: make(map[string]uint32)})
	}
	for r := range policy.NumReasons {
		t.guards[policy.Reason(r).String()] = policy.Reason(r).Guard()
	}
	for v := range t.seg.verd {
		t.seg.verd[v] = matches(q.Actions, policy.Verdict(v).String())
	}
	return t
}

// bucketOf chooses the width of the series: some dozens to some hundreds of points.
func bucketOf(q *Query) string {
	switch d := q.To.Sub(q.From); {
	case d <= 3*time.Hour:
		return ByMinute
	case d <= 4*24*time.Hour:
		return ByHour
	}
	return ByDay
}

// start returns the beginning of the bucket that a time is in, as Unix seconds.
func (t *tally) start(bucket string, at int64) int64 {
	x := time.Unix(at, 0).In(t.q.From.Location())
	switch bucket {
	case ByTime:
		return t.start(t.bucket, at)
	case ByMinute:
		return at - at%60
	case ByHour: // of clocks that are half an hour off, too
		return at - int64(x.Minute()*60+x.Second())
	}
	y, m, d := x.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, x.Location()).Unix()
}

// matches says whether a filter lets a word pass.
func matches(filter []string, word string) bool {
	return len(filter) == 0 || slices.Contains(filter, word)
}

func matchesAccount(filter []string, account string) bool {
	if len(filter) == 0 {
		return true
	}
	user, _, _ := strings.Cut(account, "@")
	return slices.ContainsFunc(filter, func(f string) bool { return f == account || f == user && f != "" })
}

func matchesSource(filter []netip.Prefix, p netip.Prefix) bool {
	return len(filter) == 0 || p.IsValid() && slices.ContainsFunc(filter, p.Overlaps)
}

// group returns the group of a key.
func (t *tally) group(k groupKey, at int64) (*group, error) {
	i, ok := t.index[k]
	if !ok {
		if len(t.groups) >= maxGroups {
			return nil, ErrTooMany
		}
		i = int32(len(t.groups))
		t.index[k] = i
		t.groups = append(t.groups, group{key: k, first: at, last: at})
	}
	return &t.groups[i], nil
}

func (g *group) seen(first, last int64) {
	g.first, g.last = min(g.first, first), max(g.last, last)
}

// bucketCounts returns the point of the series that a time belongs to.
func (t *tally) bucketCounts(at int64) *Counts {
	start := t.start(t.bucket, at)
	c := t.series[start]
	if c == nil {
		c = new(Counts)
		t.series[start] = c
	}
	return c
}

// segment counts the rows of a minute.
func (t *tally) segment(minute int64, node string, lost uint64, data []byte) error {
	if !matches(t.q.Nodes, node) {
		return nil
	}
	t.lost += lost
	if err := t.u.begin(data); err != nil {
		return err
	}
	s := &t.seg
	s.start, s.node = minute*60, node
	s.series = t.bucketCounts(s.start)
	for i, d := range t.q.By {
		switch {
		case isTime(d):
			s.fixed[i] = t.by[i].number([]byte(strconv.FormatInt(t.start(d, s.start), 10)))
		case d == ByNode:
			s.fixed[i] = t.by[i].number([]byte(node))
		}
		s.ids[i] = zeroed(s.ids[i], len(t.u.strings))
	}
	for i := range s.passes {
		s.passes[i] = zeroed(s.passes[i], len(t.u.strings))
	}
	for t.u.next(&t.row) {
		if err := t.count(&t.row); err != nil {
			return err
		}
	}
	return t.u.end()
}

func zeroed[T any](s []T, n int) []T {
	s = slices.Grow(s[:0], n)[:n]
	clear(s)
	return s
}

// count counts a row.
func (t *tally) count(r *packedRow) error {
	if !t.wanted(r) {
		return nil
	}
	s := &t.seg
	t.total.message(r.verdict, r.count)
	s.series.message(r.verdict, r.count)
	var k groupKey
	for i, d := range t.q.By {
		k[i] = t.value(i, d, r)
	}
	g, err := t.group(k, s.start+int64(r.first))
	if err != nil {
		return err
	}
	g.counts.message(r.verdict, r.count)
	g.seen(s.start+int64(r.first), s.start+int64(r.last))
	for i := 0; i < len(r.samples) && len(g.samples) < groupSamples && t.samples < allSamples; i++ {
		t.samples++
		g.samples = append(g.samples, t.sample(r, &r.samples[i]))
	}
	return nil
}

func (t *tally) sample(r *packedRow, p *packedSample) Sample {
	source, _ := unpackSource(t.u.strings[r.source])
	return Sample{
		Time: time.Unix(t.seg.start+int64(p.second), 0), Source: source, Port: p.port, Transport: p.transport.String(),
		Method: text(t.u.strings[r.method]), Account: text(t.u.strings[r.account]), Action: r.verdict.String(),
		Reason: text(t.u.strings[r.reason]), Status: int(p.status), Detail: text(t.u.strings[p.detail]),
	}
}

// text makes a string of what may not be UTF-8.
func text(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }

// wanted says whether the filters let a row pass.
func (t *tally) wanted(r *packedRow) bool {
	q := t.q
	if int(r.verdict) >= len(t.seg.verd) || !t.seg.verd[r.verdict] {
		return false
	}
	if !matches(q.Protocols, r.protocol.String()) || !matches(q.Directions, r.direction.String()) {
		return false
	}
	return (len(q.Reasons)+len(q.Guards) == 0 || t.passes(textReason, r.reason)) &&
		(len(q.Sources) == 0 || t.passes(textSource, r.source)) &&
		(len(q.Accounts) == 0 || t.passes(textAccount, r.account)) &&
		(len(q.Methods) == 0 || t.passes(textMethod, r.method))
}

// passes says whether the filters let a string of the segment pass.
func (t *tally) passes(what int, n uint64) bool {
	p := &t.seg.passes[what][n]
	if *p != 0 {
		return *p == 1
	}
	q, b := t.q, t.u.strings[n]
	var ok bool
	switch what {
	case textReason:
		ok = matches(q.Reasons, string(b)) && matches(q.Guards, t.guards[string(b)])
	case textSource:
		source, _ := unpackSource(b)
		ok = matchesSource(q.Sources, source)
	case textAccount:
		ok = matchesAccount(q.Accounts, text(b))
	case textMethod:
		ok = matches(q.Methods, text(b))
	}
	if *p = 2; ok {
		*p = 1
	}
	return ok
}

// value numbers what a row has in a dimension.
func (t *tally) value(i int, dimension string, r *packedRow) uint32 {
	var n uint64
	switch dimension {
	case BySource:
		n = r.source
	case ByAccount:
		n = r.account
	case ByReason, ByGuard:
		n = r.reason
	case ByMethod:
		n = r.method
	case ByAction:
		return t.by[i].number([]byte(r.verdict.String()))
	case ByProtocol:
		return t.by[i].number([]byte(r.protocol.String()))
	case ByDirection:
		return t.by[i].number([]byte(r.direction.String()))
	default:
		return t.seg.fixed[i]
	}
	id := &t.seg.ids[i][n]
	if *id != 0 {
		return *id - 1
	}
	b := t.u.strings[n]
	switch dimension {
	case ByGuard:
		b = []byte(t.guards[string(b)])
	case BySource:
		source, _ := unpackSource(b)
		b = []byte(show(source))
	}
	*id = t.by[i].number(b) + 1
	return *id - 1
}

// protocol returns the protocol that an act is about; empty: none or several.
func (a *Act) protocol() string {
	front, _, _ := strings.Cut(a.Reason, "-")
	switch {
	case front == event.TFTP.String() || front == event.DNS.String():
		return front
	case a.Guard == "" || a.Guard == string(ActionCommand):
		return ""
	}
	return event.SIP.String()
}

// wantedAct says whether the filters let an act pass.
func (t *tally) wantedAct(a *Act) bool {
	q := t.q
	return matches(q.Actions, string(a.Action)) && matches(q.Nodes, a.Node) && matches(q.Guards, a.Guard) &&
		matches(q.Reasons, a.Reason) && matchesSource(q.Sources, a.Source) && matchesAccount(q.Accounts, a.Account) &&
		matches(q.Protocols, a.protocol()) && len(q.Methods) == 0 && len(q.Directions) == 0
}

// act counts an act that is wanted.
func (t *tally) act(a *Act) error {
	at := a.Time.Unix()
	t.total.act(a.Action)
	t.bucketCounts(at).act(a.Action)
	if t.q.Acts {
		return nil
	}
	var k groupKey
	for i, d := range t.q.By {
		v := ""
		switch d {
		case BySource:
			v = show(a.Source)
		case ByAccount:
			v = a.Account
		case ByGuard:
			v = a.Guard
		case ByReason:
			v = a.Reason
		case ByAction:
			v = string(a.Action)
		case ByProtocol:
			v = a.protocol()
		case ByNode:
			v = a.Node
		case ByMethod, ByDirection:
		default:
			v = strconv.FormatInt(t.start(d, at), 10)
		}
		k[i] = t.by[i].number([]byte(v))
	}
	g, err := t.group(k, at)
	if err != nil {
		return err
	}
	g.counts.act(a.Action)
	g.seen(at, at)
	return nil
}

// order puts groups in the order of a report: by time if that is what they are of, else
// those with the most messages, and then acts, first.
func (t *tally) order(a, b *group) int {
	times := slices.IndexFunc(t.q.By, isTime)
	if times >= 0 {
		if c := cmp.Compare(t.name(times, a), t.name(times, b)); c != 0 {
			return c
		}
	}
	c := cmp.Or(cmp.Compare(b.counts.Messages, a.counts.Messages), cmp.Compare(b.counts.Acts, a.counts.Acts))
	for i := 0; c == 0 && i < len(t.q.By); i++ {
		c = cmp.Compare(t.name(i, a), t.name(i, b))
	}
	return c
}

// name returns what a group has in a dimension; of time, Unix seconds.
func (t *tally) name(i int, g *group) string { return t.by[i].names[g.key[i]] }

// top returns the first groups of all, in order.
func (t *tally) top(n int) []*group {
	var best []*group
	for i := range t.groups {
		g := &t.groups[i]
		if len(best) == n && t.order(g, best[n-1]) >= 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, g, t.order)
		best = slices.Insert(best, at, g)
		if len(best) > n {
			best = best[:n]
		}
	}
	return best
}
