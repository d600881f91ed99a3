package netio_test

import (
	"fmt"
	"net/netip"
	"os"
	"testing"

	"sipward/proxy/netio"
)

// sayWorker answers with the number of the worker.
func sayWorker(listener, worker int, out *netio.Output) netio.DatagramHandler {
	return handlerFunc(func(pkts []netio.Packet) {
		for i := range pkts {
			b := append(out.Slot(listener), byte(worker))
			out.Push(listener, len(b), pkts[i].Src, pkts[i].Local)
		}
	})
}

// testSteer steers four workers. It knows hosts by their number.
func testSteer(t *testing.T, listen string, host func(int) string) {
	u := runUDP(t, netio.UDPConfig{Workers: 4}, sayWorker, listen)
	worker := func(number int) byte {
		t.Helper()
		c := client(t, netip.AddrPortFrom(netip.MustParseAddr(host(number)), 0).String())
		send(t, c, []byte("x"), u.LocalAddr(0))
		b, _ := receive(t, c)
		return b[0]
	}
	inside := func(numbers ...int) {
		t.Helper()
		var hosts []netip.Addr
		for _, n := range numbers {
			hosts = append(hosts, netip.MustParseAddr(host(n)))
		}
		if err := u.Steer(append(hosts, netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8:ffff::1"))); err != nil {
			t.Fatal(err)
		}
	}
	inside(2, 3, 4)
	for i, want := range []byte{0, 1, 0} {
		for range 8 { // different ports
			if got := worker(2 + i); got != want {
				t.Fatalf("PBX %d: worker %d, want %d", 2+i, got, want)
			}
		}
	}
	others := map[byte]int{}
	for number := 100; number < 164; number++ {
		w := worker(number)
		if again := worker(number); again != w {
			t.Errorf("%s: worker %d and worker %d", host(number), w, again)
		}
		others[w]++
	}
	if len(others) != 2 || others[2] < 16 || others[3] < 16 {
		t.Errorf("64 others by worker: %v, want about 32 each to the third and the fourth", others)
	}
	inside(100)
	if got := worker(100); got != 0 {
		t.Errorf("a PBX since now: worker %d, want 0", got)
	}
	if got := worker(2); got < 1 {
		t.Errorf("no PBX any more: worker %d", got)
	}
	var many []int
	for number := 5; number < 5000; number++ {
		many = append(many, number)
	}
	inside(many...)
	if got := worker(6); got != 1 {
		t.Errorf("the second of many: worker %d, want 1", got)
	}
}

func TestSteer(t *testing.T) {
	testSteer(t, "127.0.0.1:0", func(n int) string { return fmt.Sprintf("127.1.%d.%d", n>>8, n&255) })
}

func TestSteerIPv6(t *testing.T) {
	if !inNamespace(t, "ip") {
		return
	}
	command(t, "ip link set lo up")
	command(t, "ip -6 route add local 2001:db8::/32 dev lo")
	if err := os.WriteFile("/proc/sys/net/ipv6/ip_nonlocal_bind", []byte("1"), 0); err != nil {
		t.Skip(err)
	}
	testSteer(t, "[::1]:0", func(n int) string { return fmt.Sprintf("2001:db8:0:%x::1", n) })
}

// TestSteerAlone: one worker has everything.
func TestSteerAlone(t *testing.T) {
	u := runUDP(t, netio.UDPConfig{Workers: 1}, sayWorker, "127.0.0.1:0")
	if err := u.Steer([]netip.Addr{netip.MustParseAddr("127.0.0.1")}); err != nil {
		t.Error(err)
	}
	c := client(t, "127.0.0.1:0")
	send(t, c, []byte("x"), u.LocalAddr(0))
	receive(t, c)
}
