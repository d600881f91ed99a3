package report_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sipward/policy"
	"sipward/policy/ban"
	"sipward/policy/event"
	"sipward/report"
)

func TestMain(m *testing.M) {
	childOfKillTest()
	goleak.VerifyTestMain(m)
}

// noon is a time that everything in the tests happens around.
var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

func open(t testing.TB, cfg report.Config) *report.Journal {
	t.Helper()
	if cfg.Path == "" {
		cfg.Path = filepath.Join(t.TempDir(), "journal.db")
	}
	if cfg.Node == "" {
		cfg.Node = "edge1"
	}
	j, err := report.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

func query(t testing.TB, text string) *report.Query {
	t.Helper()
	values, err := url.ParseQuery(text)
	if err != nil {
		t.Fatal(err)
	}
	q, err := report.ParseQuery(values, noon.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return &q
}

func ask(t testing.TB, j *report.Journal, text string) *report.Report {
	t.Helper()
	r, err := j.Ask(context.Background(), query(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// message makes an event.
func message(at time.Time, source, account string, v policy.Verdict, r policy.Reason) *event.Event {
	ev := &event.Event{Time: at.UnixNano(), Source: netip.AddrPortFrom(netip.MustParseAddr(source), 5060), Verdict: v, Reason: r, Method: "REGISTER"}
	ev.Account.SetString(account)
	return ev
}

// within waits for something that is to become true.
func within(t testing.TB, what string, d time.Duration, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(d); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

func TestCountsAndGroups(t *testing.T) {
	j := open(t, report.Config{})
	for i := range 10 {
		j.Count(message(noon.Add(time.Duration(i)*time.Second), "192.0.2.1", "alice@example.com", policy.Pass, policy.ReasonPass))
	}
	for range 30 {
		j.Count(message(noon.Add(time.Minute), "192.0.2.2", "bob@example.com", policy.Drop, policy.ReasonRegister))
	}
	j.Count(message(noon.Add(time.Minute), "2001:db8::5", "", policy.Reject, policy.ReasonInviteLimit))
	j.Add(report.Act{Time: noon.Add(2 * time.Minute), Action: report.ActionBan, Source: netip.MustParsePrefix("192.0.2.2/32"), Guard: "register", Reason: "register"})

	for name, flush := range map[string]func() error{"in memory": func() error { return nil }, "on disk": func() error { return j.Flush(noon.Add(time.Hour)) }} {
		if err := flush(); err != nil {
			t.Fatal(err)
		}
		r := ask(t, j, "last=24h&by=source,reason")
		want := []string{"[192.0.2.2 register] {30 0 30 0 1 1}", "[192.0.2.1 pass] {10 10 0 0 0 0}", "[2001:db8::/64 invite-limit] {1 0 0 1 0 0}"}
		for i, w := range want {
			if i >= len(r.Groups) || fmt.Sprint(r.Groups[i].Key, " ", r.Groups[i].Counts) != w {
				t.Fatalf("%s: group %d of %+v is not %s", name, i, r.Groups, w)
			}
		}
		if len(r.Groups) != 3 || r.Total != (report.Counts{Messages: 41, Passed: 10, Dropped: 30, Rejected: 1, Bans: 1, Acts: 1}) {
			t.Errorf("%s: %d groups, total %+v", name, len(r.Groups), r.Total)
		}
		if g := r.Groups[1]; !g.First.Equal(noon) || !g.Last.Equal(noon.Add(9*time.Second)) || len(g.Samples) != 2 || g.Samples[0].Account != "alice@example.com" {
			t.Errorf("%s: %+v", name, g)
		}
	}
	for text, messages := range map[string]uint64{
		"source=192.0.2.0/24": 40, "source=2001:db8::5": 1, "account=bob": 30, "account=bob@example.com": 30, "account=example.com": 0,
		"guard=register": 30, "guard=invite": 1, "reason=pass,register": 40, "method=REGISTER": 41, "method=INVITE": 0, "action=reject": 1,
		"action=ban": 0, "protocol=tftp": 0, "protocol=sip": 41, "node=edge1": 41, "node=edge2": 0, "direction=from-pbx": 0,
		"from=2026-03-14T12:01:00Z&to=2026-03-14T12:02:00Z": 31, "from=2026-03-13&to=2026-03-14": 0,
	} {
		if r := ask(t, j, text); r.Total.Messages != messages {
			t.Errorf("%s: %d messages, want %d", text, r.Total.Messages, messages)
		}
	}
	r := ask(t, j, "last=24h&by=source&top=1")
	if len(r.Groups) != 1 || r.OtherGroups != 2 || r.Others.Messages != 11 {
		t.Errorf("%+v", r)
	}
	r = ask(t, j, "last=24h&by=minute")
	if len(r.Groups) != 3 || r.Groups[0].Key[0] != "2026-03-14T12:00:00Z" || r.Groups[2].Bans != 1 {
		t.Errorf("%+v", r.Groups)
	}
}

func TestActsOneByOne(t *testing.T) {
	j := open(t, report.Config{})
	for i := range 50 {
		j.Add(report.Act{Time: noon.Add(time.Duration(i) * time.Second), Action: report.ActionCommand, By: "root", Text: fmt.Sprint("ban ", i)})
	}
	r := ask(t, j, "last=24h&acts=true&top=3")
	if len(r.Acts) != 3 || r.Acts[0].Text != "ban 49" || r.Acts[2].Text != "ban 47" || r.Total.Acts != 50 || r.Acts[0].Node != "edge1" {
		t.Errorf("%+v", r)
	}
}

func TestProtocolsAndNodes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	one := open(t, report.Config{Path: path, Node: "one"})
	for _, p := range []event.Protocol{event.SIP, event.TFTP, event.DNS} {
		ev := message(noon, "192.0.2.1", "", policy.Drop, policy.ReasonFlood)
		ev.Protocol = p
		one.Count(ev)
	}
	if err := one.Flush(noon); err != nil {
		t.Fatal(err)
	}
	one.Close()
	two := open(t, report.Config{Path: path, Node: "two"}) // in the same minute
	two.Count(message(noon, "192.0.2.1", "", policy.Drop, policy.ReasonFlood))
	r := ask(t, two, "by=node,protocol")
	got := fmt.Sprint(r.Groups[0].Key, r.Groups[1].Key, r.Groups[2].Key, r.Groups[3].Key)
	if got != "[one dns] [one sip] [one tftp] [two sip]" && got != "[one dns][one sip][one tftp][two sip]" || r.Total.Messages != 4 {
		t.Errorf("%s %+v", got, r.Total)
	}
}

func TestMinuteIsCapped(t *testing.T) {
	j := open(t, report.Config{})
	const n = 50_000
	for i := range n {
		a := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		j.Count(message(noon, a.String(), fmt.Sprint("user", i), policy.Drop, policy.ReasonFlood))
	}
	r := ask(t, j, "by=source")
	if r.Total.Messages != n || r.Groups[0].Key[0] != "" || r.Groups[0].Messages < n/2 {
		t.Errorf("total %d, first group %+v", r.Total.Messages, r.Groups[0].Counts)
	}
	if h := j.Health(); h.Events != n || h.Folded != r.Groups[0].Messages {
		t.Errorf("%+v, %d in the first group", h, r.Groups[0].Messages)
	}
}

func TestQueryErrors(t *testing.T) {
	for text, want := range map[string]string{
		"last=yesterday":                       "write a number and m, h, d or w",
		"last=24h&from=2026-01-01":             "exclude each other",
		"to=2026-01-01":                        "to needs from",
		"from=2026-01-02&to=2026-01-01":        "exchange them",
		"from=2030-01-01":                      "has not come yet",
		"last=20000w":                          "20000w is more than ten years",
		"from=01.02.2026":                      "write a date such as",
		"from=1600-01-01":                      "from: 1600-01-01 is more than ten years from now",
		"from=2026-01-01&to=2400-01-01":        "to: 2400-01-01 is more than ten years from now",
		"by=colour":                            "there are source, account",
		"by=source,source":                     "twice",
		"by=hour,day":                          "write one of",
		"by=source,account,reason,method,node": "at most 4",
		"source=example.com":                   "source: ",
		"reason=bored":                         "there are none, pass",
		"guard=dog":                            "there are command, flood",
		"action=hit":                           "there are pass, drop",
		"protocol=http":                        "sip, tftp, dns",
		"top=0":                                "from 1 to",
		"acts=maybe":                           "true or false",
		"acts=true&by=source":                  "one by one",
		"colour=red":                           "no parameter of a report",
	} {
		values, _ := url.ParseQuery(text)
		if _, err := report.ParseQuery(values, noon); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want …%s…", text, err, want)
		}
	}
	for text, want := range map[string]time.Duration{"24h": 24 * time.Hour, "last 7d": 7 * 24 * time.Hour, "90m": 90 * time.Minute, "2w": 14 * 24 * time.Hour} {
		if d, err := report.ParseSpan(text); err != nil || d != want {
			t.Errorf("%s is %v, %v", text, d, err)
		}
	}
}

// TestSourcesAreCapped: a flood of forged sources does not make a report by source take all
// memory; the answer says what to do.
func TestSourcesAreCapped(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	kept, err := report.Sources(query(t, "by=source"), 3_000_000)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if !errors.Is(err, report.ErrTooMany) {
		t.Errorf("three million sources: %v", err)
	}
	if live := (after.HeapAlloc - before.HeapAlloc) >> 20; live > 300 {
		t.Errorf("%d MiB are in use", live)
	}
	runtime.KeepAlive(kept)
}

// TestLongestSpan: the longest time that may be asked for can be sent, and its series reaches
// up to the present.
func TestLongestSpan(t *testing.T) {
	now := time.Now()
	q, err := report.ParseQuery(url.Values{"last": {"3660d"}}, now)
	if err != nil {
		t.Fatal(err)
	}
	if q, err = report.ParseQuery(q.Values(), now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	r, err := open(t, report.Config{}).Ask(t.Context(), &q)
	if err != nil {
		t.Fatal(err)
	}
	if last := r.Series[len(r.Series)-1].Time; now.Sub(last) > 25*time.Hour {
		t.Errorf("the series ends at %v", last)
	}
}

// A query is the same after its parameters were sent.
func TestQueryValues(t *testing.T) {
	q := query(t, "last=90m&by=hour,source&source=192.0.2.0/24,2001:db8::1&account=a,b&action=drop&node=x&protocol=sip&direction=from-pbx&guard=flood&reason=ban&method=INVITE&top=7")
	again, err := report.ParseQuery(q.Values(), noon)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(again) != fmt.Sprint(*q) {
		t.Errorf("\n%v\n%v", again, *q)
	}
}

func TestRunFollowsBansAndEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	table, err := ban.New(ban.Config{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UnixNano()
	add := func(address string) {
		r := ban.Record{Prefix: netip.MustParsePrefix(address), Kind: ban.Dynamic, Proven: true, Start: time.Now().UnixNano(),
			Until: now + int64(time.Hour), Reason: "register", Guard: "register", Origin: "guard"}
		if _, err := table.Add(r, now); err != nil {
			t.Fatal(err)
		}
	}
	add("192.0.2.1/32") // before anybody listens
	for round := range 2 {
		j, err := report.Open(report.Config{Path: path, Node: "edge1"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		bus := new(event.Bus)
		done := make(chan error, 1)
		go func() { done <- j.Run(ctx, bus, table) }()
		within(t, "listening", 30*time.Second, bus.Active)
		acts := func() []report.Act {
			q, _ := report.ParseQuery(url.Values{"last": {"1h"}, "acts": {"true"}}, time.Now().Add(time.Minute))
			r, err := j.Ask(t.Context(), &q)
			if err != nil {
				t.Fatal(err)
			}
			return r.Acts
		}
		if round == 0 {
			within(t, "the ban of before", 30*time.Second, func() bool { return len(acts()) == 1 })
			add("192.0.2.2/32")
			if _, err := table.Remove(netip.MustParsePrefix("192.0.2.2/32"), now); err != nil {
				t.Fatal(err)
			}
			bus.Publish(message(time.Now(), "192.0.2.9", "", policy.Drop, policy.ReasonBan))
			j.Notice(&policy.Notice{Time: now, Kind: policy.NoticeQuarantine, Reason: policy.ReasonQuarantine, Account: "alice", Text: "shut out"})
			j.Notice(&policy.Notice{Time: now, Kind: policy.NoticeBan, Reason: policy.ReasonRegister}) // the table tells of it
		}
		within(t, "all acts", 30*time.Second, func() bool { return len(acts()) == 4 })
		within(t, "the message", 30*time.Second, func() bool { return round > 0 || j.Health().Events == 1 })
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := len(acts()); n != 4 {
			t.Errorf("round %d: %d acts after the end", round, n)
		}
		j.Close()
	}
}

// TestNoneIsMissing: whatever is published is counted, or counted as lost.
func TestNoneIsMissing(t *testing.T) {
	j := open(t, report.Config{Queue: 2000})
	bus := run(t, j)
	const n = 50_000
	for range n {
		bus.Publish(message(time.Now(), "192.0.2.1", "", policy.Drop, policy.ReasonBan))
	}
	within(t, "all counted or lost", 30*time.Second, func() bool { h := j.Health(); return h.Events+h.LostEvents == n })
	if h := j.Health(); h.LostEvents > 0 {
		q, err := report.ParseQuery(url.Values{"last": {"1h"}}, time.Now().Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if r, err := j.Ask(t.Context(), &q); err != nil || r.Lost != h.LostEvents {
			t.Errorf("%v: the report has %d lost, the journal %d", err, r.Lost, h.LostEvents)
		}
	}
}

func TestClosed(t *testing.T) {
	j := open(t, report.Config{})
	j.Close()
	if err := j.Record(report.Act{Time: noon}); !errors.Is(err, report.ErrNotStored) {
		t.Error(err)
	}
	if r := ask(t, j, ""); r.Trouble == "" || r.Total.Acts != 1 {
		t.Errorf("%+v", r)
	}
}

func TestNotOurs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	store, err := ban.Open(ban.StoreConfig{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	store.Close()
	before, _ := os.ReadFile(path)
	if _, err := report.Open(report.Config{Path: path}); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Error(err)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the file was changed")
	}
}
