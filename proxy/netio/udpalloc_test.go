package netio_test

import (
	"net"
	"net/netip"
	"testing"

	"sipward/proxy/netio"
)

func TestNoAllocs(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		u := runUDP(t, netio.UDPConfig{Workers: 1}, echo, listen)
		rt := newRoundTripper(t, u)
		rt.do(64)
		if n := testing.AllocsPerRun(100, func() { rt.do(64) }); n != 0 {
			t.Errorf("%s: %v allocations for 64 packets there and back", listen, n)
		}
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	u := runUDP(b, netio.UDPConfig{Workers: 1, Coalesce: -1}, echo, "127.0.0.1:0")
	rt := newRoundTripper(b, u)
	rt.do(64)
	b.ReportAllocs()
	for n := 0; n < b.N; n += 64 {
		rt.do(min(64, b.N-n))
	}
}

// roundTripper sends packets to a listener that answers, and reads what comes
// back, without allocations of its own.
type roundTripper struct {
	tb  testing.TB
	c   *net.UDPConn
	buf []byte
}

func newRoundTripper(tb testing.TB, u *netio.UDP) *roundTripper {
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), u.LocalAddr(0).Port())
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return &roundTripper{tb: tb, c: c, buf: make([]byte, 2048)}
}

func (r *roundTripper) do(n int) {
	for range n {
		if _, err := r.c.Write(r.buf[:800]); err != nil {
			r.tb.Fatal(err)
		}
	}
	for range n {
		if m, err := r.c.Read(r.buf); err != nil || m != 800 {
			r.tb.Fatal(m, err)
		}
	}
}
