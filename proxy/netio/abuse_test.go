package netio_test

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sipward/proxy/netio"
)

// maxOpeningBytes is what a handshake that is not over may cost. Measured, silent ones
// and answered ones mixed: 14 KiB (Go 1.26).
const maxOpeningBytes = 24 << 10

// TestHalfOpenHandshakes has 10,000 connections of 50 sources come to a TLS port, and
// to one for WebSocket over TLS, and stay in the handshake: silent, within their
// ClientHello, or after it. An established connection goes on meanwhile, new ones
// come through, and memory stays within the cap.
func TestHalfOpenHandshakes(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector's memory is counted, too")
	}
	n := 10_000
	if testing.Short() {
		n = 2000
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	const caps = 1024
	if limit.Cur < uint64(n+caps+200) {
		if n = int(limit.Cur) - caps - 200; n < 2*caps {
			t.Skipf("no more than %d descriptors", limit.Cur)
		}
		t.Logf("no more than %d descriptors: only %d connections", limit.Cur, n)
	}
	h := echoStream()
	server, client := edge(t)
	tcp := runStreams(t, netio.TCPConfig{MaxConns: n, MaxHandshakes: caps, HandshakeTimeout: time.Minute}, h,
		netio.StreamListener{Addr: addrPort("127.0.0.1:0"), TLS: server},
		netio.StreamListener{Addr: addrPort("127.0.0.1:0"), TLS: server, WebSocket: &netio.WebSocket{}})
	msg := options("x", 400)
	answer := make([]byte, len(msg))
	round := func(c net.Conn) {
		t.Helper()
		write(t, c, msg)
		if _, err := io.ReadFull(c, answer); err != nil {
			t.Fatal(err)
		}
	}
	honest := dialTLS(t, "127.0.1.1", tcp.LocalAddr(0), client)
	round(honest)

	before := memory()
	hello := clientHello(t)
	fds := make([]int, n)
	defer func() {
		for _, fd := range fds {
			if fd > 0 {
				unix.Close(fd)
			}
		}
	}()
	for i := range fds {
		fds[i] = connect(t, byte(1+i%50), tcp.LocalAddr(i/50%2))
		// An error here is that of a connection which is refused or has given way.
		_, _ = unix.SendmsgN(fds[i], []byte(hello[:len(hello)*(i%3)/2]), nil, nil, unix.MSG_NOSIGNAL)
		if i%500 == 0 {
			round(honest)
			round(dialTLS(t, "127.0.1.2", tcp.LocalAddr(0), client))
		}
	}
	poll(t, "all connections to be taken or refused, and all but the cap closed", func() bool {
		st := tcp.Stats()
		return st.Accepted+st.RefusedHandshake+st.RefusedSource >= uint64(n) && st.Open <= caps+n/500+1
	})
	st := tcp.Stats()
	used := memory() - before
	t.Logf("%d half-open connections, %d open: %d bytes for each that is open; %+v", n, st.Open, used/caps, st)
	if used > caps*maxOpeningBytes {
		t.Errorf("%d bytes, want at most %d", used, caps*maxOpeningBytes)
	}
	round(honest)
	round(dialTLS(t, "127.0.1.3", tcp.LocalAddr(0), client))
	if len(h.failed) != 0 {
		t.Errorf("told of %d handshakes that we ended: %v", len(h.failed), (<-h.failed).err)
	}
}

// TestHandshakeFlood has clients do nothing but whole handshakes, and others nothing
// but garbage, while messages go on over TCP and TLS and new clients come through.
func TestHandshakeFlood(t *testing.T) {
	h := echoStream()
	server, client := edge(t)
	tcp := runStreams(t, netio.TCPConfig{}, h,
		netio.StreamListener{Addr: addrPort("127.0.0.1:0")},
		netio.StreamListener{Addr: addrPort("127.0.0.1:0"), TLS: server})
	var done atomic.Bool
	var handshakes, garbage atomic.Int64
	var wg sync.WaitGroup
	defer wg.Wait()
	defer done.Store(true)
	for i := range 6 {
		wg.Go(func() {
			for !done.Load() {
				c, err := net.Dial("tcp", tcp.LocalAddr(1).String())
				if err != nil {
					continue
				}
				_ = c.(*net.TCPConn).SetLinger(0)
				if i%2 == 0 {
					if tls.Client(c, client).Handshake() == nil {
						handshakes.Add(1)
					}
				} else if _, err := c.Write([]byte("garbage, and more of it")); err == nil {
					garbage.Add(1)
				}
				c.Close()
			}
		})
	}
	plain := dial(t, "127.0.1.1", tcp.LocalAddr(0))
	secure := dialTLS(t, "127.0.1.1", tcp.LocalAddr(1), client)
	msg := options("x", 400)
	answer := make([]byte, len(msg))
	rounds := 0
	for ; rounds < 100 || handshakes.Load() < 50 || garbage.Load() < 50; rounds++ {
		for _, c := range []net.Conn{plain, secure} {
			write(t, c, msg)
			if _, err := io.ReadFull(c, answer); err != nil {
				t.Fatal(err)
			}
		}
		if rounds%20 == 0 {
			dialTLS(t, "127.0.1.2", tcp.LocalAddr(1), client).Close()
		}
	}
	t.Logf("%d rounds beside %d handshakes and %d times garbage", rounds, handshakes.Load(), garbage.Load())
}
