package report_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sipward/policy"
	"sipward/policy/ban"
	"sipward/policy/event"
	"sipward/report"
)

func act(text string) report.Act {
	return report.Act{Time: noon, Action: report.ActionCommand, Text: text}
}

// TestClockSetBack: what comes after the clock was set back is found at its own time, also
// what comes in minutes that have been counted before.
func TestClockSetBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := open(t, report.Config{Path: path})
	wrong := noon.Add(24 * time.Hour)
	count := func(from time.Time, source string) {
		for i := range 10 {
			at := from.Add(time.Duration(i) * time.Minute)
			j.Count(message(at, source, "1@x", policy.Drop, policy.ReasonBan))
			if err := j.Flush(at); err != nil {
				t.Fatal(err)
			}
		}
	}
	count(wrong, "192.0.2.1")
	count(noon, "192.0.2.2")  // a day back
	count(wrong, "192.0.2.3") // when that day is over
	check := func(when string) {
		t.Helper()
		for at, want := range map[time.Time]map[string]uint64{noon: {"192.0.2.2": 10}, wrong: {"192.0.2.1": 10, "192.0.2.3": 10}} {
			r := ask(t, j, "by=source&from="+at.Format(time.RFC3339)+"&to="+at.Add(10*time.Minute).Format(time.RFC3339))
			got := map[string]uint64{}
			for _, g := range r.Groups {
				got[g.Key[0]] = g.Messages
			}
			if !maps.Equal(got, want) {
				t.Errorf("%s, from %v: %v, want %v", when, at, got, want)
			}
		}
	}
	check("at once")
	if err := j.Flush(wrong.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if h := j.Health(); h.Events != 30 {
		t.Errorf("%d events", h.Events)
	}
	j.Close()
	j = open(t, report.Config{Path: path})
	check("after a restart")
}

func TestCorruptAtStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := open(t, report.Config{Path: path})
	if err := j.Record(act("lost")); err != nil {
		t.Fatal(err)
	}
	j.Close()
	if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	j = open(t, report.Config{Path: path})
	h := j.Health()
	kept, err := os.ReadFile(h.SetAside)
	if err != nil || !strings.HasPrefix(string(kept), "not a database") {
		t.Errorf("%+v: %v", h, err)
	}
	if err := j.Record(act("kept")); err != nil {
		t.Error(err)
	}
	if r := ask(t, j, "acts=true"); len(r.Acts) != 1 || r.Acts[0].Text != "kept" {
		t.Errorf("%+v", r.Acts)
	}
}

func TestCorruptWhileRunning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := open(t, report.Config{Path: path})
	for i := range 300 {
		j.Count(message(noon.Add(time.Duration(i)*time.Minute), "192.0.2.1", strings.Repeat("x", 60), policy.Drop, policy.ReasonBan))
	}
	if err := j.Flush(noon.Add(24 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := j.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(strings.Repeat("\xa5", int(info.Size())-4096)), 4096); err != nil {
		t.Fatal(err)
	}
	f.Close()
	other := open(t, report.Config{Path: path}) // the first one may have pages in its cache
	if _, err := other.Ask(t.Context(), query(t, "last=7d")); err == nil || !strings.Contains(err.Error(), "set aside") {
		t.Errorf("%v", err)
	}
	if h := other.Health(); h.SetAside == "" {
		t.Errorf("%+v", h)
	}
	if err := other.Record(act("goes on")); err != nil {
		t.Error(err)
	}
}

// TestUnreadableMinute: one minute that is not understood spoils no report.
func TestUnreadableMinute(t *testing.T) {
	j := open(t, report.Config{})
	j.Count(message(noon, "192.0.2.1", "", policy.Drop, policy.ReasonBan))
	if err := j.Flush(noon); err != nil {
		t.Fatal(err)
	}
	if err := j.Exec(fmt.Sprintf(`INSERT INTO minutes VALUES (%d, 1, 'edge1', 1, 0, x'0105')`, noon.Unix()/60)); err != nil {
		t.Fatal(err)
	}
	if r := ask(t, j, "last=24h"); r.Unreadable != 1 || r.Total.Messages != 1 {
		t.Errorf("%+v", r)
	}
}

