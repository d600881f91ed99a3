package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"sipward/admin"
	"sipward/policy/iplist"
	"sipward/report"
)

// journalName is the journal in state_dir.
const journalName = "journal.db"

// openJournal opens what reports are made of, if there is to be one.
func (e *edge) openJournal() error {
	c := e.config.conf
	if !c.Report.Enabled {
		return nil
	}
	node := c.Node
	if node == "" {
		var err error
		if node, err = os.Hostname(); err != nil {
			return err
		}
	}
	j, err := report.Open(report.Config{
		Path: filepath.Join(c.StateDir, journalName), Node: node, IPv6Bits: c.IPv6SourcePrefix,
		Retention: c.Report.Retention, MaxBytes: int64(c.Report.MaxBytes), Log: e.log,
	})
	if err != nil {
		return err
	}
	e.journal, e.notices.told = j, j.Notice
	return nil
}

func (e *edge) closeJournal() {
	if e.journal != nil {
		_ = e.journal.Close() // nothing is left to be done about it
	}
}

// audit remembers a command. That it cannot be written is in the status, and does not
// undo the command.
func (e *edge) audit(a admin.Act) {
	if e.journal == nil {
		return
	}
	act := report.Act{
		Time: a.Time, Action: report.ActionCommand, Guard: originCommand,
		By: a.By.String(), Text: strings.TrimSpace(a.Command + " " + a.About),
	}
	address, _, _ := strings.Cut(a.About, " ")
	if p, err := iplist.ParsePrefix(address); err == nil {
		act.Source = p
	}
	if a.Err != nil {
		act.Failed = a.Err.Error()
	}
	if err := e.journal.Record(act); err != nil {
		e.log.Warn("a command is not in the journal yet", "command", act.Text, "by", act.By, "err", err)
	}
}

// Report implements admin.Backend.
func (e *edge) Report(ctx context.Context, q *report.Query) (*report.Report, error) {
	if e.journal == nil {
		return nil, refused("there is no journal to report from; set report.enabled to true and restart")
	}
	return e.journal.Ask(ctx, q)
}

func journalStatus(j *report.Journal) *admin.Journal {
	if j == nil {
		return nil
	}
	h := j.Health()
	return &admin.Journal{
		Path: h.Path, OK: h.Error == "", Error: h.Error, Since: unixTime(h.Since), Errors: h.Errors, Waiting: h.Waiting,
		Events: h.Events, LostEvents: h.LostEvents, Folded: h.Folded, LostActs: h.LostActs, Bytes: h.Bytes, SetAside: h.SetAside,
	}
}
