//go:build linux

package e2e_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"sipward/e2e/lab"
	"sipward/listsync/kernel"
)

// kernelBench asks for the measurements that docs/bench.md tells of: `make bench-kernel`.
func kernelBench(t *testing.T) {
	t.Helper()
	if os.Getenv("KERNEL_BENCH") == "" {
		t.Skip("a measurement: make bench-kernel")
	}
}

// eachMirror runs a measurement without the kernel, and with both backends.
func eachMirror(t *testing.T, f func(t *testing.T, b kernel.Backend)) {
	for _, b := range append([]kernel.Backend{kernel.BackendNone}, kernelBackends...) {
		t.Run(string(b), func(t *testing.T) { f(t, b) })
	}
}

// banned4 asks the kernel of the edge, and nobody else, whether an address is banned there.
func (w *wall) banned4(t *testing.T) func(a netip.Addr) bool {
	t.Helper()
	ns := must[netns.NsHandle](t)(netns.GetFromName(w.Edge.Name))
	t.Cleanup(func() { ns.Close() })
	if w.backend == kernel.BackendIPSet {
		h := must[*netlink.Handle](t)(netlink.NewHandleAt(ns, unix.NETLINK_NETFILTER))
		t.Cleanup(h.Close)
		return func(a netip.Addr) bool {
			return must[bool](t)(h.IpsetTest("sipward-ban4", &netlink.IPSetEntry{IP: a.AsSlice()}))
		}
	}
	c := must[*nftables.Conn](t)(nftables.New(nftables.WithNetNSFd(int(ns)), nftables.AsLasting()))
	t.Cleanup(func() { _ = c.CloseLasting() })
	table := &nftables.Table{Name: "sipward-lists", Family: nftables.TableFamilyINet}
	var set *nftables.Set
	for _, s := range must[[]*nftables.Set](t)(c.GetSets(table)) {
		if strings.HasPrefix(s.Name, "ban4.32.") {
			set = s
		}
	}
	return func(a netip.Addr) bool {
		all := must[[]nftables.SetElement](t)(c.GetSetElements(set))
		return slices.ContainsFunc(all, func(e nftables.SetElement) bool { return slices.Equal(e.Key, a.AsSlice()) })
	}
}

// TestKernelBenchDecision measures from the message that decides, when it is handed to the wire, to the entry in the kernel's
// set, where the next one is dropped.
func TestKernelBenchDecision(t *testing.T) {
	kernelBench(t)
	eachBackend(t, func(t *testing.T, b kernel.Backend) {
		w := newWall(t, b, "", "breaker: {bans_per_minute: 0, good_share: 0%}\n")
		banned := w.banned4(t)
		var all []time.Duration
		for n := range 250 {
			from := nobody(n)
			message := w.message(from)
			message = []byte(strings.Replace(string(message), "Yealink SIP-T46S 66.86.0.15", "friendly-scanner", 1))
			w.send(t, from, 0)
			time.Sleep(20 * time.Millisecond) // so that each ban is one by itself, as they come
			at := time.Now()
			w.write(t, from, message)
			for !banned(from) {
				if time.Since(at) > time.Second {
					t.Fatalf("%v is not banned in the kernel", from)
				}
				_ = unix.Nanosleep(&unix.Timespec{Nsec: 20_000}, nil) // leaves the processor to sipward; finer than Go's own
			}
			all = append(all, time.Since(at))
		}
		slices.Sort(all)
		t.Logf("%v: deciding message to entry: median %v, p90 %v, p99 %v, worst %v",
			b, all[len(all)/2].Round(time.Microsecond), all[len(all)*90/100].Round(time.Microsecond), all[len(all)*99/100].Round(time.Microsecond), all[len(all)-1].Round(time.Microsecond))
	})
}

// cpuTime is what a process has used.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	text := string(must[[]byte](t)(os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))))
	f := strings.Fields(text[strings.LastIndex(text, ")")+1:])
	const hertz = 100 // USER_HZ, of every Linux on which these tests run
	ticks := must[int](t)(strconv.Atoi(f[11])) + must[int](t)(strconv.Atoi(f[12]))
	return time.Duration(ticks) * time.Second / hertz
}

