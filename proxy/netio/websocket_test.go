package netio_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"sipward/proxy/netio"
	"sipward/sip"
)

// runWeb listens for WebSocket in the clear and over TLS.
func runWeb(t testing.TB, cfg netio.TCPConfig, web netio.WebSocket, h *stream) (*netio.TCP, *tls.Config) {
	t.Helper()
	server, client := edge(t)
	return runStreams(t, cfg, h,
		netio.StreamListener{Addr: addrPort("127.0.0.1:0"), WebSocket: &web},
		netio.StreamListener{Addr: addrPort("127.0.0.1:0"), WebSocket: &web, TLS: server}), client
}

// dialWeb connects, over TLS unless secure is nil; options may change what is asked for.
func dialWeb(t testing.TB, to netip.AddrPort, secure *tls.Config, change ...func(*websocket.DialOptions)) (*websocket.Conn, error) {
	t.Helper()
	opts := &websocket.DialOptions{
		Subprotocols: []string{"sip"},
		HTTPClient:   &http.Client{Transport: &http.Transport{TLSClientConfig: secure}},
	}
	url := "ws://" + to.String()
	if secure != nil {
		url = "wss://" + to.String()
	}
	for _, f := range change {
		f(opts)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, url, opts)
	if err == nil {
		c.SetReadLimit(-1)
		t.Cleanup(func() { _ = c.CloseNow() })
	}
	return c, err
}

func mustDialWeb(t testing.TB, to netip.AddrPort, secure *tls.Config, change ...func(*websocket.DialOptions)) *websocket.Conn {
	t.Helper()
	c, err := dialWeb(t, to, secure, change...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func webWrite(t testing.TB, c *websocket.Conn, kind websocket.MessageType, msg string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := c.Write(ctx, kind, []byte(msg)); err != nil {
		t.Fatal(err)
	}
}

func webRead(t testing.TB, c *websocket.Conn) (websocket.MessageType, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	kind, b, err := c.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return kind, string(b)
}

// webStatus reads until the other side closes c, and returns its status code.
func webStatus(t testing.TB, c *websocket.Conn) websocket.StatusCode {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		if _, _, err := c.Read(ctx); err != nil {
			if ctx.Err() != nil {
				t.Fatal("connection is still open")
			}
			return websocket.CloseStatus(err)
		}
	}
}

func TestWebSocketMessages(t *testing.T) {
	h := newStream()
	h.onMessage = func(c *netio.Conn, msg []byte) {
		if c.Secure() != (c.Listener() == 1) {
			t.Errorf("listener %d: secure %v", c.Listener(), c.Secure())
		}
		_ = c.Send(msg)
	}
	tcp, client := runWeb(t, netio.TCPConfig{}, netio.WebSocket{}, h)
	withoutLength := strings.Replace(options("x", 0), "Content-Length: 0\r\n", "", 1)
	full := options("full", 65000)
	full = options("full", 65000+65536-len(full))
	for i, secure := range []*tls.Config{nil, client} {
		c := mustDialWeb(t, tcp.LocalAddr(i), secure)
		if c.Subprotocol() != "sip" {
			t.Errorf("subprotocol %q", c.Subprotocol())
		}
		for _, msg := range []string{options("x", 0), withoutLength, options("big", 60000), full, options("y", 2500)} {
			webWrite(t, c, websocket.MessageText, msg)
			if got := wait(t, h.messages, "message"); got != msg {
				t.Fatalf("got %d bytes, want %d: %.300q", len(got), len(msg), got)
			}
			if kind, got := webRead(t, c); got != msg || kind != websocket.MessageText {
				t.Fatalf("answer of %d bytes as %v, want %d", len(got), kind, len(msg))
			}
		}
		binary := options("x", 0) + "\xff\xfe"
		webWrite(t, c, websocket.MessageBinary, binary)
		if kind, got := webRead(t, c); got != binary || kind != websocket.MessageBinary {
			t.Errorf("answer %q as %v", got, kind)
		}
		wait(t, h.messages, "message")
		webWrite(t, c, websocket.MessageText, "\r\n\r\n")
		if _, got := webRead(t, c); got != "\r\n" {
			t.Errorf("keep-alive answered with %q", got)
		}
		webWrite(t, c, websocket.MessageText, "\r\n")
		webWrite(t, c, websocket.MessageText, "")
		ctx := c.CloseRead(context.Background())
		if err := c.Ping(ctx); err != nil {
			t.Errorf("ping: %v", err)
		}
		if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil {
			t.Errorf("close: %v", err)
		}
		if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, io.EOF) {
			t.Errorf("Closed with %v, want EOF", e.err)
		}
	}
	if st := tcp.Stats(); st.Messages != 12 || st.Pings != 8 || st.HandshakesFailed != 0 || st.ClosedFault != 0 {
		t.Errorf("stats %+v", st)
	}
}

