package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sipward/admin/logtest"
)

// TestFollow: an administrator sees in a terminal what becomes of one source's messages, the PBX's
// answers to it, and its ban; nothing of others.
func TestFollow(t *testing.T) {
	s := startStage(t)
	ctx, cancel := context.WithCancel(t.Context())
	var done []chan int
	follow := func(args ...string) *logtest.Buffer {
		out, ended := new(logtest.Buffer), make(chan int, 1)
		root := newRoot()
		root.SetOut(out)
		root.SetErr(out)
		go func() { ended <- execute(ctx, root, append([]string{"follow", "--socket", s.socket}, args...)) }()
		done = append(done, ended)
		return out
	}
	text, programs, stopped := follow("127.0.0.3"), follow("127.0.0.3", "--json"), follow("--stopped")
	hello := 0
	for _, out := range []*logtest.Buffer{text, programs, stopped} { // until each of them listens
		for end := time.Now().Add(patience); !strings.Contains(out.String(), "OPTIONS"); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("nothing is shown:\n%s", out)
			}
			hello++
			for _, from := range []string{"127.0.0.3", "127.0.0.9"} {
				s.say(t, from, fmt.Sprintf("OPTIONS sip:600@EDGE SIP/2.0\nVia: SIP/2.0/UDP HERE;branch=z9hG4bKf%[1]d;rport\nMax-Forwards: 0\n"+
					"From: <sip:1002@EDGE>;tag=f\nTo: <sip:600@EDGE>\nCall-ID: follow%[1]d\nCSeq: 1 OPTIONS\nContent-Length: 0\n\n", hello))
			}
		}
	}
	guess(t, "127.0.0.3", s.edge)
	text.Await(t, "ban added: 127.0.0.3, register: 10 failures", patience)
	text.Await(t, "drop", patience)
	programs.Await(t, `"change":"added"`, patience)
	stopped.Await(t, "ban added: 127.0.0.3", patience)
	cancel()
	for _, ended := range done {
		if code := <-ended; code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
	for _, want := range []string{"reject  OPTIONS ", "too-many-hops", "REGISTER 401 ", "PBX → 127.0.0.3:", "1001@127.0.0.1"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not shown:\n%s", want, text)
		}
	}
	if strings.Contains(text.String(), "127.0.0.9") || !strings.Contains(stopped.String(), "127.0.0.9") || strings.Contains(stopped.String(), "  pass  ") {
		t.Errorf("the wrong messages are shown, of one source:\n%s\nof what was stopped:\n%s", text, stopped)
	}
	lines := bufio.NewScanner(strings.NewReader(programs.String()))
	for lines.Scan() {
		var v map[string]any
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil || len(v) != 1 {
			t.Errorf("%v: %s", err, lines.Text())
		}
	}
}
