package netio_test

import (
	"io"
	"net"
	"testing"

	"sipward/proxy/netio"
	"sipward/sip"
)

// FuzzLayers sends anything to a TLS port, to one for WebSocket before the upgrade, and
// after it, in two segments, and closes its end. Each connection comes to its end, and
// the handler hears of none after that.
func FuzzLayers(f *testing.F) {
	for state, seeds := range [][]string{
		{clientHello(f), options("x", 0), "\x16\x03\x01\x00\x04\x01\x00\x00\x00", "\x15\x03\x01\x00\x02\x02\x28"},
		{upgradeRequest, upgradeRequest + frame(0x81, options("x", 0)), upgradeRequest[:100], "GET / HTTP/1.1\r\nA:\r\n b\r\n\r\n"},
		{frame(0x81, options("x", 0)), frame(0x01, "half") + frame(0x89, "ping") + frame(0x80, "rest"), frame(0x88, "\x03\xe8bye"),
			frame(0x81, "\r\n\r\n"), "\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04", "\x81\x05hello"},
	} {
		for _, s := range seeds {
			f.Add(uint8(state), []byte(s), uint16(len(s)/2))
		}
	}
	server, _ := edge(f)
	h := newStream()
	h.quiet = true
	h.onMessage = func(c *netio.Conn, msg []byte) { _ = c.Send(msg) }
	h.onFault = func(*netio.Conn, sip.Fault, []byte) { <-h.faults }
	tcp := runStreams(f, netio.TCPConfig{MaxMessage: 4000}, h,
		netio.StreamListener{Addr: addrPort("127.0.0.1:0"), TLS: server},
		netio.StreamListener{Addr: addrPort("127.0.0.1:0"), WebSocket: &netio.WebSocket{}})
	f.Fuzz(func(t *testing.T, state uint8, b []byte, cut uint16) {
		listener := min(int(state)%3, 1)
		c := dial(t, "", tcp.LocalAddr(listener))
		if state%3 == 2 {
			write(t, c, upgradeRequest)
			rawWeb{t, c}.skipHead()
		}
		n := min(int(cut), len(b))
		_, _ = c.Write(b[:n])
		_, _ = c.Write(b[n:])
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		c.Close()
		poll(t, "the end of the connection", func() bool { return tcp.Stats().Open == 0 })
		own := c.LocalAddr().(*net.TCPAddr).AddrPort()
		for state%3 == 2 && wait(t, h.closed, "Closed").c.Remote() != own { // of one before
		}
		for len(h.closed)+len(h.failed) > 0 {
			select {
			case <-h.closed:
			case <-h.failed:
			}
		}
	})
}
