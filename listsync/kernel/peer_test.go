//go:build linux

package kernel_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// peer is a second network namespace with many addresses, behind a veth pair:
//
//	this namespace  198.51.100.1, 2001:db8:1::1 ── veth ── peer  203.0.113.0/24 …, 2001:db8:2::/48 …
type peer struct {
	t  testing.TB
	fd int
}

var (
	host4 = netip.MustParseAddr("198.51.100.1")
	host6 = netip.MustParseAddr("2001:db8:1::1")
)

// The protected port, and one that is not.
const (
	protected   = 5060
	unprotected = 2222
)

func newPeer(t testing.TB, addresses ...string) *peer {
	t.Helper()
	p := &peer{t: t}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread ends with this function
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			p.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatal("make a namespace:", err)
	}
	ns := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), p.fd)
	run(t, "ip", "link", "add", "k0", "type", "veth", "peer", "name", "k1", "netns", ns)
	t.Cleanup(func() {
		run(t, "ip", "link", "del", "k0")
		_ = unix.Close(p.fd)
	})
	run(t, "ip", "addr", "add", host4.String()+"/32", "dev", "k0")
	run(t, "ip", "addr", "add", host6.String()+"/128", "dev", "k0", "nodad")
	run(t, "ip", "link", "set", "k0", "up")
	run(t, "ip", "route", "add", "203.0.113.0/24", "dev", "k0", "src", host4.String())
	run(t, "ip", "route", "add", "2001:db8:2::/48", "dev", "k0", "src", host6.String())
	host, err := net.InterfaceByName("k0")
	if err != nil {
		t.Fatal(err)
	}
	p.do(func() error {
		run(t, "ip", "link", "set", "k1", "up")
		run(t, "ip", "route", "add", host4.String(), "dev", "k1")
		run(t, "ip", "route", "add", host6.String(), "dev", "k1")
		for _, a := range []netip.Addr{host4, host6} { // nothing waits for ARP or neighbour discovery
			run(t, "ip", "neigh", "add", a.String(), "lladdr", host.HardwareAddr.String(), "dev", "k1", "nud", "permanent")
		}
		for _, a := range addresses {
			if netip.MustParseAddr(a).Is4() {
				run(t, "ip", "addr", "add", a+"/32", "dev", "k1")
			} else {
				run(t, "ip", "addr", "add", a+"/128", "dev", "k1", "nodad")
			}
		}
		return nil
	})
	return p
}

// do calls f on a thread in the peer's namespace.
func (p *peer) do(f func() error) {
	p.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(p.fd, unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		p.t.Fatal("in the peer's namespace:", err)
	}
}

// listener receives at one port of the host, for both families.
type listener struct {
	conn *net.UDPConn
}

func listen(t testing.TB, port int) *listener {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{Port: port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetReadBuffer(4 << 20)
	return &listener{conn}
}

// drain returns how many datagrams came of each source until the last of the
// marks has come, or the time is over.
func (l *listener) drain(d time.Duration) map[netip.Addr]int {
	got := make(map[netip.Addr]int)
	_ = l.conn.SetReadDeadline(time.Now().Add(d))
	var b [64]byte
	for {
		_, from, err := l.conn.ReadFromUDPAddrPort(b[:])
		if err != nil {
			return got
		}
		got[from.Addr().Unmap()]++
	}
}

// send sends n datagrams from each of the addresses to a port of the host.
func (p *peer) send(port, n int, from ...string) {
	p.t.Helper()
	p.do(func() error {
		for _, a := range from {
			addr := netip.MustParseAddr(a)
			to := host4
			if addr.Is6() {
				to = host6
			}
			conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, uint16(port))))
			if err != nil {
				return err
			}
			for range n {
				_, _ = conn.Write([]byte("x")) // an ICMP refusal of the last one is no matter
			}
			conn.Close()
		}
		return nil
	})
}

// arrive sends one datagram from each address and says whose came.
func (p *peer) arrive(l *listener, from ...string) []string {
	p.t.Helper()
	port := l.conn.LocalAddr().(*net.UDPAddr).Port
	p.send(port, 1, from...)
	got := l.drain(50 * time.Millisecond)
	var came []string
	for _, a := range from {
		if got[netip.MustParseAddr(a)] > 0 {
			came = append(came, a)
		}
	}
	return came
}

// expect checks whose datagrams come to l. Those that shall pass are sent last, and waited for: the others have
// come before them, if they come.
func (p *peer) expect(l *listener, what string, pass, drop []string) {
	p.t.Helper()
	p.send(l.conn.LocalAddr().(*net.UDPAddr).Port, 1, slices.Concat(drop, pass)...)
	missing := slices.Clone(pass)
	var wrong []netip.Addr
	take := func(d time.Duration) {
		for a := range l.drain(d) {
			i := slices.Index(missing, a.String())
			if i < 0 {
				wrong = append(wrong, a)
				continue
			}
			missing = slices.Delete(missing, i, i+1)
		}
	}
	for end := time.Now().Add(30 * time.Second); len(missing) > 0 && time.Now().Before(end); {
		take(10 * time.Millisecond)
	}
	take(10 * time.Millisecond)
	if len(missing) > 0 || len(wrong) > 0 {
		p.t.Errorf("%s: no datagram came from %v, and some from %v, which should be dropped", what, missing, wrong)
	}
}
