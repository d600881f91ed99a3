package netio_test

import (
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"sipward/proxy/netio"
)

// TestRoom: strangers who hold all places lock nobody out: the one of them that came first makes
// room. Whoever has to stay stays, and then new ones are refused.
func TestRoom(t *testing.T) {
	var known atomic.Bool // all are
	h := echoStream()
	tcp := runTCP(t, netio.TCPConfig{
		MaxConns: 4, MaxPerSource: 3,
		Keep: func(a netip.Addr) bool { return known.Load() || a == netip.MustParseAddr("127.0.1.1") },
	}, h, "127.0.0.1:0")
	msg := options("x", 0)
	into := make([]byte, len(msg))
	round := func(c net.Conn) {
		t.Helper()
		write(t, c, msg)
		if _, err := io.ReadFull(c, into); err != nil {
			t.Fatal(err)
		}
	}
	in := func(from string) net.Conn {
		t.Helper()
		c := dial(t, from, tcp.LocalAddr(0))
		round(c)
		return c
	}
	ended := func(c net.Conn, want bool) {
		t.Helper()
		if want {
			if _, err := c.Read(into); err == nil {
				t.Error("a stranger's connection has not made room")
			}
			return
		}
		round(c)
	}
	phone := in("127.0.1.1")
	strangers := []net.Conn{in("127.0.2.1"), in("127.0.2.1"), in("127.0.2.1")}
	refused(t, "127.0.2.1", tcp) // its own cap: nobody makes room for it
	other := in("127.0.3.1")
	ended(strangers[0], true)
	second := in("127.0.1.1")
	ended(strangers[1], true)
	for _, c := range []net.Conn{phone, strangers[2], other, second} {
		ended(c, false)
	}
	known.Store(true)
	refused(t, "127.0.4.1", tcp)
	st := tcp.Stats()
	if st.MadeRoom != 2 || st.RefusedSource != 1 || st.RefusedTotal != 1 {
		t.Errorf("stats %+v", st)
	}
	poll(t, "those that have made room are gone", func() bool { return tcp.Stats().Open == 4 })
	other.Close()
	poll(t, "one less", func() bool { return tcp.Stats().Open == 3 })
	in("127.0.4.1")
}

// TestDTLSRoom: associations make room as connections do.
func TestDTLSRoom(t *testing.T) {
	_, d, cfg := runEcho(t, netio.DTLSConfig{Conns: netio.TCPConfig{
		MaxConns: 2, Keep: func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.1.1") },
	}})
	phone := dialDTLS(t, newWire(t, "127.0.1.1:0", d.LocalAddr(0)), cfg)
	exchange(t, phone, "phone")
	for _, from := range []string{"127.0.2.1:0", "127.0.2.2:0", "127.0.2.3:0"} {
		exchange(t, dialDTLS(t, newWire(t, from, d.LocalAddr(0)), cfg), from)
	}
	exchange(t, phone, "phone again")
	if st := d.Stats(); st.MadeRoom != 2 || st.RefusedTotal != 0 {
		t.Errorf("stats %+v", st)
	}
}

// TestMayShake: who begins too many handshakes is refused, with what he has left as it is.
func TestMayShake(t *testing.T) {
	var left atomic.Int32
	left.Store(2)
	limited := netio.TCPConfig{
		HandshakeTimeout: time.Minute,
		Exempt:           func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.0.9") },
		MayShake:         func(netip.Addr) bool { return left.Add(-1) >= 0 },
	}
	h := echoStream()
	tcp, client := runTLS(t, limited, h)
	for range 2 {
		exchangeTLS(t, dialTLS(t, "127.0.0.1", tcp.LocalAddr(0), client))
	}
	refused(t, "127.0.0.1", tcp)
	exchangeTLS(t, dialTLS(t, "127.0.0.9", tcp.LocalAddr(0), client))
	if st := tcp.Stats(); st.RefusedHandshake != 1 || st.Accepted != 3 {
		t.Errorf("stats %+v", st)
	}

	left.Store(1)
	_, d, cfg := runEcho(t, netio.DTLSConfig{Conns: limited})
	w := newWire(t, "127.0.0.1:0", d.LocalAddr(0))
	exchange(t, dialDTLS(t, w, cfg), "before")
	w.Close()
	again := dtlsClient(t, newWire(t, w.local().String(), d.LocalAddr(0)), cfg) // in the place of the first
	go func() { _ = again.Handshake() }()
	poll(t, "refusal", func() bool { return d.Stats().RefusedHandshake > 0 })
	if st := d.Stats(); st.Replaced != 0 || st.Open != 1 {
		t.Errorf("stats %+v", st)
	}
}

func exchangeTLS(t *testing.T, c net.Conn) {
	t.Helper()
	msg := options("x", 0)
	write(t, c, msg)
	if _, err := io.ReadFull(c, make([]byte, len(msg))); err != nil {
		t.Fatal(err)
	}
}
