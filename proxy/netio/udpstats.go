package netio

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// UDPStats counts what one listener has done since it was bound.
type UDPStats struct {
	Addr          netip.AddrPort
	Packets       uint64 // received
	Batches       uint64 // system calls that received them
	ReceiveErrors uint64
	Sent          uint64
	SendErrors    uint64 // messages that the kernel refused, or that could not be addressed
	SendDrops     uint64 // messages dropped because the send queue stayed full
	KernelDrops   uint64 // packets that the kernel dropped because the receive queue was full
}

// udpCounters belongs to one socket. One reader and several writers touch it
// once for each batch.
type udpCounters struct {
	packets, batches, receiveErrors atomic.Uint64
	_                               [64]byte // readers and writers on lines of their own
	sent, sendErrors, sendDrops     atomic.Uint64

	mu        sync.Mutex
	dropsSeen uint32 // the kernel's counter when last asked
	drops     uint64
}

// noteDrops takes the kernel's count, which is modulo 2^32, and returns the
// whole one.
func (c *udpCounters) noteDrops(kernel uint32) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops += uint64(kernel - c.dropsSeen)
	c.dropsSeen = kernel
	return c.drops
}

// Stats returns the counters of each listener, summed over its workers.
func (u *UDP) Stats() []UDPStats {
	u.mu.RLock()
	defer u.mu.RUnlock()
	all := make([]UDPStats, len(u.groups))
	for i, group := range u.groups {
		st := &all[i]
		st.Addr = group[0].addr
		for _, s := range group {
			c := &s.counters
			st.Packets += c.packets.Load()
			st.Batches += c.batches.Load()
			st.ReceiveErrors += c.receiveErrors.Load()
			st.Sent += c.sent.Load()
			st.SendErrors += c.sendErrors.Load()
			st.SendDrops += c.sendDrops.Load()
			if u.closed {
				st.KernelDrops += c.total()
			} else {
				_, _, drops := s.meminfo()
				st.KernelDrops += c.noteDrops(drops)
			}
		}
	}
	return all
}

func (c *udpCounters) total() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drops
}
