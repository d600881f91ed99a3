package dns

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sipward/policy"
)

// maxQuery is the longest question over UDP in bytes; what is longer is cut off, and so
// malformed.
const maxQuery = 1500

// udpSocket is one of the sockets that share an address.
type udpSocket struct {
	s        *Server
	conn     *net.UDPConn
	addr     netip.AddrPort
	worker   int
	received atomic.Uint64
	sent     atomic.Uint64
}

func (s *Server) listenUDP(addr netip.AddrPort, worker int) (*udpSocket, error) {
	l := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		e := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
		if e != nil {
			return e
		}
		return err
	}}
	if s.cfg.Workers == 1 {
		l.Control = nil // or another program could have the address, too, unnoticed
	}
	c, err := l.ListenPacket(context.Background(), "udp", addr.String())
	if err != nil {
		return nil, err
	}
	u := &udpSocket{s: s, conn: c.(*net.UDPConn), worker: worker}
	u.addr = u.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return u, u.conn.SetReadBuffer(1 << 20)
}

// serve answers until the socket is closed.
func (u *udpSocket) serve() error {
	c := &udpClient{socket: u}
	var in [maxQuery]byte
	var q query
	out := make([]byte, 0, maxUDP)
	for {
		n, from, err := u.conn.ReadFromUDPAddrPort(in[:])
		if err != nil {
			if u.s.ctx.Err() != nil {
				return nil
			}
			continue // of an earlier answer: nobody listens there
		}
		u.received.Add(1)
		c.addr = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if reply := u.s.handle(c, in[:n], &q, out[:0], time.Now().UnixNano()); reply != nil {
			u.send(reply, c.addr)
		} else if c.kept {
			c = &udpClient{socket: u}
		}
	}
}

func (u *udpSocket) send(b []byte, to netip.AddrPort) {
	if _, err := u.conn.WriteToUDPAddrPort(b, to); err == nil {
		u.sent.Add(1)
	}
}

// udpClient is where a question came from.
type udpClient struct {
	socket *udpSocket
	addr   netip.AddrPort
	kept   bool // it waits for an answer, so it is not used again
}

var answers = sync.Pool{New: func() any { b := make([]byte, 0, maxUDP); return &b }}

func (c *udpClient) answer(q *asker, e *entry, now int64) {
	b := answers.Get().(*[]byte)
	defer answers.Put(b)
	c.socket.send(e.appendUDP((*b)[:0], q, now), c.addr)
}

func (c *udpClient) fail(q *asker, rcode int) {
	c.socket.send(q.appendBare(nil, 0, rcode), c.addr)
}

func (c *udpClient) keep() { c.kept = true }

func (c *udpClient) origin() (netip.AddrPort, policy.Transport, int) {
	return c.addr, policy.UDP, c.socket.worker
}