// rawWeb is a client that frames itself.
type rawWeb struct {
	t testing.TB
	net.Conn
}

const upgradeRequest = "GET / HTTP/1.1\r\nHost: edge.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n"

func dialRawWeb(t testing.TB, from string, to netip.AddrPort) rawWeb {
	t.Helper()
	c := rawWeb{t, dial(t, from, to)}
	write(t, c, upgradeRequest)
	c.skipHead()
	return c
}

func (c rawWeb) skipHead() {
	c.t.Helper()
	var head []byte
	for b := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); {
		if _, err := c.Read(b); err != nil {
			c.t.Fatalf("%v after %q", err, head)
		}
		head = append(head, b...)
	}
	if !strings.HasPrefix(string(head), "HTTP/1.1 101 ") {
		c.t.Fatalf("answer %q", head)
	}
}

// frame is a masked one; first is its first byte.
func frame(first byte, payload string) string {
	b := []byte{first, 0x80}
	switch n := len(payload); {
	case n < 126:
		b[1] |= byte(n)
	case n < 1<<16:
		b[1] |= 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] |= 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	mask := []byte{1, 2, 3, 4}
	b = append(b, mask...)
	for i := range payload {
		b = append(b, payload[i]^mask[i%4])
	}
	return string(b)
}

// TestWebSocketFragments: a message in pieces, with a ping between them, byte by byte.
func TestWebSocketFragments(t *testing.T) {
	h := newStream()
	tcp, _ := runWeb(t, netio.TCPConfig{}, netio.WebSocket{}, h)
	c := dialRawWeb(t, "", tcp.LocalAddr(0))
	msg := options("pieces", 300)
	all := frame(0x01, msg[:10]) + frame(0x00, "") + frame(0x89, "ping") + frame(0x00, msg[10:200]) + frame(0x80, msg[200:])
	for i := range all {
		write(t, c, all[i:i+1])
	}
	if got := wait(t, h.messages, "message"); got != msg {
		t.Errorf("got %q", got)
	}
	pong := make([]byte, 6)
	if _, err := io.ReadFull(c, pong); err != nil || string(pong) != "\x8a\x04ping" {
		t.Errorf("ping answered with %q, %v", pong, err)
	}
	// What comes in one segment is several messages; half a one is none.
	write(t, c, frame(0x81, msg)+frame(0x82, msg)+frame(0x81, msg)[:200])
	for range 2 {
		wait(t, h.messages, "message")
	}
	c.Close()
	if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, io.EOF) {
		t.Errorf("Closed with %v, want EOF", e.err)
	}
	if len(h.messages) != 0 {
		t.Errorf("half a message was delivered: %q", <-h.messages)
	}
}

