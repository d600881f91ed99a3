package main

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"
)

// shown collects what a command prints while it runs.
type shown struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *shown) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *shown) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestDemo plays the scripted round with the real sipward: a newcomer sees the main
// job within ten seconds, and Ctrl-C ends it.
func TestDemo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := new(shown)
	root := newRoot()
	root.SetOut(out)
	root.SetErr(out)
	done := make(chan int, 1)
	began := time.Now()
	go func() { done <- execute(ctx, root, []string{"demo"}) }()
	for !strings.Contains(out.String(), "Now you.") {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("the round does not end:\n%s", out)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the round took %v", took)
	}
	cancel()
	select {
	case code := <-done:
		if code != 0 {
			t.Errorf("exit code %d", code)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the demo does not end")
	}
	for _, want := range []string{"The good phone registered", "deny-list", "flood", "malformed",
		"the PBX refused 10, then sipward banned it", "The scanner got 0 answers"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q was not shown", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}
