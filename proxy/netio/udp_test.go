package netio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sipward/proxy/netio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type handlerFunc func(pkts []netio.Packet)

func (f handlerFunc) Datagrams(pkts []netio.Packet) { f(pkts) }

type factory func(listener, worker int, out *netio.Output) netio.DatagramHandler

// echo answers every packet from the address that it was sent to.
func echo(listener, _ int, out *netio.Output) netio.DatagramHandler {
	return handlerFunc(func(pkts []netio.Packet) {
		for i := range pkts {
			b := append(out.Slot(listener), pkts[i].Data...)
			out.Push(listener, len(b), pkts[i].Src, pkts[i].Local)
		}
	})
}

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func addrPorts(texts []string) (list []netip.AddrPort) {
	for _, s := range texts {
		list = append(list, addrPort(s))
	}
	return list
}

// runUDP listens and runs until the test has ended.
func runUDP(t testing.TB, cfg netio.UDPConfig, f factory, addrs ...string) *netio.UDP {
	t.Helper()
	u, err := netio.ListenUDP(cfg, addrPorts(addrs))
	if err != nil {
		t.Fatal(err)
	}
	start(t, u, f)
	return u
}

func start(t testing.TB, u *netio.UDP, f factory) {
	runUntilEnd(t, func(ctx context.Context) error { return u.Run(ctx, f) })
}

// runUntilEnd runs until the test ends, and waits until it has returned.
func runUntilEnd(t testing.TB, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("Run did not return")
		}
	})
}

func client(t testing.TB, addr string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addrPort(addr)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetReadBuffer(4 << 20)
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

func send(t testing.TB, c *net.UDPConn, b []byte, to netip.AddrPort) {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort(b, to); err != nil {
		t.Fatal(err)
	}
}

func receive(t testing.TB, c *net.UDPConn) ([]byte, netip.AddrPort) {
	t.Helper()
	b := make([]byte, 65536)
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

// udpStats waits for the first listener's counters to be as they should:
// packets arrive before they are counted as sent.
func udpStats(t *testing.T, u *netio.UDP, ok func(netio.UDPStats) bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		st := u.Stats()[0]
		if ok(st) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("stats %+v", st)
		}
	}
}

func skipWithoutIPv6(t testing.TB) {
	c, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 on this machine: %v", err)
	}
	c.Close()
}

func TestEcho(t *testing.T) {
	for _, tt := range []struct{ name, listen, from string }{
		{"IPv4", "127.0.0.1:0", "127.0.0.1:0"},
		{"IPv6", "[::1]:0", "[::1]:0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "IPv6" {
				skipWithoutIPv6(t)
			}
			for workers := 1; workers <= 3; workers++ {
				u := runUDP(t, netio.UDPConfig{Workers: workers}, echo, tt.listen)
				c := client(t, tt.from)
				for _, size := range []int{0, 1, 800, 6000, 65507} {
					if tt.name == "IPv6" && size == 65507 {
						size = 65487 // 65,535 less UDP header and what Linux keeps for IPv6's
					}
					msg := bytes.Repeat([]byte{'x'}, size)
					send(t, c, msg, u.LocalAddr(0))
					got, from := receive(t, c)
					if !bytes.Equal(got, msg) {
						t.Fatalf("%d bytes came back as %d", size, len(got))
					}
					if from != u.LocalAddr(0) {
						t.Fatalf("answer from %s, want %s", from, u.LocalAddr(0))
					}
				}
			}
		})
	}
}

