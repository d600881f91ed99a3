package report_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sipward/policy"
	"sipward/policy/event"
	"sipward/report"
)

// naive is a journal that keeps everything and counts by looking at all of it.
type naive struct {
	events []event.Event
	acts   []report.Act
}

// values returns what a filter or group of each dimension sees.
func (n *naive) ofEvent(ev *event.Event) map[string]string {
	source := ""
	if a := ev.Source.Addr(); a.Is4() {
		source = a.String()
	} else {
		p, _ := a.Prefix(64)
		source = p.String()
	}
	at := time.Unix(0, ev.Time).UTC()
	return map[string]string{
		"source": source, "account": ev.Account.String(), "guard": ev.Reason.Guard(), "reason": ev.Reason.String(), "method": ev.Method,
		"action": ev.Verdict.String(), "protocol": ev.Protocol.String(), "node": "edge1", "direction": ev.Direction.String(),
		"minute": at.Truncate(time.Minute).Format(time.RFC3339), "hour": at.Truncate(time.Hour).Format(time.RFC3339),
		"day": at.Truncate(24 * time.Hour).Format(time.RFC3339),
	}
}

func (n *naive) ofAct(a *report.Act) map[string]string {
	at := a.Time.UTC()
	protocol := ""
	if a.Guard != "" && a.Guard != "command" {
		protocol = "sip"
	}
	return map[string]string{
		"source": strings.TrimSuffix(a.Source.String(), "/32"), "account": a.Account, "guard": a.Guard, "reason": a.Reason, "method": "",
		"action": string(a.Action), "protocol": protocol, "node": "edge1", "direction": "",
		"minute": at.Truncate(time.Minute).Format(time.RFC3339), "hour": at.Truncate(time.Hour).Format(time.RFC3339),
		"day": at.Truncate(24 * time.Hour).Format(time.RFC3339),
	}
}

func wanted(q *report.Query, at time.Time, source netip.Prefix, v map[string]string) bool {
	if at.Before(q.From) || !at.Before(q.To) {
		return false
	}
	if len(q.Sources) > 0 && !slices.ContainsFunc(q.Sources, source.Overlaps) {
		return false
	}
	for dimension, filter := range map[string][]string{
		"guard": q.Guards, "reason": q.Reasons, "method": q.Methods, "action": q.Actions, "protocol": q.Protocols, "node": q.Nodes, "direction": q.Directions,
	} {
		if len(filter) > 0 && !slices.Contains(filter, v[dimension]) {
			return false
		}
	}
	user, _, _ := strings.Cut(v["account"], "@")
	return len(q.Accounts) == 0 || slices.Contains(q.Accounts, v["account"]) || slices.Contains(q.Accounts, user)
}

// ask returns the figures of each group.
func (n *naive) ask(q *report.Query) (map[string]report.Counts, report.Counts) {
	groups := map[string]report.Counts{}
	var total report.Counts
	key := func(v map[string]string) string {
		var parts []string
		for _, d := range q.By {
			parts = append(parts, v[d])
		}
		return fmt.Sprintf("%q", parts)
	}
	for i := range n.events {
		ev := &n.events[i]
		v := n.ofEvent(ev)
		source, _ := ev.Source.Addr().Prefix(ev.Source.Addr().BitLen())
		if ev.Source.Addr().Is6() {
			source, _ = ev.Source.Addr().Prefix(64)
		}
		if !wanted(q, time.Unix(0, ev.Time), source, v) {
			continue
		}
		g := groups[key(v)]
		for _, c := range []*report.Counts{&g, &total} {
			c.Messages++
			switch ev.Verdict {
			case policy.Pass:
				c.Passed++
			case policy.Reject:
				c.Rejected++
			default:
				c.Dropped++
			}
		}
		groups[key(v)] = g
	}
	for i := range n.acts {
		a := &n.acts[i]
		v := n.ofAct(a)
		if !wanted(q, a.Time, a.Source, v) {
			continue
		}
		g := groups[key(v)]
		for _, c := range []*report.Counts{&g, &total} {
			c.Acts++
			if a.Action == report.ActionBan {
				c.Bans++
			}
		}
		groups[key(v)] = g
	}
	return groups, total
}

