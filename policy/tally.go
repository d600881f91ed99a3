package policy

import (
	"maps"
	"sync"
	"sync/atomic"
)

// maxWords caps a tally. The words come from a closed set in the scanner, far
// smaller than this; the cap holds should a caller ever pass something else.
const maxWords = 64

// otherWord counts what does not fit under the cap.
const otherWord = "other"

// tally counts by word. Reading it takes no lock: the map is replaced, never
// changed, when a new word comes.
type tally struct {
	words atomic.Pointer[map[string]*atomic.Uint64]
	mu    sync.Mutex // held to replace the map
}

func (t *tally) add(word string) {
	if m := t.words.Load(); m != nil {
		if n := (*m)[word]; n != nil {
			n.Add(1)
			return
		}
	}
	t.counter(word).Add(1)
}

// counter returns the word's counter and makes it if there is room.
func (t *tally) counter(word string) *atomic.Uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := map[string]*atomic.Uint64{}
	if m := t.words.Load(); m != nil {
		old = *m
	}
	if _, ok := old[word]; !ok && len(old) >= maxWords-1 {
		word = otherWord
	}
	if n := old[word]; n != nil {
		return n
	}
	next := maps.Clone(old)
	next[word] = new(atomic.Uint64)
	t.words.Store(&next)
	return next[word]
}

func (t *tally) snapshot() map[string]uint64 {
	out := map[string]uint64{}
	if m := t.words.Load(); m != nil {
		for word, n := range *m {
			out[word] = n.Load()
		}
	}
	return out
}
