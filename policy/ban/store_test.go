package ban_test

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sipward/policy/ban"
)

func openStore(t testing.TB, path string) *ban.Store {
	t.Helper()
	s, err := ban.Open(ban.StoreConfig{Path: path, Busy: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func withStore(t testing.TB, path string, cfg ban.Config) (*ban.Table, *ban.Store) {
	t.Helper()
	cfg.Store = openStore(t, path)
	return newTable(t, cfg), cfg.Store
}

// running runs the table until the returned function is called.
func running(t testing.TB, table *ban.Table) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- table.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func within(t testing.TB, what string, d time.Duration, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(d); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

func dbPath(t testing.TB) string { return filepath.Join(t.TempDir(), "bans.db") }

func TestRestart(t *testing.T) {
	path := dbPath(t)
	table, store := withStore(t, path, ban.Config{Threshold: 3})
	in := block("192.0.2.1/32", start, hour)
	in.Evidence, in.Comment, in.Guard = []byte(`{"failures":10}`), "it's \"quoted\"", "register"
	mustAdd(t, table, in, start)
	mustAdd(t, table, block("192.0.2.2/32", start, second), start)
	mustAdd(t, table, guess("192.0.2.3/32", start, minute), start)
	mustAdd(t, table, command("2001:db8::/32", 0), start)
	mustAdd(t, table, block("2001:db8:5::/64", start, hour), start)
	mustAdd(t, table, ban.Record{Prefix: pfx("192.0.2.4/32"), Kind: ban.Permanent, Proven: true}, start)
	mustAdd(t, table, command("192.0.2.5/32", 0), start)
	if _, err := table.Remove(pfx("192.0.2.5/32"), start); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}

	now := start + 2*second
	store = openStore(t, path)
	again := newTableAt(t, ban.Config{Threshold: 3, Store: store}, now)
	if !store.Health().OK() {
		t.Errorf("%+v", store.Health())
	}
	for a, want := range map[string]bool{
		"192.0.2.1": true, "192.0.2.2": false, "192.0.2.3": true, "192.0.2.4": true, "192.0.2.5": false,
		"2001:db8:9::1": true,
	} {
		if again.Banned(adr(a), now) != want {
			t.Errorf("%s is banned: %v", a, !want)
		}
	}
	was, _ := table.Lookup(adr("192.0.2.1"), start)
	is, _ := again.Lookup(adr("192.0.2.1"), start)
	if was.Comment != is.Comment || was.Guard != is.Guard || was.Reason != is.Reason || was.Origin != is.Origin ||
		was.Start != is.Start || was.Until != is.Until || was.Blocks != is.Blocks || is.Blocks != 1 || !is.Proven ||
		string(is.Evidence) != `{"failures":10}` {
		t.Errorf("came back as\n%+v, was\n%+v", is, was)
	}
	if r, _ := again.Lookup(adr("2001:db8:5::1"), now); r.Prefix != pfx("2001:db8::/32") {
		t.Errorf("%+v", r)
	}
	if s := again.Stats(); s.Expired != 0 {
		t.Errorf("what ended while nobody ran is reported: %+v", s)
	}
	// The ladder goes on, also of one whose block was over before the restart.
	if n := again.Blocks(adr("192.0.2.2"), now); n != 1 {
		t.Errorf("%d blocks are remembered", n)
	}
	for i, a := range []string{"192.0.2.2/32", "192.0.2.2/32"} {
		at := now + int64(i)*day
		if in := mustAdd(t, again, block(a, at, hour), at); (in.Kind == ban.Permanent) != (i == 1) {
			t.Errorf("block %d: %+v", i+2, in)
		}
	}
}

// TestManualIsOnDisk reads the database with another connection.
func TestManualIsOnDisk(t *testing.T) {
	path := dbPath(t)
	table, store := withStore(t, path, ban.Config{})
	other, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	count := func(query string) (n int) {
		if err := other.QueryRow(query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	mustAdd(t, table, command("192.0.2.1/32", 0), start)
	if n := count(`SELECT count(*) FROM bans WHERE prefix = '192.0.2.1/32' AND kind = 2`); n != 1 {
		t.Error("Add returned before the ban was on disk")
	}
	if _, err := table.Remove(pfx("192.0.2.1/32"), start); err != nil || count(`SELECT count(*) FROM bans`) != 0 {
		t.Errorf("Remove returned before the ban had left the disk: %v", err)
	}
	e := ban.ListEntry{Prefix: pfx("192.0.2.0/24"), Comment: "office", Created: start}
	if err := store.AddListEntry("allow", e); err != nil || count(`SELECT count(*) FROM lists`) != 1 {
		t.Errorf("AddListEntry: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestDynamicIsOnDiskSoon(t *testing.T) {
	path := dbPath(t)
	table, store := withStore(t, path, ban.Config{})
	defer running(t, table)()
	mustAdd(t, table, block("192.0.2.1/32", start, hour), start)
	begun := time.Now()
	within(t, "a dynamic ban is written", 30*time.Second, func() bool { return rows(t, store, "bans") == 1 })
	t.Logf("on disk after %v", time.Since(begun))
}

func rows(t testing.TB, s *ban.Store, table string) (n int) {
	t.Helper()
	if err := s.DB().QueryRow(`SELECT count(*) FROM ` + table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestStoreAgainstTable restarts after random changes and compares.
func TestStoreAgainstTable(t *testing.T) {
	path := dbPath(t)
	now := start
	table, store := withStore(t, path, ban.Config{Threshold: 4, MaxEntries: 40})
	for round := range 8 {
		stop := running(t, table)
		for i := range 300 {
			k := (i*7919 + round*104729) % 97
			now += second
			switch k % 5 {
			case 0:
				_, _ = table.Remove(pfx(nth(k/2)), now)
			case 1:
				_, _ = table.Add(guess(nth(k), now, int64(k)*minute+1), now)
			default:
				_, _ = table.Add(block(nth(k), now, int64(k)*second*9+1), now)
			}
			if i%40 == 0 {
				table.Sweep(now)
			}
		}
		stop()
		table.Sweep(now)
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		again, next := withStore(t, path, ban.Config{Threshold: 4, MaxEntries: 40})
		want := contents(table)
		got := contents(again)
		for p, until := range want {
			if u, ok := got[p]; !ok || u != until {
				t.Errorf("round %d: %v until %d came back as %v, %d", round, p, until, ok, u)
			}
		}
		if len(got) != len(want) {
			t.Errorf("round %d: %d bans came back of %d", round, len(got), len(want))
		}
		for k := range 97 {
			a := pfx(nth(k)).Addr()
			if g, w := again.Blocks(a, now), table.Blocks(a, now); g != w {
				t.Errorf("round %d: %v has %d blocks, had %d", round, a, g, w)
			}
		}
		table, store = again, next
	}
}

func TestCorrupt(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"garbage":   func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("not SQLite ", 1000)), 0o600) },
		"torn page": func(path string) error { return overwrite(path, 4096, 64<<10) },
		"wiped":     func(path string) error { return overwrite(path, 0, 200<<10) },
		"no header": func(path string) error { return overwrite(path, 0, 100) },
		"cut off":   func(path string) error { return os.Truncate(path, 40<<10) },
	} {
		t.Run(name, func(t *testing.T) {
			path := dbPath(t)
			fillStore(t, path, 2000)
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			table, store := withStore(t, path, ban.Config{})
			h := store.Health()
			if !strings.HasPrefix(h.SetAside, path+".corrupt-") || h.Error != "" || !h.Loaded {
				t.Errorf("%+v", h)
			}
			if _, err := os.Stat(h.SetAside); err != nil {
				t.Error(err)
			}
			mustAdd(t, table, command("192.0.2.1/32", 0), start)
			store.Close()
			if again, _ := withStore(t, path, ban.Config{}); !again.Banned(adr("192.0.2.1"), start) {
				t.Error("the new database does not work")
			}
		})
	}
}

func overwrite(path string, from, n int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(make([]byte, n), from); err != nil {
		return err
	}
	return f.Close()
}

// TestCorruptWhileRunning spoils the file under a running table: memory has
// everything, so nothing is lost.
func TestCorruptWhileRunning(t *testing.T) {
	path := dbPath(t)
	table, store := withStore(t, path, ban.Config{})
	for i := range 2000 {
		mustAdd(t, table, block(nth(i), start, hour), start)
	}
	if err := store.AddListEntry("deny", ban.ListEntry{Prefix: pfx("192.0.2.0/24")}); err != nil {
		t.Fatal(err)
	}
	store.DB().SetMaxOpenConns(1) // what follows is for one connection
	for _, q := range []string{`PRAGMA wal_checkpoint(TRUNCATE)`, `PRAGMA cache_size = 1`, `PRAGMA shrink_memory`} {
		if _, err := store.DB().Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	if err := overwrite(path, 0, 200<<10); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, table, command("198.51.100.1/32", 0), start)
	if h := store.Health(); h.SetAside == "" || h.Error != "" {
		t.Errorf("%+v", h)
	}
	store.Close()
	again, store := withStore(t, path, ban.Config{})
	if n := len(contents(again)); n != 2001 {
		t.Errorf("%d of 2001 bans are on disk", n)
	}
	if len(store.ListEntries("deny")) != 1 {
		t.Error("the list entry is lost")
	}
}

func TestNotOurs(t *testing.T) {
	for name, pragma := range map[string]string{"newer sipward": "user_version = 99", "another program": "application_id = 7", "database of another": "application_id = 0; PRAGMA user_version = 0"} {
		t.Run(name, func(t *testing.T) {
			path := dbPath(t)
			fillStore(t, path, 1)
			db, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec("PRAGMA " + pragma); err != nil {
				t.Fatal(err)
			}
			db.Close()
			if _, err := ban.Open(ban.StoreConfig{Path: path}); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("opened: %v", err)
			}
			if left, _ := filepath.Glob(path + ".corrupt*"); len(left) != 0 {
				t.Error("it was set aside")
			}
		})
	}
	if _, err := ban.Open(ban.StoreConfig{Path: filepath.Join(t.TempDir(), "no", "bans.db")}); err == nil {
		t.Error("opened in a folder that is not there")
	}
}

func TestStrangePath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?c#d%41&_pragma=x")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "bans.db")
	table, store := withStore(t, path, ban.Config{})
	mustAdd(t, table, command("192.0.2.1/32", 0), start)
	if info, err := os.Stat(path); err != nil || info.Size() == 0 && rows(t, store, "bans") != 1 {
		t.Error(err)
	}
	if wal, err := os.Stat(path + "-wal"); err != nil || wal.Size() == 0 {
		t.Error("SQLite writes somewhere else:", err)
	}
}

// TestDatabaseFull lets the database reach its end by SQLite's own limit.
func TestDatabaseFull(t *testing.T) {
	table, store := withStore(t, dbPath(t), ban.Config{})
	store.DB().SetMaxOpenConns(1) // the limit belongs to a connection
	var pages int
	if err := store.DB().QueryRow(`PRAGMA page_count`).Scan(&pages); err != nil {
		t.Fatal(err)
	}
	limit(t, store, pages+3)
	fullThenRoom(t, table, store, func() { limit(t, store, 1<<20) })
}

func limit(t *testing.T, s *ban.Store, pages int) {
	t.Helper()
	var n int
	if err := s.DB().QueryRow(`PRAGMA max_page_count = ` + strconv.Itoa(pages)).Scan(&n); err != nil {
		t.Fatal(err)
	}
}

// TestDiskFull fills a small file system of its own.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a tmpfs; TestDatabaseFull goes on without")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skip("cannot mount a tmpfs:", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	table, store := withStore(t, filepath.Join(dir, "bans.db"), ban.Config{})
	fullThenRoom(t, table, store, func() {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=64m"); err != nil {
			t.Fatal(err)
		}
	})
	store.Close() // before the file system goes
}

// TestDiskFullAtStart has bans on a disk that is too full to open them.
func TestDiskFullAtStart(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a tmpfs")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Skip("cannot mount a tmpfs:", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	path, ballast := filepath.Join(dir, "bans.db"), filepath.Join(dir, "ballast")
	fillStore(t, path, 100)
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for _, err = f.Write(make([]byte, 4096)); err == nil; {
		_, err = f.Write(make([]byte, 4096))
	}
	f.Close()

	table, store := withStore(t, path, ban.Config{})
	if h := store.Health(); h.OK() || !h.Loaded {
		t.Errorf("%+v", h)
	}
	defer store.Close()
	if n := len(contents(table)); n != 100 {
		t.Errorf("%d bans are in force while nothing can be written, want 100", n)
	}
	records, _ := table.Snapshot()
	if _, err := table.Remove(records[0].Prefix, start); !errors.Is(err, ban.ErrNotStored) {
		t.Errorf("a command is told %v", err)
	}
	stop := running(t, table)
	mustAdd(t, table, block("192.0.2.1/32", start, hour), start)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	within(t, "all is written", 20*time.Second, func() bool { h := store.Health(); return h.OK() && h.Pending == 0 })
	stop()
	steps := blocksOf(table)
	store.Close()
	table, store = withStore(t, path, ban.Config{})
	defer store.Close()
	if n := len(contents(table)); n != 100 { // one was lifted, one is new
		t.Errorf("after a restart there are %d bans, want 100", n)
	}
	if again := blocksOf(table); !maps.Equal(steps, again) {
		t.Errorf("steps on the ladder were %v and are %v", steps, again)
	}
}

func blocksOf(table *ban.Table) map[netip.Prefix]int {
	n := map[netip.Prefix]int{}
	records, _ := table.Snapshot()
	for _, r := range records {
		n[r.Prefix] = table.Blocks(r.Prefix.Addr(), start)
	}
	return n
}

// TestReadOnlyAtStart: a disk that was made read-only because it failed keeps sipward from
// writing, and nothing else. A folder that never held a database is a mistake.
func TestReadOnlyAtStart(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a tmpfs")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skip("cannot mount a tmpfs:", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	path := filepath.Join(dir, "bans.db")
	fillStore(t, path, 100)
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	table, store := withStore(t, path, ban.Config{})
	if h := store.Health(); h.OK() || !h.Loaded || h.Error == "" || len(contents(table)) != 100 {
		t.Errorf("%+v, %d bans", h, len(contents(table)))
	}
	if _, err := table.Add(command("198.51.100.1/32", 0), start); !errors.Is(err, ban.ErrNotStored) {
		t.Errorf("a command is told %v", err)
	}
	store.Close()
	if _, err := ban.Open(ban.StoreConfig{Path: filepath.Join(dir, "other.db")}); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("a folder without a database gives %v", err)
	}
}

