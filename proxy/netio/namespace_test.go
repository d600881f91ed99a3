package netio_test

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"sipward/proxy/netio"
)

// inNamespace runs the calling test once more, alone in a network namespace
// of its own, and returns true there.
func inNamespace(t *testing.T, tools ...string) bool {
	t.Helper()
	if os.Getenv("NETIO_NAMESPACE") != "" {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a network namespace")
	}
	for _, tool := range append(tools, "unshare") {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	cmd := exec.Command("unshare", "--net", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), "NETIO_NAMESPACE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	} else if strings.Contains(string(out), "--- SKIP") {
		t.Skip(string(out))
	}
	return false
}

func command(t *testing.T, line string) {
	t.Helper()
	args := strings.Fields(line)
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Skipf("%s: %v: %s", line, err, out)
	}
}

// TestSendQueueFull sends into a link that takes nothing on: the send buffer
// fills, and the worker must neither hang nor lose count.
func TestSendQueueFull(t *testing.T) {
	if !inNamespace(t, "ip", "tc") {
		return
	}
	command(t, "ip link set lo up")
	command(t, "tc qdisc add dev lo root tbf rate 8kbit burst 2000 limit 10000000")
	const rounds, each = 5, 200
	u := runUDP(t, netio.UDPConfig{Workers: 1, SendBuffer: 20_000}, echo, "127.0.0.1:0")
	out := netio.NewOutput(1, 64, u.WriteBatch)
	for range rounds {
		start := time.Now()
		for range each {
			b := append(out.Slot(0), make([]byte, 1000)...)
			out.Push(0, len(b), addrPort("127.0.0.1:9"), netip.Addr{})
		}
		out.Flush()
		if took := time.Since(start); took > 10*time.Second { // four batches, each with its patience
			t.Errorf("%d messages took %s", each, took)
		}
	}
	st := u.Stats()[0]
	if st.SendDrops == 0 || st.Sent == 0 || st.Sent+st.SendDrops != rounds*each {
		t.Errorf("stats %+v, want %d sent or dropped", st, rounds*each)
	}
	if err := u.WriteTo(0, make([]byte, 1000), addrPort("127.0.0.1:9"), netip.Addr{}); err == nil {
		t.Error("WriteTo: no error")
	}
}

// TestIPv6Addresses: answers come from the address spoken to, and a
// link-local source keeps its interface.
func TestIPv6Addresses(t *testing.T) {
	if !inNamespace(t, "ip") {
		return
	}
	command(t, "ip link set lo up")
	command(t, "ip link add d0 type veth peer name d1")
	command(t, "ip link set d0 up")
	command(t, "ip link set d1 up")
	command(t, "ip -6 addr add 2001:db8::1/64 dev d0 nodad")
	command(t, "ip -6 addr add 2001:db8::2/64 dev d0 nodad")
	command(t, "ip -6 addr add fe80::5/64 dev d0 nodad")
	src := make(chan netip.AddrPort, 10)
	u := runUDP(t, netio.UDPConfig{Workers: 2}, func(l, w int, out *netio.Output) netio.DatagramHandler {
		h := echo(l, w, out)
		return handlerFunc(func(pkts []netio.Packet) {
			for i := range pkts {
				src <- pkts[i].Src
			}
			h.Datagrams(pkts)
		})
	}, "[::]:0")
	for _, a := range []string{"2001:db8::1", "2001:db8::2", "fe80::5%d0"} {
		c := client(t, "["+a+"]:0")
		to := netip.AddrPortFrom(netip.MustParseAddr(a), u.LocalAddr(0).Port())
		if from := ask(t, c, to); from != to {
			t.Errorf("spoken to %s, answered from %s", to, from)
		}
		got := <-src
		if zone := got.Addr().Zone(); (zone != "") != strings.Contains(a, "%") {
			t.Errorf("from %s: Src %s", a, got)
		} else if zone != "" {
			if i, err := net.InterfaceByName("d0"); err != nil || netip.MustParseAddr("fe80::5%"+zone) != got.Addr() || zone != strconv.Itoa(i.Index) {
				t.Errorf("zone %s", zone)
			}
		}
		if err := u.WriteTo(0, []byte("again"), got, to.Addr()); err != nil {
			t.Error(err)
		} else if _, from := receive(t, c); from != to {
			t.Errorf("WriteTo: from %s, want %s", from, to)
		}
	}
}

// ask sends until something comes back, and returns from where: the kernel
// takes a moment to receive on an address that has just been added.
func ask(t *testing.T, c *net.UDPConn, to netip.AddrPort) netip.AddrPort {
	t.Helper()
	for range 50 {
		send(t, c, []byte("hello"), to)
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, from, err := c.ReadFromUDPAddrPort(make([]byte, 10)); err == nil {
			_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
			return from
		}
	}
	t.Fatalf("no answer from %s", to)
	return netip.AddrPort{}
}
