package ban_test

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sipward/policy/ban"
)

const (
	minute = 60 * second
	hour   = 60 * minute
	day    = 24 * hour
)

func TestMain(m *testing.M) {
	childOfKillTest() // does not return in the child
	goleak.VerifyTestMain(m)
}

func newTable(t testing.TB, cfg ban.Config) *ban.Table {
	t.Helper()
	return newTableAt(t, cfg, start)
}

func newTableAt(t testing.TB, cfg ban.Config, now int64) *ban.Table {
	t.Helper()
	table, err := ban.New(cfg, now)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func adr(s string) netip.Addr   { return netip.MustParseAddr(s) }

func block(p string, now, length int64) ban.Record {
	return ban.Record{Prefix: pfx(p), Until: now + length, Proven: true, Guard: "register", Reason: "register-failures", Origin: "guard"}
}

func guess(p string, now, length int64) ban.Record {
	r := block(p, now, length)
	r.Proven = false
	return r
}

func command(p string, until int64) ban.Record {
	return ban.Record{Prefix: pfx(p), Kind: ban.Manual, Until: until, Guard: "command", Origin: "command"}
}

func mustAdd(t testing.TB, table *ban.Table, r ban.Record, now int64) ban.Record {
	t.Helper()
	in, err := table.Add(r, now)
	if err != nil {
		t.Fatalf("Add(%v): %v", r.Prefix, err)
	}
	return in
}

func TestAddRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		rec  ban.Record
		want error
		says string
	}{
		{"no prefix", ban.Record{Until: start + 1}, ban.ErrPrefix, "not valid"},
		{"everything", command("0.0.0.0/0", 0), ban.ErrPrefix, "widest IPv4 prefix"},
		{"IPv4 /7", command("10.0.0.0/7", 0), ban.ErrPrefix, "wider than /8"},
		{"IPv6 everything", command("::/0", 0), ban.ErrPrefix, "wider than /16"},
		{"IPv6 /15", command("2001::/15", 0), ban.ErrPrefix, "widest IPv6 prefix"},
		{"guard, IPv4 /7", block("10.0.0.0/7", start, hour), ban.ErrPrefix, "wider than /8"},
		{"mapped /95", command("::fffe:0:0/95", 0), nil, ""},
		{"beyond mapped", command("::ffff:0.0.0.0/90", 0), ban.ErrPrefix, "IPv4-mapped"},
		{"end in the past", block("192.0.2.1/32", start, -second), ban.ErrRecord, "passed"},
		{"ends now", block("192.0.2.1/32", start, 0), ban.ErrRecord, "passed"},
		{"dynamic without end", ban.Record{Prefix: pfx("192.0.2.1/32"), Proven: true}, ban.ErrRecord, "needs an end"},
		{"unproven for ever", ban.Record{Prefix: pfx("192.0.2.1/32"), Kind: ban.Permanent}, ban.ErrRecord, "never makes a permanent"},
		{"unknown kind", ban.Record{Prefix: pfx("192.0.2.1/32"), Kind: 7, Until: start + 1}, ban.ErrRecord, "kind"},
		{"manual /8", command("10.0.0.0/8", 0), nil, ""},
		{"manual IPv6 /16", command("2001::/16", 0), nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newTable(t, ban.Config{}).Add(c.rec, start)
			if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v with %q", err, c.want, c.says)
			}
		})
	}
}

func TestPrefixesAreNormal(t *testing.T) {
	table := newTable(t, ban.Config{})
	for in, want := range map[string]string{
		"192.0.2.77/24":         "192.0.2.0/24",
		"::ffff:192.0.2.99/128": "192.0.2.99/32",
		"2001:db8::1/64":        "2001:db8::/64",
	} {
		r := command("192.0.2.0/24", 0)
		r.Prefix = netip.MustParsePrefix(in)
		if got := mustAdd(t, table, r, start).Prefix.String(); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
	for a, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32",
		"2001:db8::1": "2001:db8::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := table.Source(adr(a)).String(); got != want {
			t.Errorf("source of %s is %s, want %s", a, got, want)
		}
	}
}

