// Package logtest is where tests let a program write its log or its output.
package logtest

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// A Buffer keeps what is written, and may be read meanwhile. Its zero value is empty.
type Buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

// Write implements io.Writer. It does not fail.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns what has been written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Await waits until the text has been written, and ends the test if that takes longer than
// the limit.
func (b *Buffer) Await(t testing.TB, text string, limit time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(limit); !strings.Contains(b.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q was not written within %v:\n%s", text, limit, b)
		}
	}
}
