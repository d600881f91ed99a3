package netio_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"sipward/proxy/netio"
)

// TestNoLostWakeUp sends bursts with pauses around the times at which a
// worker turns busy, ticks, and turns idle again: no packet may be left lying
// until another one comes.
func TestNoLostWakeUp(t *testing.T) {
	for _, coalesce := range []time.Duration{-1, 100 * time.Microsecond, 0, 5 * time.Millisecond} {
		u := runUDP(t, netio.UDPConfig{Workers: 1, Batch: 4, Coalesce: coalesce}, echo, "127.0.0.1:0", "127.0.0.2:0")
		rnd := rand.New(rand.NewPCG(1, uint64(coalesce)))
		conns := []*net.UDPConn{client(t, "127.0.0.1:0"), client(t, "127.0.0.1:0")}
		seq := uint32(0)
		for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); {
			l := rnd.IntN(2)
			n := 1 + rnd.IntN(12)
			for i := range n {
				send(t, conns[l], binary.BigEndian.AppendUint32(nil, seq+uint32(i)), u.LocalAddr(l))
			}
			_ = conns[l].SetReadDeadline(time.Now().Add(30 * time.Second))
			for range n {
				if got, _ := receive(t, conns[l]); binary.BigEndian.Uint32(got) != seq {
					t.Fatalf("got %d, want %d", binary.BigEndian.Uint32(got), seq)
				}
				seq++
			}
			if rnd.IntN(4) == 0 {
				time.Sleep(time.Duration(rnd.Int64N(int64(3 * time.Millisecond))))
			}
		}
		if seq < 10 {
			t.Errorf("only %d packets", seq)
		}
	}
}

// TestBusySocketsCoalesce wants far fewer wake-ups than packets under load.
func TestBusySocketsCoalesce(t *testing.T) {
	u := runUDP(t, netio.UDPConfig{Workers: 1, Coalesce: 2 * time.Millisecond}, echo, "127.0.0.1:0")
	c := client(t, "127.0.0.1:0")
	const n = 4000
	for i := range n {
		send(t, c, []byte("x"), u.LocalAddr(0))
		if i%4 == 0 {
			time.Sleep(10 * time.Microsecond)
		}
	}
	for range n {
		receive(t, c)
	}
	udpStats(t, u, func(st netio.UDPStats) bool { return st.Sent == n })
	if st := u.Stats()[0]; st.Batches > n/3 {
		t.Errorf("%d batches for %d packets", st.Batches, n)
	}
}
