package netio_test

import (
	"io"
	"testing"

	"sipward/proxy/netio"
)

// echoStream answers a message with itself.
func echoStream() *stream {
	h := newStream()
	h.quiet = true
	h.onMessage = func(c *netio.Conn, msg []byte) { _ = c.Send(msg) }
	return h
}

func BenchmarkTCPRoundTrip(b *testing.B) {
	tcp := runTCP(b, netio.TCPConfig{}, echoStream(), "127.0.0.1:0")
	c := dial(b, "", tcp.LocalAddr(0))
	msg := []byte(options("x", 400))
	answer := make([]byte, len(msg))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(msg); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, answer); err != nil {
			b.Fatal(err)
		}
	}
}

func TestTCPNoAllocs(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes pools allocate")
	}
	tcp := runTCP(t, netio.TCPConfig{}, echoStream(), "127.0.0.1:0")
	c := dial(t, "", tcp.LocalAddr(0))
	for _, msg := range []string{options("x", 400), "\r\n\r\n"} {
		b := []byte(msg)
		answer := make([]byte, len(b))
		if msg == "\r\n\r\n" {
			answer = answer[:2]
		}
		round := func() {
			if _, err := c.Write(b[:1]); err != nil { // so that it is pending for a while
				t.Fatal(err)
			}
			if _, err := c.Write(b[1:]); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, answer); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 {
			round()
		}
		if n := testing.AllocsPerRun(1000, round); n != 0 {
			t.Errorf("%.8q: %v allocations for a message and its answer", msg, n)
		}
	}
}
