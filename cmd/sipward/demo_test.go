package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"sipward/admin/logtest"
)

// TestDemo plays the scripted round with the real sipward: a newcomer sees the main
// job within ten seconds, and Ctrl-C ends it.
func TestDemo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := new(logtest.Buffer)
	root := newRoot()
	root.SetOut(out)
	root.SetErr(out)
	done := make(chan int, 1)
	began := time.Now()
	go func() { done <- execute(ctx, root, []string{"demo"}) }()
	out.Await(t, "Now you.", time.Minute)
	if took := time.Since(began); took > 10*time.Second && os.Getenv("E2E_FULL") == "1" { // on a quiet machine
		t.Errorf("the round took %v", took)
	}
	cancel()
	select {
	case code := <-done:
		if code != 0 {
			t.Errorf("exit code %d", code)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the demo does not end")
	}
	for _, want := range []string{"The good phone registered", "deny-list", "flood", "malformed",
		"the PBX refused 10, then sipward banned it", "The scanner got 0 answers",
		"export SIPWARD_CONTROL__SOCKET=/", os.Args[0] + " explain 127.0.0.3"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q was not shown", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}