// run starts a journal's work.
func run(t testing.TB, j *report.Journal) *event.Bus {
	t.Helper()
	table, err := ban.New(ban.Config{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	bus := new(event.Bus)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx, bus, table) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	within(t, "listening", 30*time.Second, bus.Active)
	return bus
}

// TestLocked: while another process holds the database nothing waits but what is to be
// written, and everything is there afterwards.
func TestLocked(t *testing.T) {
	for _, when := range []string{"at the start", "later"} {
		t.Run(when, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal.db")
			if err := open(t, report.Config{Path: path}).Close(); err != nil {
				t.Fatal(err)
			}
			db, err := sql.Open("sqlite", path+"?_txlock=exclusive")
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			var j *report.Journal
			if when == "later" {
				j = open(t, report.Config{Path: path, Busy: 10 * time.Millisecond})
			}
			tx, err := db.Begin()
			if err != nil {
				t.Fatal(err)
			}
			if j == nil {
				j = open(t, report.Config{Path: path, Busy: 10 * time.Millisecond})
			}
			bus := run(t, j)
			began := time.Now()
			bus.Publish(message(noon, "192.0.2.1", "", policy.Drop, policy.ReasonBan))
			if err := j.Record(act("waits")); !errors.Is(err, report.ErrNotStored) {
				t.Errorf("%v", err)
			}
			if d := time.Since(began); d > 15*time.Second {
				t.Errorf("a command waited %v", d)
			}
			within(t, "the message in memory", 30*time.Second, func() bool { return j.Health().Events == 1 })
			if h := j.Health(); h.Error == "" || h.Since == 0 || h.Waiting != 1 {
				t.Errorf("%+v", h)
			}
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
			within(t, "written", 20*time.Second, func() bool { h := j.Health(); return h.Error == "" && h.Waiting == 0 })
			if r := ask(t, j, "last=24h"); r.Total.Messages != 1 || r.Total.Acts != 1 || r.Trouble != "" {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestDiskFull works on a file system of half a megabyte that fills up, and gets room.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Skip("needs root, to mount a small file system:", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	j := open(t, report.Config{Path: filepath.Join(dir, "journal.db")})
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	f.Close()
	err = nil
	for i := 0; err == nil && i < 1000; i++ {
		err = j.Record(act(strings.Repeat("x", 500)))
	}
	h := j.Health()
	if !errors.Is(err, report.ErrNotStored) || h.Error == "" || h.Waiting == 0 {
		t.Fatalf("%v, %+v", err, h)
	}
	j.Count(message(noon, "192.0.2.1", "", policy.Drop, policy.ReasonBan))
	if r := ask(t, j, "last=24h"); r.Total.Messages != 1 || r.Total.Acts == 0 {
		t.Errorf("while the disk is full: %+v", r)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := j.Flush(noon); err != nil {
		t.Error(err)
	}
	if h := j.Health(); h.Error != "" || h.Waiting != 0 {
		t.Errorf("%+v", h)
	}
}

func TestRetention(t *testing.T) {
	j := open(t, report.Config{Retention: 24 * time.Hour})
	for i := range 50 {
		at := noon.Add(-time.Duration(i) * time.Hour)
		j.Count(message(at, "192.0.2.1", "", policy.Drop, policy.ReasonBan))
		j.Add(report.Act{Time: at, Action: report.ActionBan})
	}
	if err := j.Flush(noon.Add(-100 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	j.Tidy(noon)
	if r := ask(t, j, "last=30d"); r.Total.Messages != 25 || r.Total.Acts != 25 {
		t.Errorf("%+v", r.Total)
	}
}

// TestMaxBytes: the oldest goes first, and commands stay.
func TestMaxBytes(t *testing.T) {
	const limit = 256 << 10
	j := open(t, report.Config{MaxBytes: limit})
	j.Add(report.Act{Time: noon.Add(-time.Hour * 1000), Action: report.ActionCommand, Text: "stays"})
	for i := range 400 {
		at := noon.Add(-time.Duration(i) * time.Minute)
		for k := range 40 {
			j.Count(message(at, "192.0.2.1", fmt.Sprint(strings.Repeat("x", 40), k), policy.Drop, policy.ReasonBan))
		}
	}
	for i := range 3000 {
		j.Add(report.Act{Time: noon.Add(-time.Duration(i) * time.Minute), Action: report.ActionBan, Text: strings.Repeat("x", 100)})
	}
	if err := j.Flush(noon.Add(-1000 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	j.Tidy(noon)
	j.Tidy(noon)
	r := ask(t, j, "last=60d")
	if h := j.Health(); h.Bytes > limit || h.Bytes < limit/3 || r.Total.Bans == 0 || r.Total.Bans == 3000 {
		t.Errorf("%+v, %+v", h, r.Total)
	}
	if r := ask(t, j, "last=60d&acts=true&action=command"); len(r.Acts) != 1 {
		t.Errorf("%+v", r.Acts)
	}
	if r := ask(t, j, "last=30d&acts=true&action=ban&top=1"); len(r.Acts) != 1 || !r.Acts[0].Time.Equal(noon) {
		t.Errorf("the latest has gone: %+v", r.Acts)
	}
}
