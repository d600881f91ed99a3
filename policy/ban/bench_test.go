package ban_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"sipward/policy/ban"
)

const second = int64(time.Second)

// start is the present of most tests.
const start = 1_800_000_000 * second

func addr4(r *rand.Rand) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], r.Uint32())
	return netip.AddrFrom4(b)
}

// addr6 is a random address in a /64 of its own.
func addr6(r *rand.Rand) netip.Addr {
	b := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	binary.BigEndian.PutUint32(b[4:], r.Uint32())
	binary.BigEndian.PutUint64(b[8:], r.Uint64())
	return netip.AddrFrom16(b)
}

func host(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(a, 32)
	}
	return netip.PrefixFrom(a, 64)
}

func dynamic(a netip.Addr, until int64) ban.Record {
	return ban.Record{Prefix: host(a), Until: until, Reason: "register-failures", Guard: "register", Proven: true, Origin: "guard"}
}

// bigTable has n banned sources, a tenth of them IPv6, and wide ones.
func bigTable(tb testing.TB, n, wide int) (*ban.Table, []netip.Addr) {
	tb.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	t, err := ban.New(ban.Config{}, start)
	if err != nil {
		tb.Fatal(err)
	}
	addrs := make([]netip.Addr, n)
	for i := range addrs {
		addrs[i] = addr4(r)
		if i%10 == 0 {
			addrs[i] = addr6(r)
		}
		if _, err := t.Add(dynamic(addrs[i], start+int64(1+r.IntN(3600))*second), start); err != nil {
			tb.Fatal(err)
		}
	}
	for range wide {
		p := netip.PrefixFrom(addr4(r), 16+r.IntN(12))
		if _, err := t.Add(ban.Record{Prefix: p, Kind: ban.Manual}, start); err != nil {
			tb.Fatal(err)
		}
	}
	return t, addrs
}

func BenchmarkBanned(b *testing.B) {
	r := rand.New(rand.NewPCG(3, 4))
	strangers4, strangers6 := make([]netip.Addr, 1<<16), make([]netip.Addr, 1<<16)
	for i := range strangers4 {
		strangers4[i], strangers6[i] = addr4(r), addr6(r)
	}
	for _, wide := range []int{0, 100} {
		t, banned := bigTable(b, 100_000, wide)
		for _, c := range []struct {
			name  string
			addrs []netip.Addr
		}{{"stranger4", strangers4}, {"stranger6", strangers6}, {"banned", banned[:1<<16]}, {"one", banned[:1]}} {
			b.Run(fmt.Sprintf("%s/wide=%d", c.name, wide), func(b *testing.B) {
				b.ReportAllocs()
				hits, i := 0, 0
				for b.Loop() {
					if t.Banned(c.addrs[i], start) {
						hits++
					}
					if i++; i == len(c.addrs) {
						i = 0
					}
				}
			})
		}
	}
}

// BenchmarkBannedWhileAdding reads while bans come as fast as they can.
func BenchmarkBannedWhileAdding(b *testing.B) {
	t, _ := bigTable(b, 100_000, 10)
	r := rand.New(rand.NewPCG(3, 4))
	strangers := make([]netip.Addr, 1<<16)
	for i := range strangers {
		strangers[i] = addr4(r)
	}
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		r, n := rand.New(rand.NewPCG(5, 6)), 0
		for {
			select {
			case <-stop:
				done <- n
				return
			default:
			}
			_, _ = t.Add(dynamic(addr4(r), start+3600*second), start)
			n++
		}
	}()
	i := 0
	for b.Loop() {
		t.Banned(strangers[i&(1<<16-1)], start)
		i++
	}
	close(stop)
	b.ReportMetric(float64(<-done)/b.Elapsed().Seconds(), "adds/s")
}

func BenchmarkAdd(b *testing.B) {
	t, _ := bigTable(b, 100_000, 10)
	r := rand.New(rand.NewPCG(5, 6))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := t.Add(dynamic(addr4(r), start+3600*second), start); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSnapshot(b *testing.B) {
	t, _ := bigTable(b, 100_000, 10)
	b.ReportAllocs()
	for b.Loop() {
		t.Snapshot()
	}
}

// BenchmarkLoad opens a store of 100,000 bans with a ladder step each.
func BenchmarkLoad(b *testing.B) {
	path := filepath.Join(b.TempDir(), "bans.db")
	fillStore(b, path, 100_000)
	b.ResetTimer()
	for b.Loop() {
		s, err := ban.Open(ban.StoreConfig{Path: path})
		if err != nil {
			b.Fatal(err)
		}
		t, err := ban.New(ban.Config{Store: s}, start)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if n := t.Stats().Dynamic; n < 99_000 {
			b.Fatal(n, "bans loaded")
		}
		s.Close()
		b.StartTimer()
	}
}

func fillStore(tb testing.TB, path string, n int) {
	tb.Helper()
	s, err := ban.Open(ban.StoreConfig{Path: path})
	if err != nil {
		tb.Fatal(err)
	}
	defer s.Close()
	t, err := ban.New(ban.Config{Store: s}, start)
	if err != nil {
		tb.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		a := addr4(r)
		if i%10 == 0 {
			a = addr6(r)
		}
		if _, err := t.Add(dynamic(a, start+3600*second), start); err != nil {
			tb.Fatal(err)
		}
	}
	begun := time.Now()
	if err := s.Sync(); err != nil {
		tb.Fatal(err)
	}
	tb.Logf("wrote %d rows in %v", n, time.Since(begun))
}

// TestMemory states what a ban costs.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("allocates much")
	}
	const n = 100_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	table, _ := bigTable(t, n, 0)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := int(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("%d bytes for each ban", each)
	table.Sweep(start + 7200*second)
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("%d bytes for each source of which only a step is left", int(after.HeapAlloc-before.HeapAlloc)/n)
	runtime.KeepAlive(table)
	if each > 600 {
		t.Errorf("a ban takes %d bytes", each)
	}
}
