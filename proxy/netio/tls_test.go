package netio_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sipward/proxy/certs/certstest"
	"sipward/proxy/netio"
)

// certificate makes one for name, and who trusts it.
func certificate(t testing.TB, name string, expires time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	authority := certstest.NewAuthority(t, "authority of "+name)
	until := time.Until(expires)
	issued := authority.Issue(t, certstest.Options{
		CommonName: name, DNS: []string{name}, From: until - 365*24*time.Hour, Until: until,
		Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return issued.TLS, authority.Pool()
}

const edgeName = "edge.example"

// edge is the configuration of a TLS server, and of clients that trust it.
func edge(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	cert, pool := certificate(t, edgeName, time.Now().AddDate(1, 0, 0))
	return &tls.Config{Certificates: []tls.Certificate{cert}}, &tls.Config{RootCAs: pool, ServerName: edgeName}
}

func runTLS(t testing.TB, cfg netio.TCPConfig, h *stream) (*netio.TCP, *tls.Config) {
	t.Helper()
	server, client := edge(t)
	return runStreams(t, cfg, h, netio.StreamListener{Addr: addrPort("127.0.0.1:0"), TLS: server}), client
}

func dialTLS(t testing.TB, from string, to netip.AddrPort, cfg *tls.Config) *tls.Conn {
	t.Helper()
	c := tls.Client(dial(t, from, to), cfg)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTLSFraming(t *testing.T) {
	h := newStream()
	tcp, cfg := runTLS(t, netio.TCPConfig{}, h)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg := cfg.Clone()
		cfg.MinVersion, cfg.MaxVersion = version, version
		c := dialTLS(t, "", tcp.LocalAddr(0), cfg)
		one := options("one", 5)
		for i := range one {
			write(t, c, one[i:i+1])
		}
		if got := wait(t, h.messages, "message"); got != one {
			t.Errorf("byte by byte: got %q", got)
		}
		big := options("big", 60000)
		write(t, c, options("a", 3000)+"\r\n\r\n"+big)
		if got := wait(t, h.messages, "message"); got != options("a", 3000) {
			t.Errorf("got %.300q", got)
		}
		if got := wait(t, h.messages, "message"); got != big {
			t.Errorf("big message: got %d bytes, want %d", len(got), len(big))
		}
		pong := make([]byte, 2)
		if _, err := io.ReadFull(c, pong); err != nil || string(pong) != "\r\n" {
			t.Errorf("keep-alive answered with %q, %v", pong, err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, io.EOF) {
			t.Errorf("Closed with %v, want EOF", e.err)
		}
		if _, err := c.Read(pong); !errors.Is(err, io.EOF) {
			t.Errorf("end of the connection: %v, want close_notify", err)
		}
	}
	if st := tcp.Stats(); st.Messages != 6 || st.Pings != 2 || st.HandshakesFailed != 0 {
		t.Errorf("stats %+v", st)
	}
}

// secured connects over TLS and returns both sides.
func secured(t testing.TB, cfg netio.TCPConfig) (*stream, *tls.Conn, *netio.Conn) {
	t.Helper()
	h := newStream()
	conns := make(chan *netio.Conn, 1)
	h.onMessage = func(c *netio.Conn, _ []byte) {
		select {
		case conns <- c:
		default:
		}
	}
	tcp, client := runTLS(t, cfg, h)
	nc := dialTLS(t, "", tcp.LocalAddr(0), client)
	write(t, nc, options("hello", 0))
	wait(t, h.messages, "message")
	return h, nc, wait(t, conns, "connection")
}

func TestTLSSendInOrder(t *testing.T) {
	_, nc, c := secured(t, netio.TCPConfig{WriteQueue: 64 << 20})
	if !c.Secure() || c.TLS() == nil || !c.TLS().HandshakeComplete {
		t.Error("connection does not know of its TLS")
	}
	sendInOrder(t, c, nc, 12345)
}

// TestTLSCloseAfterFlush: what is queued arrives, and then close_notify.
func TestTLSCloseAfterFlush(t *testing.T) {
	for _, size := range []int{10, 16 << 20} {
		h, nc, c := secured(t, netio.TCPConfig{WriteQueue: 64 << 20})
		want := pattern(size)
		if err := c.Send(want); err != nil {
			t.Fatal(err)
		}
		write(t, nc, options("too late", 3000))
		c.CloseAfterFlush()
		if err := c.Send([]byte("x")); !errors.Is(err, netio.ErrClosed) {
			t.Errorf("Send after CloseAfterFlush: %v", err)
		}
		got, err := io.ReadAll(nc) // an error without close_notify
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d of %d bytes, %v", len(got), len(want), err)
		}
		nc.Close()
		if e := wait(t, h.closed, "Closed"); e.err != nil {
			t.Errorf("Closed with %v", e.err)
		}
	}
}

func TestTLSSlowPeer(t *testing.T) {
	h, _, c := secured(t, netio.TCPConfig{WriteQueue: 100_000})
	overfill(t, h, c)
}

// TestTLSCutOffHearsOut is TestTCPCutOffHearsOut, with close_notify.
func TestTLSCutOffHearsOut(t *testing.T) {
	h := lastAnswer(t)
	tcp, client := runTLS(t, netio.TCPConfig{}, h)
	for range 20 {
		c := dialTLS(t, "", tcp.LocalAddr(0), client)
		write(t, c, options("x", 0)+options("y", 0))
		got, err := io.ReadAll(c)
		if err != nil || string(got) != lastWords {
			t.Fatalf("got %q, %v, want %q", got, err, lastWords)
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

func TestTLSDeadlines(t *testing.T) {
	h := newStream()
	tcp, client := runTLS(t, netio.TCPConfig{
		MessageTimeout: 200 * time.Millisecond,
		FirstTimeout:   300 * time.Millisecond,
		IdleTimeout:    700 * time.Millisecond,
	}, h)
	dialTLS(t, "", tcp.LocalAddr(0), client)
	if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, netio.ErrIdle) {
		t.Errorf("silent from the start: closed with %v", e.err)
	}
	c := dialTLS(t, "", tcp.LocalAddr(0), client)
	write(t, c, options("x", 0))
	wait(t, h.messages, "message")
	begun := time.Now()
	if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, netio.ErrIdle) {
		t.Errorf("idle: closed with %v", e.err)
	}
	if took := time.Since(begun); took < 500*time.Millisecond {
		t.Errorf("idle: closed after %s", took)
	}
	c = dialTLS(t, "", tcp.LocalAddr(0), client)
	write(t, c, options("x", 0)+options("y", 10)[:100])
	wait(t, h.messages, "message")
	if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, netio.ErrMessageTimeout) {
		t.Errorf("half a message: closed with %v", e.err)
	}
}

// TestTLSHandshakeFails: everyone who does not come to a handshake is told of, with
// the reason, and those who only look whether the port is open are not.
func TestTLSHandshakeFails(t *testing.T) {
	h := newStream()
	tcp, client := runTLS(t, netio.TCPConfig{HandshakeTimeout: 400 * time.Millisecond}, h)
	hello := clientHello(t)
	for _, tt := range []struct {
		name string
		do   func(c net.Conn)
		want error
	}{
		{"plain SIP", func(c net.Conn) { write(t, c, options("x", 0)) }, netio.ErrPlainSIP},
		{"plain SIP, an answer", func(c net.Conn) { write(t, c, "SIP/2.0 200 OK\r\n") }, netio.ErrPlainSIP},
		{"HTTP", func(c net.Conn) { write(t, c, "GET / HTTP/1.1\r\n\r\n") }, netio.ErrNotTLS},
		{"garbage", func(c net.Conn) { write(t, c, strings.Repeat("\xff\x00\x80", 5000)) }, netio.ErrNotTLS},
		{"garbage in a record", func(c net.Conn) { write(t, c, "\x16\x03\x01\x00\x04\x01\x00\x00\x00") }, nil},
		{"silence", func(net.Conn) {}, netio.ErrHandshakeTimeout},
		{"half a hello", func(c net.Conn) { write(t, c, hello[:100]) }, netio.ErrHandshakeTimeout},
		{"hello alone", func(c net.Conn) { write(t, c, hello) }, netio.ErrHandshakeTimeout},
		{"slow hello", func(c net.Conn) {
			for i := range hello {
				if _, err := c.Write([]byte(hello[i : i+1])); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}, netio.ErrHandshakeTimeout},
		{"client gives up", func(c net.Conn) { write(t, c, hello); _ = c.(*net.TCPConn).CloseWrite() }, netio.ErrRejected},
		{"client does not trust us", func(c net.Conn) {
			_ = tls.Client(c, &tls.Config{ServerName: edgeName, RootCAs: x509.NewCertPool()}).Handshake()
		}, netio.ErrRejected},
		{"old version", func(c net.Conn) {
			cfg := client.Clone()
			cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			if err := tls.Client(c, cfg).Handshake(); err == nil || !strings.Contains(err.Error(), "protocol version") {
				t.Errorf("old version: the client sees %v", err)
			}
		}, nil},
	} {
		c := dial(t, "127.0.0.7", tcp.LocalAddr(0))
		tt.do(c)
		f := wait(t, h.failed, "failure: "+tt.name)
		if tt.want != nil && !errors.Is(f.err, tt.want) || f.err == nil {
			t.Errorf("%s: %v, want %v", tt.name, f.err, tt.want)
		}
		if f.remote != c.LocalAddr().(*net.TCPAddr).AddrPort() || f.listener != 0 {
			t.Errorf("%s: told of %s, listener %d", tt.name, f.remote, f.listener)
		}
		c.Close()
	}
	n := tcp.Stats().HandshakesFailed
	for range 10 {
		dial(t, "", tcp.LocalAddr(0)).Close()
	}
	poll(t, "the end of all connections", func() bool { return tcp.Stats().Accepted >= n+10 && tcp.Stats().Open == 0 })
	if len(h.failed) != 0 || len(h.closed) != 0 || len(h.messages) != 0 {
		t.Errorf("%d failures, %d closed, %d messages after looking only", len(h.failed), len(h.closed), len(h.messages))
	}
}

// clientHello is the first flight of a client.
func clientHello(t testing.TB) string {
	t.Helper()
	near, far := net.Pipe()
	defer far.Close()
	go func() { _ = tls.Client(near, &tls.Config{ServerName: edgeName}).Handshake(); near.Close() }()
	b := make([]byte, 8192)
	n, err := far.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// poll waits until ok.
func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestDialTLS(t *testing.T) {
	pbx := newStream()
	pbx.onMessage = func(c *netio.Conn, msg []byte) { _ = c.Send(msg) }
	far, client := runTLS(t, netio.TCPConfig{}, pbx)
	plainPBX := newStream()
	noTLS := runTCP(t, netio.TCPConfig{}, plainPBX, "127.0.0.1:0")
	expired, pool := certificate(t, edgeName, time.Now().AddDate(0, 0, -1))
	old := runStreams(t, netio.TCPConfig{}, newStream(), netio.StreamListener{
		Addr: addrPort("127.0.0.1:0"), TLS: &tls.Config{Certificates: []tls.Certificate{expired}}})
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()

	h := newStream()
	tcp := runTCP(t, netio.TCPConfig{IdleTimeout: time.Minute}, h, "127.0.0.1:0")
	ctx := context.Background()
	c, err := tcp.DialTLS(ctx, h, netip.MustParseAddr("127.0.0.5"), far.LocalAddr(0), client, 10*time.Second, "extra")
	if err != nil {
		t.Fatal(err)
	}
	if c.Local().Addr() != netip.MustParseAddr("127.0.0.5") || c.Value() != "extra" || !c.Secure() ||
		c.TLS().PeerCertificates[0].DNSNames[0] != edgeName || tcp.ByID(c.ID()) != c {
		t.Errorf("connection %s, %v, %+v", c.Local(), c.Value(), c.TLS())
	}
	msg := options("x", 20000)
	if err := c.Send([]byte(msg)); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, h.messages, "answer"); got != msg {
		t.Errorf("got %d bytes, want %d", len(got), len(msg))
	}
	c.CloseAfterFlush()
	if e := wait(t, pbx.closed, "Closed at the PBX"); !errors.Is(e.err, io.EOF) {
		t.Errorf("PBX: closed with %v", e.err)
	}
	wait(t, h.closed, "Closed")

	other := client.Clone()
	other.ServerName = "other.example"
	stranger := client.Clone()
	stranger.RootCAs = x509.NewCertPool()
	trusted := &tls.Config{RootCAs: pool, ServerName: edgeName}
	for _, tt := range []struct {
		cfg  *tls.Config
		to   netip.AddrPort
		want string
	}{
		{other, far.LocalAddr(0), "certificate is valid for edge.example, not other.example"},
		{stranger, far.LocalAddr(0), "certificate signed by unknown authority"},
		{trusted, old.LocalAddr(0), "certificate has expired"},
		{client, noTLS.LocalAddr(0), netio.ErrRejected.Error()},
		{client, silent.Addr().(*net.TCPAddr).AddrPort(), netio.ErrHandshakeTimeout.Error()},
	} {
		_, err := tcp.DialTLS(ctx, h, netip.Addr{}, tt.to, tt.cfg, 2*time.Second, nil)
		if prefix := fmt.Sprintf("dial tls %s: ", tt.to); err == nil || !strings.HasPrefix(err.Error(), prefix) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error %v, want %s…%s", err, prefix, tt.want)
		}
	}
	for range 2 { // what the other side of a certificate hears of it
		if f := wait(t, pbx.failed, "failure at the PBX"); !errors.Is(f.err, netio.ErrRejected) {
			t.Errorf("PBX: %v", f.err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := tcp.DialTLS(ctx, h, netip.Addr{}, silent.Addr().(*net.TCPAddr).AddrPort(), client, 0, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancelled: %v", err)
	}
	if len(h.closed) != 0 {
		t.Error("Closed called for a connection that never was")
	}
}

// TestTLSHandshakeCaps: a source has its cap, and in total the oldest gives way, so
// that whoever leaves handshakes open locks out nobody.
func TestTLSHandshakeCaps(t *testing.T) {
	h := newStream()
	tcp, client := runTLS(t, netio.TCPConfig{
		MaxHandshakes: 10, MaxHandshakesPerSource: 4, HandshakeTimeout: time.Hour,
		Exempt: func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.9.1") },
	}, h)
	var first net.Conn
	for i := range 12 {
		c := dial(t, fmt.Sprintf("127.0.1.%d", 1+i/4), tcp.LocalAddr(0))
		if first == nil {
			first = c
		}
	}
	ended(t, first) // the eleventh and twelfth have displaced it and the next one
	poll(t, "two that gave way", func() bool { return tcp.Stats().CrowdedOut == 2 })
	refused(t, "127.0.1.3", tcp)
	if st := tcp.Stats(); st.RefusedHandshake != 1 || st.Open != 10 {
		t.Errorf("stats %+v", st)
	}
	for range 6 { // exempt ones have no cap
		dial(t, "127.0.9.1", tcp.LocalAddr(0))
	}
	honest := dialTLS(t, "127.0.2.1", tcp.LocalAddr(0), client)
	write(t, honest, options("x", 0))
	wait(t, h.messages, "message")
	if st := tcp.Stats(); st.CrowdedOut != 3 {
		t.Errorf("stats %+v", st)
	}
	if len(h.failed) != 0 || len(h.closed) != 0 {
		t.Error("the handler was told of connections that we ended")
	}
}

// TestTLSCertificateChanges: connections outlive their certificate, new ones get the
// new one, and session tickets go on being good.
func TestTLSCertificateChanges(t *testing.T) {
	one, onePool := certificate(t, edgeName, time.Now().AddDate(1, 0, 0))
	two, twoPool := certificate(t, edgeName, time.Now().AddDate(1, 0, 0))
	var inForce atomic.Pointer[tls.Config]
	use := func(cert tls.Certificate) {
		inForce.Store(&tls.Config{Certificates: []tls.Certificate{cert}})
	}
	use(one)
	tcp := runStreams(t, netio.TCPConfig{}, echoStream(), netio.StreamListener{Addr: addrPort("127.0.0.1:0"), TLS: &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return inForce.Load(), nil },
	}})
	msg := options("x", 400)
	answer := make([]byte, len(msg))
	round := func(c *tls.Conn) {
		t.Helper()
		write(t, c, msg)
		if _, err := io.ReadFull(c, answer); err != nil {
			t.Fatal(err)
		}
	}
	cfg := &tls.Config{RootCAs: onePool, ServerName: edgeName, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	old := dialTLS(t, "", tcp.LocalAddr(0), cfg)
	round(old) // reads the ticket, too
	use(two)
	resumed := dialTLS(t, "", tcp.LocalAddr(0), cfg)
	if !resumed.ConnectionState().DidResume {
		t.Error("a session ticket was of no use")
	}
	cfg = &tls.Config{RootCAs: twoPool, ServerName: edgeName}
	for _, c := range []*tls.Conn{old, resumed, dialTLS(t, "", tcp.LocalAddr(0), cfg)} {
		round(c)
	}
}
