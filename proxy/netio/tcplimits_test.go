package netio_test

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sipward/proxy/netio"
)

// open connects and makes sure that the connection has been taken.
func open(t *testing.T, h *stream, from string, tcp *netio.TCP) {
	t.Helper()
	c := dial(t, from, tcp.LocalAddr(0))
	write(t, c, options("x", 0))
	wait(t, h.messages, "message from "+from)
}

// refused connects and wants to be cut off.
func refused(t *testing.T, from string, tcp *netio.TCP) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", tcp.LocalAddr(0).String())
	if err == nil {
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		_, err = c.Read(make([]byte, 1))
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("from %s: read %v, want a reset", from, err)
	}
}

func TestTCPCaps(t *testing.T) {
	h := newStream()
	h.accept = func(a netip.AddrPort) bool { return a.Addr() != netip.MustParseAddr("127.0.0.66") }
	exempt := netip.MustParsePrefix("127.0.9.0/24")
	tcp := runTCP(t, netio.TCPConfig{
		MaxConns:     10,
		MaxPerSource: 4,
		SourceKey: func(a netip.Addr) netip.Addr {
			p, _ := a.Prefix(24)
			return p.Addr()
		},
		Exempt: exempt.Contains,
	}, h, "127.0.0.1:0")

	refused(t, "127.0.0.66", tcp)
	for range 2 { // 127.0.1.0/24 is one source
		open(t, h, "127.0.1.1", tcp)
		open(t, h, "127.0.1.2", tcp)
	}
	refused(t, "127.0.1.3", tcp)
	for range 4 {
		open(t, h, "127.0.2.1", tcp)
	}
	open(t, h, "127.0.3.1", tcp)
	refused(t, "127.0.3.1", tcp) // nine strangers: the tenth place is kept
	open(t, h, "127.0.9.1", tcp)
	refused(t, "127.0.9.1", tcp) // full
	if st := tcp.Stats(); st.RefusedGate != 1 || st.RefusedSource != 1 || st.RefusedTotal != 2 || st.Open != 10 || st.Accepted != 10 {
		t.Errorf("stats %+v", st)
	}

	// What has gone makes room.
	if n := tcp.CloseSource(func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.1.1") }); n != 2 {
		t.Errorf("CloseSource: %d, want 2", n)
	}
	for range 2 {
		if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, netio.ErrSourceClosed) {
			t.Errorf("Closed with %v", e.err)
		}
	}
	open(t, h, "127.0.1.3", tcp)
	if st := tcp.Stats(); st.ClosedSource != 2 || st.Open != 9 {
		t.Errorf("stats %+v", st)
	}
}

// TestTCPExemptPassesPerSourceCap opens more from one exempt source than a
// stranger may.
func TestTCPExemptPassesPerSourceCap(t *testing.T) {
	h := newStream()
	tcp := runTCP(t, netio.TCPConfig{
		MaxConns:     20,
		MaxPerSource: 2,
		Exempt:       func(netip.Addr) bool { return true },
	}, h, "127.0.0.1:0")
	for range 20 {
		open(t, h, "127.0.0.2", tcp)
	}
	refused(t, "127.0.0.2", tcp)
}

// TestTCPMessageDeadline has a slow-loris send a byte every 100 ms.
func TestTCPMessageDeadline(t *testing.T) {
	h := newStream()
	const limit = 700 * time.Millisecond
	tcp := runTCP(t, netio.TCPConfig{MessageTimeout: limit, FirstTimeout: 20 * time.Second}, h, "127.0.0.1:0")
	for _, before := range []string{"", options("whole", 10), options("whole", 0) + "\r\n\r\n"} {
		c := dial(t, "", tcp.LocalAddr(0))
		write(t, c, before)
		start := time.Now()
		for _, b := range []byte(options("slow", 0)) {
			if _, err := c.Write([]byte{b}); err != nil {
				break
			}
			if len(h.closed) > 0 {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		took := time.Since(start)
		if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, netio.ErrMessageTimeout) {
			t.Errorf("Closed with %v", e.err)
		}
		if took < limit || took > limit+15*time.Second {
			t.Errorf("closed after %s, want %s", took, limit)
		}
	}
	if st := tcp.Stats(); st.ClosedMessage != 3 {
		t.Errorf("stats %+v", st)
	}
}

// TestTCPMessageDeadlineIsPerMessage sends messages in two parts for longer
// than one may take: each has its own deadline.
func TestTCPMessageDeadlineIsPerMessage(t *testing.T) {
	h := newStream()
	tcp := runTCP(t, netio.TCPConfig{MessageTimeout: time.Second}, h, "127.0.0.1:0")
	c := dial(t, "", tcp.LocalAddr(0))
	msg := options("x", 0)
	rest := msg
	for range 12 {
		write(t, c, rest[:100])
		time.Sleep(150 * time.Millisecond)
		write(t, c, rest[100:]+msg[:50])
		rest = msg[50:]
		wait(t, h.messages, "message")
	}
	if len(h.closed) != 0 {
		t.Fatal("connection was closed")
	}
}

func TestTCPIdle(t *testing.T) {
	h := newStream()
	tcp := runTCP(t, netio.TCPConfig{
		MessageTimeout: 200 * time.Millisecond,
		FirstTimeout:   300 * time.Millisecond,
		IdleTimeout:    800 * time.Millisecond,
		Exempt:         func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.0.9") },
	}, h, "127.0.0.1:0")

	silent := time.Now()
	dial(t, "", tcp.LocalAddr(0))
	if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, netio.ErrIdle) {
		t.Errorf("silent from the start: closed with %v", e.err)
	}
	if took := time.Since(silent); took < 300*time.Millisecond || took > 30*time.Second {
		t.Errorf("silent from the start: closed after %s", took)
	}
	pinging := dial(t, "", tcp.LocalAddr(0))
	for range 10 { // no message: keep-alive does not count
		if _, err := pinging.Write([]byte("\r\n\r\n")); err != nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, netio.ErrIdle) {
		t.Errorf("pinging from the start: closed with %v", e.err)
	}

	patient := dial(t, "127.0.0.9", tcp.LocalAddr(0))
	c := dial(t, "", tcp.LocalAddr(0))
	write(t, c, options("x", 0))
	wait(t, h.messages, "message")
	for i := range 12 { // longer than the idle time
		write(t, c, []string{"\r\n\r\n", "\r\n", options("x", 0)}[i%3])
		write(t, patient, "\r\n\r\n")
		time.Sleep(100 * time.Millisecond)
	}
	if len(h.closed) != 0 {
		t.Fatal("closed in spite of keep-alive")
	}
	last := time.Now()
	for range 2 {
		if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, netio.ErrIdle) {
			t.Errorf("idle: closed with %v", e.err)
		}
	}
	if took := time.Since(last); took < 500*time.Millisecond || took > 30*time.Second {
		t.Errorf("idle: closed after %s", took)
	}
	if st := tcp.Stats(); st.ClosedIdle != 4 || st.Pings < 16 {
		t.Errorf("stats %+v", st)
	}
}

