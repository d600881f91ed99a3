package notify_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sipward/notify"
)

// TestClockIsSet: what the policy noticed before the clock was set back or forward has a time
// that is no longer right. Attacks last as long as ever.
func TestClockIsSet(t *testing.T) {
	r := newReceiver(t, "")
	s := settings(notify.Channel{Type: notify.Webhook, URL: r.URL})
	for name, set := range map[string]time.Duration{"back": -time.Hour, "forward": time.Hour} {
		quiet := 300 * time.Millisecond
		if set > 0 {
			quiet = set / 2
		}
		s.Quiet = quiet
		n := start(t, t.TempDir(), s)
		seen := len(r.events())
		x := inviteNotice(addr(1))
		x.Time -= int64(set)
		began := time.Now()
		n.Notice(x)
		if set > 0 {
			r.await(seen + 1)
			time.Sleep(300 * time.Millisecond) // it is looked at every 100 ms
			if all := r.events(); len(all) != seen+1 {
				t.Errorf("%s: it is over at once: %+v", name, all[seen:])
			}
			n.stop()
			continue
		}
		all := r.await(seen + 2)
		if end := all[seen+1]; end.Phase != notify.PhaseEnd || end.Attack.Began.Before(began) || end.Attack.Last.After(time.Now()) {
			t.Errorf("%s: %+v %+v", name, end, end.Attack)
		}
		n.stop()
	}
}

// TestClockWasWrong: a sipward whose clock was wrong has left attacks and events of a time to
// come. They neither go on nor wait until then.
func TestClockWasWrong(t *testing.T) {
	r := newReceiver(t, "")
	r.answer = func(int) (int, http.Header) { return 503, nil }
	s := settings(notify.Channel{Type: notify.Webhook, URL: r.URL})
	s.Quiet = time.Hour
	dir := t.TempDir()
	n := start(t, dir, s)
	n.Notice(inviteNotice(addr(1)))
	poll(t, func() error {
		if n.channel("ops").Waiting != 1 {
			return errNone
		}
		return nil
	})
	n.stop()
	path := filepath.Join(dir, "attacks.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var stored []map[string]any
	if err := json.Unmarshal(text, &stored); err != nil {
		t.Fatal(err)
	}
	year := time.Now().AddDate(1, 0, 0)
	stored[0]["began"], stored[0]["last"], stored[0]["Updated"] = year, year, year
	if text, err = json.Marshal(stored); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "ops", "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	_, id, _ := strings.Cut(filepath.Base(files[0]), "-")
	later := filepath.Join(dir, "ops", fmt.Sprintf("%020d-%s", year.UnixNano(), id))
	if err := os.Rename(files[0], later); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Quiet, s.Keep = 300*time.Millisecond, 2*time.Second
	n = start(t, dir, s)
	poll(t, func() error {
		if s := n.Status(); s.Attacks != 0 {
			return fmt.Errorf("%d attacks go on", s.Attacks)
		}
		return nil
	})
	// The opening that the last one left, and the end that followed it, are given up.
	poll(t, func() error {
		if c := n.channel("ops"); c.Waiting != 0 || c.Expired != 2 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	if text := n.log.String(); strings.Contains(text, "put aside") || strings.Contains(text, "not known") {
		t.Error(text)
	}
}
