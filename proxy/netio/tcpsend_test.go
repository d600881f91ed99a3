package netio_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sipward/proxy/netio"
	"sipward/sip"
)

// accepted connects and returns both sides.
func accepted(t testing.TB, cfg netio.TCPConfig) (*stream, *net.TCPConn, *netio.Conn) {
	t.Helper()
	h := newStream()
	conns := make(chan *netio.Conn, 1)
	h.onMessage = func(c *netio.Conn, _ []byte) {
		select {
		case conns <- c:
		default:
		}
	}
	tcp := runTCP(t, cfg, h, "127.0.0.1:0")
	nc := dial(t, "", tcp.LocalAddr(0))
	write(t, nc, options("hello", 0))
	wait(t, h.messages, "message")
	return h, nc, wait(t, conns, "connection")
}

// pattern is n bytes that tell where they belong.
func pattern(n int) []byte {
	b := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		binary.BigEndian.PutUint64(b[i:], uint64(i))
	}
	return b[:n]
}

func TestTCPSendInOrder(t *testing.T) {
	_, nc, c := accepted(t, netio.TCPConfig{WriteQueue: 64 << 20})
	sendInOrder(t, c, nc, 1234)
}

// sendInOrder sends far more than the kernel's buffers take, in pieces of that size, and
// reads it at the other end.
func sendInOrder(t *testing.T, c *netio.Conn, other io.Reader, size int) {
	t.Helper()
	want := pattern(12 << 20)
	for b := want; len(b) > 0; {
		n := min(len(b), size)
		if err := c.Send(b[:n]); err != nil {
			t.Fatal(err)
		}
		b = b[n:]
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(other, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("bytes came in another order")
	}
}

// overfill sends to a peer that does not read, until there is no room.
func overfill(t *testing.T, h *stream, c *netio.Conn) {
	t.Helper()
	var err error
	for n := 0; err == nil; n += 10_000 {
		if n > 64<<20 {
			t.Fatal("queue has no end")
		}
		err = c.Send(make([]byte, 10_000))
	}
	if !errors.Is(err, netio.ErrSlowPeer) {
		t.Errorf("Send: %v", err)
	}
	if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, netio.ErrSlowPeer) || e.c != c {
		t.Errorf("Closed with %v", e.err)
	}
}

func TestTCPConcurrentSends(t *testing.T) {
	_, nc, c := accepted(t, netio.TCPConfig{WriteQueue: 64 << 20})
	const senders, each, size = 8, 500, 999
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for range each {
				if err := c.Send(bytes.Repeat([]byte{byte('a' + s)}, size)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	msg := make([]byte, size)
	for i := range senders * each {
		if _, err := io.ReadFull(nc, msg); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(msg, bytes.Repeat(msg[:1], size)) {
			t.Fatalf("message %d is mixed with another", i)
		}
	}
	wg.Wait()
}

func TestTCPSlowPeer(t *testing.T) {
	h, _, c := accepted(t, netio.TCPConfig{WriteQueue: 100_000})
	start := time.Now()
	overfill(t, h, c)
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("Send blocked for %s", took)
	}
	if err := c.Send([]byte("x")); !errors.Is(err, netio.ErrClosed) {
		t.Errorf("Send after Closed: %v", err)
	}
}

func TestTCPWriteTimeout(t *testing.T) {
	h, _, c := accepted(t, netio.TCPConfig{WriteQueue: 64 << 20, WriteTimeout: 300 * time.Millisecond})
	if err := c.Send(make([]byte, 32<<20)); err != nil {
		t.Fatal(err)
	}
	if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, netio.ErrSlowPeer) {
		t.Errorf("Closed with %v", e.err)
	}
}