func TestBanned(t *testing.T) {
	table := newTable(t, ban.Config{})
	for _, r := range []ban.Record{
		block("192.0.2.1/32", start, hour),
		command("198.51.100.0/24", start+2*hour),
		command("198.51.100.7/32", start+hour),
		command("198.51.100.128/25", start+hour), // inside one that lasts longer
		block("2001:db8:1::/64", start, hour),
		command("2001:db8:2::/48", 0),
		command("2001:db8:3::5/128", 0),
		command("2001:db8:2:1::/64", start+minute),
		command("ffff:ffff:ffff:ffff::/64", 0), // has no key among the sources
		block("0.0.0.0/32", start, hour),
	} {
		mustAdd(t, table, r, start)
	}
	for _, c := range []struct {
		addr string
		now  int64
		want bool
	}{
		{"192.0.2.1", start, true},
		{"192.0.2.1", start + hour - 1, true},
		{"192.0.2.1", start + hour, false}, // nobody has swept
		{"::ffff:192.0.2.1", start, true},
		{"192.0.2.2", start, false},
		{"198.51.100.7", start + hour, true}, // by the prefix
		{"198.51.100.200", start + hour, true},
		{"198.51.100.200", start + 2*hour, false},
		{"198.51.101.1", start, false},
		{"2001:db8:1::ffff", start, true},
		{"2001:db8:1:1::", start, false},
		{"2001:db8:2:1::7", start + hour, true},
		{"2001:db8:2:ffff::1", start + 99*day, true},
		{"2001:db8:3::5", start, true},
		{"2001:db8:3::6", start, false},
		{"ffff:ffff:ffff:ffff::1", start, true},
		{"::", start, false},
		{"0.0.0.0", start, true},
	} {
		if got := table.Banned(adr(c.addr), c.now); got != c.want {
			t.Errorf("Banned(%s, start+%v) = %v", c.addr, time.Duration(c.now-start), got)
		}
		if r, got := table.Lookup(adr(c.addr), c.now); got != c.want {
			t.Errorf("Lookup(%s, start+%v) = %v, %v", c.addr, time.Duration(c.now-start), r, got)
		}
	}
	if table.Banned(netip.Addr{}, start) {
		t.Error("no address is banned")
	}
	if _, ok := table.Lookup(netip.Addr{}, start); ok {
		t.Error("no address is found")
	}
}

func TestSourcesLongerThanAKey(t *testing.T) {
	table := newTable(t, ban.Config{IPv6Bits: 128})
	mustAdd(t, table, ban.Record{Prefix: table.Source(adr("2001:db8::1")), Until: start + hour}, start)
	if !table.Banned(adr("2001:db8::1"), start) || table.Banned(adr("2001:db8::2"), start) {
		t.Error("a /128 source is not told apart from its neighbour")
	}
}

