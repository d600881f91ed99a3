package conf

import (
	"fmt"
	"regexp"
	"time"
)

// Report is about the journal that reports are made of.
type Report struct {
	// Enabled keeps a journal.
	Enabled bool
	// Retention is how long what happened is remembered.
	Retention time.Duration
	// MaxBytes bounds the journal on disk; beyond it the oldest goes first.
	MaxBytes int
}

func reportKeys() []key {
	return []key{
		bind("node", `""`, onRestart, word("name", nodeRule), func(c *Config) *string { return &c.Node }),
		bind("report.enabled", "true", onRestart, trueOrFalse(), func(c *Config) *bool { return &c.Report.Enabled }),
		bind("report.retention", "90d", onRestart, duration(time.Hour, 3660*24*time.Hour), func(c *Config) *time.Duration { return &c.Report.Retention }),
		bind("report.max_bytes", "1GiB", onRestart, size(1<<20, 1<<40), func(c *Config) *int { return &c.Report.MaxBytes }),
	}
}

var nodeForm = regexp.MustCompile(`^[A-Za-z0-9._-]{0,64}$`)

// nodeRule allows what hosts are called.
func nodeRule(text string) error {
	if !nodeForm.MatchString(text) {
		return fmt.Errorf("%s is not the name of a node; write up to 64 letters, digits, dots and hyphens, or nothing for the host's name", quote(text))
	}
	return nil
}
