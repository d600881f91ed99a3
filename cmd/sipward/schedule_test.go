package main

import (
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/emersion/go-smtp"

	"sipward/admin"
	"sipward/conf"
)

// inbox is a real mail server; what it gets is in the channel.
type inbox chan string

func (b inbox) NewSession(*smtp.Conn) (smtp.Session, error) { return b, nil }
func (b inbox) Mail(string, *smtp.MailOptions) error        { return nil }
func (b inbox) Rcpt(string, *smtp.RcptOptions) error        { return nil }
func (b inbox) Reset()                                      {}
func (b inbox) Logout() error                               { return nil }
func (b inbox) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err == nil {
		b <- string(text)
	}
	return err
}

// mailServer is one that runs.
type mailServer struct {
	addr  string
	mails inbox
	stop  func()
}

func startMail(t *testing.T) *mailServer {
	t.Helper()
	s := &mailServer{mails: make(inbox, 10)}
	server := smtp.NewServer(s.mails)
	server.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	s.stop = func() { server.Close(); <-done }
	t.Cleanup(s.stop)
	return s
}

// openTestJournal opens the journal of a sipward beside it.
func openTestJournal(t *testing.T, r *running) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(r.dir, journalName))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// TestScheduledReport: what was due while sipward was down is mailed at its start, once.
func TestScheduledReport(t *testing.T) {
	server := startMail(t)
	mails := server.mails
	config := fmt.Sprintf(`
node: edge7
notify: {channels: [{name: ops, type: smtp, server: "%s", tls: none, from: sipward@example.com, to: [ops@example.com]}]}
report: {schedule: [{every: daily, channel: ops, by: [REASON]}]}`, server.addr)
	wrong := prepare(t, config)
	if code := execute(t.Context(), newRoot(), []string{"check", "--config", wrong.config}); code == 0 {
		t.Error("a dimension that is none was not found")
	}
	r := start(t, strings.Replace(config, "REASON", "reason", 1))
	db := openTestJournal(t, r)
	stored := func(after int64) {
		t.Helper()
		var at int64
		for deadline := time.Now().Add(30 * time.Second); at <= after; time.Sleep(5 * time.Millisecond) {
			if err := db.QueryRow(`SELECT done FROM schedules`).Scan(&at); time.Now().After(deadline) {
				t.Fatalf("the journal says %d, want more than %d; %v", at, after, err)
			}
		}
	}
	stored(0)
	r.cli(0, words("status"), "report", "daily 07:00 by ops: next ", "none mailed yet")
	r.end()
	if _, err := db.Exec(`UPDATE schedules SET done = done - 26 * 3600`); err != nil {
		t.Fatal(err)
	}
	r.begin()
	select {
	case mail := <-mails:
		if !strings.Contains(mail, "Subject: [sipward edge7] daily report of ") || !strings.Contains(mail, "Content-Type: text/html") {
			t.Errorf("%.2000s", mail)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("no mail")
	}
	stored(time.Now().Add(-25 * time.Hour).Unix())
	r.end()
	r.begin()
	r.end()
	if len(mails) > 0 {
		t.Errorf("a second mail: %.500s", <-mails)
	}
	r.begin()
	// That it was mailed is known to this one, too.
	r.cli(0, words("status"), "daily 07:00 by ops: next ", "last mailed "+time.Now().Format("2006-01-02"))
}

// TestReportByMail: a report is mailed when somebody asks for it, and what keeps it from being
// mailed is said.
func TestReportByMail(t *testing.T) {
	server := startMail(t)
	r := start(t, fmt.Sprintf(`
node: edge7
notify:
  channels:
    - {name: ops, type: smtp, server: "%s", tls: none, from: sipward@example.com, to: [ops@example.com]}
    - {name: note, type: command, run: [/bin/true]}
report: {schedule: [{every: daily, channel: ops, by: [reason]}, {every: weekly, day: monday, at: "07:30", channel: ops, by: [day]}]}`, server.addr))
	r.cli(0, words("ban 192.0.2.9 --reason rude"))
	r.cli(0, words("report --last 1h --acts --mail ops"), `Mailed "[sipward edge7] report from `, "ops@example.com by "+server.addr+" has taken it")
	select {
	case mail := <-server.mails:
		for _, want := range []string{"Subject: [sipward edge7] report from ", "192.0.2.9", "rude", "Content-Type: text/html", ".html"} {
			if !strings.Contains(mail, want) {
				t.Errorf("no %q in\n%.3000s", want, mail)
			}
		}
	case <-time.After(20 * time.Second):
		t.Fatal("no mail")
	}
	r.cli(0, words("report --last 1h --acts --action command"), `report --mail "ops"`) // it is audited
	for args, want := range map[string]string{
		"--mail nobody": `there is no channel "nobody" that sends mails; there is ops`,
		"--mail note":   `there is no channel "note" that sends mails; there is ops`,
	} {
		r.cli(exitRefused, words("report "+args), want)
	}
	r.cli(exitUsage, words("report --mail ops --format csv"), "--mail goes without --format and --output")
	r.cli(exitUsage, []string{"report", "--mail", ""}, "--mail needs the name of a channel")
	server.stop()
	r.cli(exitRefused, words("report --mail ops"), "the report was not mailed: ", "refused")

	// What is due meanwhile fails, and that is seen.
	r.end()
	journal := openTestJournal(t, r)
	if _, err := journal.Exec(`UPDATE schedules SET done = done - 26 * 3600 WHERE name LIKE 'daily%'`); err != nil {
		t.Fatal(err)
	}
	r.begin()
	r.await(words("status"), "daily 07:00 by ops: next ", "none mailed yet", "FAILING: ", "is tried again")
	r.cli(0, words("status"), "weekly monday 07:30 by ops: next ")
	text := r.scrape()
	for _, want := range []string{
		`sipward_scheduled_report_failing{schedule="1"} 1`, `sipward_scheduled_report_failures_total{schedule="1"} 1`,
		`sipward_scheduled_report_last_timestamp_seconds{schedule="1"} 0`, `sipward_scheduled_reports_total{result="mailed",schedule="1"} 0`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("no %s among the metrics", want)
		}
	}
	off := start(t, "report: {enabled: false}")
	off.cli(exitRefused, words("report --mail ops"), "there is no journal to report from")
}

