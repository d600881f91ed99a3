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

	"github.com/emersion/go-smtp"
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

// TestScheduledReport: what was due while sipward was down is mailed at its start, once.
func TestScheduledReport(t *testing.T) {
	mails := make(inbox, 10)
	server := smtp.NewServer(mails)
	server.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })

	config := fmt.Sprintf(`
node: edge7
notify: {channels: [{name: ops, type: smtp, server: "%s", tls: none, from: sipward@example.com, to: [ops@example.com]}]}
report: {schedule: [{every: daily, channel: ops, by: [REASON]}]}`, l.Addr())
	wrong := prepare(t, config)
	if code := execute(t.Context(), newRoot(), []string{"check", "--config", wrong.config}); code == 0 {
		t.Error("a dimension that is none was not found")
	}
	r := start(t, strings.Replace(config, "REASON", "reason", 1))
	db, err := sql.Open("sqlite", filepath.Join(r.dir, journalName))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	stored := func(after int64) {
		t.Helper()
		var at int64
		for deadline := time.Now().Add(10 * time.Second); at <= after; time.Sleep(5 * time.Millisecond) {
			if err := db.QueryRow(`SELECT done FROM schedules`).Scan(&at); time.Now().After(deadline) {
				t.Fatalf("the journal says %d, want more than %d; %v", at, after, err)
			}
		}
	}
	stored(0)
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
	case <-time.After(10 * time.Second):
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
}
