package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ofNow gives a stored time the monotonic reading of now, so that from here on it does not
// matter when the clock is set. A time to come is of a clock that was wrong.
func ofNow(stored, now time.Time) time.Time { return now.Add(-max(0, now.Sub(stored))) }

// saveEvery is how often counts alone are stored.
const saveEvery = 10 * time.Second

// loadAttacks reads the attacks that went on when the last Notifier ended, however it
// did. With an error there are none.
func loadAttacks(path string, now time.Time) (*attacks, error) {
	removeUnfinished(filepath.Dir(path))
	s := &attacks{path: path, open: map[key]*attack{}, bySource: map[netip.Prefix][]*attack{}, cfg: &Settings{}, saved: now}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	var stored []*attack
	if err := json.Unmarshal(text, &stored); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	for _, a := range stored {
		k := key{topic: a.Topic, source: a.Prefix}
		if !a.Prefix.IsValid() {
			k.account = a.Account
		}
		a.Began, a.Last, a.Updated = ofNow(a.Began, now), ofNow(a.Last, now), ofNow(a.Updated, now)
		s.open[k] = a
		for p := range a.Sources {
			s.bySource[p] = append(s.bySource[p], a)
		}
	}
	return s, nil
}

// save stores the attacks if they have changed: at once, or when it is time.
func (s *attacks) save(now bool) error {
	if !s.dirty || !now && time.Since(s.saved) < saveEvery {
		return nil
	}
	s.saved = time.Now()
	all := make([]*attack, 0, len(s.open))
	for _, a := range s.open {
		all = append(all, a)
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if err := writeFile(s.path, text); err != nil {
		return err
	}
	s.dirty = false
	return nil
}

// unfinished begins the names of files that are being written.
const unfinished = ".new-"

// removeUnfinished removes what writeFile had to leave in a folder because of a crash.
func removeUnfinished(dir string) {
	files, _ := os.ReadDir(dir) // what cannot be read now is removed another time
	for _, f := range files {
		if strings.HasPrefix(f.Name(), unfinished) {
			os.Remove(filepath.Join(dir, f.Name()))
		}
	}
}

// writeFile replaces a file, whole or not at all, and durably.
func writeFile(path string, text []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, unfinished+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
