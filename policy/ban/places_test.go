package ban_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"sipward/policy/ban"
)

func newPlaces(t testing.TB, cfg ban.PlacesConfig) *ban.Places {
	t.Helper()
	p, err := ban.NewPlaces(cfg, start)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var (
	alice = []byte("alice@example.com")
	bob   = []byte("bob@example.com")
)

func TestPlaces(t *testing.T) {
	p := newPlaces(t, ban.PlacesConfig{PerAccount: 2})
	p.Add(alice, adr("192.0.2.1"), start)
	p.Add(bob, adr("2001:db8::"), start)
	p.Add(nil, adr("192.0.2.1"), start)
	for _, c := range []struct {
		account []byte
		source  string
		now     int64
		want    bool
	}{
		{alice, "192.0.2.1", start, true},
		{alice, "192.0.2.2", start, false},
		{alice, "2001:db8::", start, false},
		{bob, "2001:db8::", start, true},
		{nil, "192.0.2.1", start, false},
		{alice, "192.0.2.1", start + 90*day, true},
		{alice, "192.0.2.1", start + 91*day, false},
	} {
		if got := p.Known(c.account, adr(c.source), c.now); got != c.want {
			t.Errorf("Known(%s, %s, start+%d days) = %v", c.account, c.source, (c.now-start)/day, got)
		}
	}
	p.Add(alice, adr("192.0.2.2"), start+day)
	p.Add(alice, adr("192.0.2.1"), start+2*day) // again, so that .2 is older
	p.Add(alice, adr("192.0.2.3"), start+3*day)
	for source, want := range map[string]bool{"192.0.2.1": true, "192.0.2.2": false, "192.0.2.3": true} {
		if got := p.Known(alice, adr(source), start+3*day); got != want {
			t.Errorf("%s is known: %v", source, got)
		}
	}
}

func TestPlacesAreCapped(t *testing.T) {
	p := newPlaces(t, ban.PlacesConfig{Accounts: 640})
	for i := range 10_000 {
		p.Add(fmt.Appendf(nil, "%d@example.com", i), adr("192.0.2.1"), start+int64(i)*second)
	}
	known, first := 0, -1
	for i := range 10_000 {
		if p.Known(fmt.Appendf(nil, "%d@example.com", i), adr("192.0.2.1"), start) {
			known++
			if first < 0 {
				first = i
			}
		}
	}
	if known > 640 || known < 600 || first < 8000 {
		t.Errorf("%d are known, the oldest is number %d", known, first)
	}
}

func TestPlacesDoNotAllocate(t *testing.T) {
	p := newPlaces(t, ban.PlacesConfig{})
	source := adr("192.0.2.1")
	p.Add(alice, source, start)
	if n := testing.AllocsPerRun(100, func() {
		p.Add(alice, source, start+hour)
		p.Known(alice, source, start)
		p.Known(bob, source, start)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestPlacesRestart(t *testing.T) {
	path := dbPath(t)
	store := openStore(t, path)
	p := newPlaces(t, ban.PlacesConfig{Store: store, PerAccount: 3})
	for i := range 5 {
		p.Add(alice, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), start+int64(i)*second)
	}
	p.Add(bob, adr("2001:db8:1::"), start)
	if err := store.Sync(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.DB().Exec(`INSERT INTO places VALUES ('eve', 'nonsense'), ('mallory', '192.0.2.1@x'), ('trent', '')`); err != nil {
		t.Fatal(err)
	}
	store.Close()

	store = openStore(t, path)
	p = newPlaces(t, ban.PlacesConfig{Store: store, PerAccount: 3})
	for i := range 5 {
		if got := p.Known(alice, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), start); got != (i >= 2) {
			t.Errorf("place %d is known: %v", i, got)
		}
	}
	if !p.Known(bob, adr("2001:db8:1::"), start) {
		t.Error("an IPv6 place is lost")
	}
	if n := store.Health().BadRows; n != 3 {
		t.Errorf("%d bad rows", n)
	}
}

// TestPlacesInNoHurry registers a town at once: a few hundred places are written at a
// time, bans do not wait behind them, and the rest is on disk when sipward stops.
func TestPlacesInNoHurry(t *testing.T) {
	const accounts = 5000
	path := dbPath(t)
	table, store := withStore(t, path, ban.Config{})
	p := newPlaces(t, ban.PlacesConfig{Store: store})
	for i := range accounts {
		p.Add(fmt.Appendf(nil, "%d@example.com", i), adr("192.0.2.1"), start)
	}
	stop := running(t, table)
	mustAdd(t, table, block("192.0.2.9/32", start, hour), start)
	within(t, "some places are written", 30*time.Second, func() bool { return rows(t, store, "places") > 0 })
	if n := rows(t, store, "bans"); n != 1 {
		t.Errorf("%d bans on disk beside the first places, want 1", n)
	}
	if n := rows(t, store, "places"); n > accounts/2 {
		t.Errorf("%d places written at once", n)
	}
	stop()
	if n := rows(t, store, "places"); n != accounts {
		t.Errorf("%d places on disk after the stop, want %d", n, accounts)
	}
}

// TestPlacesLoadedLate merges what was learnt while the database was locked.
func TestPlacesLoadedLate(t *testing.T) {
	path := dbPath(t)
	store := openStore(t, path)
	p := newPlaces(t, ban.PlacesConfig{Store: store})
	p.Add(alice, adr("192.0.2.1"), start)
	p.Add(bob, adr("192.0.2.1"), start)
	if err := store.Sync(); err != nil {
		t.Fatal(err)
	}
	store.Close()

	release := lockDatabase(t, path)
	store = openStore(t, path)
	p = newPlaces(t, ban.PlacesConfig{Store: store})
	p.Add(alice, adr("192.0.2.2"), start)
	release()
	if err := store.Sync(); err != nil {
		t.Fatal(err)
	}
	if !p.Known(alice, adr("192.0.2.1"), start) || !p.Known(alice, adr("192.0.2.2"), start) || !p.Known(bob, adr("192.0.2.1"), start) {
		t.Error("a place is missing")
	}
}

func TestLists(t *testing.T) {
	path := dbPath(t)
	store := openStore(t, path)
	office := ban.ListEntry{Prefix: pfx("192.0.2.0/24"), Comment: "office", Created: start}
	carrier := ban.ListEntry{Prefix: pfx("2001:db8::/32"), Comment: "carrier", Created: start + 1}
	for _, e := range []ban.ListEntry{carrier, office, {Prefix: pfx("198.51.100.1/32")}} {
		if err := store.AddListEntry("allow", e); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.AddListEntry("deny", office); err != nil {
		t.Fatal(err)
	}
	if had, err := store.RemoveListEntry("allow", pfx("198.51.100.1/32")); !had || err != nil {
		t.Error(had, err)
	}
	if had, err := store.RemoveListEntry("allow", pfx("198.51.100.1/32")); had || err != nil {
		t.Error(had, err)
	}
	if err := store.AddListEntry("allow", ban.ListEntry{}); err == nil {
		t.Error("an entry without a prefix was accepted")
	}
	store.Close()
	store = openStore(t, path)
	if got := store.ListEntries("allow"); !slices.Equal(got, []ban.ListEntry{office, carrier}) {
		t.Errorf("%+v", got)
	}
	if got := store.ListEntries("deny"); !slices.Equal(got, []ban.ListEntry{office}) {
		t.Errorf("%+v", got)
	}
	if got := store.ListEntries("nothing"); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}
