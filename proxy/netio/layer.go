package netio

import (
	"crypto/tls"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A layer stands between a connection's socket and its messages: TLS, or
// WebSocket on either. Plain TCP has none.
type layer interface {
	// handshake returns when messages can pass.
	handshake() error
	// read is Conn.readMessages.
	read() error
	// send sends one message, or part of a stream. It never blocks.
	send(b []byte) error
	// goodbye tells the other side that nothing follows. It is called once at most,
	// and may be called before the handshake is over.
	goodbye()
	// state is that of the TLS connection, or nil.
	state() *tls.ConnectionState
}

// socket is a connection's socket as the layer on it sees it: Read waits for as
// long as the connection's deadlines allow, Write for nothing. Only the connection
// closes the socket and sets its deadlines, so Close and the setters do nothing.
type socket struct {
	c    *Conn
	try  func(fd uintptr) bool
	into []byte
	poll bool // Read does not wait: os.ErrDeadlineExceeded
}

var _ net.Conn = (*socket)(nil)

func newStreamSocket(c *Conn) *socket {
	s := &socket{c: c}
	s.try = s.tryRead
	return s
}

// Read implements net.Conn.
func (s *socket) Read(b []byte) (int, error) {
	c := s.c
	c.endTurn()
	s.into = b
	n, err := c.await(s.try)
	s.into = nil
	if c.in.opening && n > 0 {
		err = c.takeTurn()
	}
	return n, err
}

func (s *socket) tryRead(fd uintptr) bool {
	in := &s.c.in
	n, err := readFD(fd, s.into)
	if err == unix.EAGAIN {
		if s.poll {
			in.err = os.ErrDeadlineExceeded
		}
		return s.poll
	}
	if err != nil {
		in.err = sockErr("read", err)
	}
	in.n = max(n, 0)
	return true
}

// Write implements net.Conn. What the kernel does not take is queued.
func (s *socket) Write(b []byte) (int, error) {
	if err := s.c.send(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Close implements net.Conn.
func (s *socket) Close() error { return nil }

// LocalAddr implements net.Conn.
func (s *socket) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(s.c.local) }

// RemoteAddr implements net.Conn.
func (s *socket) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.c.remote) }

// SetDeadline implements net.Conn.
func (s *socket) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (s *socket) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (s *socket) SetWriteDeadline(time.Time) error { return nil }

// A StreamListener is where connections are accepted, and what they carry.
type StreamListener struct {
	Addr netip.AddrPort
	// TLS is the configuration of connections under TLS; nil: in the clear. For
	// certificates that change it has GetCertificate or GetConfigForClient, which must
	// not wait for anything: other handshakes wait for them.
	TLS *tls.Config
	// WebSocket is that of SIP over WebSocket; nil: SIP on the stream itself.
	WebSocket *WebSocket
}

func (l *StreamListener) layered() bool { return l.TLS != nil || l.WebSocket != nil }

// layerFor makes what l's connections have on their sockets, or nil.
func (l *StreamListener) layerFor(c *Conn) layer {
	switch {
	case l.WebSocket != nil:
		return newWebLayer(c, l.WebSocket, l.TLS)
	case l.TLS != nil:
		return newServerTLS(c, l.TLS)
	}
	return nil
}