func TestPacketAddresses(t *testing.T) {
	got := make(chan netio.Packet, 1)
	u := runUDP(t, netio.UDPConfig{Workers: 1}, func(int, int, *netio.Output) netio.DatagramHandler {
		return handlerFunc(func(pkts []netio.Packet) {
			p := pkts[0]
			p.Data = bytes.Clone(p.Data)
			got <- p
		})
	}, "127.0.0.1:0", "0.0.0.0:0")
	c := client(t, "127.0.0.3:0")
	for i, to := range []netip.AddrPort{
		u.LocalAddr(0),
		netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), u.LocalAddr(1).Port()),
	} {
		send(t, c, []byte("hello"), to)
		p := <-got
		if want := c.LocalAddr().(*net.UDPAddr).AddrPort(); p.Src != want {
			t.Errorf("listener %d: Src %v, want %v", i, p.Src, want)
		}
		if p.Local != to.Addr() {
			t.Errorf("listener %d: Local %v, want %v", i, p.Local, to.Addr())
		}
		if string(p.Data) != "hello" {
			t.Errorf("listener %d: Data %q", i, p.Data)
		}
	}
}

func TestWildcardAnswersFromAddressSpokenTo(t *testing.T) {
	u := runUDP(t, netio.UDPConfig{Workers: 2}, echo, "0.0.0.0:0")
	c := client(t, "127.0.0.1:0")
	for _, a := range []string{"127.0.0.1", "127.0.0.2", "127.1.2.3"} {
		to := netip.AddrPortFrom(netip.MustParseAddr(a), u.LocalAddr(0).Port())
		send(t, c, []byte("hello"), to)
		if _, from := receive(t, c); from != to {
			t.Errorf("spoken to %s, answered from %s", to, from)
		}
	}
}

func TestWildcardIPv6(t *testing.T) {
	skipWithoutIPv6(t)
	u := runUDP(t, netio.UDPConfig{Workers: 2}, echo, "[::]:0")
	port := u.LocalAddr(0).Port()
	c := client(t, "[::1]:0")
	to := netip.AddrPortFrom(netip.IPv6Loopback(), port)
	send(t, c, []byte("hello"), to)
	if _, from := receive(t, c); from != to {
		t.Errorf("spoken to %s, answered from %s", to, from)
	}
	// V6ONLY: the same port is free for IPv4.
	v4, err := netio.ListenUDP(netio.UDPConfig{Workers: 1}, []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), port)})
	if err != nil {
		t.Fatal(err)
	}
	v4.Close()
}

func TestAnswerOnAnotherListener(t *testing.T) {
	u := runUDP(t, netio.UDPConfig{Workers: 2}, func(_, _ int, out *netio.Output) netio.DatagramHandler {
		return echo(1, 0, out)
	}, "127.0.0.1:0", "127.0.0.2:0")
	c := client(t, "127.0.0.1:0")
	send(t, c, []byte("hello"), u.LocalAddr(0))
	if _, from := receive(t, c); from != u.LocalAddr(1) {
		t.Errorf("answered from %s, want %s", from, u.LocalAddr(1))
	}
}

// TestManyFromOneBatch has a handler send more than fits into a batch and
// into the arena.
func TestManyFromOneBatch(t *testing.T) {
	for _, tt := range []struct{ count, size int }{{500, 100}, {40, 30000}} {
		u := runUDP(t, netio.UDPConfig{Workers: 1, Batch: 8}, func(_, _ int, out *netio.Output) netio.DatagramHandler {
			return handlerFunc(func(pkts []netio.Packet) {
				for i := range tt.count {
					b := fmt.Appendf(out.Slot(0), "%d ", i)
					b = append(b, make([]byte, tt.size)...)
					out.Push(0, len(b), pkts[0].Src, pkts[0].Local)
				}
			})
		}, "127.0.0.1:0")
		c := client(t, "127.0.0.1:0")
		send(t, c, []byte("go"), u.LocalAddr(0))
		for i := range tt.count {
			got, _ := receive(t, c)
			if prefix := fmt.Sprintf("%d ", i); !bytes.HasPrefix(got, []byte(prefix)) || len(got) != len(prefix)+tt.size {
				t.Fatalf("message %d of %d: got %d bytes, %.8q", i, tt.count, len(got), got)
			}
		}
	}
}

