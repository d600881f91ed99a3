package netio_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"sipward/proxy/netio"
	"sipward/sip"
)

// stream is a StreamHandler that writes down what it is told.
type stream struct {
	accept    func(netip.AddrPort) bool
	onMessage func(*netio.Conn, []byte)
	onFault   func(*netio.Conn, sip.Fault, []byte)
	quiet     bool // messages are not written down

	messages chan string
	faults   chan sip.Fault
	closed   chan closing
	failed   chan failure

	mu     sync.Mutex
	ended  map[*netio.Conn]bool
	errors []string
}

type failure struct {
	remote   netip.AddrPort
	listener int
	err      error
}

type closing struct {
	c   *netio.Conn
	err error
}

func newStream() *stream {
	return &stream{
		messages: make(chan string, 1000),
		faults:   make(chan sip.Fault, 10),
		closed:   make(chan closing, 20000),
		failed:   make(chan failure, 20000),
		ended:    map[*netio.Conn]bool{},
	}
}

func (s *stream) Accept(remote netip.AddrPort, _ int) bool {
	return s.accept == nil || s.accept(remote)
}

func (s *stream) Message(c *netio.Conn, msg []byte) {
	s.alive(c, "Message")
	if !s.quiet {
		s.messages <- string(msg)
	}
	if s.onMessage != nil {
		s.onMessage(c, msg)
	}
}

func (s *stream) Fault(c *netio.Conn, fault sip.Fault, head []byte) {
	s.alive(c, "Fault")
	s.faults <- fault
	if s.onFault != nil {
		s.onFault(c, fault, head)
	}
}

func (s *stream) Closed(c *netio.Conn, err error) {
	s.alive(c, "Closed")
	s.mu.Lock()
	s.ended[c] = true
	s.mu.Unlock()
	s.closed <- closing{c, err}
}

func (s *stream) HandshakeFailed(remote netip.AddrPort, listener int, err error) {
	s.failed <- failure{remote, listener, err}
}

// alive notes a call for a connection after Closed.
func (s *stream) alive(c *netio.Conn, call string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended[c] {
		s.errors = append(s.errors, call+" after Closed")
	}
}

// plain are listeners in the clear.
func plain(addrs ...string) (list []netio.StreamListener) {
	for _, a := range addrs {
		list = append(list, netio.StreamListener{Addr: addrPort(a)})
	}
	return list
}

func runTCP(t testing.TB, cfg netio.TCPConfig, h *stream, addrs ...string) *netio.TCP {
	t.Helper()
	return runStreams(t, cfg, h, plain(addrs...)...)
}

func runStreams(t testing.TB, cfg netio.TCPConfig, h *stream, listeners ...netio.StreamListener) *netio.TCP {
	t.Helper()
	tcp, err := netio.ListenTCP(cfg, listeners)
	if err != nil {
		t.Fatal(err)
	}
	runHandler(t, h, tcp.Run, func() int { return tcp.Stats().Open })
	return tcp
}

// runHandler runs a server with h until the test ends. Then nothing of it may be open.
func runHandler(t testing.TB, h *stream, run func(context.Context, netio.StreamHandler) error, open func() int) {
	t.Helper()
	t.Cleanup(func() { // after Run has returned
		if n := open(); n != 0 {
			t.Errorf("%d connections open after Run", n)
		}
		for _, e := range h.errors {
			t.Error(e)
		}
	})
	runUntilEnd(t, func(ctx context.Context) error { return run(ctx, h) })
}

func dial(t testing.TB, from string, to netip.AddrPort) *net.TCPConn {
	t.Helper()
	d := net.Dialer{Timeout: 30 * time.Second}
	if from != "" {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))
	}
	c, err := d.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

func wait[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(30 * time.Second):
		t.Fatalf("no %s within 10 s", what)
		panic("unreachable")
	}
}

// options is an OPTIONS request with a body of n bytes.
func options(callID string, n int) string {
	return fmt.Sprintf("OPTIONS sip:pbx.example SIP/2.0\r\n"+
		"Via: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@example.com>;tag=1\r\n"+
		"To: <sip:pbx.example>\r\nCall-ID: %s\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n"+
		"Content-Length: %d\r\n\r\n%s", callID, n, strings.Repeat("b", n))
}

