package netio_test

import (
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/pion/dtls/v3"

	"sipward/proxy/netio"
)

// TestDTLSLastMessage: what the other side has sent before it ended the association is
// handed on, although nobody had the time to read it before the end came.
func TestDTLSLastMessage(t *testing.T) {
	for _, more := range [][]dtls.ClientOption{nil, {withID}} {
		h := newStream()
		ended := make(chan struct{})
		h.onMessage = func(_ *netio.Conn, msg []byte) {
			if string(msg) == options("first", 0) {
				<-ended
			}
		}
		d, cfg := runDTLS(t, netio.DTLSConfig{}, h)
		for range 20 {
			w := newWire(t, "", d.LocalAddr(0))
			w.kept = true
			c := dialDTLS(t, w, cfg, more...)
			write(t, c, "\r\n\r\n") // the handshake is over on the other side, too
			answer(t, c)
			write(t, c, options("first", 0))
			write(t, c, options("last", 0))
			before := w.came.Load()
			c.Close()
			poll(t, "close_notify in answer", func() bool { return w.came.Load() > before })
			ended <- struct{}{}
			for _, want := range []string{options("first", 0), options("last", 0)} {
				if got := wait(t, h.messages, "message"); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
			if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, io.EOF) {
				t.Errorf("closed with %v", e.err)
			}
		}
	}
}

// TestDTLSFirstMessages: what the other side sends as soon as the handshake is over for it is
// handed on, although it may not be over for us.
func TestDTLSFirstMessages(t *testing.T) {
	h := newStream()
	d, cfg := runDTLS(t, netio.DTLSConfig{}, h)
	for i := range 60 {
		var more []dtls.ClientOption
		if i%2 == 1 {
			more = append(more, withID)
		}
		c := dialDTLS(t, newWire(t, "", d.LocalAddr(0)), cfg, more...)
		const n = 8
		for j := range n {
			write(t, c, options("x", j))
		}
		for j := range n {
			if got := wait(t, h.messages, "message"); got != options("x", j) {
				t.Fatalf("association %d: got %q, want message %d", i, got, j)
			}
		}
	}
}

// TestDTLSBackAtCap: phones that have lost their associations come back although their source
// has as many as it may have, be it from the same port, or from others because their router
// has started anew, too. Nobody ends one that is in use.
func TestDTLSBackAtCap(t *testing.T) {
	_, d, cfg := runEcho(t, netio.DTLSConfig{Conns: netio.TCPConfig{MaxPerSource: 2}})
	w := newWire(t, "127.0.0.1:0", d.LocalAddr(0))
	used := dialDTLS(t, newWire(t, "127.0.0.1:0", d.LocalAddr(0)), cfg)
	exchange(t, used, "used")
	exchange(t, dialDTLS(t, w, cfg), "before")
	w.Close()
	w = newWire(t, w.local().String(), d.LocalAddr(0))
	exchange(t, dialDTLS(t, w, cfg), "from the same port")

	elsewhere := dtlsClient(t, newWire(t, "127.0.0.1:0", d.LocalAddr(0)), cfg)
	done := make(chan error, 1)
	go func() { done <- elsewhere.Handshake() }()
	poll(t, "refusal", func() bool { return d.Stats().RefusedSource > 0 })
	exchange(t, used, "used still")
	d.SetStale(0)
	if err := wait(t, done, "end of the handshake"); err != nil {
		t.Fatal(err)
	}
	_ = elsewhere.SetReadDeadline(time.Now().Add(15 * time.Second))
	exchange(t, elsewhere, "from another port")
	exchange(t, used, "used at last")
	if st := d.Stats(); st.Replaced != 2 {
		t.Errorf("stats %+v", st)
	}
}

// TestDTLSTurns: ClientHellos that come to nothing, because pion/dtls passes over them without
// a word, leave the CPUs to the handshakes of others.
func TestDTLSTurns(t *testing.T) {
	h, d, cfg := runEcho(t, netio.DTLSConfig{Conns: netio.TCPConfig{HandshakeTimeout: time.Minute}})
	spoil := map[string]func(b []byte){
		"version of the record":  func(b []byte) { b[2] = 1 },
		"number of the record":   func(b []byte) { copy(b[5:], "\xff\xff\xff\xff\xff\xff") },
		"length of an extension": func(b []byte) { b[len(b)-1] = 9 },
	}
	random := uint32(0)
	for name, spoil := range spoil {
		for range max(runtime.GOMAXPROCS(0)/2, 1) {
			before := d.Stats().Accepted
			c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(d.LocalAddr(0)))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(15 * time.Second))
			random++
			write(t, c, string(dtlsHello(random, nil)))
			verify := answer(t, c)
			hello := dtlsHello(random, []byte(verify[len(verify)-16:]))
			spoil(hello)
			write(t, c, string(hello))
			poll(t, name, func() bool { return d.Stats().Accepted == before+1 })
		}
		exchange(t, dialDTLS(t, newWire(t, "", d.LocalAddr(0)), cfg), "beside "+name)
	}
	if n := len(h.failed); n != 0 {
		t.Errorf("%d handshakes have failed: they are no test", n)
	}
}
