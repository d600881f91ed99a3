//go:build linux

package load

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"sipward/e2e/bench/mmsg"
)

const (
	// tick is the clock of the open loop. Above 4,000/s several messages share one, below it each
	// has its own: phones do not send in step, and bursts of milliseconds would measure the
	// length of receive queues instead of the edge.
	tick     = 250 * time.Microsecond
	maxBatch = 64
)

// send paces all transactions. It never waits for answers, and after a stall it catches up in
// batches of at most maxBatch.
func (g *Generator) send(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The kernel rounds sleeps up by 50 µs for normal threads.
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set timer slack: %w", err)
	}
	b := mmsg.NewBatch(maxBatch)
	f := newFirst(&g.cfg, g.run)
	for i := range b.Len() {
		f.fill(b.Slot(i))
		b.SetPeer(i, mmsg.Pack(g.cfg.Target))
	}
	period := max(tick, time.Second/time.Duration(g.cfg.Rate))
	begin := time.Now()
	for next := begin; ; next = next.Add(period) {
		sleepUntil(next)
		due := min(int(float64(g.cfg.Rate)*time.Since(begin).Seconds())+1, g.total)
		for g.seq < due {
			n := min(due-g.seq, maxBatch)
			g.sendBatch(b, f, n)
		}
		if g.seq == g.total || g.hopeless() {
			g.finished = time.Since(begin)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// hopeless: more is outstanding than was sent within T1, so some of it is lost or late for certain.
func (g *Generator) hopeless() bool {
	sentInT1 := int64(float64(g.cfg.Rate)*T1.Seconds()) + 2*maxBatch
	return int64(g.seq)-g.rx.complete.Load() > sentInT1
}

func (g *Generator) sendBatch(b *mmsg.Batch, f *first, n int) {
	at := g.now()
	for i := range n {
		seq := g.seq + i
		who := g.phone(uint32(seq))
		f.patch(b.Slot(i), uint32(seq), who)
		b.Set(i, 0, f.size())
		b.SetSource(i, who.source)
		g.sentAt[seq].Store(at)
	}
	g.seq += n
	g.refused += g.sock.Send(b, 0, n)
}

// sleepUntil sleeps in the kernel, not in Go's timers, whose precision is worse under load.
func sleepUntil(t time.Time) {
	d := time.Until(t)
	if d <= 0 {
		return
	}
	ts := unix.NsecToTimespec(int64(d))
	for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &ts, &ts) == unix.EINTR {
	}
}

// MaxSources is how many addresses NETWORK.[100-249].[100-249] has.
const MaxSources = 150 * 150

// sources lists n addresses of a network, packed. All octets after the first two have three digits, so
// that they can be patched into messages in place.
func sources(network [2]byte, n int) []uint32 {
	s := make([]uint32, n)
	for i := range s {
		s[i] = uint32(network[0])<<24 | uint32(network[1])<<16 | uint32(100+i/150%150)<<8 | uint32(100+i%150)
	}
	return s
}

// sourceAddr is the textual form of a source.
func sourceAddr(s uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(s >> 24), byte(s >> 16), byte(s >> 8), byte(s)})
}