// TestLadder walks through days of blocks: each is at a time after the start,
// for an hour but where it says otherwise.
func TestLadder(t *testing.T) {
	type step struct {
		at       int64
		unproven bool
		blocks   int
		kind     ban.Kind
	}
	for _, c := range []struct {
		name      string
		threshold int
		steps     []step
	}{
		{"the third is permanent", 3, []step{
			{at: 0, blocks: 1}, {at: 2 * hour, blocks: 2}, {at: 4 * hour, blocks: 3, kind: ban.Permanent},
			{at: 6 * hour, blocks: 3, kind: ban.Permanent}}},
		{"the first is permanent", 1, []step{{at: 0, blocks: 1, kind: ban.Permanent}}},
		{"no threshold", 0, []step{{at: 0, blocks: 1}, {at: 2 * hour, blocks: 2}, {at: 4 * hour, blocks: 3}, {at: 6 * hour, blocks: 4}}},
		{"messages under way are no step", 3, []step{
			{at: 0, blocks: 1}, {at: second / 2, blocks: 1}, {at: minute, blocks: 1}, {at: 59 * minute, blocks: 1},
			{at: 3 * hour, blocks: 2}}},
		{"blocks are forgotten after 30 days", 3, []step{
			{at: 0, blocks: 1}, {at: 10 * day, blocks: 2}, {at: 30 * day, blocks: 2}, {at: 60*day - second, blocks: 2},
			{at: 60*day - second + 2*hour, blocks: 2}, {at: 61 * day, blocks: 3, kind: ban.Permanent}}},
		{"unproven is no step", 2, []step{
			{at: 0, unproven: true}, {at: 2 * hour, unproven: true}, {at: 4 * hour, unproven: true},
			{at: 6 * hour, blocks: 1}, {at: 8 * hour, unproven: true, blocks: 1},
			{at: 10 * hour, blocks: 2, kind: ban.Permanent}}},
		{"proof during an unproven block is a step", 2, []step{
			{at: 0, unproven: true}, {at: second, blocks: 1}, {at: 2 * second, unproven: true, blocks: 1},
			{at: 2 * hour, unproven: true, blocks: 1}, {at: 2*hour + second, blocks: 2, kind: ban.Permanent}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := newTable(t, ban.Config{Threshold: c.threshold})
			for i, s := range c.steps {
				now := start + s.at
				r := block("192.0.2.1/32", now, hour)
				r.Proven = !s.unproven
				in := mustAdd(t, table, r, now)
				if in.Blocks != s.blocks || in.Kind != s.kind {
					t.Fatalf("step %d: got %d blocks, %v, want %d, %v", i, in.Blocks, in.Kind, s.blocks, s.kind)
				}
				if got := table.Blocks(adr("192.0.2.1"), now); got != s.blocks {
					t.Errorf("step %d: Blocks = %d, want %d", i, got, s.blocks)
				}
				if perm := table.Banned(adr("192.0.2.1"), now+1000*day); perm != (s.kind == ban.Permanent) {
					t.Errorf("step %d: banned for ever is %v", i, perm)
				}
				table.Sweep(now) // makes no difference
			}
		})
	}
}

func TestUnprovenExtendsNothingProven(t *testing.T) {
	table := newTable(t, ban.Config{})
	mustAdd(t, table, block("192.0.2.1/32", start, minute), start)
	in := mustAdd(t, table, guess("192.0.2.1/32", start, hour), start+second)
	if !in.Proven || in.Until != start+minute {
		t.Errorf("in force is %+v", in)
	}
	mustAdd(t, table, command("192.0.2.2/32", start+minute), start)
	if in := mustAdd(t, table, guess("192.0.2.2/32", start, hour), start); in.Kind != ban.Manual || in.Until != start+minute {
		t.Errorf("in force is %+v", in)
	}
}

func TestManualAndAutomaticOfOnePrefix(t *testing.T) {
	const p = "192.0.2.1/32"
	for _, c := range []struct {
		name          string
		first, second ban.Record
		kind          ban.Kind
		until         int64
	}{
		{"shorter manual changes nothing", block(p, start, hour), command(p, start+minute), ban.Dynamic, start + hour},
		{"longer manual takes over", block(p, start, hour), command(p, start+2*hour), ban.Manual, start + 2*hour},
		{"manual for ever takes over permanent", ban.Record{Prefix: pfx(p), Kind: ban.Permanent, Proven: true}, command(p, 0), ban.Manual, 0},
		{"block within manual changes nothing", command(p, 0), block(p, start, hour), ban.Manual, 0},
		{"block beyond manual takes over", command(p, start+minute), block(p, start, hour), ban.Dynamic, start + hour},
		{"longer manual takes over manual", command(p, start+hour), command(p, 0), ban.Manual, 0},
		{"proof keeps the later end", guess(p, start, 2*hour), block(p, start, hour), ban.Dynamic, start + 2*hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := newTable(t, ban.Config{})
			mustAdd(t, table, c.first, start)
			in := mustAdd(t, table, c.second, start)
			if in.Kind != c.kind || in.Until != c.until {
				t.Errorf("in force: %v until %d", in.Kind, in.Until)
			}
			if all, _ := table.Snapshot(); len(all) != 1 {
				t.Errorf("%d bans of one prefix", len(all))
			}
		})
	}
}