// fullThenRoom adds more bans than fit on the disk, and then makes room.
func fullThenRoom(t *testing.T, table *ban.Table, store *ban.Store, room func()) {
	t.Helper()
	stop := running(t, table)
	for i := range 3000 {
		mustAdd(t, table, block(nth(i), start, hour), start)
	}
	within(t, "the full disk is noticed", 30*time.Second, func() bool { return store.Health().Error != "" })
	in, err := table.Add(command("198.51.100.1/32", 0), start)
	if !errors.Is(err, ban.ErrNotStored) || in.Kind != ban.Manual {
		t.Errorf("a command is told %v, %+v", err, in)
	}
	h := table.Health()
	if h.OK() || h.Since == 0 || h.Errors == 0 || h.Pending == 0 {
		t.Errorf("%+v", h)
	}
	t.Log(h.Error)
	if !table.Banned(adr("198.51.100.1"), start) || len(contents(table)) != 3001 {
		t.Error("memory does not go on")
	}
	room()
	within(t, "it is written after all", 30*time.Second, func() bool { h := store.Health(); return h.OK() && h.Pending == 0 })
	if n := rows(t, store, "bans"); n != 3001 {
		t.Errorf("%d rows", n)
	}
	stop()
}

// lockDatabase locks the database as another process would.
func lockDatabase(t *testing.T, path string) (release func()) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	for _, q := range []string{`PRAGMA locking_mode = EXCLUSIVE`, `BEGIN EXCLUSIVE`} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	return func() { db.Close() }
}

