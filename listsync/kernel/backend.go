package kernel

import (
	"net/netip"
	"time"
)

// set names one of the kernel's sets.
type set uint8

// The sets in the order in which they are filled, so that no moment is stricter
// than what is wanted.
const (
	allow4 set = iota
	allow6
	good4
	good6
	ban4
	ban6
	numSets
)

var setNames = [numSets]string{"allow4", "allow6", "good4", "good6", "ban4", "ban6"}

func (s set) String() string { return setNames[s] }

func (s set) v6() bool { return s&1 == 1 }

func (s set) bits() int {
	if s.v6() {
		return 128
	}
	return 32
}

// of returns the set of the family of p; s is the list's IPv4 set.
func (s set) of(p netip.Prefix) set {
	if p.Addr().Is4() {
		return s
	}
	return s | 1
}

// entry is an element of a set.
type entry struct {
	prefix netip.Prefix
	left   time.Duration // until it ends; 0: never
}

// op changes an element.
type op struct {
	entry
	del   bool
	fresh bool // the element is not in the set, as far as we know
}

// contents is what all sets hold.
type contents [numSets][]entry

// rules is what the rules go by.
type rules struct {
	scope Scope
	ports []Port
	// strangers is how many packets a second all sources together may send to
	// the ports that are in neither allow nor good. 0: no limit.
	strangers int
}

// burst is how many packets of strangers may come at once: what the limit lets
// pass within 100 ms, so that a receive queue that holds more is never full.
func (r *rules) burst() int { return max(r.strangers/10, 20) }

// drops counts packets that were dropped.
type drops struct{ bans, strangers uint64 }

func (d drops) plus(o drops) drops { return drops{d.bans + o.bans, d.strangers + o.strangers} }

// backend is one way to keep sets in the kernel. It is used by one goroutine.
// After an error the state of its sets is not known, until replace has worked.
type backend interface {
	name() Backend
	// replace puts new sets and rules in the place of what is there. Until the
	// new ones are complete the old ones are in force.
	replace(*contents, rules) error
	// apply changes elements of a set: those that are there are overwritten,
	// and who is to be deleted may be gone.
	apply(set, []op) error
	// dump returns what the set holds; errMissing if there is none.
	dump(set) ([]entry, error)
	// enforce puts other rules over the same sets in force.
	enforce(rules) error
	// changed says whether others may have changed anything since replace, or
	// since it was asked last.
	changed() (bool, error)
	// intact says whether the rules are those that were put in force last.
	intact() (bool, error)
	// dropped returns how many packets the rules have dropped since the first
	// replace.
	dropped() (drops, error)
	// longest is the longest time that an element can have; 0: any.
	longest() time.Duration
	// remove takes away all that has the mirror's name.
	remove() error
	close()
}

// opener prepares the use of a backend and changes nothing. It fails with
// ErrUnsupported where the backend cannot be.
type opener func(*Config) (backend, error)

// maxBatch is how many elements go into one message.
const maxBatch = 1000
