package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"sipward/admin"
	"sipward/admin/logtest"
)

// TestTop watches a real sipward on a real terminal: it shows a ban that is made
// meanwhile, each way to quit ends it, and the terminal is as it was.
func TestTop(t *testing.T) {
	r := start(t)
	r.cli(0, words("ban 192.0.2.9 --reason early"))
	for address, quit := range map[string]string{"192.0.2.11": "q", "192.0.2.12": "\x03"} {
		t.Run(address, func(t *testing.T) {
			master, tty, err := pty.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer tty.Close()
			shown := new(logtest.Buffer)
			read := make(chan struct{})
			go func() {
				defer close(read)
				io.Copy(shown, master) //nolint:errcheck // ends when the terminal is closed
			}()
			defer func() {
				tty.Close()
				<-read
				master.Close()
			}()
			if err := pty.Setsize(tty, &pty.Winsize{Rows: 30, Cols: 100}); err != nil {
				t.Fatal(err)
			}
			before := mode(t, tty)
			w := &watcher{client: admin.NewClient(r.socket), view: newTopView()}
			if err := w.begin(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done, ended := make(chan error, 1), make(chan struct{})
			go func() {
				defer close(ended)
				done <- w.live(ctx, tty, tty)
			}()
			defer func() { // also when the test fails: nothing closes a terminal that is drawn on
				cancel()
				<-ended
			}()
			shown.Await(t, "192.0.2.9", 30*time.Second)
			r.cli(0, words("ban "+address))
			shown.Await(t, address, 30*time.Second)
			io.WriteString(master, "x"+quit)
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(30 * time.Second):
				t.Fatal("it goes on")
			}
			shown.Await(t, leaveScreen, 30*time.Second)
			if after := mode(t, tty); *after != *before {
				t.Errorf("the terminal was %+v and is %+v", before, after)
			}
		})
	}
	out := r.cli(0, words("top"), "latest bans", "192.0.2.9", "messages a second", "pbx 1 of 1 up")
	if strings.Contains(out, "\x1b") || strings.Contains(out, "\r") {
		t.Errorf("what is not for a terminal has colours:\n%q", out)
	}
	r.end()
	w := &watcher{client: admin.NewClient(r.socket), view: newTopView()}
	if err := w.begin(t.Context()); !errors.Is(err, admin.ErrUnreachable) {
		t.Errorf("without a sipward: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := w.follow(ctx); err != nil {
		t.Errorf("follow without a sipward: %v", err)
	}
}

func mode(t *testing.T, tty *os.File) *unix.Termios {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestTopView: what is counted is shown, what strangers write is harmless, and nothing
// grows without end.
func TestTopView(t *testing.T) {
	v, now := newTopView(), time.Now()
	v.status(&admin.Status{PID: 1, Reasons: map[string]uint64{"pass": 10}, Verdicts: map[string]uint64{"pass": 10}}, nil, now)
	now = now.Add(2 * time.Second)
	v.status(&admin.Status{PID: 1, Version: "1.2", Reasons: map[string]uint64{"pass": 30, "scanner": 5}, Verdicts: map[string]uint64{"pass": 30, "drop": 5},
		PBX: []admin.PBX{{Up: true}, {}}}, nil, now)
	for range 3 {
		v.message(&admin.Event{Source: "192.0.2.1:5060", Reason: "scanner", Account: "\x1b[2Jhostile\r\n"}, now)
	}
	for i := range 2 * topSources {
		a := netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
		v.message(&admin.Event{Source: netip.AddrPortFrom(a, 5060).String(), Reason: "flood"}, now)
	}
	v.lose(7, now)
	p := netip.MustParsePrefix("192.0.2.7/32")
	v.ban(admin.BanChange{Change: "added", Ban: admin.Ban{Prefix: p, Start: now, Until: now.Add(time.Minute), Reason: "register"}})
	text := v.render(0, 0, now, false)
	for _, want := range []string{
		"pass 10.0   drop 2.5", "10.0  pass", "2.5  scanner", "pbx 1 of 2 up", "3  192.0.2.1 ", `\x1b[2Jhostile\r\n`,
		fmt.Sprintf("%d sources   %d more not looked at", topSources, topSources+1+7), "192.0.2.7", "1m0s",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "\x1b") || strings.Contains(text, "\r") {
		t.Errorf("control characters:\n%q", text)
	}
	v.ban(admin.BanChange{Change: "removed", Ban: admin.Ban{Prefix: p}})
	for range 2 { // two spans later the sources are forgotten
		now = now.Add(topSpan)
		text = v.render(40, 24, now, true)
	}
	if strings.Contains(text, "192.0.2.7") || strings.Contains(text, "192.0.2.1 ") {
		t.Errorf("what is over is shown:\n%s", text)
	}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > 23 || !strings.Contains(text, "\x1b["+red+"m") {
		t.Errorf("%d lines:\n%q", len(lines), text)
	}
	v.status(nil, admin.ErrUnreachable, now)
	if text := v.render(0, 0, now, false); !strings.Contains(text, "cannot reach sipward") {
		t.Errorf("no word of a sipward that is gone:\n%s", text)
	}
	v.status(&admin.Status{PID: 2, Reasons: map[string]uint64{"pass": 3}}, nil, now)
	if text := v.render(0, 0, now, false); strings.Contains(text, "  pass\n") {
		t.Errorf("a rate across a restart:\n%s", text)
	}
}