// TestTCPAcceptSurvivesEMFILE takes all descriptors away for a while.
func TestTCPAcceptSurvivesEMFILE(t *testing.T) {
	h := newStream()
	tcp := runTCP(t, netio.TCPConfig{}, h, "127.0.0.1:0")
	open(t, h, "", tcp)

	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	lowest, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(lowest)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(lowest), Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	restored := false
	restore := func() {
		if !restored {
			restored = true
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
				t.Fatal(err)
			}
		}
	}
	defer restore()
	to := tcp.LocalAddr(0)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		t.Fatal(err)
	}
	msg := options("waiting", 0)
	if _, err := unix.Write(fd, []byte(msg)); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for tcp.Stats().AcceptErrors < 2 {
		if time.Now().After(deadline) {
			t.Fatal("accept met no error")
		}
		time.Sleep(time.Millisecond)
	}
	if len(h.messages) != 0 {
		t.Error("accepted without a descriptor")
	}
	restore()
	if got := wait(t, h.messages, "message after EMFILE"); got != msg {
		t.Errorf("got %.100q", got)
	}
}

// lastWords is the last thing that a source which is cut off gets.
const lastWords = "the last answer"

// lastAnswer cuts off whoever sends a message, and answers it while the connection is
// pinned.
func lastAnswer(t *testing.T) *stream {
	h := newStream()
	h.onMessage = func(c *netio.Conn, _ []byte) {
		c.Pin()
		if !c.CutOff(netio.ErrSourceClosed) || c.CutOff(netio.ErrSourceClosed) {
			t.Error("not cut off once")
		}
		if err := c.Send([]byte(lastWords)); err != nil {
			t.Errorf("Send while pinned: %v", err)
		}
		c.Unpin()
		if err := c.Send([]byte("more")); !errors.Is(err, netio.ErrClosed) {
			t.Errorf("Send after that: %v", err)
		}
	}
	return h
}

// TestTCPCutOffHearsOut: what is sent before a source is cut off, or while its
// connection is pinned, arrives; what it sends itself is not delivered any more.
func TestTCPCutOffHearsOut(t *testing.T) {
	h := lastAnswer(t)
	tcp := runTCP(t, netio.TCPConfig{}, h, "127.0.0.1:0")
	for range 50 {
		c := dial(t, "", tcp.LocalAddr(0))
		write(t, c, options("x", 0)+options("y", 0)+options("z", 0)) // unread bytes make no reset
		if got := ended(t, c); got != lastWords {
			t.Fatalf("got %q, want %q", got, lastWords)
		}
		c.Close()
		wait(t, h.messages, "message")
		if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, netio.ErrSourceClosed) {
			t.Errorf("Closed with %v", e.err)
		}
	}
	if len(h.messages) != 0 {
		t.Errorf("%d messages were delivered after the cut", len(h.messages))
	}
}

// TestTCPCutOffEnds: who does not close his end is reset after a second.
func TestTCPCutOffEnds(t *testing.T) {
	h := newStream()
	tcp := runTCP(t, netio.TCPConfig{WriteTimeout: time.Hour}, h, "127.0.0.1:0")
	open(t, h, "127.0.0.2", tcp)
	begun := time.Now()
	tcp.CloseSource(func(netip.Addr) bool { return true })
	wait(t, h.closed, "Closed")
	if took := time.Since(begun); took < 500*time.Millisecond || took > 30*time.Second {
		t.Errorf("closed after %v", took)
	}
}
