//go:build linux

package kernel_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sipward/listsync/kernel"
)

// bench asks for measurements of the size that docs/bench.md tells of.
var bench = os.Getenv("KERNEL_BENCH") != ""

// many returns n bans as they are found in practice: addresses, one /64 in ten,
// one in a hundred wider.
func many(n int) map[netip.Prefix]int64 {
	r := rand.New(rand.NewPCG(1, 2))
	out := make(map[netip.Prefix]int64, n)
	for len(out) < n {
		var p netip.Prefix
		switch i := len(out); {
		case i%100 == 1:
			p = netip.PrefixFrom(addr4(r), 20+r.IntN(10)).Masked()
		case i%10 == 0:
			b := [16]byte{0x20, 0x01, 0x0d, 0xb8}
			binary.BigEndian.PutUint32(b[4:], r.Uint32())
			p = netip.PrefixFrom(netip.AddrFrom16(b), 64)
		default:
			p = netip.PrefixFrom(addr4(r), 32)
		}
		out[p] = time.Now().Add(time.Hour + time.Duration(r.IntN(3600))*time.Second).UnixNano()
	}
	return out
}

func addr4(r *rand.Rand) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], r.Uint32()|0x0a000000)
	return netip.AddrFrom4(b)
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestLoad measures how long it takes until 100,000 bans are in the kernel, and to look
// whether they still are.
func TestLoad(t *testing.T) {
	each(t, func(t *testing.T, b kernel.Backend) {
		n := 20_000
		if bench {
			n = 100_000
		}
		feed := &bans{entries: many(n)}
		l := start(t, config(b), feed)
		began := time.Now()
		l.up()
		load := time.Since(began)
		began = time.Now()
		if err := l.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		resync, before := time.Since(began), cpu()
		began = time.Now()
		if err := l.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		check, used := time.Since(began), cpu()-before
		run(t, "sh", "-ec", "nft add table inet theirs; nft delete table inet theirs")
		before, began = cpu(), time.Now()
		if err := l.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		foreign, foreignUsed := time.Since(began), cpu()-before
		entries := n
		next := many(n + n/2)
		for p := range feed.entries { // half of them are other ones now
			if entries--; entries > n/2 {
				delete(next, p)
			}
		}
		began = time.Now()
		feed.replace(next)
		reset := time.Since(began)
		l.settled()
		delta := time.Since(began)
		s := l.Status()
		t.Logf("%v: load %v, resync %v, compare %v (%v of a processor), after others' changes %v (%v), reset %v and its changes %v",
			b, load, resync, check, used, foreign, foreignUsed, reset, delta)
		if s.Sets[4].Entries+s.Sets[5].Entries != len(next) || s.Repairs != 0 {
			t.Errorf("%d entries, want %d; status %+v", s.Sets[4].Entries+s.Sets[5].Entries, len(next), s)
		}
	})
}

// TestLatency measures from the ban to the element in the kernel's set, beside
// many others, while 1,000 other bans a second come.
func TestLatency(t *testing.T) {
	each(t, func(t *testing.T, b kernel.Backend) {
		seconds, others, idle := 0.2, 10_000, 100
		if bench {
			seconds, others, idle = 30, 100_000, 1000
		}
		feed := &bans{entries: many(others)}
		cfg := config(b)
		cfg.Interval = 10 * time.Second
		l := start(t, cfg, feed).up()
		probe, err := kernel.NewProbe(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer probe.Close()
		r := rand.New(rand.NewPCG(3, 4))
		var all []time.Duration
		began, pending := time.Now(), 0
		for i := range int(seconds * 1000) {
			time.Sleep(time.Until(began.Add(time.Duration(i) * time.Millisecond))) // this paces
			p := netip.PrefixFrom(addr4(r), 32)
			at := time.Now()
			feed.put(p, time.Hour)
			if i%10 == 0 {
				for in := false; !in; {
					if in, err = probe.Has(p.Addr()); err != nil {
						t.Fatal(err)
					}
					_ = unix.Nanosleep(&unix.Timespec{Nsec: 20_000}, nil) // it asks under the lock that the mirror needs
				}
				all = append(all, time.Since(at))
			}
			for _, s := range l.Status().Sets {
				pending = max(pending, s.Pending)
			}
		}
		took, before, again := time.Since(began), cpu(), time.Now()
		for i := range idle { // nobody asks the kernel meanwhile
			time.Sleep(time.Until(again.Add(time.Duration(i) * time.Millisecond)))
			feed.put(netip.PrefixFrom(addr4(r), 32), time.Hour)
		}
		share := 100 * float64(cpu()-before) / float64(time.Since(again))
		slices.Sort(all)
		t.Logf("%v: beside %d others, %.0f bans in %v, at most %d behind; 1,000 a second take %.1f %% of a processor; ban to kernel: median %v, p99 %v, worst %v",
			b, others, seconds*1000, took.Round(time.Millisecond), pending, share, all[len(all)/2], all[len(all)*99/100], all[len(all)-1])
		l.settled()
		if s := l.Status(); s.Repairs != 0 || s.Failures != 0 {
			t.Errorf("status %+v", s)
		}
	})
}

// TestDropRate compares what a banned flood costs with the same drop made by
// hand: a rule for one address in raw/PREROUTING.
func TestDropRate(t *testing.T) {
	if !bench {
		t.Skip("a measurement: set KERNEL_BENCH=1")
	}
	each(t, func(t *testing.T, b kernel.Backend) {
		p := newPeer(t, bad4)
		_ = listen(t, protected)
		byHand := map[kernel.Backend][2]string{
			kernel.BackendIPSet: {"ipset create hand hash:net timeout 0; ipset add hand " + bad4 + "; iptables -t raw -I PREROUTING -p udp --dport 5060 -m set --match-set hand src -j DROP",
				"iptables -t raw -F; ipset destroy hand"},
			kernel.BackendNFTables: {"nft add table inet hand; nft add set inet hand s '{ type ipv4_addr; flags timeout; }'; nft add element inet hand s { " + bad4 + " }; nft add chain inet hand c '{ type filter hook prerouting priority raw; }'; nft add rule inet hand c udp dport 5060 ip saddr @s counter drop",
				"nft delete table inet hand"},
		}[b]
		const d = 300 * time.Millisecond
		costs := make(map[string][]time.Duration)
		feed := &bans{entries: many(10_000)}
		feed.put(netip.MustParsePrefix(bad4+"/32"), time.Hour)
		for range 15 {
			costs["no rule"] = append(costs["no rule"], p.blast(bad4, d))
			run(t, "sh", "-ec", byHand[0])
			costs["by hand"] = append(costs["by hand"], p.blast(bad4, d))
			run(t, "sh", "-ec", byHand[1])
			l := start(t, config(b), feed).up()
			costs["mirror"] = append(costs["mirror"], p.blast(bad4, d))
			l.stop()
			feed.apply = nil
			if err := kernel.Remove(config(b)); err != nil {
				t.Fatal(err)
			}
		}
		for _, what := range []string{"no rule", "by hand", "mirror"} {
			c := costs[what]
			slices.Sort(c)
			t.Logf("%v, processor time to send and drop a packet, %s: median %v, least %v", b, what, c[len(c)/2], c[0])
		}
	})
}
