package policy

import "sync/atomic"

// marks remembers roughly which sources have had anything counted against them
// lately, in so little memory that it stays in a processor's cache. It may say so
// of one that has not, never the other way round. Almost all who register are
// spared a look into the tables of those who fail.
type marks struct {
	at [1 << 13]atomic.Uint32 // seconds
}

func (m *marks) of(source uint64) *atomic.Uint32 { return &m.at[source>>16%uint64(len(m.at))] }

// set marks a source.
func (m *marks) set(source uint64, now int64) {
	if at, s := m.of(source), uint32(now/second); at.Load() != s {
		at.Store(s)
	}
}

// future is how far a mark may lie ahead, after a clock that was set back (s).
const future = uint32(3600)

// within says whether the source may have been marked within a period.
func (m *marks) within(source uint64, now, period int64) bool {
	age := uint32(now/second) - m.of(source).Load()
	return int64(age) <= period/second+1 || age > ^future
}
