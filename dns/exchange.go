package dns

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sipward/policy"
)

// udpBuffer is larger than what upstreams are told they may send, because some send more.
// What does not fit is asked for over TCP.
const udpBuffer = 4096

// maxForeign is how many replies to one question may be wrong before it is asked over TCP,
// where nobody can guess.
const maxForeign = 64

var udpBuffers = sync.Pool{New: func() any { return new([udpBuffer]byte) }}

// dialer makes sockets to upstreams. The kernel gives each a port of its own, at random.
func (s *Server) dialer() *net.Dialer {
	d := &net.Dialer{KeepAlive: -1}
	if s.cfg.Mark != 0 {
		d.Control = marked(s.cfg.Mark)
	}
	return d
}

func marked(mark uint32) control {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark)) }); e != nil {
			return e
		}
		if err != nil {
			return fmt.Errorf("mark a socket: %w", err)
		}
		return nil
	}
}

// exchangeUDP sends a message and waits for the reply to it, on a connected socket of its
// own: the kernel hands over only what comes from the upstream's address and port. Other
// replies are passed over. done gives the buffer back.
func (s *Server) exchangeUDP(ctx context.Context, u *upstream, msg []byte) (reply []byte, done func(), err error) {
	conn, err := s.dialer().DialContext(ctx, "udp", u.Address.String())
	if err != nil {
		return nil, nil, fmt.Errorf("ask %s: %w", u.Upstream, err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline) //nolint:errcheck // the socket is open
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(msg); err != nil {
		return nil, nil, fmt.Errorf("ask %s: %w", u.Upstream, err)
	}
	buf := udpBuffers.Get().(*[udpBuffer]byte)
	for range maxForeign {
		n, err := conn.Read(buf[:])
		if err == nil {
			err = match(msg, buf[:n])
			if errors.Is(err, errForeign) {
				s.foreign(u, msg)
				continue
			}
			if err == nil && n == udpBuffer {
				err = errCut
			}
			if err == nil {
				return buf[:n], func() { udpBuffers.Put(buf) }, nil
			}
		}
		udpBuffers.Put(buf)
		return nil, nil, fmt.Errorf("ask %s: %w", u.Upstream, err)
	}
	udpBuffers.Put(buf)
	return nil, nil, errCut
}

// stream is a connection to an upstream, over TCP or TLS.
type stream struct {
	net.Conn
	idle time.Time
}

// streams are the connections to an upstream that nobody uses.
type streams struct {
	mu     sync.Mutex
	idle   []stream
	closed bool
}

const (
	maxIdle  = 16
	idleTime = 8 * time.Second // most resolvers wait for at least ten
)

// get returns the connection that was used last.
func (p *streams) get() (net.Conn, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 || time.Since(p.idle[n-1].idle) > idleTime {
		return nil, false
	}
	c := p.idle[n-1].Conn
	p.idle = p.idle[:n-1]
	return c, true
}

func (p *streams) put(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) == maxIdle {
		c.Close()
		return
	}
	p.idle = append(p.idle, stream{c, time.Now()})
}

// sweep closes what has been idle for long; all of it, and what comes later, if last.
func (p *streams) sweep(last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = p.closed || last
	kept := p.idle[:0]
	for _, s := range p.idle {
		if last || time.Since(s.idle) > idleTime {
			s.Close()
		} else {
			kept = append(kept, s)
		}
	}
	p.idle = kept
}

// exchangeStream asks over a connection, one question at a time.
func (s *Server) exchangeStream(ctx context.Context, u *upstream, msg []byte) ([]byte, error) {
	conn, reused := u.streams.get()
	if reused {
		reply, err := s.over(ctx, u, conn, msg)
		if err == nil || ctx.Err() != nil {
			return reply, err
		}
		// The upstream has closed it meanwhile (RFC 7766 §6.2.4).
	}
	conn, err := s.connect(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", u.Upstream, err)
	}
	return s.over(ctx, u, conn, msg)
}

func (s *Server) connect(ctx context.Context, u *upstream) (net.Conn, error) {
	d := s.dialer()
	if u.Transport != policy.TLS {
		return d.DialContext(ctx, "tcp", u.Address.String())
	}
	name := u.Name
	if name == "" {
		name = u.Address.Addr().String()
	}
	t := tls.Dialer{NetDialer: d, Config: &tls.Config{ServerName: name, RootCAs: s.cfg.RootCAs, MinVersion: tls.VersionTLS12}}
	return t.DialContext(ctx, "tcp", u.Address.String())
}

// over asks over a connection and keeps it for the next one, if it is still good.
func (s *Server) over(ctx context.Context, u *upstream, conn net.Conn, msg []byte) (reply []byte, err error) {
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline) //nolint:errcheck // the socket is open
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if stopped := stop(); stopped && err == nil {
			u.streams.put(conn)
			return
		}
		conn.Close() // also when the deadline of the next question could be changed
		if err != nil {
			err = fmt.Errorf("ask %s over %s: %w", u.Upstream, conn.RemoteAddr().Network(), err)
		}
	}()
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(msg)), uint16(len(msg))), msg...)); err != nil {
		return nil, err
	}
	for range maxForeign {
		var head [2]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return nil, err
		}
		reply = make([]byte, binary.BigEndian.Uint16(head[:]))
		if _, err := io.ReadFull(conn, reply); err != nil {
			return nil, err
		}
		// Nobody else can write here, so the spelling proves nothing.
		if err := match(msg, reply); err == nil || errors.Is(err, errSpelling) {
			return reply, nil
		}
		s.foreign(u, msg)
	}
	return nil, errForeign
}