func write(t testing.TB, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

// ended waits until the other side has closed c, and returns what came.
func ended(t testing.TB, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatal("connection is still open")
	}
	return string(b)
}

func TestTCPFraming(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0"} {
		if strings.HasPrefix(listen, "[") {
			skipWithoutIPv6(t)
		}
		h := newStream()
		tcp := runTCP(t, netio.TCPConfig{}, h, listen)
		c := dial(t, "", tcp.LocalAddr(0))

		one := options("one", 5)
		for i := range one {
			write(t, c, one[i:i+1])
		}
		if got := wait(t, h.messages, "message"); got != one {
			t.Errorf("byte by byte: got %q", got)
		}
		three := []string{options("a", 0), options("b", 3000), options("c", 7)}
		write(t, c, strings.Join(three, ""))
		for _, want := range three {
			if got := wait(t, h.messages, "message"); got != want {
				t.Errorf("three in a segment: got %.300q", got)
			}
		}
		big := options("big", 60000)
		write(t, c, big+options("next", 1)[:50])
		if got := wait(t, h.messages, "message"); got != big {
			t.Errorf("big message: got %d bytes, want %d", len(got), len(big))
		}
		write(t, c, options("next", 1)[50:])
		if got := wait(t, h.messages, "message"); got != options("next", 1) {
			t.Errorf("after the big one: got %q", got)
		}
		c.Close()
		if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, io.EOF) {
			t.Errorf("Closed with %v, want EOF", e.err)
		}
		if st := tcp.Stats(); st.Messages != 6 || st.Accepted != 1 {
			t.Errorf("stats %+v", st)
		}
	}
}

// TestTCPCutEverywhere sends two messages in two segments, cut at every byte.
func TestTCPCutEverywhere(t *testing.T) {
	h := newStream()
	tcp := runTCP(t, netio.TCPConfig{}, h, "127.0.0.1:0")
	c := dial(t, "", tcp.LocalAddr(0))
	first, second := options("first", 20), options("second", 0)
	both := first + "\r\n\r\n" + second
	for cut := 1; cut < len(both); cut++ {
		write(t, c, both[:cut])
		if cut >= len(first) {
			wait(t, h.messages, "message")
		}
		write(t, c, both[cut:])
		if cut < len(first) {
			wait(t, h.messages, "message")
		}
		if got := wait(t, h.messages, "message"); got != second {
			t.Fatalf("cut at %d: got %q", cut, got)
		}
		pong := make([]byte, 2)
		if _, err := io.ReadFull(c, pong); err != nil || string(pong) != "\r\n" {
			t.Fatalf("cut at %d: keep-alive answered with %q, %v", cut, pong, err)
		}
	}
}

func TestTCPConnIdentity(t *testing.T) {
	h := newStream()
	conns := make(chan *netio.Conn, 1)
	h.onMessage = func(c *netio.Conn, _ []byte) { conns <- c }
	tcp := runTCP(t, netio.TCPConfig{}, h, "127.0.0.1:0", "0.0.0.0:0")
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.7"), tcp.LocalAddr(1).Port())
	nc := dial(t, "127.0.0.8", to)
	write(t, nc, options("x", 0))
	c := wait(t, conns, "message")
	if c.Listener() != 1 || c.Local() != to || c.Remote() != nc.LocalAddr().(*net.TCPAddr).AddrPort() {
		t.Errorf("listener %d, local %s, remote %s", c.Listener(), c.Local(), c.Remote())
	}
	if c.ID() == 0 || c.ID() >= 1<<48 || tcp.ByID(c.ID()) != c || tcp.ByID(c.ID()+1) != nil {
		t.Errorf("ByID does not find connection %d alone", c.ID())
	}
	if c.Value() != nil {
		t.Error("Value of a new connection is not nil")
	}
	c.SetValue("v")
	if c.SetValue(nil); c.Value() != nil {
		t.Error("Value is not nil after SetValue(nil)")
	}
	nc.Close()
	wait(t, h.closed, "Closed")
	if tcp.ByID(c.ID()) != nil {
		t.Error("ByID finds a closed connection")
	}
}

