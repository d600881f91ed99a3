package event

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Bus hands events to its subscribers. The zero Bus is ready for use.
type Bus struct {
	subs atomic.Pointer[[]*Subscription] // replaced, never changed
	lost atomic.Uint64
	mu   sync.Mutex // held to replace subs
}

// Active says whether anyone listens: ask before filling in an Event.
func (b *Bus) Active() bool {
	subs := b.subs.Load()
	return subs != nil && len(*subs) > 0
}

// Publish copies ev to each subscriber that has room, and never waits.
func (b *Bus) Publish(ev *Event) {
	subs := b.subs.Load()
	if subs == nil {
		return
	}
	for _, s := range *subs {
		select {
		case s.c <- *ev:
		default:
			s.lost.Add(1)
			b.lost.Add(1)
		}
	}
}

// Lost returns how many events have been lost to all subscribers together,
// those of the past included.
func (b *Bus) Lost() uint64 { return b.lost.Load() }

// Subscribe starts to collect events, of which up to size wait to be taken.
// Whoever subscribes must Close.
func (b *Bus) Subscribe(size int) *Subscription {
	s := &Subscription{c: make(chan Event, max(size, 1)), bus: b}
	b.replace(func(subs []*Subscription) []*Subscription { return append(subs, s) })
	return s
}

func (b *Bus) replace(change func([]*Subscription) []*Subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var next []*Subscription
	if subs := b.subs.Load(); subs != nil {
		next = slices.Clone(*subs)
	}
	next = change(next)
	b.subs.Store(&next)
}

// Subscription is one reader's queue of events.
type Subscription struct {
	c    chan Event
	lost atomic.Uint64
	bus  *Bus
}

// C delivers the events in the order of their arrival. It is not closed by
// Close, since a publisher may be at work: select on a context beside it.
func (s *Subscription) C() <-chan Event { return s.c }

// Lost returns how many events did not fit into the queue. Who needs to be
// complete compares it with what he saw last and starts again from a snapshot.
func (s *Subscription) Lost() uint64 { return s.lost.Load() }

// Close ends the subscription. It may be called more than once.
func (s *Subscription) Close() {
	s.bus.replace(func(subs []*Subscription) []*Subscription {
		return slices.DeleteFunc(subs, func(o *Subscription) bool { return o == s })
	})
}
