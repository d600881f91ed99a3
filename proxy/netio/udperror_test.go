package netio_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"sipward/proxy/netio"
)

// TestFailingNeighbours mixes messages that cannot be sent with some that
// can: each of these arrives, and each of those is counted.
func TestFailingNeighbours(t *testing.T) {
	bad := []netip.AddrPort{
		{},                              // no address
		addrPort("127.0.0.1:0"),         // no port
		addrPort("0.0.0.0:9"),           // the local host, for the kernel
		addrPort("255.255.255.255:9"),   // broadcast: EACCES
		addrPort("[2001:db8::1]:9"),     // other family
		addrPort("[::ffff:0.0.0.0]:99"), // unspecified, mapped
	}
	u := runUDP(t, netio.UDPConfig{Workers: 1}, func(_, _ int, out *netio.Output) netio.DatagramHandler {
		return handlerFunc(func(pkts []netio.Packet) {
			for i := range 30 {
				b := fmt.Appendf(out.Slot(0), "%d", i)
				out.Push(0, len(b), pkts[0].Src, pkts[0].Local)
				b = append(out.Slot(0), "never"...)
				out.Push(0, len(b), bad[i%len(bad)], netip.Addr{})
			}
			b := append(out.Slot(0), make([]byte, 65530)...) // EMSGSIZE
			out.Push(0, len(b), pkts[0].Src, pkts[0].Local)
			b = append(out.Slot(0), make([]byte, 70000)...) // outgrown
			out.Push(0, len(b), pkts[0].Src, pkts[0].Local)
			b = append(out.Slot(0), "last"...)
			out.Push(0, len(b), pkts[0].Src, pkts[0].Local)
		})
	}, "127.0.0.1:0")
	c := client(t, "127.0.0.1:0")
	send(t, c, []byte("go"), u.LocalAddr(0))
	for i := range 30 {
		if got, _ := receive(t, c); string(got) != fmt.Sprint(i) {
			t.Fatalf("got %q, want %d", got, i)
		}
	}
	if got, _ := receive(t, c); string(got) != "last" {
		t.Fatalf("got %q, want the last message", got)
	}
	udpStats(t, u, func(st netio.UDPStats) bool {
		return st.Sent == 31 && st.SendErrors == 32 && st.SendDrops == 0
	})
}

// TestRefusedNeighbours sends to a closed port between good messages, with
// the kernel reporting the ICMP error in place of a later message.
func TestRefusedNeighbours(t *testing.T) {
	u, err := netio.ListenUDP(netio.UDPConfig{Workers: 1}, []netip.AddrPort{addrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.ReportICMP(0); err != nil {
		t.Fatal(err)
	}
	gone := client(t, "127.0.0.1:0")
	closed := gone.LocalAddr().(*net.UDPAddr).AddrPort()
	gone.Close()
	start(t, u, func(_, _ int, out *netio.Output) netio.DatagramHandler {
		return handlerFunc(func(pkts []netio.Packet) {
			for i := range 50 {
				b := fmt.Appendf(out.Slot(0), "%d", i)
				out.Push(0, len(b), pkts[0].Src, pkts[0].Local)
				b = append(out.Slot(0), "refused"...)
				out.Push(0, len(b), closed, netip.Addr{})
			}
		})
	})
	c := client(t, "127.0.0.1:0")
	for range 2 { // the second time the reader has met the error, too
		send(t, c, []byte("go"), u.LocalAddr(0))
		for i := range 50 {
			if got, _ := receive(t, c); string(got) != fmt.Sprint(i) {
				t.Fatalf("got %q, want %d", got, i)
			}
		}
	}
}

func TestPortTaken(t *testing.T) {
	for _, workers := range []int{1, 3} {
		cfg := netio.UDPConfig{Workers: workers}
		u, err := netio.ListenUDP(cfg, []netip.AddrPort{addrPort("127.0.0.1:0")})
		if err != nil {
			t.Fatal(err)
		}
		addr := u.LocalAddr(0)
		_, err = netio.ListenUDP(cfg, []netip.AddrPort{addrPort("127.0.0.1:0"), addr})
		want := fmt.Sprintf("listen udp %s: address already in use", addr)
		if err == nil || err.Error() != want || !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("second ListenUDP: %v, want %q", err, want)
		}
		u.Close()
		again, err := netio.ListenUDP(cfg, []netip.AddrPort{addr})
		if err != nil {
			t.Fatalf("after Close: %v", err)
		}
		again.Close()
	}
	if _, err := netio.ListenUDP(netio.UDPConfig{}, []netip.AddrPort{addrPort("203.0.113.1:5060")}); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("foreign address: %v", err)
	}
	if _, err := netio.ListenUDP(netio.UDPConfig{}, []netip.AddrPort{{}}); err == nil {
		t.Error("no address: no error")
	}
}
