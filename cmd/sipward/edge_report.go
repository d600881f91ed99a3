package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sipward/admin"
	"sipward/conf"
	"sipward/notify"
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
	j, err := report.Open(report.Config{
		Path: filepath.Join(c.StateDir, journalName), Node: nodeOf(c), IPv6Bits: c.IPv6SourcePrefix,
		Retention: c.Report.Retention, MaxBytes: int64(c.Report.MaxBytes), Log: e.log,
	})
	if err != nil {
		return err
	}
	e.journal, e.notices.told = j, j.Notice
	return nil
}

// nodeOf returns what a sipward is called in the journal and in notifications.
func nodeOf(c *conf.Config) string {
	if c.Node != "" {
		return c.Node
	}
	if host, err := os.Hostname(); err == nil {
		return host
	}
	return "sipward"
}

// newScheduler makes what mails reports, if there is a journal.
func (e *edge) newScheduler() {
	if e.journal != nil {
		e.reports = report.NewScheduler(e.journal, e.notifier, e.config.schedules)
	}
}

// loadSchedules finds what is wrong in the reports that are to be mailed.
func loadSchedules(c *conf.Config) ([]report.Schedule, error) {
	var all []report.Schedule
	for i, s := range c.Report.Schedule {
		values := url.Values{"by": s.By}
		if s.Top > 0 {
			values.Set("top", strconv.Itoa(s.Top))
		}
		q, err := report.ParseQuery(values, time.Now())
		if err != nil {
			return nil, fmt.Errorf("report.schedule[%d]: %w", i, err)
		}
		all = append(all, report.Schedule{
			Weekly: s.Every == conf.ReportWeekly, Day: time.Weekday(s.Day), At: int(s.At),
			Channel: s.Channel, Last: s.Last, By: q.By, Top: q.Top,
		})
	}
	return all, nil
}

var _ report.Mailer = (*notify.Notifier)(nil)

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
		return nil, errNoJournal()
	}
	r, err := e.journal.Ask(ctx, q)
	if errors.Is(err, report.ErrTooMany) {
		return nil, refused("%s", strings.TrimPrefix(err.Error(), "report: "))
	}
	return r, err
}

// MailReport implements admin.Backend.
func (e *edge) MailReport(ctx context.Context, q *report.Query, channel string) (admin.Mailed, error) {
	if e.reports == nil {
		return admin.Mailed{}, errNoJournal()
	}
	mailers := e.notifier.Mailers()
	if !slices.Contains(mailers, channel) {
		return admin.Mailed{}, notFound("there is no channel %q that sends mails; %s", channel, thereIs(mailers, "write one of type smtp under notify.channels"))
	}
	done := admin.Mailed{Channel: channel}
	for _, c := range e.notifier.Status().Channels {
		if c.Name == channel {
			done.To = c.To
		}
	}
	began := time.Now()
	var err error
	if done.Subject, err = e.reports.Mail(ctx, channel, q); err != nil {
		return done, &admin.Refusal{Status: http.StatusBadGateway, Reason: "the report was not mailed: " + err.Error()}
	}
	done.Took = time.Since(began)
	return done, nil
}

// errNoJournal says why there is no report.
func errNoJournal() error {
	return refused("there is no journal to report from; set report.enabled to true and restart")
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