func TestWebSocketFaults(t *testing.T) {
	h := newStream()
	tcp, _ := runWeb(t, netio.TCPConfig{MaxMessage: 5000}, netio.WebSocket{}, h)
	big := options("x", 6000)
	var fault sip.Fault
	for _, tt := range []struct {
		name, send string
		status     websocket.StatusCode // 0: no close frame
		want       error
	}{
		{"too big", frame(0x81, big), websocket.StatusMessageTooBig, sip.FaultTooBig},
		{"too big, in pieces", frame(0x01, big[:4000]) + frame(0x80, big[4000:]), websocket.StatusMessageTooBig, sip.FaultTooBig},
		{"announced as huge", "\x81\xff\x00\x00\x00\xff\x00\x00\x00\x00\x01\x02\x03\x04" + big, websocket.StatusMessageTooBig, sip.FaultTooBig},
		{"length over 2^63", "\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04" + big, 0, netio.ErrWebSocket},
		{"not masked", "\x81\x05hello", 0, netio.ErrWebSocket},
		{"reserved bit", frame(0xc1, "hello"), websocket.StatusProtocolError, netio.ErrWebSocket},
		{"reserved opcode", frame(0x83, "hello"), websocket.StatusProtocolError, netio.ErrWebSocket},
		{"continuation of nothing", frame(0x80, "hello"), websocket.StatusProtocolError, netio.ErrWebSocket},
		{"message in a message", frame(0x01, "hel") + frame(0x81, "lo"), websocket.StatusProtocolError, netio.ErrWebSocket},
		{"long ping", frame(0x89, big[:126]), websocket.StatusProtocolError, netio.ErrWebSocket},
		{"ping in pieces", frame(0x09, "p"), websocket.StatusProtocolError, netio.ErrWebSocket},
		{"close without its code", frame(0x88, "x"), websocket.StatusProtocolError, netio.ErrWebSocket},
	} {
		c := dialRawWeb(t, "", tcp.LocalAddr(0))
		write(t, c, tt.send)
		got, err := io.ReadAll(c) // a reset may take the close frame away
		if tt.status != 0 && err == nil && (len(got) < 4 || got[0] != 0x88 || websocket.StatusCode(binary.BigEndian.Uint16(got[2:])) != tt.status) {
			t.Errorf("%s: answered %q, want a close frame with %d", tt.name, got, tt.status)
		}
		if e := wait(t, h.closed, "Closed: "+tt.name); !errors.Is(e.err, tt.want) {
			t.Errorf("%s: Closed with %v", tt.name, e.err)
		}
		if errors.As(tt.want, &fault) {
			if got := wait(t, h.faults, "fault"); got != fault {
				t.Errorf("%s: fault %v", tt.name, got)
			}
		}
	}
	if st := tcp.Stats(); st.ClosedFault != 12 || st.Messages != 0 {
		t.Errorf("stats %+v", st)
	}
}

// TestWebSocketKeepAliveFlood: pings, pongs and empty messages in masses end the
// connection, and nobody else's.
func TestWebSocketKeepAliveFlood(t *testing.T) {
	h := newStream()
	tcp, _ := runWeb(t, netio.TCPConfig{}, netio.WebSocket{}, h)
	honest := dialRawWeb(t, "", tcp.LocalAddr(0))
	for _, f := range []string{frame(0x89, "ping"), frame(0x8a, ""), frame(0x81, "\r\n\r\n"), frame(0x81, "")} {
		c := dialRawWeb(t, "", tcp.LocalAddr(0))
		go func() { _, _ = io.Copy(io.Discard, c) }()
		for range 10_000 {
			if _, err := io.WriteString(c, f); err != nil {
				break
			}
		}
		if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, netio.ErrKeepAlive) {
			t.Errorf("%q: Closed with %v", f, e.err)
		}
	}
	write(t, honest, frame(0x81, options("x", 0)))
	wait(t, h.messages, "message")
}

