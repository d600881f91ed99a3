package netio

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/pion/dtls/v3"
	"github.com/pion/transport/v5/deadline"
)

const (
	// maxRecord is the longest datagram that pion/dtls reads.
	maxRecord = 8192
	// plainBudget is how many bytes in the clear an association takes in its life, in
	// bytes: for a handshake with long certificate chains, and repeated parts of it.
	// Anybody can send more of them in the other side's name, and pion/dtls keeps
	// some.
	plainBudget = 64 << 10
	// inboxSize is how many datagrams wait for an association.
	inboxSize = 64
)

// peerAddr is a net.Addr that can be compared: pion/dtls does, to see whether the
// other side has moved.
type peerAddr netip.AddrPort

var _ net.Addr = peerAddr{}

// Network implements net.Addr.
func (a peerAddr) Network() string { return "udp" }

// String implements net.Addr.
func (a peerAddr) String() string { return netip.AddrPort(a).String() }

// association is one client's share of a listener's socket, as pion/dtls reads and
// writes it.
type association struct {
	l      *dtlsListener
	c      *Conn
	key    dtlsKey
	cid    [cidLen]byte
	random [randomLen]byte // of its ClientHello: a repeated one is known by it
	cookie []byte          // that it has come with
	delta  uint64          // what our sequence numbers in the clear are moved by
	dtls   *dtls.Conn

	established atomic.Bool
	endTurn     func() // of computing a handshake; may be called again
	plain       int    // what of plainBudget is used; the listener's

	inbox    chan inboxItem
	deadline *deadline.Deadline
	once     sync.Once
	closed   chan struct{}
}

// inboxItem is a datagram that waits to be read.
type inboxItem struct {
	buf  *streamBuf
	n    int
	from netip.AddrPort
}

var _ net.PacketConn = (*association)(nil)

// cookieOffset finds where pion/dtls keeps the cookie that it expects. It makes one
// up for each connection and keeps the connection until it comes back, which is just
// what must not be: so we make our own, check them before there is a connection, and
// tell it then what to expect. It has no option for that.
func cookieOffset() (uintptr, error) {
	state, ok := reflect.TypeFor[dtls.Conn]().FieldByName("state")
	if ok && state.Type.Kind() == reflect.Struct {
		cookie, ok := state.Type.FieldByName("cookie")
		if ok && cookie.Type == reflect.TypeFor[[]byte]() {
			return state.Offset + cookie.Offset, nil
		}
	}
	return 0, errors.New("listen dtls: this version of pion/dtls keeps its cookies elsewhere")
}

// take puts a datagram into the inbox. It is called by the listener only. What does
// not fit is lost, as it would be in the socket's queue.
func (a *association) take(b []byte, from netip.AddrPort) {
	buf := a.room(len(b))
	established := a.established.Load()
	if !established {
		a.l.d.conns.shaking.heard(a.c)
	}
	out, plain := appendRecords(buf.b[:0], b, established)
	a.plain += plain
	if len(out) == 0 || plain > 0 && a.plain > plainBudget {
		a.l.d.buffers.put(buf)
		a.l.d.counters.strays.Add(1)
		return
	}
	shiftSequence(out, 1) // behind the ClientHello that we have made up
	a.put(inboxItem{buf: buf, n: len(out), from: from})
}

// takeHello begins with the ClientHello that had a cookie. Before it goes the one that
// had none, which pion/dtls wants to have seen.
func (a *association) takeHello(h *clientHello, from netip.AddrPort) {
	buf := a.room(len(h.record))
	a.put(inboxItem{buf: buf, n: len(h.appendFirst(buf.b[:0])), from: from})
	a.take(h.record, from)
}

// room is a buffer of n bytes, which are no more than maxRecord.
func (a *association) room(n int) *streamBuf {
	pool := &a.l.d.buffers
	buf := pool.get()
	if len(buf.b) < n {
		pool.put(buf)
		buf = pool.larger(buf)
	}
	return buf
}

func (a *association) put(item inboxItem) {
	select {
	case a.inbox <- item:
	default:
		a.l.d.buffers.put(item.buf)
		a.l.d.counters.queueDrops.Add(1)
	}
}

// ReadFrom implements net.PacketConn.
func (a *association) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case item := <-a.inbox:
		n := copy(b, item.buf.b[:item.n])
		a.l.d.buffers.put(item.buf)
		return n, peerAddr(item.from), nil
	case <-a.closed:
		return 0, nil, net.ErrClosed
	case <-a.deadline.Done():
		return 0, nil, os.ErrDeadlineExceeded
	}
}

// WriteTo implements net.PacketConn. It never waits: what the socket does not take
// is lost. The HelloVerifyRequest is not sent, because its answer is there already.
func (a *association) WriteTo(b []byte, to net.Addr) (int, error) {
	if isVerify(b) {
		// We are in the goroutine that will compare the cookies.
		*(*[]byte)(unsafe.Add(unsafe.Pointer(a.dtls), a.l.d.cookieAt)) = a.cookie
		return len(b), nil
	}
	a.endTurn()
	shiftSequence(b, a.delta)
	// An error is counted, and may pass.
	_ = a.l.d.udp.WriteTo(a.l.index, b, netip.AddrPort(to.(peerAddr)), a.key.local)
	return len(b), nil
}

// Close implements net.PacketConn.
func (a *association) Close() error {
	a.once.Do(func() { close(a.closed) })
	return nil
}

// LocalAddr implements net.PacketConn.
func (a *association) LocalAddr() net.Addr {
	return peerAddr(netip.AddrPortFrom(a.key.local, a.l.addr.Port()))
}

// SetDeadline implements net.PacketConn.
func (a *association) SetDeadline(t time.Time) error { return a.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (a *association) SetReadDeadline(t time.Time) error {
	a.deadline.Set(t)
	return nil
}

// SetWriteDeadline implements net.PacketConn: nothing waits to be written.
func (a *association) SetWriteDeadline(time.Time) error { return nil }
