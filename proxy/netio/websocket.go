package netio

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"sipward/sip"
)

// WebSocket is the configuration of connections that carry SIP over WebSocket
// (RFC 7118): one message in each, of no more than MaxMessage bytes.
type WebSocket struct {
	// Origins are the origins (RFC 6454) of the web pages that may connect, beside
	// those from the same host and port: patterns of path.Match for "scheme://host:port",
	// or for "host:port". "*" is any. What is no browser sends no origin, and may
	// connect always.
	Origins []string
	// PingInterval is the time between our pings, which keep a connection open in
	// whatever is between (0: none are sent).
	PingInterval time.Duration
}

// Why a connection was closed, see ErrSlowPeer.
var (
	ErrWebSocket = errors.New("netio: broken WebSocket frames")
	ErrKeepAlive = errors.New("netio: flood of keep-alives")
)

// The buffers that a WebSocket connection has while it is open. What it receives is
// read past the first if it is longer, and a message that is longer than the second
// takes two system calls.
const (
	webReadBuffer  = 1024
	webWriteBuffer = 2048
)

// webLayer is WebSocket on a socket or on TLS.
type webLayer struct {
	c     *Conn
	cfg   *WebSocket
	tls   *tlsLayer // nil: in the clear
	under lasting
	extra [1]byte
	timer *time.Timer // of our next ping

	mu   sync.Mutex      // what we frame ourselves is not written into the midst of a message
	conn *websocket.Conn // nil before the upgrade
	said bool            // the close frame has been sent
	code websocket.StatusCode
}

var _ layer = (*webLayer)(nil)

// lasting is a connection that the library cannot close, and that keeps the error
// which ended reading: the library takes an EOF for the end of the message.
type lasting struct {
	net.Conn
	err error
}

// Read implements net.Conn.
func (l *lasting) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if n == 0 && err != nil {
		l.err = err
	}
	return n, err
}

// Close implements net.Conn.
func (l *lasting) Close() error { return nil }

func newWebLayer(c *Conn, cfg *WebSocket, secure *tls.Config) *webLayer {
	l := &webLayer{c: c, cfg: cfg, code: websocket.StatusGoingAway}
	if secure == nil {
		l.under.Conn = newStreamSocket(c)
	} else {
		l.tls = newServerTLS(c, secure)
		l.under.Conn = l.tls.conn
	}
	return l
}

func (l *webLayer) handshake() error {
	if l.tls != nil {
		if err := l.tls.handshake(); err != nil {
			return err
		}
	}
	return l.upgrade()
}

// read delivers messages. It returns nil when the connection is to be drained.
func (l *webLayer) read() error {
	// Its finalizer would keep everything in memory.
	defer func() { _ = l.conn.CloseNow() }()
	if l.cfg.PingInterval > 0 {
		l.mu.Lock() // ping may be called at once
		l.timer = time.AfterFunc(l.cfg.PingInterval, l.ping)
		l.mu.Unlock()
		defer l.timer.Stop()
	}
	for !l.c.draining.Load() {
		_, r, err := l.conn.Reader(context.Background())
		if err == nil {
			err = l.take(r)
		}
		if err != nil {
			return l.ending(err)
		}
		if l.c.draining.Load() {
			return nil
		}
		now := time.Now()
		in := &l.c.in
		l.c.whole(in.buf.b[:in.end:in.end], now)
		l.c.t.buffers.put(in.buf)
		in.buf, in.end, in.partial = nil, 0, false
		l.c.settle(now)
	}
	return nil
}

// take reads a message into the connection's buffer.
func (l *webLayer) take(r io.Reader) error {
	c, in := l.c, &l.c.in
	in.partial = true
	c.begin(time.Now())
	in.buf, in.start, in.end = c.t.buffers.get(), 0, 0
	for {
		if in.end == len(in.buf.b) {
			c.makeRoom()
		}
		room := in.buf.b[in.end:]
		if most := c.t.cfg.MaxMessage - in.end; most == 0 {
			room = l.extra[:] // for the end alone
		} else if len(room) > most {
			room = room[:most]
		}
		n, err := r.Read(room)
		if in.end+n > c.t.cfg.MaxMessage {
			l.setCode(websocket.StatusMessageTooBig)
			c.fault(sip.FaultTooBig, in.buf.b[:in.end])
			return sip.FaultTooBig
		}
		in.end += n
		switch {
		case l.under.err != nil:
			return l.under.err
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// ending gives err the name that it has in this package; nil when the connection
// is to be drained.
func (l *webLayer) ending(err error) error {
	switch {
	case l.c.draining.Load():
		return nil
	case l.under.err != nil:
		return l.under.err
	case errors.Is(err, sip.FaultTooBig):
		return err
	}
	l.mu.Lock()
	l.said = true // the library has done it
	l.mu.Unlock()
	if websocket.CloseStatus(err) >= 0 {
		return io.EOF
	}
	return fmt.Errorf("%w: %w", ErrWebSocket, err)
}

// pinged is called by the reader within the library.
func (l *webLayer) pinged(context.Context, []byte) bool {
	now := time.Now()
	l.c.keepAlive(now)
	if !l.c.in.partial {
		l.c.settle(now)
	}
	return true
}

// ponged does not settle: it may be to our own ping.
func (l *webLayer) ponged(context.Context, []byte) { l.c.keepAlive(time.Now()) }

func (l *webLayer) send(b []byte) error {
	kind := websocket.MessageText
	if !utf8.Valid(b) { // RFC 7118 §5, RFC 6455 §5.6
		kind = websocket.MessageBinary
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.said {
		return ErrClosed
	}
	return l.conn.Write(context.Background(), kind, b)
}

// Frames of ours that the library would wait for an answer to (RFC 6455 §5.5).
const (
	frameClose = 0x80 | 0x8
	framePing  = 0x80 | 0x9
)

func (l *webLayer) goodbye() {
	l.sayClose()
	if l.tls != nil {
		l.tls.goodbye()
	}
}

func (l *webLayer) state() *tls.ConnectionState {
	if l.tls == nil {
		return nil
	}
	return l.tls.state()
}

func (l *webLayer) sayClose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.said || l.conn == nil {
		return
	}
	l.said = true
	_, _ = l.under.Write([]byte{frameClose, 2, byte(l.code >> 8), byte(l.code)})
}

func (l *webLayer) setCode(code websocket.StatusCode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.code = code
}

// ping sends one, and the next in due time, unless there is to be none any more.
func (l *webLayer) ping() {
	if l.c.isClosing() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.said {
		return
	}
	_, _ = l.under.Write([]byte{framePing, 0})
	l.timer.Reset(l.cfg.PingInterval)
}
