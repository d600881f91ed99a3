package netio_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"

	"sipward/proxy/netio"
)

func runDTLS(t testing.TB, cfg netio.DTLSConfig, h *stream, addrs ...string) (d *netio.DTLS, client *tls.Config) {
	t.Helper()
	server, client := edge(t)
	if cfg.TLS == nil {
		cfg.TLS = server
	}
	if len(addrs) == 0 {
		addrs = []string{"127.0.0.1:0"}
	}
	var list []netip.AddrPort
	for _, a := range addrs {
		list = append(list, addrPort(a))
	}
	d, err := netio.ListenDTLS(cfg, list)
	if err != nil {
		t.Fatal(err)
	}
	runHandler(t, h, d.Run, func() int { return d.Stats().Open })
	return d, client
}

// wire is a client's socket, which can be changed for another while it is in use.
type wire struct {
	*net.UDPConn
	now  atomic.Pointer[net.UDPConn] // what is written to
	read chan []byte
	to   netip.AddrPort
	// alter changes or drops (nil) what is written; may be nil.
	alter func(b []byte) []byte
	// before is called before a datagram is read; may be nil.
	before func(p []byte)
	// kept says that the socket outlives the association.
	kept bool
	came atomic.Int64 // datagrams
}

func (w *wire) Close() error {
	if w.kept {
		return nil
	}
	return w.UDPConn.Close()
}

func newWire(t testing.TB, from string, to netip.AddrPort) *wire {
	t.Helper()
	w := &wire{read: make(chan []byte, 100), to: to}
	w.UDPConn = w.open(t, from)
	return w
}

// open makes another socket the one that is written to. All of them are read.
func (w *wire) open(t testing.TB, from string) *net.UDPConn {
	t.Helper()
	var local *net.UDPAddr
	if from != "" {
		local = net.UDPAddrFromAddrPort(addrPort(from))
	}
	c, err := net.ListenUDP("udp", local)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	w.now.Store(c)
	go func() {
		for {
			b := make([]byte, 65536)
			n, err := c.Read(b)
			if err != nil {
				return
			}
			w.came.Add(1)
			select {
			case w.read <- b[:n]:
			default:
			}
		}
	}()
	return c
}

func (w *wire) local() netip.AddrPort {
	return w.now.Load().LocalAddr().(*net.UDPAddr).AddrPort()
}

// deadlines are left to the context of the reader.
func (w *wire) SetReadDeadline(t time.Time) error {
	if !t.IsZero() && t.Before(time.Now()) {
		select {
		case w.read <- nil:
		default:
		}
	}
	return nil
}

func (w *wire) ReadFrom(b []byte) (int, net.Addr, error) {
	p := <-w.read
	if p == nil {
		return 0, nil, net.ErrClosed
	}
	if w.before != nil {
		w.before(p)
	}
	return copy(b, p), net.UDPAddrFromAddrPort(w.to), nil
}

