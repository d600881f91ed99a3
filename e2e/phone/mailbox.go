package phone

import (
	"context"
	"fmt"
	"sync"
)

// mailbox keeps values in order until somebody takes the one that he waits for.
type mailbox[T any] struct {
	mu      sync.Mutex
	items   []T
	changed chan struct{}
	closed  error
}

func newMailbox[T any]() *mailbox[T] { return &mailbox[T]{changed: make(chan struct{})} }

func (m *mailbox[T]) put(v T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.items = append(m.items, v)
	close(m.changed)
	m.changed = make(chan struct{})
}

// close makes every wait for what will not come any more end with err.
func (m *mailbox[T]) close(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed == nil {
		m.closed = err
		close(m.changed)
		m.changed = make(chan struct{})
	}
}

// take removes and gives the first value that matches, waiting for it until ctx ends.
func (m *mailbox[T]) take(ctx context.Context, what string, match func(T) bool) (T, error) {
	for {
		m.mu.Lock()
		for i, v := range m.items {
			if match(v) {
				m.items = append(m.items[:i:i], m.items[i+1:]...)
				m.mu.Unlock()
				return v, nil
			}
		}
		changed, closed, n := m.changed, m.closed, len(m.items)
		m.mu.Unlock()
		var zero T
		if closed != nil {
			return zero, fmt.Errorf("wait for %s: %w", what, closed)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return zero, fmt.Errorf("wait for %s (%d others came): %w", what, n, ctx.Err())
		}
	}
}

// len is how many values wait.
func (m *mailbox[T]) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.items)
}
