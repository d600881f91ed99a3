package dns

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sipward/policy"
)

const (
	// maxPipeline is how many questions of a connection may wait for answers; what follows
	// is read later (RFC 7766 §6.2.1.1).
	maxPipeline = 32
	// maxQueryTCP is the longest question over TCP in bytes.
	maxQueryTCP = 4096
	// messageTimeout is how long a question may take from its first byte to its last, and
	// an answer to be taken.
	messageTimeout = 5 * time.Second
)

type tcpListener struct {
	s        *Server
	listener *net.TCPListener
}

func (s *Server) listenTCP(addr netip.AddrPort) (*tcpListener, error) {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
	if err != nil {
		return nil, err
	}
	return &tcpListener{s, l}, nil
}

// conns are the open connections of clients, with caps in all and for each address.
type conns struct {
	mu      sync.Mutex
	open    map[*tcpConn]struct{}
	sources map[netip.Addr]int // never more than open
	most    int
	each    int
	closed  bool
	group   sync.WaitGroup

	refused atomic.Uint64
}

func (c *conns) limit(most, each int) {
	c.open, c.sources, c.most, c.each = map[*tcpConn]struct{}{}, map[netip.Addr]int{}, most, each
}

func (c *conns) add(t *tcpConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := t.addr.Addr()
	if c.closed || len(c.open) >= c.most || c.sources[a] >= c.each {
		c.refused.Add(1)
		return false
	}
	c.open[t] = struct{}{}
	c.sources[a]++
	c.group.Add(2)
	return true
}

func (c *conns) remove(t *tcpConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, t)
	a := t.addr.Addr()
	if c.sources[a]--; c.sources[a] == 0 {
		delete(c.sources, a)
	}
}

func (c *conns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for t := range c.open {
		t.Close()
	}
}

func (c *conns) wait() { c.group.Wait() }

func (c *conns) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// serve accepts connections until the listener is closed.
func (l *tcpListener) serve() error {
	for {
		c, err := l.listener.AcceptTCP()
		if err != nil {
			if l.s.ctx.Err() != nil {
				return nil
			}
			select { // there are no more descriptors
			case <-l.s.ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		from := c.RemoteAddr().(*net.TCPAddr).AddrPort()
		t := &tcpConn{
			TCPConn: c, s: l.s, addr: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()),
			out: make(chan []byte, maxPipeline), room: make(chan struct{}, maxPipeline), done: make(chan struct{}),
		}
		if d := l.s.cfg.Engine.MayAsk(t.addr, policy.TCP, time.Now().UnixNano()); d.Verdict != policy.Pass {
			l.s.count(0, t.addr, policy.TCP, d, nil)
			c.Close()
			continue
		}
		if !l.s.conns.add(t) {
			l.s.count(0, t.addr, policy.TCP, policy.Decision{Verdict: policy.Drop, Reason: policy.ReasonConnectionCap}, nil)
			c.Close()
			continue
		}
		go t.read()
		go t.write()
	}
}

// tcpConn is a client's connection: one goroutine reads questions, one writes answers.
// For each question there is a place in room until its answer is written, so out never
// fills.
type tcpConn struct {
	*net.TCPConn
	s    *Server
	addr netip.AddrPort
	out  chan []byte
	room chan struct{}
	done chan struct{} // closed when nothing is read any more
}

func (t *tcpConn) read() {
	defer t.s.conns.group.Done()
	defer close(t.done)
	var q query
	buf := make([]byte, maxQueryTCP)
	for {
		t.SetReadDeadline(time.Now().Add(t.s.cfg.IdleTimeout)) //nolint:errcheck // the read tells
		if _, err := io.ReadFull(t, buf[:1]); err != nil {
			return
		}
		t.SetReadDeadline(time.Now().Add(messageTimeout)) //nolint:errcheck // the read tells
		if _, err := io.ReadFull(t, buf[1:2]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(buf))
		if n > maxQueryTCP {
			return
		}
		if _, err := io.ReadFull(t, buf[:n]); err != nil {
			return
		}
		select {
		case t.room <- struct{}{}:
		case <-t.s.ctx.Done():
			return
		}
		c := &tcpClient{conn: t}
		reply := t.s.handle(c, buf[:n], &q, make([]byte, 2, 512), time.Now().UnixNano())
		switch {
		case reply != nil:
			t.queue(reply)
		case !c.kept:
			<-t.room
			return // it gets no answer, so it may as well go
		}
	}
}

// queue hands a message over, behind two bytes for its length.
func (t *tcpConn) queue(m []byte) {
	binary.BigEndian.PutUint16(m, uint16(len(m)-2))
	t.out <- m
}

// write writes until the connection ends or, when nothing more is read, all is answered.
func (t *tcpConn) write() {
	defer t.s.conns.group.Done()
	defer t.s.conns.remove(t)
	defer t.Close()
	done := t.done
	for {
		select {
		case m := <-t.out:
			t.SetWriteDeadline(time.Now().Add(messageTimeout)) //nolint:errcheck // the write tells
			if _, err := t.TCPConn.Write(m); err != nil {
				t.Close()
				t.drain()
				return
			}
			<-t.room
			if done == nil && len(t.room) == 0 {
				return
			}
		case <-done:
			if done = nil; len(t.room) == 0 {
				return
			}
		}
	}
}

// drain waits for the reader, and takes the answers that are still to come.
func (t *tcpConn) drain() {
	<-t.room
	done := t.done
	for done != nil || len(t.room) > 0 {
		select {
		case <-t.out:
			<-t.room
		case <-done:
			done = nil
		}
	}
}

// tcpClient is a question on a connection.
type tcpClient struct {
	conn *tcpConn
	kept bool
}

func (c *tcpClient) answer(q *asker, e *entry, now int64) {
	c.conn.queue(e.appendTCP(make([]byte, 2, 2+len(e.small.wire)+optSize), q, now))
}

func (c *tcpClient) fail(q *asker, rcode int) {
	c.conn.queue(q.appendBare(make([]byte, 2, 512), 0, rcode))
}

func (c *tcpClient) keep() { c.kept = true }

func (c *tcpClient) origin() (netip.AddrPort, policy.Transport, int) {
	return c.conn.addr, policy.TCP, 0
}