// received is how many packets have come to the edge.
func (w *wall) received(t *testing.T) int {
	t.Helper()
	var n int
	err := w.Edge.Do(func() error {
		b, err := os.ReadFile(filepath.Join("/proc", "thread-self", "net", "dev"))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			if name, rest, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name == "wan0" {
				n, err = strconv.Atoi(strings.Fields(rest)[1])
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// blast sends from one address as fast as it can, and gives the rate of what has come to the edge and sipward's share of a
// processor.
func (w *wall) blast(t *testing.T, f *lab.Forger, from netip.Addr, d time.Duration) (perSecond, share float64) {
	t.Helper()
	b := w.message(from)
	began, before, used := time.Now(), w.received(t), cpuTime(t, w.sipward.PID())
	for n := 0; n%64 != 0 || time.Since(began) < d; n++ {
		if err := f.Queue(netip.AddrPortFrom(from, 5060), w.proxy(false), b); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(began)
	return float64(w.received(t)-before) / took.Seconds(), float64(cpuTime(t, w.sipward.PID())-used) / float64(took)
}

// TestKernelBenchFlood: a banned source floods, with and without the mirror.
func TestKernelBenchFlood(t *testing.T) {
	kernelBench(t)
	eachMirror(t, func(t *testing.T, b kernel.Backend) {
		w := newWall(t, b, "", "")
		bad := nobody(1)
		w.cli(t, "ban "+bad.String())
		if b != kernel.BackendNone {
			w.blocked(t, bad)
		}
		f := must[*lab.Forger](t)(w.Forger())
		defer f.Close()
		rate, share := w.blast(t, f, bad, 8*time.Second)
		t.Logf("%v: %.0f packets a second of a banned source; sipward uses %.1f %% of a processor", b, rate, 100*share)
	})
}

// handMade are rules that a person would write: the same as the mirror's (for a port, unless the source is allowed), and the
// shortest ones there are.
var handMade = map[kernel.Backend]map[string][2]string{
	kernel.BackendIPSet: {
		"same": {"ipset create hand hash:net timeout 0; ipset add hand 192.0.2.1; ipset create friends hash:net timeout 0; ipset add friends 203.0.113.2; " +
			"iptables -t raw -A PREROUTING -p udp --dport 5060 -m set --match-set hand src -m set ! --match-set friends src -j DROP; " +
			"iptables -t raw -A PREROUTING -p tcp --dport 5060 -m set --match-set hand src -m set ! --match-set friends src -j DROP",
			"iptables -t raw -F; ipset destroy hand; ipset destroy friends"},
		"shortest": {"ipset create hand hash:net timeout 0; ipset add hand 192.0.2.1; iptables -t raw -A PREROUTING -m set --match-set hand src -j DROP",
			"iptables -t raw -F; ipset destroy hand"},
	},
	kernel.BackendNFTables: {
		"same": {"nft -f - <<E\ntable inet hand {\n set s { type ipv4_addr; flags timeout; elements = { 192.0.2.1 } }\n set friends { type ipv4_addr; flags timeout; elements = { 203.0.113.2 } }\n" +
			" chain c { type filter hook prerouting priority raw;\n udp dport 5060 ip saddr @s ip saddr != @friends counter drop\n tcp dport 5060 ip saddr @s ip saddr != @friends counter drop\n }\n}\nE",
			"nft delete table inet hand"},
		"shortest": {"nft -f - <<E\ntable inet hand {\n set s { type ipv4_addr; flags timeout; elements = { 192.0.2.1 } }\n" +
			" chain c { type filter hook prerouting priority raw;\n ip saddr @s counter drop\n }\n}\nE", "nft delete table inet hand"},
	},
}

// TestKernelBenchDrop: as many packets a second are dropped as by the same rule put in by hand.
func TestKernelBenchDrop(t *testing.T) {
	kernelBench(t)
	eachBackend(t, func(t *testing.T, b kernel.Backend) {
		w := newWall(t, b, "", "")
		bad := nobody(1)
		w.cli(t, "ban "+bad.String())
		w.blocked(t, bad)
		f := must[*lab.Forger](t)(w.Forger())
		defer f.Close()
		rates := map[string][]float64{}
		measure := func(what string) {
			rate, _ := w.blast(t, f, bad, 700*time.Millisecond)
			rates[what] = append(rates[what], rate)
		}
		for range 15 {
			measure("mirror")
			w.cli(t, "kernel clear")
			for what, script := range handMade[b] {
				w.edge(t, script[0])
				measure(what)
				w.edge(t, script[1])
			}
			w.cli(t, "kernel sync")
		}
		for _, r := range rates {
			slices.Sort(r)
		}
		for _, what := range []string{"mirror", "same", "shortest"} {
			r, m := rates[what], rates["mirror"]
			t.Logf("%v, dropped per second, %s: median %.0f, best %.0f; the mirror has %+.1f %% (median), %+.1f %% (best)", b, what,
				r[len(r)/2], r[len(r)-1], 100*(m[len(m)/2]/r[len(r)/2]-1), 100*(m[len(m)-1]/r[len(r)-1]-1))
		}
	})
}

// TestKernelBenchLane: registered phones while 10,000 forged sources flood, with and without the trusted lane.
func TestKernelBenchLane(t *testing.T) {
	kernelBench(t)
	eachMirror(t, func(t *testing.T, b kernel.Backend) {
		s := attacked(t, fmt.Sprintf("log: {level: info}\nkernel: {backend: %s}\noverload: {kernel_strangers: 2000}\n", b))
		w := &wall{site: s, backend: b}
		phones := s.crowd(t)
		if b != kernel.BackendNone {
			w.follows(t)
			w.settles(t, "good4", 5)
		}
		for _, rate := range []int{20_000, 100_000, 300_000} {
			began, before, used := time.Now(), w.received(t), cpuTime(t, s.sipward.PID())
			ok, _ := s.underFlood(t, phones, rate, forgedSource, s.template("REGISTER", "Yealink SIP-T46S 66.86.0.15"))
			took := time.Since(began)
			t.Logf("%v, %d a second wanted, about %.0f came to the edge: %d of %d, sipward uses %.0f %% of a processor", b, rate,
				float64(w.received(t)-before)/took.Seconds(), ok, attempts, 100*float64(cpuTime(t, s.sipward.PID())-used)/float64(took))
		}
	})
}