func TestOverlaps(t *testing.T) {
	table := newTable(t, ban.Config{})
	mustAdd(t, table, command("192.0.2.0/24", start+2*hour), start)
	mustAdd(t, table, block("192.0.2.1/32", start, hour), start)
	mustAdd(t, table, command("192.0.0.0/16", start+minute), start)
	if r, _ := table.Lookup(adr("192.0.2.1"), start); r.Prefix != pfx("192.0.2.0/24") {
		t.Errorf("the longest is %v", r.Prefix)
	}
	m, err := table.Remove(pfx("192.0.2.0/24"), start)
	if err != nil || !m.Removed || m.Inside != 1 || len(m.Covered) != 1 || m.Covered[0].Prefix != pfx("192.0.0.0/16") {
		t.Errorf("%+v, %v", m, err)
	}
	if r, _ := table.Lookup(adr("192.0.2.1"), start); r.Prefix != pfx("192.0.2.1/32") {
		t.Errorf("the longest is %v", r.Prefix)
	}
	m, err = table.Remove(pfx("192.0.2.1/32"), start)
	if err != nil || !m.Removed || m.Forgotten != 1 || len(m.Covered) != 1 {
		t.Errorf("%+v, %v", m, err)
	}
	if table.Banned(adr("192.0.2.1"), start+minute) || !table.Banned(adr("192.0.2.1"), start) {
		t.Error("removing one touched another")
	}
	if m, err := table.Remove(pfx("192.0.2.1/32"), start); m.Removed || err != nil || len(m.Covered) != 1 {
		t.Errorf("removed twice: %+v, %v", m, err)
	}
	if _, err := table.Remove(pfx("0.0.0.0/0"), start); !errors.Is(err, ban.ErrPrefix) {
		t.Error(err)
	}
}

func TestRemoveForgives(t *testing.T) {
	table := newTable(t, ban.Config{Threshold: 2})
	mustAdd(t, table, block("192.0.2.1/32", start, hour), start)
	if m, err := table.Remove(pfx("192.0.2.1/32"), start+2*hour); err != nil || m.Removed || m.Forgotten != 1 {
		t.Errorf("%+v, %v", m, err)
	}
	if in := mustAdd(t, table, block("192.0.2.1/32", start+3*hour, hour), start+3*hour); in.Kind != ban.Dynamic || in.Blocks != 1 {
		t.Errorf("in force: %+v", in)
	}
}

func TestFull(t *testing.T) {
	table := newTable(t, ban.Config{MaxEntries: 3})
	mustAdd(t, table, command("198.51.100.1/32", 0), start) // does not count
	mustAdd(t, table, guess("192.0.2.1/32", start, 5*hour), start)
	mustAdd(t, table, block("192.0.2.2/32", start, 2*hour), start)
	mustAdd(t, table, block("192.0.2.3/32", start, hour), start)
	sub := table.Subscribe(9)
	defer sub.Close()

	mustAdd(t, table, block("192.0.2.4/32", start, hour), start)
	if c := <-sub.C(); c.Kind != ban.Removed || !c.Room || c.Record.Prefix != pfx("192.0.2.1/32") {
		t.Errorf("the unproven one does not go first: %+v", c)
	}
	if c := <-sub.C(); c.Kind != ban.Added {
		t.Errorf("%+v", c)
	}
	if _, err := table.Add(guess("192.0.2.5/32", start, 9*hour), start); !errors.Is(err, ban.ErrFull) {
		t.Errorf("unproven makes proven go: %v", err)
	}
	mustAdd(t, table, block("192.0.2.6/32", start, 3*hour), start)
	if table.Banned(adr("192.0.2.3"), start) || !table.Banned(adr("192.0.2.2"), start) {
		t.Error("the one that ends soonest does not go")
	}
	mustAdd(t, table, block("192.0.2.2/32", start, 4*hour), start) // extends: needs no room
	mustAdd(t, table, command("192.0.2.6/32", 0), start)           // takes over: leaves room
	mustAdd(t, table, guess("192.0.2.5/32", start, hour), start)
	if s := table.Stats(); s.Evicted != 2 || s.Full != 1 || s.Dynamic != 3 || s.Manual != 2 || s.Unproven != 1 {
		t.Errorf("%+v", s)
	}
}