func TestWebSocketUpgradeFails(t *testing.T) {
	h := newStream()
	tcp, client := runWeb(t, netio.TCPConfig{HandshakeTimeout: 700 * time.Millisecond},
		netio.WebSocket{Origins: []string{"https://phone.example", "*.shop.example:8443"}}, h)
	replace := func(old, new string) string { return strings.Replace(upgradeRequest, old, new, 1) }
	origin := func(o string) string { return replace("Upgrade: ", "Origin: "+o+"\r\nUpgrade: ") }
	for _, tt := range []struct {
		name, send string
		status     string // of the answer; "": none
		want       error
	}{
		{"wrong origin", origin("https://evil.example"), "403", netio.ErrOrigin},
		{"origin with another scheme", origin("http://phone.example"), "403", netio.ErrOrigin},
		{"origin with another port", origin("https://a.shop.example"), "403", netio.ErrOrigin},
		{"origin null", origin("null"), "403", netio.ErrOrigin},
		{"no subprotocol", replace("Sec-WebSocket-Protocol: sip\r\n", ""), "400", netio.ErrUpgrade},
		{"wrong subprotocol", replace("Protocol: sip", "Protocol: chat, sipp"), "400", netio.ErrUpgrade},
		{"wrong version", replace("Version: 13", "Version: 8"), "400", netio.ErrUpgrade},
		{"no upgrade", replace("Upgrade: websocket\r\nConnection: Upgrade\r\n", ""), "426", netio.ErrUpgrade},
		{"post", replace("GET", "POST"), "405", netio.ErrUpgrade},
		{"bad key", replace("dGhl", "d"), "400", netio.ErrUpgrade},
		{"HTTP/1.0", replace("HTTP/1.1", "HTTP/1.0"), "426", netio.ErrUpgrade},
		{"large head", replace("Host: ", "X: "+strings.Repeat("x", 9000)+"\r\nHost: "), "431", netio.ErrUpgrade},
		{"endless line", "GET /" + strings.Repeat("x", 9000), "431", netio.ErrUpgrade},
		{"no HTTP", "HELLO\r\n\r\n", "400", netio.ErrUpgrade},
		{"plain SIP", options("x", 0), "", netio.ErrUpgrade},
		{"TLS", clientHello(t), "", netio.ErrUpgrade},
		{"garbage", "\xff\xff\xff", "", netio.ErrUpgrade},
		{"silence", "", "", netio.ErrHandshakeTimeout},
		{"half a request", upgradeRequest[:100], "", netio.ErrHandshakeTimeout},
	} {
		c := dial(t, "", tcp.LocalAddr(0))
		write(t, c, tt.send)
		f := wait(t, h.failed, "failure: "+tt.name)
		if !errors.Is(f.err, tt.want) || len(f.err.Error()) > 250 {
			t.Errorf("%s: %v, want %v", tt.name, f.err, tt.want)
		}
		got, err := io.ReadAll(c)
		if want := "HTTP/1.1 " + tt.status + " "; tt.status != "" && err == nil && !strings.HasPrefix(string(got), want) || tt.status == "" && len(got) > 0 {
			t.Errorf("%s: answered %q, want %q", tt.name, got, tt.status)
		}
	}
	for _, tt := range []struct{ name, send string }{
		{"no origin", upgradeRequest},
		{"own origin", origin("https://edge.example")},
		{"allowed origin", origin("https://phone.example")},
		{"allowed pattern", origin("https://a.shop.example:8443")},
		{"subprotocol in a list", replace("Protocol: sip", "Protocol: chat, SIP")},
	} {
		c := rawWeb{t, dial(t, "", tcp.LocalAddr(0))}
		write(t, c, tt.send)
		c.skipHead()
		write(t, c, frame(0x81, options("x", 0)))
		wait(t, h.messages, "message: "+tt.name)
	}
	// The deadline is for TLS and upgrade together.
	dialTLS(t, "", tcp.LocalAddr(1), client)
	if f := wait(t, h.failed, "failure"); !errors.Is(f.err, netio.ErrHandshakeTimeout) || f.listener != 1 {
		t.Errorf("idle after TLS: %v", f.err)
	}
	if len(h.closed) != 0 {
		t.Error("Closed called for a connection that never was")
	}
}

// TestWebSocketCloses: what is sent before arrives, and then a close frame.
func TestWebSocketCloses(t *testing.T) {
	for name, end := range map[string]func(*netio.Conn){
		"CloseAfterFlush": (*netio.Conn).CloseAfterFlush,
		"Close":           func(c *netio.Conn) { c.Close(nil) },
		"CutOff": func(c *netio.Conn) {
			c.Pin()
			c.CutOff(netio.ErrSourceClosed)
			c.Unpin()
		},
	} {
		h := newStream()
		h.onMessage = func(c *netio.Conn, msg []byte) {
			for range 20 {
				_ = c.Send(msg)
			}
			end(c)
			if err := c.Send(msg); !errors.Is(err, netio.ErrClosed) {
				t.Errorf("%s: Send after that: %v", name, err)
			}
		}
		tcp, client := runWeb(t, netio.TCPConfig{}, netio.WebSocket{}, h)
		for i, secure := range []*tls.Config{nil, client} {
			c := mustDialWeb(t, tcp.LocalAddr(i), secure)
			msg := options("x", 4000)
			webWrite(t, c, websocket.MessageText, msg)
			for range 20 {
				if _, got := webRead(t, c); got != msg {
					t.Fatalf("%s: got %d bytes", name, len(got))
				}
			}
			if got := webStatus(t, c); got != websocket.StatusGoingAway {
				t.Errorf("%s: closed with status %d", name, got)
			}
			wait(t, h.closed, "Closed")
		}
	}
}