// TestTCPSendAfterQueueing: the deadline of what was queued must not hit what
// is sent later.
func TestTCPSendAfterQueueing(t *testing.T) {
	h, nc, c := accepted(t, netio.TCPConfig{WriteQueue: 64 << 20, WriteTimeout: time.Second})
	want := pattern(16 << 20)
	if err := c.Send(want); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(nc, make([]byte, len(want))); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1200 * time.Millisecond)
	if err := c.Send([]byte("later")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(nc, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if len(h.closed) != 0 {
		t.Error("closed")
	}
}

func TestTCPCloseAfterFlush(t *testing.T) {
	for _, size := range []int{0, 10, 16 << 20} {
		h, nc, c := accepted(t, netio.TCPConfig{WriteQueue: 64 << 20})
		want := pattern(size)
		if err := c.Send(want); err != nil {
			t.Fatal(err)
		}
		// Unread bytes on our side must not turn the close into a reset.
		write(t, nc, options("too late", 3000))
		c.CloseAfterFlush()
		c.CloseAfterFlush()
		if err := c.Send([]byte("x")); !errors.Is(err, netio.ErrClosed) {
			t.Errorf("Send after CloseAfterFlush: %v", err)
		}
		got, err := io.ReadAll(nc)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d of %d bytes, %v", len(got), len(want), err)
		}
		nc.Close()
		if e := wait(t, h.closed, "Closed"); e.err != nil {
			t.Errorf("Closed with %v", e.err)
		}
	}
}

func TestTCPCloseAfterFlushIsBounded(t *testing.T) {
	for _, size := range []int{10, 32 << 20} { // lingering, or not even flushed
		h, nc, c := accepted(t, netio.TCPConfig{WriteQueue: 64 << 20, WriteTimeout: 400 * time.Millisecond})
		if err := c.Send(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		c.CloseAfterFlush()
		stop := make(chan struct{})
		go func() { // never reads, never ends
			for {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
					_, _ = nc.Write([]byte("\r\n\r\n"))
				}
			}
		}()
		wait(t, h.closed, "Closed")
		if took := time.Since(start); took < 200*time.Millisecond || took > 30*time.Second {
			t.Errorf("closed after %s", took)
		}
		close(stop)
	}
}

func TestTCPDialPair(t *testing.T) {
	pbx := newStream()
	pbxConns := make(chan *netio.Conn, 1)
	pbx.onMessage = func(c *netio.Conn, msg []byte) {
		_ = c.Send([]byte("answer to " + string(msg)))
	}
	far := runTCP(t, netio.TCPConfig{}, pbx, "127.0.0.2:0")

	edge := newStream()
	ready := make(chan struct{})
	var tcp *netio.TCP
	edge.onMessage = func(c *netio.Conn, msg []byte) {
		<-ready
		if c.Listener() == -1 {
			_ = c.Value().(*netio.Conn).Send(msg)
			return
		}
		if c.Value() == nil {
			p, err := tcp.Dial(context.Background(), edge, netip.MustParseAddr("127.0.0.5"), far.LocalAddr(0), time.Second, c)
			if err != nil {
				t.Error(err)
				return
			}
			if p.Local().Addr() != netip.MustParseAddr("127.0.0.5") || p.Remote() != far.LocalAddr(0) || tcp.ByID(p.ID()) != p {
				t.Errorf("local %s, remote %s", p.Local(), p.Remote())
			}
			c.SetValue(p)
			pbxConns <- p
		}
		_ = c.Value().(*netio.Conn).Send(msg)
	}
	tcp = runTCP(t, netio.TCPConfig{IdleTimeout: time.Minute}, edge, "127.0.0.1:0")
	close(ready)
	phone := dial(t, "", tcp.LocalAddr(0))
	write(t, phone, options("x", 4))
	wait(t, pbx.messages, "message at the PBX")
	p := wait(t, pbxConns, "dialled connection")
	if got := tcp.Stats(); got.Open != 2 || got.Dialled != 1 || got.Accepted != 1 {
		t.Errorf("stats %+v", got)
	}
	phone.Close()
	e := wait(t, edge.closed, "Closed of the phone's side")
	e.c.Value().(*netio.Conn).CloseAfterFlush()
	if e := wait(t, pbx.closed, "Closed at the PBX"); !errors.Is(e.err, io.EOF) {
		t.Errorf("PBX: closed with %v", e.err)
	}
	if e := wait(t, edge.closed, "Closed of the PBX's side"); e.c != p || e.err != nil {
		t.Errorf("closed with %v", e.err)
	}
}

