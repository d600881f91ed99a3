package netio

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newTestWorker makes a worker of one listener, which nothing nudges, and a client of it.
func newTestWorker(t *testing.T, coalesce time.Duration) (*udpWorker, *net.UDPConn) {
	t.Helper()
	u, err := ListenUDP(UDPConfig{Workers: 1, Coalesce: coalesce}, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	w, err := u.newWorker(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(u.LocalAddr(0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return w, c
}

// lateReader lets a packet come right after it has found nothing.
type lateReader struct {
	batchReader
	late func()
}

func (r *lateReader) receive() (int, bool, error) {
	n, more, err := r.batchReader.receive()
	if n == 0 && r.late != nil {
		r.late()
		r.late = nil
	}
	return n, more, err
}

// TestPacketAtTurnToIdle: the last round of a busy worker finds nothing, and then a packet comes, before the poller watches
// the sockets again. The worker sees it in the same round.
func TestPacketAtTurnToIdle(t *testing.T) {
	const interval = time.Millisecond
	w, c := newTestWorker(t, interval)
	w.pace.setBusy(true)
	w.inputs[0].r = &lateReader{w.inputs[0].r, func() {
		if _, err := c.Write([]byte("late")); err != nil {
			t.Fatal(err)
		}
	}}
	w.pace.count = idleAfter - 1 // the next tick is the one that ends it
	for end := time.Now().Add(30 * time.Second); !w.receive(0); {
		if !w.pace.busy {
			t.Fatal("the worker waits, and the packet with it")
		}
		if time.Now().After(end) {
			t.Fatal("no tick")
		}
		time.Sleep(interval)
	}
	if w.inputs[0].n != 1 || w.pace.busy {
		t.Errorf("%d packets, busy: %v; want 1, and idle", w.inputs[0].n, w.pace.busy)
	}
}

// reflector answers each packet.
type reflector struct{ out *Output }

func (r reflector) Datagrams(pkts []Packet) {
	for i := range pkts {
		r.out.Push(0, len(append(r.out.Slot(0), pkts[i].Data...)), pkts[i].Src, pkts[i].Local)
	}
}

// TestTurnsWithoutNudge turns a worker that nothing nudges busy and idle again, as often as the time allows, and sends single
// packets around the moment at which it turns. One that is not answered was left lying.
func TestTurnsWithoutNudge(t *testing.T) {
	const interval = 20 * time.Microsecond
	w, c := newTestWorker(t, interval)
	w.inputs[0].h = reflector{w.out}
	ended := make(chan error, 1)
	go w.run(ended)
	defer func() {
		w.stopping.Store(true)
		w.pace.stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	buf, seq, cycles := make([]byte, 64), uint32(0), 0
	exchange := func(n int) {
		for i := range n {
			if _, err := c.Write(binary.BigEndian.AppendUint32(nil, seq+uint32(i))); err != nil {
				t.Fatal(err)
			}
		}
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		for range n {
			if _, err := c.Read(buf); err != nil || binary.BigEndian.Uint32(buf) != seq {
				t.Fatalf("packet %d, cycle %d: %v, got %d", seq, cycles, err, binary.BigEndian.Uint32(buf))
			}
			seq++
		}
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); cycles++ {
		for range busyAfter + 2 { // each a wake-up of its own
			exchange(1)
		}
		// It turns idle after so many ticks. (A sleep is too coarse for this.)
		for turn := time.Now().Add(time.Duration(rand.Int64N(int64(2 * idleAfter * interval)))); time.Now().Before(turn); {
		}
		exchange(1 + rand.IntN(3))
	}
	t.Logf("%d cycles, %d packets", cycles, seq)
	if cycles < 10 {
		t.Errorf("only %d cycles", cycles)
	}
}

// TestPacerAdapts: many packets on each tick make the ticks longer, for as long as there are many.
func TestPacerAdapts(t *testing.T) {
	p, err := newPacer(nil, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	p.setBusy(true)
	for i, step := range []struct {
		packets int // on each tick
		want    time.Duration
	}{
		{1, time.Millisecond}, {manyPackets - 1, time.Millisecond}, {manyPackets, 2 * time.Millisecond},
		{2 * manyPackets, 2 * time.Millisecond}, {manyPackets, 2 * time.Millisecond}, {manyPackets - 1, time.Millisecond},
	} {
		p.count = idleAfter
		p.note(step.packets * idleAfter)
		p.nudge()
		var spec unix.ItimerSpec
		if err := unix.TimerfdGettime(p.timer, &spec); err != nil {
			t.Fatal(err)
		}
		if got := time.Duration(spec.Interval.Nano()); !p.busy || got != step.want {
			t.Errorf("step %d: busy %v, ticks of %v, want %v", i, p.busy, got, step.want)
		}
	}
	p.count = idleAfter
	if p.note(0); p.busy {
		t.Error("busy without packets")
	}
}