func TestStepsAreCapped(t *testing.T) {
	table := newTable(t, ban.Config{MaxEntries: 2})
	for i, p := range []string{"192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32"} {
		now := start + int64(i)*2*hour
		mustAdd(t, table, block(p, now, hour), now)
		table.Sweep(now + hour)
	}
	now := start + 6*hour
	if table.Blocks(adr("192.0.2.1"), now) != 0 || table.Blocks(adr("192.0.2.2"), now) != 1 || table.Blocks(adr("192.0.2.3"), now) != 1 {
		t.Error("not the oldest was forgotten")
	}
	table.Sweep(start + 31*day)
	if s := table.Stats(); s.Recalled != 0 {
		t.Errorf("%+v", s)
	}
}

func TestMerge(t *testing.T) {
	table := newTable(t, ban.Config{Threshold: 1, BreakerPerMinute: 1})
	other := block("192.0.2.1/32", start, hour)
	other.Origin = "node-b"
	n := table.Merge([]ban.Record{
		other, block("192.0.2.2/32", start, hour), other,
		guess("192.0.2.3/32", start, hour),
		block("192.0.2.4/32", start, -hour),
		command("0.0.0.0/0", 0),
		command("192.0.2.0/24", start+minute),
	}, start)
	if n != 3 {
		t.Errorf("%d changed something", n)
	}
	r, _ := table.Lookup(adr("192.0.2.1"), start)
	if r.Kind != ban.Dynamic || r.Origin != "node-b" || table.Blocks(adr("192.0.2.1"), start) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestReload(t *testing.T) {
	table := newTable(t, ban.Config{Threshold: 5})
	mustAdd(t, table, block("192.0.2.1/32", start, hour), start)
	table.Reload(ban.Config{Threshold: 2})
	if in := mustAdd(t, table, block("192.0.2.1/32", start+2*hour, hour), start+2*hour); in.Kind != ban.Permanent {
		t.Errorf("%+v", in)
	}
}

func TestEvidence(t *testing.T) {
	table := newTable(t, ban.Config{EvidenceBytes: 100})
	add := func(p string, n int) {
		r := block(p, start, hour)
		r.Evidence = bytes.Repeat([]byte("x"), n)
		mustAdd(t, table, r, start)
	}
	size := func(a string) int {
		r, _ := table.Lookup(adr(a), start)
		return len(r.Evidence)
	}
	add("192.0.2.1/32", 60)
	add("192.0.2.2/32", 40)
	if size("192.0.2.1") != 60 || size("192.0.2.2") != 40 {
		t.Error("evidence is missing")
	}
	add("192.0.2.3/32", 1)
	if size("192.0.2.1") != 0 || size("192.0.2.2") != 40 || size("192.0.2.3") != 1 {
		t.Error("not the oldest made room")
	}
	add("192.0.2.4/32", ban.MaxEvidence+1)
	r, _ := table.Lookup(adr("192.0.2.4"), start)
	if string(r.Evidence) != `{"omitted_bytes":8193}` {
		t.Errorf("%s", r.Evidence)
	}
	for range 3000 { // comes and goes
		add("192.0.2.9/32", 10)
		if _, err := table.Remove(pfx("192.0.2.9/32"), start); err != nil {
			t.Fatal(err)
		}
	}
	if size("192.0.2.9") != 0 || size("192.0.2.3") != 1 {
		t.Error("evidence of lifted bans counts")
	}
}

func TestBannedDoesNotAllocate(t *testing.T) {
	table, banned := bigTable(t, 1000, 50)
	strangers := []netip.Addr{adr("192.0.2.1"), adr("2001:db8::1"), adr("::ffff:192.0.2.1")}
	if n := testing.AllocsPerRun(100, func() {
		for _, a := range strangers {
			table.Banned(a, start)
		}
		for _, a := range banned[:20] {
			table.Banned(a, start)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestWords(t *testing.T) {
	words := []string{ban.Dynamic.String(), ban.Permanent.String(), ban.Manual.String(), ban.Kind(9).String(),
		ban.Added.String(), ban.Extended.String(), ban.Removed.String(), ban.Expired.String(), ban.ChangeKind(9).String()}
	want := []string{"dynamic", "permanent", "manual", "unknown", "added", "extended", "removed", "expired", "unknown"}
	if !slices.Equal(words, want) {
		t.Error(words)
	}
}