func TestTCPDialFails(t *testing.T) {
	h := newStream()
	tcp := runTCP(t, netio.TCPConfig{}, h, "127.0.0.1:0")
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := gone.Addr().(*net.TCPAddr).AddrPort()
	gone.Close()
	_, err = tcp.Dial(context.Background(), h, netip.Addr{}, closed, time.Second, nil)
	if want := fmt.Sprintf("dial tcp %s: connect: connection refused", closed); err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}

	full := fullListener(t)
	start := time.Now()
	if _, err := tcp.Dial(context.Background(), h, netip.Addr{}, full, 200*time.Millisecond, nil); err == nil {
		t.Error("no time-out")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := tcp.Dial(ctx, h, netip.Addr{}, full, 0, nil); err == nil {
		t.Error("not cancelled")
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("gave up after %s", took)
	}
	if len(h.closed) != 0 {
		t.Error("Closed called for a connection that never was")
	}
}

// TestTCPCloseRaces closes connections from all sides at once: Closed comes
// once for each.
func TestTCPCloseRaces(t *testing.T) {
	h := newStream()
	h.onMessage = func(c *netio.Conn, _ []byte) { _ = c.Send(make([]byte, 100_000)) }
	h.onFault = func(c *netio.Conn, _ sip.Fault, _ []byte) { _ = c.Send([]byte("bad")) }
	tcp := runTCP(t, netio.TCPConfig{}, h, "127.0.0.1:0")
	const n = 60
	for i := range n {
		nc := dial(t, "", tcp.LocalAddr(0))
		write(t, nc, options("x", 0))
		wait(t, h.messages, "message")
		var wg sync.WaitGroup
		all := func(netip.Addr) bool { return true }
		for _, f := range []func(){
			func() { nc.Close() },
			func() { _, _ = nc.Write([]byte("garbage")) },
			func() { tcp.CloseSource(all) },
		}[:1+i%3] {
			wg.Go(f)
		}
		wg.Wait()
	}
	for range n {
		wait(t, h.closed, "Closed")
	}
	if len(h.closed) != 0 {
		t.Error("Closed called twice")
	}
}

// fullListener listens with a queue that is full: whoever connects to it
// waits.
func fullListener(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(sa.(*unix.SockaddrInet4).Port))
	for {
		c, err := net.DialTimeout("tcp", addr.String(), 200*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { c.Close() })
	}
}

// TestTCPCloseAll: what is queued still goes out.
func TestTCPCloseAll(t *testing.T) {
	h := newStream()
	want := pattern(8 << 20)
	sent := make(chan error, 3)
	h.onMessage = func(c *netio.Conn, _ []byte) { sent <- c.Send(want) }
	tcp := runTCP(t, netio.TCPConfig{WriteQueue: 64 << 20}, h, "127.0.0.1:0")
	var conns []net.Conn
	for range 3 {
		nc := dial(t, "", tcp.LocalAddr(0))
		write(t, nc, options("x", 0))
		conns = append(conns, nc)
	}
	for range conns {
		if err := wait(t, sent, "Send"); err != nil {
			t.Fatal(err)
		}
	}
	tcp.CloseAll()
	for _, nc := range conns {
		if got := ended(t, nc); got != string(want) {
			t.Errorf("%d of %d bytes", len(got), len(want))
		}
		nc.Close()
		if e := wait(t, h.closed, "Closed"); e.err != nil {
			t.Errorf("Closed with %v", e.err)
		}
	}
}
