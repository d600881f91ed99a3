package main

import (
	"bytes"
	"io"
	"regexp"
	"testing"

	"github.com/creack/pty"
)

// TestColours: a terminal gets colours unless NO_COLOR is set, everything else never.
func TestColours(t *testing.T) {
	var buf bytes.Buffer
	if forPeople(&buf) != io.Writer(&buf) {
		t.Error("a buffer gets colours")
	}
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer tty.Close()
	t.Setenv("NO_COLOR", "")
	if _, ok := forPeople(tty).(*painter); !ok {
		t.Error("a terminal gets none")
	}
	t.Setenv("NO_COLOR", "1")
	if forPeople(tty) != io.Writer(tty) {
		t.Error("a terminal gets colours against NO_COLOR")
	}
}

func TestPainter(t *testing.T) {
	var buf bytes.Buffer
	p := &painter{out: &buf}
	text := "sipward  1.2\npbx      203.0.113.2:5060  weight 1  DOWN: no answer\npbx      203.0.113.3:5060  weight 1  up\n" +
		"BREAKER  automatic bans have stopped\nnotice   ban\nTCP x\n"
	for i := range len(text) { // in the smallest pieces
		if n, err := p.Write([]byte(text[i : i+1])); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	want := "sipward  1.2\n\x1b[31mpbx      203.0.113.2:5060  weight 1  DOWN: no answer\x1b[0m\npbx      203.0.113.3:5060  weight 1  up\n" +
		"\x1b[31mBREAKER  automatic bans have stopped\x1b[0m\n\x1b[33mnotice   ban\x1b[0m\nTCP x\n"
	if buf.String() != want {
		t.Errorf("%q", buf.String())
	}
	if bare := regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAllString(buf.String(), ""); bare != text {
		t.Errorf("without colours it is %q", bare)
	}
	for line, want := range map[string]string{"192.0.2.1: DROPPED (ban)": red, "192.0.2.1: let in (pass)": green, "udp  received 3": ""} {
		if got := lineColour(line); got != want {
			t.Errorf("%q is %q, want %q", line, got, want)
		}
	}
}
