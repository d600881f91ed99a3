package main

import (
	"bytes"
	"io"
	"log/slog"

	"github.com/coreos/go-systemd/v22/journal"

	"sipward/conf"
)

// newLogger writes to w, which journal says is the journal of systemd: that keeps the
// time itself, and wants to be told how important a line is (sd-daemon(3)).
func newLogger(w io.Writer, format conf.LogFormat, level slog.Leveler, journal bool) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if journal {
		w = &priorities{w}
		opts.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return a
		}
	}
	if format == conf.LogJSON {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// inJournal says whether standard error is the journal.
func inJournal() bool {
	is, err := journal.StderrIsJournalStream()
	return is && err == nil
}

// priorities puts the priority of syslog before each line of a handler of slog, which
// writes a line at a time and begins it with the level.
type priorities struct{ w io.Writer }

func (p *priorities) Write(line []byte) (int, error) {
	priority := "<6>"
	head := line[:min(len(line), len(`{"level":"ERROR`))]
	switch {
	case bytes.Contains(head, []byte("ERROR")):
		priority = "<3>"
	case bytes.Contains(head, []byte("WARN")):
		priority = "<4>"
	case bytes.Contains(head, []byte("DEBUG")):
		priority = "<7>"
	}
	if _, err := p.w.Write(append([]byte(priority), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}
