package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"sipward/admin"
	"sipward/conf"
	"sipward/policy/ban"
)

// manyBans are bans of n sources; several begin at the same time.
func manyBans(n int, now time.Time) []ban.Record {
	r := rand.New(rand.NewPCG(3, 4))
	records := make([]ban.Record, n)
	for i := range records {
		records[i] = ban.Record{
			Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 32), Kind: ban.Dynamic, Proven: true,
			Start: now.Add(-time.Duration(r.IntN(n/3)) * time.Second).UnixNano(), Until: now.Add(24 * time.Hour).UnixNano(),
			Reason: []string{"register", "scanner"}[i%2], Guard: "register", Origin: "guard", Comment: fmt.Sprint("Number ", i),
		}
	}
	return records
}

// TestBanPages holds the pages to a list that is sorted and cut as a whole.
func TestBanPages(t *testing.T) {
	now := time.Now()
	table, err := ban.New(ban.Config{}, now.UnixNano())
	if err != nil {
		t.Fatal(err)
	}
	records := manyBans(700, now)
	if n := table.Merge(records, now.UnixNano()); n != len(records) {
		t.Fatalf("%d bans", n)
	}
	slices.SortFunc(records, func(a, b ban.Record) int { return banOrder(&a, &b) })
	for _, latest := range []bool{false, true} {
		for _, limit := range []int{1, 7, 100, 699, 700, 701, admin.MaxBans} {
			for match, fits := range map[string]func(ban.Record) bool{
				"":            func(ban.Record) bool { return true },
				"SCANNER":     func(r ban.Record) bool { return r.Reason == "scanner" },
				"number 69":   func(r ban.Record) bool { return strings.Contains(r.Comment, "Number 69") },
				"198.18.1.7":  func(r ban.Record) bool { return strings.HasPrefix(r.Prefix.String(), "198.18.1.7") },
				"2001:db8::1": func(ban.Record) bool { return false },
			} {
				want := slices.DeleteFunc(slices.Clone(records), func(r ban.Record) bool { return !fits(r) })
				if latest {
					slices.Reverse(want)
				}
				q := admin.BanQuery{Limit: limit, Latest: latest, Match: match}
				for got := 0; ; {
					p := banPage(table, &q, now.UnixNano())
					if p.Total != len(want) || len(p.Bans) != min(limit, len(want)-got) {
						t.Fatalf("%+v: %d of %d bans, want %d of %d", q, len(p.Bans), p.Total, min(limit, len(want)-got), len(want))
					}
					for i, b := range p.Bans {
						if b.Prefix != want[got+i].Prefix {
							t.Fatalf("%+v: number %d is %v, want %v", q, i, b.Prefix, want[got+i].Prefix)
						}
					}
					got += len(p.Bans)
					if (p.Next == "") != (got == len(want)) {
						t.Fatalf("%+v: after %d of %d, next is %q", q, got, len(want), p.Next)
					}
					if p.Next == "" {
						break
					}
					last := want[got-1]
					q.After = admin.BanCursor{Start: last.Start, Prefix: last.Prefix}
					if p.Next != q.After.String() {
						t.Fatalf("%+v: next is %q, want %v", q, p.Next, q.After)
					}
				}
			}
		}
	}
	table.Merge([]ban.Record{{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Kind: ban.Manual, Proven: true, Origin: "other"}}, now.UnixNano())
	if p := banPage(table, &admin.BanQuery{Match: "203.0.113.77"}, now.UnixNano()); p.Total != 1 {
		t.Errorf("an address inside a ban finds %+v", p)
	}
	if p := banPage(table, &admin.BanQuery{}, now.Add(25*time.Hour).UnixNano()); p.Total != 1 {
		t.Errorf("of those that have ended %d are shown", p.Total-1)
	}
}

// BenchmarkBanPage is what a page of a full table costs.
func BenchmarkBanPage(b *testing.B) {
	now := time.Now()
	table, err := ban.New(ban.Config{}, now.UnixNano())
	if err != nil {
		b.Fatal(err)
	}
	const bans = 65_536
	table.Merge(manyBans(bans, now), now.UnixNano())
	for _, limit := range []int{200, admin.MaxBans} {
		b.Run(fmt.Sprint("limit=", limit), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if p := banPage(table, &admin.BanQuery{Limit: limit, Latest: true}, now.UnixNano()); p.Total != bans {
					b.Fatal(p.Total)
				}
			}
		})
	}
}

// store puts bans and quarantines where a sipward that is yet to be started finds them.
func (r *running) store(records []ban.Record, quarantines ...ban.Quarantine) {
	r.t.Helper()
	c, err := loadConfiguration(r.config)
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := openState(c.conf, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Close()
	s.bans.Merge(records, time.Now().UnixNano())
	for _, q := range quarantines {
		s.quarantines.Add(q)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	cancel()
	if err := s.bans.Run(ctx); err != nil { // it writes what waits
		r.t.Fatal(err)
	}
}

// TestManyBans: more bans than a page has are all listed, and the dashboard leafs through them.
func TestManyBans(t *testing.T) {
	const bans = admin.MaxBans + 321
	r := prepare(t)
	r.store(manyBans(bans, time.Now()))
	text, hash := admin.NewToken()
	at := fmt.Sprint("127.0.0.1:", freePort(t))
	r.write(strings.Replace(r.text(), "control: {", fmt.Sprintf("control: {listen: [%q], tokens: [%q], ", at, conf.Token{Name: "boss", Role: conf.TokenWrite, Hash: hash}), 1))
	r.begin()
	t.Cleanup(r.end)
	r.cli(0, words("list bans"), fmt.Sprintf("bans: %d sources", bans))
	var l struct{ Bans []admin.Ban }
	if err := json.Unmarshal([]byte(r.cli(0, words("list bans --json"))), &l); err != nil || len(l.Bans) != bans {
		t.Fatalf("%d bans, %v", len(l.Bans), err)
	}
	seen := map[netip.Prefix]bool{}
	for i, b := range l.Bans {
		seen[b.Prefix] = true
		if i > 0 && b.Start.Before(l.Bans[i-1].Start) {
			t.Fatalf("number %d began before the one above it", i)
		}
	}
	if len(seen) != bans {
		t.Errorf("%d different ones among %d", len(seen), bans)
	}
	newest := l.Bans[bans-1]
	r.cli(0, words("top"), "latest bans", show(newest.Prefix))

	b := newBrowser(t)
	b.open("http://" + at + "/#bans")
	b.shows("The firewall in front of your PBX.")
	run(b, chromedp.SendKeys(chromedp.CSS("#token"), text+"\n"))
	b.shows("5,321 bans, 1 to 200 shown")
	b.shows(show(newest.Prefix))
	b.click("Earlier bans")
	b.shows("5,321 bans, 201 to 400 shown")
	b.shows(show(l.Bans[bans-201].Prefix))
	b.shot("bans-pages")
	r.cli(0, words("ban 192.0.2.77 --reason rude")) // on another page than this one
	b.shows("5,322 bans, 201 to 400 shown")
	if n := eval[int](b, `document.querySelectorAll("main tbody tr").length`); n != 200 {
		t.Errorf("%d rows", n)
	}
	b.click("Later bans")
	b.shows("192.0.2.77")
	run(b, chromedp.SendKeys(chromedp.CSS("main input[type=search]"), "Number 532"))
	b.shows("2 bans fit") // 532 and 5320
	b.await(`document.querySelectorAll("main tbody tr").length === 2`)
	r.cli(0, words("unban 198.18.2.20")) // number 532
	b.shows("1 ban fits")
	b.onlyAsks("http://" + at)
}
