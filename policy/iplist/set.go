package iplist

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
)

// Entry is one prefix and where it came from.
type Entry struct {
	Prefix  netip.Prefix
	Origin  string // "config", "FILE:LINE", "command": shown to people
	Comment string // what stood beside it; may be empty
}

// Set is an immutable set of prefixes. A nil *Set is the empty set.
type Set struct {
	lite    bart.Lite         // answers Contains: smaller, so more of it stays in the cache
	table   bart.Table[int32] // answers Lookup: index into entries
	entries []Entry
	filter  *filter // nil in a small set
}

// New makes a set. Of several entries for one prefix Lookup returns the first.
// Prefixes must be valid and are masked.
func New(entries []Entry) *Set {
	s := &Set{entries: slices.Clone(entries)}
	for i := range s.entries {
		p := s.entries[i].Prefix.Masked()
		s.entries[i].Prefix = p
		if s.lite.Get(p) {
			continue
		}
		s.lite.Insert(p)
		s.table.Insert(p, int32(i))
	}
	if s.lite.Size4() >= filterFrom {
		s.filter = newFilter(s.entries)
	}
	return s
}

// Contains says whether a prefix of the set covers addr. It does not allocate.
func (s *Set) Contains(addr netip.Addr) bool {
	if s == nil || len(s.entries) == 0 || s.filter != nil && addr.Is4() && !s.filter.mayContain(addr) {
		return false
	}
	return s.lite.Contains(addr)
}

// Lookup returns the most specific entry that covers addr.
func (s *Set) Lookup(addr netip.Addr) (Entry, bool) {
	if s == nil {
		return Entry{}, false
	}
	i, ok := s.table.Lookup(addr)
	if !ok {
		return Entry{}, false
	}
	return s.entries[i], true
}

// Len returns the number of distinct prefixes.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return s.lite.Size()
}

// Entries returns a copy of what the set was made of, in that order, with
// duplicates.
func (s *Set) Entries() []Entry {
	if s == nil {
		return nil
	}
	return slices.Clone(s.entries)
}