func TestBurstLargerThanBatch(t *testing.T) {
	u := runUDP(t, netio.UDPConfig{Workers: 1, Batch: 16}, echo, "127.0.0.1:0")
	c := client(t, "127.0.0.1:0")
	const n = 1000
	for i := range n {
		send(t, c, fmt.Appendf(nil, "%d", i), u.LocalAddr(0))
	}
	for i := range n {
		if got, _ := receive(t, c); string(got) != fmt.Sprint(i) {
			t.Fatalf("got %q, want %d", got, i)
		}
	}
	udpStats(t, u, func(st netio.UDPStats) bool {
		return st.Packets == n && st.Sent == n && st.Batches > 0 && st.Batches <= n
	})
}

func TestWorkersShareFlows(t *testing.T) {
	const workers, flows = 4, 64
	var seen [workers]atomic.Int64
	u := runUDP(t, netio.UDPConfig{Workers: workers}, func(l, w int, out *netio.Output) netio.DatagramHandler {
		h := echo(l, w, out)
		return handlerFunc(func(pkts []netio.Packet) {
			seen[w].Add(int64(len(pkts)))
			h.Datagrams(pkts)
		})
	}, "127.0.0.1:0")
	for range flows {
		c := client(t, "127.0.0.1:0")
		send(t, c, []byte("hello"), u.LocalAddr(0))
		receive(t, c)
	}
	for w := range seen {
		if seen[w].Load() == 0 {
			t.Errorf("worker %d has received nothing", w)
		}
	}
}

func TestWriteTo(t *testing.T) {
	u := runUDP(t, netio.UDPConfig{Workers: 2}, echo, "0.0.0.0:0")
	c := client(t, "127.0.0.1:0")
	to := c.LocalAddr().(*net.UDPAddr).AddrPort()
	if err := u.WriteTo(0, []byte("hello"), to, netip.MustParseAddr("127.0.0.5")); err != nil {
		t.Fatal(err)
	}
	if got, from := receive(t, c); string(got) != "hello" || from.Addr().String() != "127.0.0.5" {
		t.Errorf("got %q from %s", got, from)
	}
	for _, dst := range []netip.AddrPort{{}, addrPort("255.255.255.255:9"), addrPort("[2001:db8::1]:9")} {
		if err := u.WriteTo(0, []byte("x"), dst, netip.Addr{}); err == nil {
			t.Errorf("to %s: no error", dst)
		}
	}
}

func TestRunEnds(t *testing.T) {
	u, err := netio.ListenUDP(netio.UDPConfig{Workers: 3}, []netip.AddrPort{addrPort("127.0.0.1:0"), addrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("some cause"))
	if err := u.Run(ctx, echo); err != nil {
		t.Errorf("Run: %v, want nil on cancel", err)
	}
	if err := u.Run(ctx, echo); !errors.Is(err, netio.ErrClosed) {
		t.Errorf("second Run: %v", err)
	}
	if err := u.WriteTo(0, nil, addrPort("127.0.0.1:9"), netip.Addr{}); !errors.Is(err, netio.ErrClosed) {
		t.Errorf("WriteTo: %v", err)
	}
	u.Stats()
	u.Close()
}

func TestKernelDropsCounted(t *testing.T) {
	release := make(chan struct{})
	u := runUDP(t, netio.UDPConfig{Workers: 1, ReceiveBuffer: 4096}, func(int, int, *netio.Output) netio.DatagramHandler {
		return handlerFunc(func([]netio.Packet) { <-release })
	}, "127.0.0.1:0")
	c := client(t, "127.0.0.1:0")
	const n = 200
	for range n {
		send(t, c, make([]byte, 1000), u.LocalAddr(0))
	}
	if st := u.Stats()[0]; st.KernelDrops == 0 || st.KernelDrops > n {
		t.Errorf("%d kernel drops of %d packets", st.KernelDrops, n)
	}
	if fill := u.QueueFill(0, 0); fill < 0.5 {
		t.Errorf("queue is full to %v", fill)
	}
	close(release)
}