func TestWebSocketSlowPeer(t *testing.T) {
	h := newStream()
	conns := make(chan *netio.Conn, 1)
	h.onMessage = func(c *netio.Conn, _ []byte) { conns <- c }
	tcp, _ := runWeb(t, netio.TCPConfig{WriteQueue: 100_000}, netio.WebSocket{}, h)
	web := dialRawWeb(t, "", tcp.LocalAddr(0))
	write(t, web, frame(0x81, options("x", 0)))
	c := wait(t, conns, "connection")
	overfill(t, h, c)
}

func TestWebSocketDeadlines(t *testing.T) {
	h := newStream()
	tcp, _ := runWeb(t, netio.TCPConfig{
		MessageTimeout: 200 * time.Millisecond,
		FirstTimeout:   500 * time.Millisecond,
		IdleTimeout:    900 * time.Millisecond,
	}, netio.WebSocket{PingInterval: 100 * time.Millisecond}, h)
	silent := dialRawWeb(t, "", tcp.LocalAddr(0))
	if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, netio.ErrIdle) {
		t.Errorf("silent from the start: closed with %v", e.err)
	}
	if got := ended(t, silent); !strings.HasPrefix(got, "\x89\x00\x89\x00") {
		t.Errorf("silent from the start: got %q, want pings", got)
	}
	for _, part := range []string{frame(0x01, options("y", 0)), frame(0x81, options("y", 0))[:100]} {
		c := dialRawWeb(t, "", tcp.LocalAddr(0))
		write(t, c, frame(0x81, options("x", 0)))
		wait(t, h.messages, "message")
		write(t, c, part)
		if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, netio.ErrMessageTimeout) {
			t.Errorf("half a message: closed with %v", e.err)
		}
	}
	c := dialRawWeb(t, "", tcp.LocalAddr(0))
	write(t, c, frame(0x81, options("x", 0)))
	wait(t, h.messages, "message")
	for range 12 { // longer than the idle time
		write(t, c, frame(0x89, ""))
		time.Sleep(100 * time.Millisecond)
	}
	if len(h.closed) != 0 {
		t.Fatal("closed in spite of pings")
	}
	if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, netio.ErrIdle) {
		t.Errorf("idle: closed with %v", e.err)
	}
}

// TestWebSocketConcurrentSends: messages, pongs and our pings do not get into each
// other.
func TestWebSocketConcurrentSends(t *testing.T) {
	h := newStream()
	h.quiet = true
	const senders, each = 4, 300
	h.onMessage = func(c *netio.Conn, _ []byte) {
		for s := range senders {
			go func() {
				for i := range each {
					_ = c.Send([]byte(strings.Repeat(string(rune('a'+s)), 1+i*30)))
				}
			}()
		}
	}
	tcp, client := runWeb(t, netio.TCPConfig{WriteQueue: 64 << 20}, netio.WebSocket{PingInterval: time.Millisecond}, h)
	for i, secure := range []*tls.Config{nil, client} {
		c := mustDialWeb(t, tcp.LocalAddr(i), secure)
		webWrite(t, c, websocket.MessageText, options("x", 0))
		for i := range senders * each {
			if _, got := webRead(t, c); got == "" || strings.Trim(got, got[:1]) != "" {
				t.Fatalf("message %d is mixed with another: %.100q", i, got)
			}
		}
		_ = c.CloseNow()
		wait(t, h.closed, "Closed")
	}
}