// TestMailFromDashboard: the report that is shown is mailed by a button, or it is said why not.
func TestMailFromDashboard(t *testing.T) {
	server := startMail(t)
	text, hash := admin.NewToken()
	at := fmt.Sprint("127.0.0.1:", freePort(t))
	r := prepare(t, fmt.Sprintf(`
node: edge7
notify:
  channels:
    - {name: note, type: command, run: [/bin/true]}
    - {name: ops, type: smtp, server: "%s", tls: none, from: sipward@example.com, to: [ops@example.com]}`, server.addr))
	r.write(strings.Replace(r.text(), "control: {", fmt.Sprintf("control: {listen: [%q], tokens: [%q], ", at, conf.Token{Name: "boss", Role: conf.TokenWrite, Hash: hash}), 1))
	r.begin()
	t.Cleanup(r.end)
	r.cli(0, words("ban 192.0.2.9 --reason rude"))
	b := newBrowser(t)
	b.open("http://" + at + "/#reports")
	b.shows("The firewall in front of your PBX.")
	run(b, chromedp.SendKeys(chromedp.CSS("#token"), text+"\n"))
	b.await(`document.querySelector("[name=by]")`)
	eval[chromedp.Void](b, `document.querySelector("[name=by]").value = ""`)
	b.click("Show")
	b.shows("rude")
	b.shot("report-acts")
	b.click("Mail…")
	b.shows("Mail this report?")
	if all := eval[string](b, `[...document.querySelectorAll("dialog option")].map((o) => o.value).join()`); all != "ops" {
		t.Errorf("it can be mailed by %q", all)
	}
	b.shot("report-mail")
	b.click("Mail it")
	b.shows("Mailed: ops@example.com by " + server.addr + " has taken it.")
	select {
	case mail := <-server.mails:
		for _, want := range []string{"Subject: [sipward edge7] report from ", "192.0.2.9", "rude", "Content-Type: text/html"} {
			if !strings.Contains(mail, want) {
				t.Errorf("no %q in\n%.3000s", want, mail)
			}
		}
	case <-time.After(patience):
		t.Fatal("no mail")
	}
	r.cli(0, words("report --last 1h --acts --action command"), `report --mail "ops"`, "token boss") // it is audited
	server.stop()
	b.click("Mail…")
	b.click("Mail it")
	b.shows("the report was not mailed: ")
	b.shot("report-mail-failed")
	b.click("Cancel")
	b.onlyAsks("http://" + at)
}