func (w *wire) WriteTo(b []byte, _ net.Addr) (int, error) {
	out := b
	if w.alter != nil {
		out = w.alter(b)
	}
	if out != nil {
		if _, err := w.now.Load().WriteToUDPAddrPort(out, w.to); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

func dtlsClient(t testing.TB, w *wire, cfg *tls.Config, more ...dtls.ClientOption) *dtls.Conn {
	t.Helper()
	c, err := dtls.ClientWithOptions(w, net.UDPAddrFromAddrPort(w.to), append([]dtls.ClientOption{
		dtls.WithRootCAs(cfg.RootCAs), dtls.WithServerName(cfg.ServerName),
		dtls.WithFlightInterval(50 * time.Millisecond),
		dtls.WithLoggerFactory(&logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}),
	}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// withID asks for connection IDs.
var withID = dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator())

func shake(t testing.TB, c *dtls.Conn) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	return c.HandshakeContext(ctx)
}

func dialDTLS(t testing.TB, w *wire, cfg *tls.Config, more ...dtls.ClientOption) *dtls.Conn {
	t.Helper()
	c := dtlsClient(t, w, cfg, more...)
	if err := shake(t, c); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(15 * time.Second))
	return c
}

// answer reads one record.
func answer(t testing.TB, c net.Conn) string {
	t.Helper()
	b := make([]byte, 65536)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func sendBack(c *netio.Conn, msg []byte) { _ = c.Send(msg) }

func TestDTLSMessages(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0"} {
		for _, id := range []bool{false, true} {
			h := newStream()
			conns := make(chan *netio.Conn, 10)
			h.onMessage = func(c *netio.Conn, msg []byte) {
				conns <- c
				sendBack(c, msg)
			}
			d, cfg := runDTLS(t, netio.DTLSConfig{FirstListener: 7}, h, addr)
			to := d.LocalAddr(0)
			if to.Addr().IsUnspecified() {
				to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.Port())
			}
			w := newWire(t, "", to)
			var more []dtls.ClientOption
			if id {
				more = append(more, withID)
			}
			c := dialDTLS(t, w, cfg, more...)
			for _, msg := range []string{options("one", 0), options("two", 7000), "OPTIONS sip:no.length SIP/2.0\r\n\r\n"} {
				write(t, c, msg)
				if got := wait(t, h.messages, "message"); got != msg {
					t.Errorf("got %.200q", got)
				}
				if got := answer(t, c); got != msg {
					t.Errorf("answer %.200q", got)
				}
			}
			write(t, c, "\r\n\r\n")
			if got := answer(t, c); got != "\r\n" {
				t.Errorf("keep-alive answered with %q", got)
			}
			write(t, c, "\r\n")
			write(t, c, options("last", 0))
			conn := wait(t, conns, "connection")
			if got := wait(t, h.messages, "message"); got != options("last", 0) {
				t.Errorf("got %q", got)
			}
			if conn.Listener() != 7 || conn.Local() != to || conn.Remote().Port() != w.local().Port() || !conn.Secure() || d.ByID(conn.ID()) != conn {
				t.Errorf("listener %d, local %v, remote %v, secure %v", conn.Listener(), conn.Local(), conn.Remote(), conn.Secure())
			}
			if err := conn.Send(make([]byte, 16<<10+1)); !errors.Is(err, netio.ErrTooLarge) {
				t.Errorf("Send of too much: %v", err)
			}
			if err := conn.Send([]byte(strings.Repeat("x", 16<<10))); err != nil {
				t.Errorf("Send of the most: %v", err)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, io.EOF) || e.c != conn {
				t.Errorf("Closed with %v, want EOF", e.err)
			}
			if conn.Send([]byte("x")) == nil || d.ByID(conn.ID()) != nil {
				t.Error("a closed association is still there")
			}
			if st := d.Stats(); st.Messages != 4 || st.Pings != 2 || st.Cookies != 1 || st.Open != 0 || st.HandshakesFailed != 0 {
				t.Errorf("stats %+v", st)
			}
		}
	}
}

// BenchmarkDTLS is to be compared with BenchmarkStreamRoundTrip and BenchmarkStreamOpen.
// It is done by one client at a time, so that a round trip has the wait for others to
// share a wake-up in it (UDPConfig.Coalesce).
func BenchmarkDTLS(b *testing.B) {
	h := newStream()
	h.quiet, h.onMessage = true, sendBack
	h.closed = make(chan closing, 1_000_000)
	d, cfg := runDTLS(b, netio.DTLSConfig{}, h)
	msg := []byte(options("x", 400))
	into := make([]byte, 4096)
	round := func(b *testing.B, c *dtls.Conn) {
		if _, err := c.Write(msg); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(into); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("round-trip", func(b *testing.B) {
		c := dialDTLS(b, newWire(b, "", d.LocalAddr(0)), cfg)
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Minute))
		b.ReportAllocs()
		for b.Loop() {
			round(b, c)
		}
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			c := dialDTLS(b, newWire(b, "", d.LocalAddr(0)), cfg)
			round(b, c)
			c.Close()
		}
	})
}
