package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sipward/admin"
	"sipward/policy/ban"
)

// TestListFilters: of more bans than a page has, and of the other lists, only what is asked for
// is shown.
func TestListFilters(t *testing.T) {
	const bans = 2*admin.MaxBans + 42
	now := time.Now()
	r := prepare(t)
	r.store(manyBans(bans, now),
		ban.Quarantine{Source: netip.MustParsePrefix("192.0.2.7/32"), Account: "1001@example.com", Since: now.UnixNano(), Until: now.Add(time.Hour).UnixNano()},
		ban.Quarantine{Source: netip.MustParsePrefix("2001:db8::/64"), Account: "1002@example.com", Since: now.UnixNano(), Until: now.Add(time.Hour).UnixNano()})
	r.begin()
	t.Cleanup(r.end)
	r.cli(0, words("ban 198.18.0.0/24 --reason rude"))
	r.cli(0, words("allow 192.0.2.0/28"))

	r.cli(0, words("list"), "allow list: 1 entry", "deny list: 1 entry", fmt.Sprintf("bans: %d sources", bans+1), "quarantines: 2 accounts",
		"1001@example.com", "from 192.0.2.7 ", "from 2001:db8::/64")
	shown := func(args, want string, prefixes ...string) {
		t.Helper()
		var l struct {
			Allow, Deny []admin.Entry
			Bans        []admin.Ban
			Quarantines []admin.Quarantine
		}
		if err := json.Unmarshal([]byte(r.cli(0, append(words("list "+args), "--json"))), &l); err != nil {
			t.Fatal(args, err)
		}
		if got := fmt.Sprint(len(l.Allow), len(l.Deny), len(l.Bans), len(l.Quarantines)); got != want {
			t.Errorf("list %s: %s, want %s", args, got, want)
		}
		for _, p := range prefixes {
			if !slices.ContainsFunc(l.Bans, func(b admin.Ban) bool { return show(b.Prefix) == p }) {
				t.Errorf("list %s: %s is not there", args, p)
			}
		}
	}
	shown("192.0.2.7", "1 0 0 1")
	shown("192.0.2.0/24", "1 1 0 1")
	shown("198.18.0.7", "0 0 2 0", "198.18.0.7", "198.18.0.0/24") // what covers it, too
	shown("bans 198.18.1.0/25", "0 0 128 0", "198.18.1.0", "198.18.1.127")
	shown("bans 192.0.2.7", "0 0 0 0")
	shown("allow 192.0.2.128", "0 0 0 0")
	shown("--reason scanner", fmt.Sprint("0 0 ", bans/2, " 0")) // that is two pages
	shown("198.18.1.0/24 --reason scanner,ban", "0 0 128 0")
	shown("--reason ban", "0 0 1 0", "198.18.0.0/24")
	shown("--account 1001", "0 0 0 1")
	shown("quarantines --account 1001@EXAMPLE.com,1002", "0 0 0 2")
	shown("2001:db8::7 --account 1001", "0 0 0 0")

	for args, want := range map[string]string{
		"ban":                        `"ban" is not an address or prefix`,
		"192.0.2.10/24":              "write 192.0.2.0/24 for the network",
		"bans 192.0.2.1 x":           `"x" is too much`,
		"allow --reason scanner":     "--reason is for bans; the list allow has none",
		"bans --account 1001":        "--account is for quarantines; the list bans has none",
		"--account 1 --reason honey": "--account is for quarantines",
	} {
		r.cli(exitUsage, words("list "+args), want)
	}
	r.cli(exitRefused, words("list bans --reason scaner"), `there is no reason "scaner"`)
	if out := r.cli(0, words("list bans 203.0.113.1")); !strings.Contains(out, "bans: 0 sources") {
		t.Error(out)
	}
}
