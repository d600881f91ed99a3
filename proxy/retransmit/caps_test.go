package retransmit_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"sipward/proxy/retransmit"
	"sipward/sip"
)

const capacity = 4 << 20

func quiet(bytes int64) *retransmit.Table {
	return retransmit.New(retransmit.Config{
		Bytes: bytes, Send: func(retransmit.Path, []byte) {}, TimedOut: func(retransmit.Path, []byte) {},
	})
}

// numbered returns the n-th key; a real one is a hash.
func numbered(n int, m sip.Method) (k retransmit.Key) {
	k.Method = m
	binary.LittleEndian.PutUint64(k.Branch[:], uint64(n)*0x9e3779b97f4a7c15)
	return k
}

// fill sends requests of 768 bytes, a kilobyte with overhead, until one is refused.
func fill(t *testing.T, table *retransmit.Table, class retransmit.Class, source func(i int) netip.Addr) (taken int) {
	t.Helper()
	message := make([]byte, 1024-retransmit.Overhead)
	for i := range 2 * capacity / 1024 {
		r := retransmit.Request{
			Key: numbered(i+1e6*int(class+1), sip.MethodRegister), Class: class, Source: source(i), Path: pbx, Message: message,
		}
		if !table.SendRequest(&r, 0) {
			return i
		}
	}
	t.Fatal("never full")
	return 0
}

func one(int) netip.Addr { return phone }

func many(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
}

// TestShares: one stranger cannot fill the Table, nor can all strangers together, nor one
// known source; and what is in it goes on when it is full.
func TestShares(t *testing.T) {
	table := quiet(capacity)
	if n := fill(t, table, retransmit.Stranger, one); n != capacity/32/1024 {
		t.Errorf("one stranger may have %d requests", n)
	}
	first := table.Stats().Entries
	if n := fill(t, quiet(capacity), retransmit.Stranger, func(i int) netip.Addr {
		a := netip.MustParseAddr("2001:db8:1:2::").As16()
		a[15] = byte(i)
		return netip.AddrFrom16(a)
	}); n != capacity/32/1024 {
		t.Errorf("one IPv6 network may have %d requests", n)
	}
	// Sources by hash: some strangers share a place with others, and with the first.
	strangers := 0
	message := make([]byte, 1024-retransmit.Overhead)
	for i := range 100_000 {
		r := retransmit.Request{
			Key: numbered(i+1e7, sip.MethodRegister), Source: many(i), Path: pbx, Message: message,
		}
		if table.SendRequest(&r, 0) {
			strangers++
		}
	}
	if n := first + strangers; n != capacity/2/1024 {
		t.Errorf("all strangers have %d requests", n)
	}
	if n := fill(t, table, retransmit.Known, one); n > capacity/4/1024 || n < capacity/4/1024-first {
		t.Errorf("one known source may have %d requests", n)
	}
	fill(t, table, retransmit.PBX, one)
	st := table.Stats()
	if st.Bytes > capacity || st.Bytes < capacity-1024 {
		t.Errorf("%d bytes in all", st.Bytes)
	}
	if st.Refused == 0 {
		t.Error("none is counted as refused")
	}

	// Full. One in progress goes on to its end, and one begun anew takes its own room.
	k := numbered(1e6, sip.MethodRegister)
	if forward, _, _ := table.ReceiveResponse(k, 401, 0, nil); !forward {
		t.Error("the answer was not forwarded")
	}
	if forward, _, _ := table.ReceiveResponse(k, 401, 0, nil); forward {
		t.Error("its repeat was forwarded")
	}
	r := retransmit.Request{Key: numbered(7, sip.MethodBye), Class: retransmit.PBX, Source: phone, Flow: 1}
	for { // what the answered one has left
		if v, _, _ := table.ReceiveRequest(&r, 0, nil); v == retransmit.Refuse {
			break
		}
		r.Key.Branch[11]++
	}
	table.Clock()(int64(time.Hour))
	if st := table.Stats(); st.Entries != 0 || st.Bytes != 0 {
		t.Errorf("left over: %+v", st)
	}
	if n := fill(t, table, retransmit.Stranger, one); n != capacity/32/1024 {
		t.Errorf("afterwards one stranger may have %d requests", n)
	}
}

