package ban_test

import (
	"database/sql"
	"net/netip"
	"reflect"
	"testing"

	"sipward/policy/ban"
)

func newQuarantines(t testing.TB, s *ban.Store) *ban.Quarantines {
	t.Helper()
	q, err := ban.NewQuarantines(s, start)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func written(t testing.TB, s *ban.Store) {
	t.Helper()
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
}

// Those in force outlive a restart; those that were lifted or have ended do not.
func TestQuarantinesRestart(t *testing.T) {
	path := dbPath(t)
	s := openStore(t, path)
	q := newQuarantines(t, s)
	office, home := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8:1::/64")
	later := ban.Quarantine{Source: office, Account: "bob@example.com", Since: start, Until: start + 2*day}
	sooner := ban.Quarantine{Source: office, Account: "alice\x00'@example.com", Since: start, Until: start + day}
	for _, v := range []ban.Quarantine{later, sooner,
		{Source: home, Account: "bob@example.com", Since: start, Until: start + day},
		{Source: office, Account: "carol@example.com", Since: start - day, Until: start - 1},
	} {
		q.Add(v)
	}
	if n := len(q.Take(home)); n != 1 {
		t.Errorf("%d taken, want 1", n)
	}
	written(t, s)
	s.Close()

	s = openStore(t, path)
	q = newQuarantines(t, s)
	if got, want := q.InForce(start), []ban.Quarantine{sooner, later}; !reflect.DeepEqual(got, want) {
		t.Errorf("after the restart %+v, want %+v", got, want)
	}
	q.Purge(start + day)
	written(t, s)
	s.Close()

	s = openStore(t, path)
	defer s.Close()
	if got := newQuarantines(t, s).InForce(start); len(got) != 1 || got[0] != later {
		t.Errorf("after the purge and a restart %+v, want %+v", got, later)
	}
}

func TestQuarantinesAreCapped(t *testing.T) {
	q := newQuarantines(t, nil)
	for i := range ban.MaxQuarantines + 100 {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		q.Add(ban.Quarantine{Source: netip.PrefixFrom(a, 32), Account: "a@x", Until: start + day})
	}
	if n := len(q.InForce(start)); n != ban.MaxQuarantines {
		t.Errorf("%d are kept, want %d", n, ban.MaxQuarantines)
	}
}

// A database of the layout before there were quarantines gets room for them, and
// keeps its bans.
func TestUpgrade(t *testing.T) {
	path := dbPath(t)
	s := openStore(t, path)
	s.Close()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, stmt := range []string{
		`DROP TABLE quarantines`, `PRAGMA user_version = 1`,
		`INSERT INTO places (account, sources) VALUES ('alice@example.com', '192.0.2.1@1')`,
	} {
		if _, err := db.Exec(stmt); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	for range 2 {
		s = openStore(t, path)
		q := newQuarantines(t, s)
		q.Add(ban.Quarantine{Source: netip.MustParsePrefix("192.0.2.1/32"), Account: "a@x", Until: start + day})
		written(t, s)
		s.Close()
	}
	db, err = sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var places, quarantines int
	if err := db.QueryRow(`SELECT (SELECT count(*) FROM places), (SELECT count(*) FROM quarantines)`).Scan(&places, &quarantines); err != nil {
		t.Fatal(err)
	}
	if places != 1 || quarantines != 1 {
		t.Errorf("%d places and %d quarantines, want one of each", places, quarantines)
	}
}
