package notify_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sipward/admin/logtest"
	"sipward/notify"
	"sipward/policy"
	"sipward/policy/ban"
	"sipward/policy/event"
	"sipward/report"
)

// reporter is a journal and what mails its reports, in a bubble where time flies. The mail
// server is outside of it.
type reporter struct {
	t        *testing.T
	journal  *report.Journal
	notifier *notify.Notifier
	log      *logtest.Buffer
}

func newReporter(t *testing.T, channels ...notify.Channel) *reporter {
	t.Helper()
	r := &reporter{t: t, log: &logtest.Buffer{}}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	var err error
	if r.journal, err = report.Open(report.Config{Path: filepath.Join(t.TempDir(), "journal.db"), Node: "edge1", Log: log}); err != nil {
		t.Fatal(err)
	}
	r.notifier, err = notify.New(notify.Config{Dir: t.TempDir(), Node: "edge1", IPv6Bits: 64, Settings: settings(channels...), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// run mails reports until stop.
func (r *reporter) run(schedules ...report.Schedule) (s *report.Scheduler, stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error)
	s = report.NewScheduler(r.journal, r.notifier, schedules)
	go func() { done <- s.Run(ctx) }()
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	}
}

// count has the journal count messages that were dropped.
func (r *reporter) count(source string, n int) {
	r.t.Helper()
	table, err := ban.New(ban.Config{}, 1)
	if err != nil {
		r.t.Fatal(err)
	}
	bus := new(event.Bus)
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error)
	go func() { done <- r.journal.Run(ctx, bus, table) }()
	synctest.Wait()
	for range n {
		bus.Publish(&event.Event{
			Time: time.Now().UnixNano(), Source: netip.AddrPortFrom(netip.MustParseAddr(source), 5060),
			Verdict: policy.Drop, Reason: policy.ReasonRegister, Method: "REGISTER",
		})
	}
	cancel()
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
}

// until sleeps until a time of the clock on the wall.
func until(days, hour int) {
	y, m, d := time.Now().Date()
	time.Sleep(time.Until(time.Date(y, m, d+days, hour, 0, 0, 0, time.Local)))
	synctest.Wait()
}

// parts returns the text and the attachment of a mail.
func parts(t *testing.T, l letter) (text, name, page string) {
	t.Helper()
	_, params, err := mime.ParseMediaType(l.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	r := multipart.NewReader(strings.NewReader(l.body), params["boundary"])
	for {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return text, name, page
		}
		if err != nil {
			t.Fatal(err)
		}
		body := io.Reader(p)
		switch p.Header.Get("Content-Transfer-Encoding") {
		case "base64":
			body = base64.NewDecoder(base64.StdEncoding, p)
		case "quoted-printable":
			body = quotedprintable.NewReader(p)
		}
		content, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		if p.FileName() == "" {
			text = string(content)
			continue
		}
		if typ := p.Header.Get("Content-Type"); !strings.HasPrefix(typ, "text/html") {
			t.Errorf("the attachment is %s", typ)
		}
		name, page = p.FileName(), string(content)
	}
}

func subjectOf(l letter) string {
	text, _ := new(mime.WordDecoder).DecodeHeader(l.Header.Get("Subject"))
	return text
}

func TestDailyReport(t *testing.T) {
	p := &post{t: t, addr: freeAddr(t)}
	p.start()
	synctest.Test(t, func(t *testing.T) {
		ch := mailChannel(p)
		ch.TLS = notify.TLSNone
		r := newReporter(t, ch)
		defer r.journal.Close()
		until(1, 8)
		_, stop := r.run(report.Schedule{At: 7 * 60, Channel: "ops", By: []string{report.BySource}, Top: 20})
		defer stop()
		r.count("192.0.2.1", 41)
		r.count("192.0.2.2", 7)
		until(1, 6)
		if l := p.got(); len(l) != 0 {
			t.Fatalf("a mail before its time: %v", l[0].Header)
		}
		until(0, 10)
		l := p.got()
		if len(l) != 1 {
			t.Fatalf("%d mails: %s", len(l), r.log)
		}
		day := time.Now().Format(time.DateOnly)
		if want := "[sipward edge1] daily report of " + day + " 07:00"; subjectOf(l[0]) != want || len(l[0].to) != 2 {
			t.Errorf("%q to %v, want %q", subjectOf(l[0]), l[0].to, want)
		}
		text, name, page := parts(t, l[0])
		due := time.Date(time.Now().Year(), time.Now().Month(), time.Now().Day(), 7, 0, 0, 0, time.Local)
		asked, err := r.journal.Ask(t.Context(), &report.Query{From: due.AddDate(0, 0, -1), To: due, By: []string{report.BySource}, Top: 20})
		if err != nil {
			t.Fatal(err)
		}
		same(t, asked, text, page)
		if name != "sipward-"+day+".html" {
			t.Errorf("attachment %q", name)
		}
		until(1, 10)
		if l := p.got(); len(l) != 2 || subjectOf(l[1]) == subjectOf(l[0]) || l[1].Header.Get("Message-Id") == l[0].Header.Get("Message-Id") {
			t.Errorf("%d mails after two days", len(l))
		}
	})
}