// TestNoRoomForMessage: a response and an ACK that cannot be kept are not repeated, and
// nothing else is different.
func TestNoRoomForMessage(t *testing.T) {
	table := quiet(4 * retransmit.Overhead)
	large := make([]byte, 4*retransmit.Overhead)
	r := retransmit.Request{Key: numbered(1, sip.MethodInvite), Class: retransmit.PBX, Flow: 1}
	if v, _, _ := table.ReceiveRequest(&r, 0, nil); v != retransmit.Forward {
		t.Fatal(v)
	}
	table.SendResponse(r.Key, 486, success, pbx, large, 0)
	if v, repeat, _ := table.ReceiveRequest(&r, 0, nil); v != retransmit.Absorb || len(repeat) > 0 {
		t.Errorf("a repeat: %v, sent %q", v, repeat)
	}
	table.Clock()(int64(time.Second))
	if st := table.Stats(); st.Sent != 0 {
		t.Errorf("%d sent", st.Sent)
	}
	if !table.ReceiveAck(r.Key, 0) || table.ReceiveAck(r.Key, 0) {
		t.Error("the ACK is to be forwarded once")
	}
}

// TestAllocations: with buffers in the pools nothing is allocated.
func TestAllocations(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector empties pools at random")
	}
	table := quiet(64 << 20)
	scratch := make([]byte, 0, 2048)
	message := make([]byte, 800)
	now, n, advance := int64(time.Hour), 0, table.Clock()
	round := func() {
		n++
		now += int64(10 * time.Millisecond)
		exchange(table, n, message, scratch, now)
		advance(now)
	}
	for range 20_000 {
		round() // until as many end as begin
	}
	if got := testing.AllocsPerRun(20_000, round); got != 0 { // whole ones: a garbage collection may empty the pools
		t.Errorf("%v allocations", got)
	}
}

// exchange is a REGISTER of a phone that is answered, and an OPTIONS of the PBX that is
// repeated.
func exchange(table *retransmit.Table, n int, message, scratch []byte, now int64) {
	r := retransmit.Request{Key: numbered(n, sip.MethodRegister), Class: retransmit.PBX, Source: phone, Path: pbx, Message: message}
	table.SendRequest(&r, now)
	table.ReceiveResponse(r.Key, 401, now, scratch)
	q := retransmit.Request{Key: numbered(n, sip.MethodOptions), Class: retransmit.PBX, Source: phone, Flow: 1}
	table.ReceiveRequest(&q, now, scratch)
	table.SendResponse(q.Key, 200, 0, pbx, message, now)
	table.ReceiveRequest(&q, now, scratch)
}

func BenchmarkExchange(b *testing.B) {
	table := quiet(64 << 20)
	scratch, message := make([]byte, 0, 2048), make([]byte, 800)
	b.ReportAllocs()
	now, n, advance := int64(time.Hour), 0, table.Clock()
	for b.Loop() {
		n++
		now += int64(10 * time.Millisecond)
		exchange(table, n, message, scratch, now)
		advance(now)
	}
}

// BenchmarkTimers: 20,000 requests without an answer, one tick of the clock an operation.
func BenchmarkTimers(b *testing.B) {
	table := quiet(64 << 20)
	message := make([]byte, 800)
	now, n, advance := int64(time.Hour), 0, table.Clock()
	b.ReportAllocs()
	for b.Loop() {
		for range 31 { // 31 in 50 ms for 32 s
			n++
			r := retransmit.Request{Key: numbered(n, sip.MethodRegister), Class: retransmit.PBX, Source: phone, Path: pbx, Message: message}
			table.SendRequest(&r, now)
		}
		now += int64(50 * time.Millisecond)
		advance(now)
	}
	b.ReportMetric(float64(table.Stats().Entries), "entries")
}
