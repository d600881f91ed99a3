package tftp

import (
	"net/netip"
	"sync"
)

// stage is how far a transfer is.
type stage uint8

const (
	halfOpen  stage = iota // its client has not shown its address
	open                   // it has
	lingering              // the last block is acknowledged; the server may not know yet
	closed
)

// registry holds the transfers. Packets of a transfer do not touch it.
type registry struct {
	mu     sync.Mutex
	all    map[*transfer]struct{}
	active map[netip.Addr]int           // by source, without those that linger
	asked  map[netip.AddrPort]*transfer // the latest of each client that is half open
}

func (r *registry) init() {
	r.all = map[*transfer]struct{}{}
	r.active = map[netip.Addr]int{}
	r.asked = map[netip.AddrPort]*transfer{}
}

// add takes a transfer in. If there are max it closes another to make room: one that
// lingers, or else the oldest that is half open, those of strangers first, and for a stranger
// those alone. If its source has perSource, the oldest of them that is half open makes room:
// anybody can have begun it. evicted is the one that made room.
func (r *registry) add(t *transfer, max, perSource int) (evicted *transfer, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.active[t.source] >= perSource:
		evicted = r.first(func(x *transfer) bool { return x.stage == halfOpen && x.source == t.source })
	case len(r.all) >= max:
		evicted = r.first(func(x *transfer) bool {
			return x.stage == lingering || x.stage == halfOpen && (t.good || !x.good)
		})
	default:
		r.enter(t)
		return nil, true
	}
	if evicted == nil {
		return nil, false
	}
	r.remove(evicted)
	r.enter(t)
	return evicted, true
}

// first returns the transfer that goes before all others that may; nil: there is none.
func (r *registry) first(may func(*transfer) bool) (found *transfer) {
	for x := range r.all {
		if may(x) && (found == nil || x.before(found)) {
			found = x
		}
	}
	return found
}

func (r *registry) enter(t *transfer) {
	r.all[t] = struct{}{}
	r.active[t.source]++
	r.asked[t.client] = t
}

// before says which of two goes first.
func (t *transfer) before(x *transfer) bool {
	switch {
	case (t.stage == lingering) != (x.stage == lingering):
		return t.stage == lingering
	case t.good != x.good:
		return !t.good
	}
	return t.started < x.started
}

// repeated returns the transfer that a client has just asked for with this very
// request.
func (r *registry) repeated(client netip.AddrPort, request []byte) *transfer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.asked[client]; t != nil && string(t.request) == string(request) {
		return t
	}
	return nil
}

// reach notes that a transfer has reached a stage.
func (r *registry) reach(t *transfer, s stage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.stage == closed {
		return
	}
	r.settle(t)
	if s == lingering && t.stage != lingering {
		r.leave(t)
	}
	t.stage = s
}

// settle forgets that the client's request may be repeated.
func (r *registry) settle(t *transfer) {
	if r.asked[t.client] == t {
		delete(r.asked, t.client)
	}
}

func (r *registry) leave(t *transfer) {
	if r.active[t.source]--; r.active[t.source] == 0 {
		delete(r.active, t.source)
	}
}

// close takes a transfer out.
func (r *registry) close(t *transfer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(t)
}

func (r *registry) remove(t *transfer) {
	if t.stage == closed {
		return
	}
	r.settle(t)
	if t.stage != lingering {
		r.leave(t)
	}
	t.stage = closed
	delete(r.all, t)
}

func (r *registry) snapshot() []*transfer {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*transfer, 0, len(r.all))
	for t := range r.all {
		all = append(all, t)
	}
	return all
}

// of returns how many transfers a source has.
func (r *registry) of(source netip.Addr) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.active[source]
}

// count returns how many transfers there are, and how many of them are half open.
func (r *registry) count() (all, half int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for t := range r.all {
		if t.stage == halfOpen {
			half++
		}
	}
	return len(r.all), half
}
