package netio

import (
	"context"
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
	random [randomLen]byte                // of its ClientHello: a repeated one is known by it
	cookie []byte                         // that it has come with
	moved  atomic.Pointer[netip.AddrPort] // where the client is; nil: at key.remote
	delta  uint64                         // what our sequence numbers in the clear are moved by
	dtls   *dtls.Conn

	shaking     context.Context // bounds the handshake
	giveUp      context.CancelFunc
	turn        atomic.Bool // it has one of the turns of handshakes
	finishing   atomic.Bool // our Finished is on its way
	established atomic.Bool
	heard       atomic.Int64  // Unix time in ns of its last message
	shaken      chan struct{} // closed when the handshake is over
	plain       int           // what of plainBudget is used; the listener's

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

// layout is where pion/dtls keeps things for which it has no options.
//
// It makes up a cookie for each connection and keeps the connection until it comes back,
// which is just what must not be: so we make our own, check them before there is a
// connection, and tell it then what to expect.
//
// When the other side has ended an association, its Read chooses at random between that
// and the last record before it, which is then lost: a BYE, say. So we look.
type layout struct {
	cookie   uintptr // []byte: what it expects
	received uintptr // chan any: a record that nobody has read, or an error
}

func findLayout() (l layout, err error) {
	state, ok1 := reflect.TypeFor[dtls.Conn]().FieldByName("state")
	received, ok2 := reflect.TypeFor[dtls.Conn]().FieldByName("decrypted")
	if ok1 && ok2 && state.Type.Kind() == reflect.Struct && received.Type == reflect.TypeFor[chan any]() {
		cookie, ok := state.Type.FieldByName("cookie")
		if ok && cookie.Type == reflect.TypeFor[[]byte]() {
			return layout{cookie: state.Offset + cookie.Offset, received: received.Offset}, nil
		}
	}
	return l, errors.New("listen dtls: this version of pion/dtls keeps its cookies or its records elsewhere")
}

// unread is what pion/dtls has received and nobody has read. It closes it when it reads no
// more.
func (a *association) unread() <-chan any {
	return *(*chan any)(unsafe.Add(unsafe.Pointer(a.dtls), a.l.d.layout.received))
}

// at is where the client is, as far as can be told.
func (a *association) at() netip.AddrPort {
	if moved := a.moved.Load(); moved != nil {
		return *moved
	}
	return a.key.remote
}

// take puts a datagram into the inbox. It is called by the listener only. What does
// not fit is lost, as it would be in the socket's queue.
func (a *association) take(b []byte, from netip.AddrPort) {
	buf := a.room(len(b))
	out, plain := appendRecords(buf.b[:0], b, a.established.Load())
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
		if a.finishing.Load() {
			a.finish()
		}
		n := copy(b, item.buf.b[:item.n])
		a.l.d.buffers.put(item.buf)
		return n, peerAddr(item.from), nil
	case <-a.closed:
		return 0, nil, net.ErrClosed
	case <-a.deadline.Done():
		return 0, nil, os.ErrDeadlineExceeded
	}
}

// takeTurn waits until the handshake may compute its answer, in the goroutine that will.
// What is sent next ends the turn.
func (a *association) takeTurn() error {
	select {
	case a.l.d.conns.shaking.turns <- struct{}{}:
		a.turn.Store(true)
		return nil
	case <-a.shaking.Done():
		return context.Cause(a.shaking)
	case <-a.closed:
		return ErrClosed
	}
}

func (a *association) endTurn() {
	if a.turn.Swap(false) {
		<-a.l.d.conns.shaking.turns
		a.l.d.conns.shaking.progressed(a.c)
	}
}

// finish waits for the end of the handshake, once our last message of it has gone out: of
// what follows that pion/dtls would keep one record until then, and drop the others.
func (a *association) finish() {
	select {
	case <-a.shaken:
	case <-a.closed:
	case <-a.deadline.Done():
	}
}

// WriteTo implements net.PacketConn. It never waits: what the socket does not take
// is lost. The HelloVerifyRequest is not sent, because its answer is there already.
func (a *association) WriteTo(b []byte, to net.Addr) (int, error) {
	if isVerify(b) {
		// We are in the goroutine that will compare the cookies.
		*(*[]byte)(unsafe.Add(unsafe.Pointer(a.dtls), a.l.d.layout.cookie)) = a.cookie
		return len(b), nil
	}
	a.endTurn()
	if b[0] == recordChangeCipher { // Finished follows
		a.finishing.Store(true)
	}
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