// same holds a mail to the figures of the JSON report.
func same(t *testing.T, asked *report.Report, text, page string) {
	t.Helper()
	var b, table bytes.Buffer
	if err := errors.Join(asked.Render(&b, report.FormatJSON), asked.Render(&table, report.FormatTable)); err != nil {
		t.Fatal(err)
	}
	var figures struct {
		Total  struct{ Messages, Dropped int }
		Groups []struct {
			Key     []string
			Dropped int
		}
	}
	if err := json.Unmarshal(b.Bytes(), &figures); err != nil {
		t.Fatal(err)
	}
	g := figures.Groups
	if figures.Total.Messages != 48 || len(g) != 2 || g[0].Key[0] != "192.0.2.1" || g[0].Dropped != 41 || g[1].Dropped != 7 {
		t.Errorf("the report has %+v", figures)
	}
	if got := strings.ReplaceAll(text, "\r\n", "\n"); strings.TrimSpace(got) != strings.TrimSpace(table.String()) {
		t.Errorf("the mail says\n%s\nwant\n%s", got, table.String())
	}
	for _, want := range []string{"192.0.2.1", ">41<", ">7<", ">48<", "<svg"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %s", want)
		}
	}
}

// A mail server that is down for a while gets the report later, once; one that is never
// there keeps nobody else waiting.
func TestReportMailServerDown(t *testing.T) {
	p := &post{t: t, addr: freeAddr(t)}
	up, isUp := make(chan struct{}), make(chan struct{})
	go func() { <-up; p.start(); close(isUp) }()
	synctest.Test(t, func(t *testing.T) {
		ch := mailChannel(p)
		ch.TLS = notify.TLSNone
		nowhere := ch
		nowhere.Name, nowhere.Server = "nowhere", freeAddr(t)
		r := newReporter(t, nowhere, ch)
		defer r.journal.Close()
		until(1, 6)
		s, stop := r.run(report.Schedule{At: 7 * 60, Channel: "nowhere"}, report.Schedule{At: 7 * 60, Channel: "ops"})
		defer stop()
		until(0, 12)
		down := s.Status(time.Now())
		for _, st := range down {
			if st.Error == "" || st.Failures < 3 || st.Due.Hour() != 7 || !st.Again.After(time.Now()) || !st.Last.IsZero() ||
				st.Next.Sub(st.Due).Round(2*time.Hour) != 24*time.Hour {
				t.Errorf("while it is down: %+v", st)
			}
		}
		if n := strings.Count(r.log.String(), "a report cannot be mailed"); n < 6 || n > 30 {
			t.Errorf("%d attempts: %s", n, r.log)
		}
		close(up)
		<-isUp
		until(0, 14)
		if l := p.got(); len(l) != 1 {
			t.Fatalf("%d mails: %s", len(l), r.log)
		}
		until(1, 14)
		if l := p.got(); len(l) != 2 {
			t.Errorf("%d mails after two days", len(l))
		}
		if n := strings.Count(r.log.String(), "given up"); n != 1 {
			t.Errorf("%d reports given up", n)
		}
		st := s.Status(time.Now())
		if st[0].GivenUp != 1 || st[0].Error == "" || st[0].Mailed != 0 {
			t.Errorf("the one that is never there: %+v", st[0])
		}
		if st[1].Mailed != 2 || st[1].Failures != down[1].Failures || st[1].Error != "" || !st[1].Due.IsZero() || st[1].Last.Hour() != 7 {
			t.Errorf("the one that is back: %+v, was %+v", st[1], down[1])
		}
	})
}

// What was due while nobody was there is sent at the start, if it is not too late.
func TestReportMissed(t *testing.T) {
	p := &post{t: t, addr: freeAddr(t)}
	p.start()
	synctest.Test(t, func(t *testing.T) {
		ch := mailChannel(p)
		ch.TLS = notify.TLSNone
		r := newReporter(t, ch)
		defer r.journal.Close()
		until(1, 8)
		daily := report.Schedule{At: 7 * 60, Channel: "ops"}
		_, stop := r.run(daily) // new: what was due today is not made up for
		synctest.Wait()
		stop()
		expect := func(n int) {
			t.Helper()
			until(0, 12)
			if l := p.got(); len(l) != n {
				t.Fatalf("%d mails, want %d: %s", len(l), n, r.log)
			}
		}
		expect(0)
		until(3, 10) // three are missed
		_, stop = r.run(daily)
		expect(1)
		stop()
		_, stop = r.run(daily)
		expect(1)
		stop()
		weekly := report.Schedule{At: 7 * 60, Channel: "ops", Weekly: true, Day: (time.Now().Weekday() + 1) % 7}
		_, stop = r.run(weekly)
		expect(1)
		stop()
		until(3, 10) // two days too late
		s, stop := r.run(weekly)
		defer stop()
		expect(1)
		s.Reload([]report.Schedule{daily}) // of which the one of today was missed
		expect(2)
	})
}

func TestMailBy(t *testing.T) {
	n := start(t, t.TempDir(), settings(notify.Channel{Name: "own", Type: notify.Command, Run: []string{"/bin/true"}}))
	if err := n.Mail(t.Context(), "nobody", "s", "t", "n", nil); !errors.Is(err, notify.ErrNoChannel) {
		t.Error(err)
	}
	if err := n.Mail(t.Context(), "own", "s", "t", "n", nil); err == nil || !strings.Contains(err.Error(), "type command") {
		t.Error(err)
	}
}