func TestTCPFault(t *testing.T) {
	h := newStream()
	h.onFault = func(c *netio.Conn, fault sip.Fault, head []byte) {
		if fault == sip.FaultMissingLength {
			_ = c.Send([]byte("answer"))
		}
	}
	tcp := runTCP(t, netio.TCPConfig{MaxHeader: 4000, MaxMessage: 5000}, h, "127.0.0.1:0")
	for _, tt := range []struct {
		name, send, answer string
		fault              sip.Fault
	}{
		{"no length", strings.Replace(options("x", 0), "Content-Length: 0\r\n", "", 1), "answer", sip.FaultMissingLength},
		{"too big", options("x", 5000), "", sip.FaultTooBig},
		{"endless head", "OPTIONS sip:a SIP/2.0\r\nX: " + strings.Repeat("x", 9000), "", sip.FaultTooBig},
		{"TLS", "\x16\x03\x01\x02\x00", "", sip.FaultStartLine},
	} {
		c := dial(t, "", tcp.LocalAddr(0))
		write(t, c, tt.send)
		if got := wait(t, h.faults, "fault"); got != tt.fault {
			t.Errorf("%s: fault %v, want %v", tt.name, got, tt.fault)
		}
		if got := ended(t, c); got != tt.answer {
			t.Errorf("%s: answered %q, want %q", tt.name, got, tt.answer)
		}
		c.Close()
		if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, tt.fault) {
			t.Errorf("%s: Closed with %v", tt.name, e.err)
		}
	}
	if st := tcp.Stats(); st.ClosedFault != 4 {
		t.Errorf("stats %+v", st)
	}
}

func TestTCPListenErrors(t *testing.T) {
	tcp, err := netio.ListenTCP(netio.TCPConfig{}, plain("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	_, err = netio.ListenTCP(netio.TCPConfig{}, plain("127.0.0.1:0", tcp.LocalAddr(0).String()))
	if want := fmt.Sprintf("listen tcp %s: address already in use", tcp.LocalAddr(0)); err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
	if _, err := netio.ListenTCP(netio.TCPConfig{}, []netio.StreamListener{{}}); err == nil {
		t.Error("no address: no error")
	}
}

func TestTCPRunEnds(t *testing.T) {
	h := newStream()
	tcp, err := netio.ListenTCP(netio.TCPConfig{}, plain("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tcp.Run(ctx, h) }()
	var conns []*net.TCPConn
	for i := range 20 {
		c := dial(t, "", tcp.LocalAddr(0))
		conns = append(conns, c)
		write(t, c, options("x", 0)[:100*(i%2)]+strings.Repeat("\r\n\r\n", i%3/2))
	}
	write(t, conns[0], options("all here", 0))
	wait(t, h.messages, "message")
	cancel()
	if err := wait(t, done, "return of Run"); err != nil {
		t.Errorf("Run: %v", err)
	}
	for _, c := range conns {
		ended(t, c)
	}
	st := tcp.Stats()
	if st.Open != 0 || len(h.closed) != int(st.Accepted) {
		t.Errorf("%d accepted, %d closed, %d open", st.Accepted, len(h.closed), st.Open)
	}
	if err := tcp.Run(context.Background(), h); !errors.Is(err, netio.ErrClosed) {
		t.Errorf("second Run: %v", err)
	}
	if _, err := tcp.Dial(context.Background(), h, netip.Addr{}, addrPort("127.0.0.1:1"), time.Second, nil); err == nil {
		t.Error("Dial after Run: no error")
	}
}

func TestTCPPartialMessageIsNotDelivered(t *testing.T) {
	h := newStream()
	tcp := runTCP(t, netio.TCPConfig{}, h, "127.0.0.1:0")
	c := dial(t, "", tcp.LocalAddr(0))
	write(t, c, options("x", 100)[:200])
	c.Close()
	wait(t, h.closed, "Closed")
	if len(h.messages) != 0 {
		t.Error("half a message was delivered")
	}
}