func anyEvent(t *rapid.T) event.Event {
	sources := []string{"192.0.2.1", "192.0.2.2", "198.51.100.3", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"}
	accounts := []string{"", "alice@example.com", "alice@example.net", "bob", "=cmd()", "a\"b<c>\x01", "\U0001f4a3"}
	ev := event.Event{
		Time:      noon.Add(-time.Duration(rapid.IntRange(0, 200_000).Draw(t, "ago")) * time.Second).UnixNano(),
		Source:    netip.AddrPortFrom(netip.MustParseAddr(rapid.SampledFrom(sources).Draw(t, "source")), 5060),
		Protocol:  event.Protocol(rapid.IntRange(0, 2).Draw(t, "protocol")),
		Direction: event.Direction(rapid.IntRange(0, 1).Draw(t, "direction")),
		Verdict:   policy.Verdict(rapid.IntRange(0, 3).Draw(t, "verdict")),
		Reason:    policy.Reason(rapid.IntRange(0, policy.NumReasons-1).Draw(t, "reason")),
		Method:    rapid.SampledFrom([]string{"", "REGISTER", "INVITE"}).Draw(t, "method"),
	}
	ev.Account.SetString(rapid.SampledFrom(accounts).Draw(t, "account"))
	return ev
}

func anyAct(t *rapid.T) report.Act {
	a := report.Act{
		Time:   noon.Add(-time.Duration(rapid.IntRange(0, 200_000).Draw(t, "ago")) * time.Second),
		Action: rapid.SampledFrom([]report.Action{report.ActionBan, report.ActionUnban, report.ActionCommand, report.ActionNotice}).Draw(t, "action"),
		Guard:  rapid.SampledFrom([]string{"", "command", "register", "flood"}).Draw(t, "guard"),
		Reason: rapid.SampledFrom([]string{"", "register", "flood", "ban"}).Draw(t, "reason"),
		Source: rapid.SampledFrom([]netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/64"), netip.MustParsePrefix("192.0.2.0/24")}).Draw(t, "prefix"),
	}
	a.Account = rapid.SampledFrom([]string{"", "alice@example.com"}).Draw(t, "account")
	return a
}

func anyQuery(t *rapid.T) string {
	var parts []string
	add := func(name string, words ...string) {
		if rapid.IntRange(0, 3).Draw(t, "whether "+name) == 0 {
			parts = append(parts, name+"="+strings.Join(rapid.SliceOfNDistinct(rapid.SampledFrom(words), 1, min(2, len(words)), rapid.ID).Draw(t, name), ","))
		}
	}
	add("source", "192.0.2.0/24", "2001:db8::/64", "198.51.100.3", "2001:db8::2")
	add("account", "alice", "bob", "alice@example.net")
	add("guard", "register", "flood", "command")
	add("reason", "pass", "register", "flood", "ban", "dns-forged")
	add("method", "REGISTER", "INVITE")
	add("action", "pass", "drop", "ban", "command")
	add("protocol", "sip", "tftp", "dns")
	add("direction", "from-pbx", "from-outside")
	by := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"source", "account", "guard", "reason", "method", "action", "protocol", "node", "direction"}), 0, 3, rapid.ID).Draw(t, "by")
	by = append(by, rapid.SampledFrom([]string{"minute", "hour", "day"}).Draw(t, "time"))
	last := rapid.SampledFrom([]string{"2h", "24h", "3d", "777m"}).Draw(t, "last")
	return strings.Join(append(parts, "last="+last, "by="+strings.Join(by, ",")), "&")
}

// TestAgainstNaive compares the journal with one that looks at every event, with the
// counts in memory, on disk and after a restart.
func TestAgainstNaive(t *testing.T) {
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		path := outer.TempDir() + "/journal.db"
		j := open(outer, report.Config{Path: path})
		defer func() { j.Close() }()
		var n naive
		for _, ev := range rapid.SliceOfN(rapid.Custom(anyEvent), 0, 60).Draw(t, "events") {
			n.events = append(n.events, ev)
			j.Count(&ev)
		}
		for _, a := range rapid.SliceOfN(rapid.Custom(anyAct), 0, 10).Draw(t, "acts") {
			n.acts = append(n.acts, a)
			j.Add(a)
		}
		for range 4 {
			switch rapid.IntRange(0, 2).Draw(t, "then") {
			case 0:
				if err := j.Flush(noon.Add(-time.Hour * 100)); err != nil {
					t.Fatal(err)
				}
			case 1:
				if err := j.Flush(noon); err != nil {
					t.Fatal(err)
				}
				j.Close()
				j = open(outer, report.Config{Path: path})
			}
			text := anyQuery(t)
			q := query(outer, text)
			r := ask(outer, j, text)
			want, total := n.ask(q)
			if r.Total != total || len(r.Groups) != len(want) {
				t.Fatalf("%s: total %+v in %d groups, want %+v in %d", text, r.Total, len(r.Groups), total, len(want))
			}
			var series report.Counts
			for _, p := range r.Series {
				series.Messages += p.Messages
				series.Acts += p.Acts
			}
			if series.Messages != total.Messages || series.Acts != total.Acts {
				t.Fatalf("%s: the series has %+v, want %+v", text, series, total)
			}
			for _, g := range r.Groups {
				if got := want[fmt.Sprintf("%q", g.Key)]; got != g.Counts {
					t.Fatalf("%s: %q has %+v, want %+v", text, g.Key, g.Counts, got)
				}
			}
		}
	})
}

// FuzzSegment: what stands in a damaged database is refused or counted, and does no harm.
func FuzzSegment(f *testing.F) {
	f.Add(report.PackEvents([]event.Event{*message(noon, "192.0.2.1", "alice", policy.Drop, policy.ReasonBan), *message(noon, "2001:db8::1", "", policy.Pass, policy.ReasonPass)}))
	f.Add([]byte{1, 0, 0})
	q := query(f, "by=source,account,reason,minute&source=192.0.2.0/24")
	f.Fuzz(func(_ *testing.T, data []byte) {
		_ = report.ReadSegment(data, q) // an error is fine
	})
}
