package netio_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sipward/proxy/netio"
)

// maxIdleBytes is what a connection may cost while nothing happens on it: its
// goroutine's stack, its state and the runtime's. Measured: 5.9 KiB (Go 1.26).
const maxIdleBytes = 8 << 10

// TestTCPIdleMemory holds 10,000 idle connections. The clients are bare
// descriptors, so that all memory of Go's is the server's.
func TestTCPIdleMemory(t *testing.T) {
	n := 10_000
	if raceDetector {
		t.Skip("the race detector's memory is counted, too")
	}
	if testing.Short() {
		n = 1000
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < uint64(2*n+200) {
		if n = int(limit.Cur)/2 - 200; n < 100 {
			t.Skipf("no more than %d descriptors", limit.Cur)
		}
		t.Logf("no more than %d descriptors: only %d connections", limit.Cur, n)
	}
	h := newStream()
	h.messages = make(chan string, n)
	h.onMessage = func(*netio.Conn, []byte) { deep(8) }
	tcp := runTCP(t, netio.TCPConfig{MaxConns: n, MaxPerSource: n}, h, "127.0.0.1:0")
	before := memory()
	msg := options("idle", 0)
	fds := make([]int, n)
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for i := range fds {
		fds[i] = connect(t, byte(1+i%50), tcp.LocalAddr(0))
		if _, err := unix.Write(fds[i], []byte(msg)); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		wait(t, h.messages, "message")
	}
	time.Sleep(100 * time.Millisecond) // the last readers wait by now
	per := float64(memory()-before) / float64(n)
	t.Logf("%d idle connections: %.0f bytes each", n, per)
	if per > maxIdleBytes {
		t.Errorf("%.0f bytes for an idle connection, want at most %d", per, maxIdleBytes)
	}
}

// deep uses up some stack, as a handler does.
func deep(n int) byte {
	var frame [1024]byte
	frame[n] = byte(n)
	if n > 0 {
		frame[0] = deep(n - 1)
	}
	return frame[0] + frame[n]
}

// memory is what Go's heap and stacks hold after the stacks have shrunk.
func memory() int64 {
	for range 4 { // each cycle halves a stack
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse + m.OtherSys)
}

// connect connects a bare socket from 127.0.0.x.
func connect(t *testing.T, x byte, to netip.AddrPort) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, x}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// maxIdleLayerBytes is what an idle connection may cost with what it has on TCP.
// Measured: 12 to 18 KiB with TLS, 14 to 16 with WebSocket, 22 with both (Go 1.26).
var maxIdleLayerBytes = map[string]float64{"tls": 24 << 10, "ws": 22 << 10, "wss": 32 << 10}

// bareConn is a connection of which nothing but the descriptor is left once the TLS
// client on it has been forgotten.
type bareConn struct {
	net.Conn
	fd int
}

func (c bareConn) Read(b []byte) (int, error) {
	n, err := unix.Read(c.fd, b)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}

func (c bareConn) Write(b []byte) (int, error) { return unix.Write(c.fd, b) }

func TestLayerIdleMemory(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector's memory is counted, too")
	}
	const n = 300
	h := newStream()
	h.onMessage = func(*netio.Conn, []byte) { deep(8) }
	server, client := edge(t)
	web := &netio.WebSocket{}
	tcp := runStreams(t, netio.TCPConfig{}, h,
		netio.StreamListener{Addr: addrPort("127.0.0.1:0"), TLS: server},
		netio.StreamListener{Addr: addrPort("127.0.0.1:0"), WebSocket: web},
		netio.StreamListener{Addr: addrPort("127.0.0.1:0"), WebSocket: web, TLS: server})
	msg := options("idle", 1000)
	for i, name := range []string{"tls", "ws", "wss"} {
		before := memory()
		for x := range n {
			fd := connect(t, byte(1+x%50), tcp.LocalAddr(i))
			defer unix.Close(fd)
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
			var c net.Conn = bareConn{fd: fd}
			if name != "ws" {
				c = tls.Client(c, client)
			}
			if name == "tls" {
				write(t, c, msg)
			} else {
				write(t, c, upgradeRequest)
				rawWeb{t, c}.skipHead()
				write(t, c, frame(0x81, msg))
			}
			wait(t, h.messages, "message")
		}
		time.Sleep(100 * time.Millisecond) // the last readers wait by now
		per := float64(memory()-before) / n
		t.Logf("%d idle connections over %s: %.0f bytes each", n, name, per)
		if per > maxIdleLayerBytes[name] {
			t.Errorf("%.0f bytes for an idle connection over %s, want at most %.0f", per, name, maxIdleLayerBytes[name])
		}
	}
}