func TestLockedWhileRunning(t *testing.T) {
	path := dbPath(t)
	table, store := withStore(t, path, ban.Config{})
	stop := running(t, table)
	defer stop()
	mustAdd(t, table, command("192.0.2.1/32", 0), start)

	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(`BEGIN IMMEDIATE`); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, table, block("192.0.2.2/32", start, hour), start)
	if _, err := table.Add(command("192.0.2.3/32", 0), start); !errors.Is(err, ban.ErrNotStored) {
		t.Errorf("a command is told %v", err)
	}
	if err := store.AddListEntry("deny", ban.ListEntry{Prefix: pfx("192.0.2.9/32")}); !errors.Is(err, ban.ErrNotStored) {
		t.Errorf("a command is told %v", err)
	}
	if h := store.Health(); !strings.Contains(h.Error, "locked") {
		t.Errorf("%+v", h)
	}
	if !table.Banned(adr("192.0.2.2"), start) || !table.Banned(adr("192.0.2.3"), start) || len(store.ListEntries("deny")) != 1 {
		t.Error("memory does not go on")
	}
	if _, err := db.Exec(`ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	within(t, "it is written after all", 30*time.Second, func() bool { return store.Health().OK() && rows(t, store, "bans") == 3 })
}

// TestCommandReturnsDuringBans commands while bans come without a pause.
func TestCommandReturnsDuringBans(t *testing.T) {
	table, _ := withStore(t, dbPath(t), ban.Config{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_, _ = table.Add(block(nth(i%50_000), start+int64(i/50_000)*2*second, hour), start)
				time.Sleep(50 * time.Microsecond)
			}
		}
	})
	for i := range 5 {
		begun := time.Now()
		mustAdd(t, table, command(strings.Replace(nth(i), "10.", "11.", 1), 0), start)
		t.Log("a command took", time.Since(begun))
	}
	close(stop)
	wg.Wait()
}

// TestLockedAtStart starts while another process has locked the database.
func TestLockedAtStart(t *testing.T) {
	path := dbPath(t)
	first, store := withStore(t, path, ban.Config{Threshold: 3})
	mustAdd(t, first, block("192.0.2.1/32", start, hour), start)
	mustAdd(t, first, block("192.0.2.4/32", start, hour), start)
	mustAdd(t, first, command("192.0.2.2/32", 0), start)
	mustAdd(t, first, command("192.0.2.3/32", 0), start)
	if err := store.AddListEntry("allow", ban.ListEntry{Prefix: pfx("198.51.100.0/24")}); err != nil {
		t.Fatal(err)
	}
	store.Close()

	release := lockDatabase(t, path)
	table, store := withStore(t, path, ban.Config{Threshold: 3})
	if h := store.Health(); h.OK() || h.Loaded || h.Error == "" {
		t.Errorf("%+v", h)
	}
	select {
	case <-store.Ready():
		t.Error("ready while locked")
	default:
	}
	sub := table.Subscribe(100)
	defer sub.Close()
	// Meanwhile life goes on: a new ban, a step of a source that the database
	// knows, an unban of one that only the database knows.
	if _, err := table.Add(command("203.0.113.1/32", 0), start); !errors.Is(err, ban.ErrNotStored) {
		t.Error(err)
	}
	mustAdd(t, table, block("192.0.2.1/32", start+2*hour, hour), start+2*hour)
	defer running(t, table)()
	release()
	select {
	case <-store.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("not loaded after the lock was released")
	}
	within(t, "everything is loaded and written", 30*time.Second, func() bool { return store.Health().OK() && store.Health().Pending == 0 })
	for _, a := range []string{"192.0.2.2", "192.0.2.3", "203.0.113.1"} {
		if !table.Banned(adr(a), start) {
			t.Errorf("%s is not banned", a)
		}
	}
	if n := table.Blocks(adr("192.0.2.1"), start+2*hour); n != 2 {
		t.Errorf("%d steps, one before and one during the lock", n)
	}
	if len(store.ListEntries("allow")) != 1 {
		t.Error("the list entry is missing")
	}
	if c := <-sub.C(); c.Kind != ban.Added {
		t.Errorf("%+v", c)
	}
}

func TestPurge(t *testing.T) {
	table, store := withStore(t, dbPath(t), ban.Config{})
	for _, r := range []ban.Record{
		block("192.0.2.1/32", start, minute), guess("192.0.2.2/32", start, minute), block("192.0.2.3/32", start, day), command("192.0.2.4/32", 0),
	} {
		r.Evidence = []byte("{}")
		mustAdd(t, table, r, start)
	}
	for _, c := range []struct {
		at             int64
		bans, evidence int
	}{{0, 4, 4}, {hour, 3, 2}, {2 * day, 3, 1}, {31 * day, 1, 1}} {
		if err := store.Purge(start + c.at); err != nil {
			t.Fatal(err)
		}
		if b, e := rows(t, store, "bans"), rows(t, store, "evidence"); b != c.bans || e != c.evidence {
			t.Errorf("after %v: %d bans and %d pieces of evidence", time.Duration(c.at), b, e)
		}
	}
}

// TestTooMuchWaits has more changes than may wait; what is on disk afterwards is
// what is in memory all the same.
func TestTooMuchWaits(t *testing.T) {
	path := dbPath(t)
	table, store := withStore(t, path, ban.Config{})
	places := newPlaces(t, ban.PlacesConfig{Store: store})
	places.Add(alice, adr("192.0.2.1"), start)
	if err := store.AddListEntry("deny", ban.ListEntry{Prefix: pfx("192.0.2.0/24")}); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		mustAdd(t, table, block(nth(i), start, hour), start)
	}
	if err := store.Sync(); err != nil {
		t.Fatal(err)
	}
	store.LimitPending(50)
	for i := range 100 {
		if _, err := table.Remove(pfx(nth(i)), start); err != nil {
			t.Fatal(err)
		}
	}
	for i := 1000; i < 1200; i++ {
		r := block(nth(i), start, hour)
		r.Evidence = []byte("{}")
		mustAdd(t, table, r, start)
	}
	if n := store.Health().Pending; n > 50 {
		t.Errorf("%d wait", n)
	}
	if err := store.Sync(); err != nil {
		t.Fatal(err)
	}
	store.Close()
	again, store := withStore(t, path, ban.Config{})
	if !maps.Equal(contents(again), contents(table)) {
		t.Error("the disk has something else than memory")
	}
	if r, _ := again.Lookup(pfx(nth(1000)).Addr(), start); string(r.Evidence) != "{}" {
		t.Error("evidence is lost")
	}
	if len(store.ListEntries("deny")) != 1 || !newPlaces(t, ban.PlacesConfig{Store: store}).Known(alice, adr("192.0.2.1"), start) {
		t.Error("a list entry or a place is lost")
	}
}

func TestClosed(t *testing.T) {
	table, store := withStore(t, dbPath(t), ban.Config{})
	store.Close()
	if _, err := table.Add(command("192.0.2.1/32", 0), start); !errors.Is(err, ban.ErrNotStored) {
		t.Error(err)
	}
	if r, ok := table.Lookup(adr("192.0.2.1"), start); !ok || r.Evidence != nil {
		t.Errorf("%+v", r)
	}
}

func TestBadRows(t *testing.T) {
	path := dbPath(t)
	fillStore(t, path, 10)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{
		`INSERT INTO bans VALUES ('nonsense', 0, 1, 1, 0, '', '', '', '', '', 9223372036854775807)`,
		`INSERT INTO bans VALUES ('0.0.0.0/0', 2, 1, 1, 0, '', '', '', '', '', 9223372036854775807)`,
		`INSERT INTO bans VALUES ('192.0.2.1/32', 1, 0, 1, 0, '', '', '', '', '', 9223372036854775807)`,
		`INSERT INTO bans VALUES ('192.0.2.2/32', 2, 1, 1, 0, '', '', '', '', '1 x', 9223372036854775807)`,
		`INSERT INTO bans VALUES ('192.0.2.3/32', 9, 1, 1, 0, '', '', '', '', '', 9223372036854775807)`,
		`INSERT INTO bans VALUES ('192.0.2.4/32', 2, 'x', 1, 0, '', '', '', '', '', 9223372036854775807)`,
		`INSERT INTO lists VALUES ('deny', 'nonsense', '', 0)`,
	} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	table, store := withStore(t, path, ban.Config{})
	if n := len(contents(table)); n != 10 || store.Health().BadRows != 7 {
		t.Errorf("%d bans, %+v", n, store.Health())
	}
}

// TestForgedFloodSparesTheDisk makes unproven bans as fast as a forger can.
func TestForgedFloodSparesTheDisk(t *testing.T) {
	table, store := withStore(t, dbPath(t), ban.Config{MaxEntries: 5000})
	for i := range 20_000 {
		mustAdd(t, table, guess(nth(i), start, 5*minute), start)
	}
	mustAdd(t, table, block("192.0.2.1/32", start, hour), start)
	if n := store.Health().Pending; n > 200 {
		t.Errorf("%d rows wait", n)
	}
	if err := store.Sync(); err != nil {
		t.Fatal(err)
	}
	if n := rows(t, store, "bans"); n == 0 || n > 200 {
		t.Errorf("%d rows", n)
	}
	if s := table.Stats(); s.Unstored < 19_000 || s.Unproven != 4999 {
		t.Errorf("%+v", s)
	}
}
