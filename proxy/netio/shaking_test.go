package netio_test

import (
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"sipward/proxy/netio"
)

// slowConn is a client's connection on which nothing is read before resume, once something
// has come.
type slowConn struct {
	net.Conn
	once          sync.Once
	came, resumed chan struct{}
}

func newSlowConn(c net.Conn) *slowConn {
	return &slowConn{Conn: c, came: make(chan struct{}), resumed: make(chan struct{})}
}

func (c *slowConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.once.Do(func() {
		close(c.came)
		<-c.resumed
	})
	return n, err
}

// TestHandshakesTrickled: who sends his ClientHello byte by byte gives way before one that has
// been answered and is silent for as long as that takes to reach it.
func TestHandshakesTrickled(t *testing.T) {
	h := newStream()
	tcp, cfg := runTLS(t, netio.TCPConfig{MaxHandshakes: 3, HandshakeTimeout: time.Minute}, h)
	hello := clientHello(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	for range 2 {
		before := tcp.Stats().Accepted
		c := dial(t, "", tcp.LocalAddr(0))
		defer c.Close()
		first := make(chan struct{})
		wg.Go(func() {
			for i := range len(hello) - 1 {
				if _, err := c.Write([]byte{hello[i]}); err != nil {
					return
				}
				if i == 20 {
					close(first)
				}
				time.Sleep(2 * time.Millisecond)
			}
		})
		<-first
		poll(t, "a trickle", func() bool { return tcp.Stats().Accepted == before+1 })
	}
	slow := newSlowConn(dial(t, "", tcp.LocalAddr(0)))
	honest := tls.Client(slow, cfg)
	done := make(chan error, 1)
	go func() { done <- honest.Handshake() }()
	wait(t, slow.came, "answer to the honest one")
	time.Sleep(50 * time.Millisecond) // what comes of the others is heard meanwhile
	for n := range uint64(2) {
		c := dial(t, "", tcp.LocalAddr(0))
		defer c.Close()
		poll(t, "one that gives way", func() bool { return tcp.Stats().CrowdedOut == n+1 })
	}
	close(slow.resumed)
	if err := wait(t, done, "end of the handshake"); err != nil {
		t.Errorf("the honest one: %v", err)
	}
}

// TestHandshakeQueue: the time for which a handshake waits for its turn is ours: it neither fails
// for it nor is blamed.
func TestHandshakeQueue(t *testing.T) {
	const limit = 300 * time.Millisecond
	h := echoStream()
	tcp, cfg := runTLS(t, netio.TCPConfig{HandshakeTimeout: limit}, h)
	release := tcp.HoldTurns()
	c := tls.Client(dial(t, "", tcp.LocalAddr(0)), cfg)
	done := make(chan error, 1)
	go func() { done <- c.Handshake() }()
	time.Sleep(3 * limit)
	release()
	if err := wait(t, done, "end of the handshake"); err != nil {
		t.Fatal(err)
	}
	write(t, c, options("x", 0))
	answer(t, c)
	if n := len(h.failed); n > 0 {
		t.Errorf("%d failures told", n)
	}
}

// TestDTLSHandshakeDrained: the same over DTLS, and nobody who has left a handshake open holds up
// the end.
func TestDTLSHandshakeDrained(t *testing.T) {
	h, d, cfg := runEcho(t, netio.DTLSConfig{Conns: netio.TCPConfig{HandshakeTimeout: time.Minute}})
	halfOpen(t, "", d.LocalAddr(0), cfg)
	poll(t, "association", func() bool { return d.Stats().Accepted == 1 })
	d.CloseAll()
	poll(t, "the end", func() bool { return d.Stats().Open == 0 })
	if len(h.failed) > 0 {
		t.Errorf("told of a failure: %v", (<-h.failed).err)
	}
}

// TestHandshakeDrained: a handshake that we end ourselves, because all is closed, is no failure
// of the other side's.
func TestHandshakeDrained(t *testing.T) {
	server, _ := edge(t)
	for _, web := range []*netio.WebSocket{nil, {}} {
		h := newStream()
		tcp := runStreams(t, netio.TCPConfig{}, h, netio.StreamListener{Addr: addrPort("127.0.0.1:0"), TLS: server, WebSocket: web})
		c := dial(t, "", tcp.LocalAddr(0))
		write(t, c, clientHello(t))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		tcp.CloseAll()
		poll(t, "the end", func() bool { return tcp.Stats().Open == 0 })
		if len(h.failed) > 0 {
			t.Errorf("told of a failure: %v", (<-h.failed).err)
		}
	}
}
