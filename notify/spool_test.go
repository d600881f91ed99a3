package notify_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sipward/notify"
)

const (
	victimDir = "NOTIFY_TEST_DIR"
	victimURL = "NOTIFY_TEST_URL"
	crowd     = 20 // attacks that a victim tells of
)

func victimSettings(url string) notify.Settings {
	s := settings(notify.Channel{Type: notify.Webhook, URL: url, Secret: "k"})
	s.Sources, s.Quiet = crowd, time.Second
	return s
}

// victim is a process that tells of attacks until it is killed. It says when all are
// taken.
func victim(dir, url string) {
	n, err := notify.New(notify.Config{Dir: dir, Node: "victim", IPv6Bits: 64, Log: slog.New(slog.DiscardHandler), Settings: victimSettings(url)})
	if err != nil {
		panic(err)
	}
	go func() {
		for i := range crowd {
			n.Change(banned(addr(i)))
		}
		for n.Status().Attacks+int(n.Status().Channels[0].Delivered) == 0 || n.Status().Channels[0].Waiting < crowd {
			time.Sleep(time.Millisecond)
		}
		fmt.Println("taken")
	}()
	panic(n.Run(context.Background()))
}

// A process is killed while its receiver is down. The next one tells everything: each
// attack once when it began and once when it ended.
func TestKill(t *testing.T) {
	r := newReceiver(t, "k")
	r.mu.Lock()
	r.answer = func(int) (int, http.Header) { return 503, nil }
	r.mu.Unlock()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimDir+"="+dir, victimURL+"="+r.URL)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	word := make([]byte, 6)
	_, err = out.Read(word)
	time.Sleep(rand.N(1300 * time.Millisecond)) // before, while or after the attacks end
	cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
	if err != nil || string(word[:5]) != "taken" {
		t.Fatalf("the victim says %q, %v", word, err)
	}
	r.mu.Lock()
	r.answer = nil
	r.mu.Unlock()
	n := start(t, dir, victimSettings(r.URL))
	r.await(2 * crowd)
	poll(t, func() error {
		if s := n.Status(); s.Attacks > 0 || s.Channels[0].Waiting > 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	ids, told := map[string]int{}, map[string]int{}
	for _, ev := range r.events() {
		ids[ev.ID]++
		told[ev.Source+" "+ev.Phase]++
	}
	for id, n := range ids {
		if n > 1 {
			t.Errorf("%s came %d times", id, n)
		}
	}
	for i := range crowd {
		for _, phase := range []string{notify.PhaseBegin, notify.PhaseEnd} {
			if n := told[addr(i).String()+" "+phase]; n != 1 {
				t.Errorf("%v %s was told %d times", addr(i), phase, n)
			}
		}
	}
}

// A full spool loses the oldest, counts them, and says so with the next delivery.
func TestSpoolIsBounded(t *testing.T) {
	r := newReceiver(t, "")
	r.answer = func(int) (int, http.Header) { return 500, nil }
	s := settings(notify.Channel{Type: notify.Webhook, URL: r.URL})
	s.SpoolSize, s.Sources, s.Quiet = 30, 1000, time.Hour
	dir := t.TempDir()
	n := start(t, dir, s)
	for i := range 100 {
		n.Change(banned(addr(i)))
	}
	poll(t, func() error {
		if c := n.channel("ops"); c.Waiting != 30 || c.Full != 70 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	if files, _ := os.ReadDir(filepath.Join(dir, "ops")); len(files) != 30 {
		t.Errorf("%d files", len(files))
	}
	r.mu.Lock()
	r.answer = nil
	r.mu.Unlock()
	all := r.await(30)
	if last := all[len(all)-1]; last.Source != addr(99).String() {
		t.Errorf("the latest one is of %s", last.Source)
	}
	lost := uint64(0)
	for _, p := range r.packets {
		lost += p.Lost
	}
	if lost != 70 {
		t.Errorf("%d are said to be lost", lost)
	}
}

// What waits too long is given up and counted.
func TestSpoolKeeps(t *testing.T) {
	r := newReceiver(t, "")
	r.answer = func(int) (int, http.Header) { return 500, nil }
	s := settings(notify.Channel{Type: notify.Webhook, URL: r.URL})
	s.Keep, s.Quiet = 200*time.Millisecond, time.Hour
	n := start(t, t.TempDir(), s)
	n.Notice(inviteNotice(addr(1)))
	poll(t, func() error {
		if c := n.channel("ops"); c.Waiting != 0 || c.Expired != 1 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
}

// TestUnfinishedFiles: what a crash leaves half written does not pile up.
func TestUnfinishedFiles(t *testing.T) {
	dir := t.TempDir()
	left := []string{filepath.Join(dir, ".new-1234"), filepath.Join(dir, "ops", ".new-5678")}
	if err := os.Mkdir(filepath.Join(dir, "ops"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if err := os.WriteFile(f, []byte("[{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start(t, dir, settings(notify.Channel{Type: notify.Command, Run: []string{script(t, "exit 0")}}))
	for _, f := range left {
		if _, err := os.Stat(f); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", f, err)
		}
	}
}

// A file that is damaged is put aside and said; the others are sent.
func TestSpoolDamaged(t *testing.T) {
	r := newReceiver(t, "")
	r.answer = func(int) (int, http.Header) { return 500, nil }
	s := settings(notify.Channel{Type: notify.Webhook, URL: r.URL})
	s.Quiet = time.Hour
	dir := t.TempDir()
	n := start(t, dir, s)
	for i := range 3 {
		n.Notice(inviteNotice(addr(i)))
	}
	poll(t, func() error {
		if n.channel("ops").Waiting != 3 {
			return errNone
		}
		return nil
	})
	n.stop()
	files, err := filepath.Glob(filepath.Join(dir, "ops", "*.json"))
	if err != nil || len(files) != 3 {
		t.Fatal(err, files)
	}
	if err := os.WriteFile(files[1], []byte(`{"id": "x`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "attacks.json"), []byte("["), 0o600); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	r.answer = nil
	r.mu.Unlock()
	n = start(t, dir, s)
	r.await(2)
	if c := n.channel("ops"); !strings.Contains(c.StoreError, files[1]) {
		t.Errorf("%+v", c)
	}
	if _, err := os.Stat(files[1] + ".bad"); err != nil {
		t.Error(err)
	}
}

// A folder that cannot be written: events are sent all the same, and it is said.
func TestSpoolUnwritable(t *testing.T) {
	r := newReceiver(t, "")
	r.answer = func(int) (int, http.Header) { return 500, nil }
	s := settings(notify.Channel{Type: notify.Webhook, URL: r.URL})
	s.Quiet = time.Hour
	dir := t.TempDir()
	n := start(t, dir, s)
	if err := os.RemoveAll(filepath.Join(dir, "ops")); err != nil {
		t.Fatal(err)
	}
	n.Notice(inviteNotice(addr(1)))
	poll(t, func() error {
		if c := n.channel("ops"); c.Waiting != 1 || c.StoreError == "" {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	r.mu.Lock()
	r.answer = nil
	r.mu.Unlock()
	r.await(1)
}
