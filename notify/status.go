package notify

import (
	"maps"
	"slices"
	"time"
)

// Status says how notifications are.
type Status struct {
	Channels []ChannelStatus `json:"channels"`
	// Attacks is how many go on.
	Attacks int `json:"attacks"`
	// Lost is how many notices were lost because too many came at once.
	Lost uint64 `json:"lost"`
}

// ChannelStatus says how one channel is. Counts are since the start and of events.
type ChannelStatus struct {
	Name string `json:"name"`
	Type string `json:"type"`
	To   string `json:"to"` // without credentials

	Waiting   int       `json:"waiting"`
	Oldest    time.Time `json:"oldest,omitzero"` // since when the oldest one waits
	Delivered uint64    `json:"delivered"`
	Last      time.Time `json:"last,omitzero"` // when one was delivered last
	Failures  uint64    `json:"failures"`      // attempts
	Error     string    `json:"error,omitempty"`
	Since     time.Time `json:"since,omitzero"` // of the error
	Next      time.Time `json:"next,omitzero"`  // when it is tried again

	Full    uint64 `json:"full"`    // lost to make room in a full spool
	Expired uint64 `json:"expired"` // lost because they had waited too long
	Refused uint64 `json:"refused"` // lost because the other side does not want them
	// StoreError says why the latest event is not on disk, or what of it cannot be read.
	StoreError string `json:"store_error,omitempty"`
}

// Status returns how all channels are, in the order of their names.
func (n *Notifier) Status() Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := Status{Channels: []ChannelStatus{}, Attacks: len(n.attacks.open), Lost: n.lost.Load()}
	for _, name := range slices.Sorted(maps.Keys(n.queues)) {
		s.Channels = append(s.Channels, n.queues[name].state())
	}
	return s
}

func (q *queue) state() ChannelStatus {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.status
	s.Waiting, s.Full, s.Expired = len(q.spool.waiting), q.spool.full, q.spool.old
	if s.Waiting > 0 {
		s.Oldest = q.spool.waiting[0].added
	}
	if q.spool.err != nil {
		s.StoreError = q.spool.err.Error()
	}
	return s
}
