package tftp

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sipward/tftp/wire"
)

// transfer is one file on its way.
type transfer struct {
	s       *Server
	client  netip.AddrPort
	source  netip.Addr
	good    bool   // the source is in good standing
	request []byte // as it came
	file    []byte // a part of it
	write   bool
	options wire.Options // that were asked for
	started int64

	out *net.UDPConn // connected to the client
	in  *net.UDPConn

	stage stage // under the lock of the registry

	mu sync.Mutex
	relay
}

// relay is what a transfer knows of its packets.
type relay struct {
	server    netip.AddrPort // its TID, when it has answered
	first     []byte         // the first answer, as long as the client has not acknowledged it
	answered  bool
	proven    bool // the client has acknowledged an answer
	done      bool // the last block is acknowledged
	over      bool // an ERROR has ended it
	blockSize int
	window    int
	last      uint16 // number of the last block, if final
	final     bool
	spare     int   // packets of the client that may pass before another of the server
	clientAt  int64 // when the client last sent what belongs to the transfer
	serverAt  int64
	patience  int64 // how long the client may be silent
	idle      int64 // the same, before it has acknowledged an answer
}

// way says what to do with a packet.
type way uint8

const (
	drop way = iota
	withhold
	forward
	forwardAndEnd
	end
)

// spareEach is how many packets of a client may pass for each of the server's, times the
// window: it repeats what has not been answered, but no client floods the server.
const spareEach = 8

// fromServer judges a packet of the server's host.
func (t *transfer) fromServer(b []byte, from netip.AddrPort, now int64) way {
	t.mu.Lock()
	defer t.mu.Unlock()
	op := wire.OpOf(b)
	switch {
	case t.over:
		return drop
	case !t.answered:
		if from.Addr() != t.s.cfg.Upstream.Addr() || !t.opens(op, b) {
			return drop
		}
		t.answered, t.server = true, from
		t.first = append([]byte(nil), b...)
	case from != t.server:
		return drop
	case !t.follows(op, b):
		return drop
	case !t.proven && op != wire.OpError:
		return withhold // the answer has gone out, and the next one goes out for the next request
	case !t.proven:
		return end // the server gives up
	}
	t.serverAt = now
	t.spare = spareEach * t.window
	switch number, _ := wire.Number(b); op {
	case wire.OpError:
		t.over = true
		return forwardAndEnd
	case wire.OpData:
		if len(b) < wire.HeaderSize+t.blockSize {
			t.last, t.final = number, true
		}
	case wire.OpAck:
		t.done = t.done || t.final && number == t.last
	}
	return forward
}

// opens says whether a packet can be the server's first, and takes what it settles.
func (t *transfer) opens(op wire.Op, b []byte) bool {
	number, ok := wire.Number(b)
	switch op {
	case wire.OpError:
		return ok && len(b) <= wire.HeaderSize+wire.DefaultBlockSize
	case wire.OpAck:
		return t.write && ok && len(b) == wire.HeaderSize && number == 0
	case wire.OpData:
		return !t.write && ok && number == 1 && len(b) <= wire.HeaderSize+wire.DefaultBlockSize
	case wire.OpOAck:
	default:
		return false
	}
	var granted wire.Options
	if t.options.Count == 0 || len(b) > wire.MaxRequest || granted.ParseOAck(b) != wire.OK {
		return false
	}
	// A server may lower what was asked for, and not raise it (RFC 2348, 7440).
	if granted.BlockSize > t.options.BlockSize || granted.WindowSize > t.options.WindowSize {
		return false
	}
	if granted.BlockSize > 0 {
		t.blockSize = granted.BlockSize
	}
	t.window = max(granted.WindowSize, 1)
	t.patience = max(t.patience, 3*int64(granted.Timeout)*int64(time.Second))
	return true
}

// follows says whether a packet can be a later one of the server.
func (t *transfer) follows(op wire.Op, b []byte) bool {
	switch op {
	case wire.OpError:
		return len(b) >= wire.HeaderSize && len(b) <= wire.HeaderSize+wire.DefaultBlockSize
	case wire.OpData:
		return !t.write && t.fits(b)
	case wire.OpAck:
		return t.write && len(b) == wire.HeaderSize
	case wire.OpOAck:
		return len(b) <= wire.MaxRequest // the client's acknowledgement was lost
	}
	return false
}

func (t *transfer) fits(b []byte) bool {
	return len(b) >= wire.HeaderSize && len(b) <= wire.HeaderSize+t.blockSize
}

// fromClient judges a packet of the client. ended and proven say that this very packet
// has brought the transfer there.
func (t *transfer) fromClient(b []byte, now int64) (w way, proven, ended bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	number, ok := wire.Number(b)
	if !ok || !t.answered || t.over {
		return drop, false, false
	}
	switch op := wire.OpOf(b); {
	case op == wire.OpError && len(b) <= wire.HeaderSize+wire.DefaultBlockSize:
		t.over = true
		return forwardAndEnd, false, false
	case op == wire.OpAck && !t.write && len(b) <= wire.HeaderSize+wire.DefaultBlockSize: // some fill their packets up
	case op == wire.OpData && t.write && t.fits(b):
	default:
		return drop, false, false
	}
	if !t.proven {
		if number != t.awaited() {
			return drop, false, false
		}
		t.proven, t.first, proven = true, nil, true
	}
	t.clientAt = now
	if t.spare <= 0 {
		return drop, proven, false
	}
	t.spare--
	if t.write && len(b) < wire.HeaderSize+t.blockSize {
		t.last, t.final = number, true
	}
	if !t.write && t.final && number == t.last {
		ended, t.done = !t.done, true
	}
	return forward, proven, ended
}

// awaited is the number that shows that a client has got the first answer.
func (t *transfer) awaited() uint16 {
	if !t.write && wire.OpOf(t.first) == wire.OpOAck {
		return 0
	}
	return 1
}

// again answers a repeated request: with the first answer once more, or, if there is
// none, by repeating the request to the server.
func (t *transfer) again() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.over || t.proven:
	case t.answered:
		t.send(t.first)
	default:
		t.ask()
	}
}

// ask sends the request to the server.
func (t *transfer) ask() { _, _ = t.in.WriteToUDPAddrPort(t.request, t.s.cfg.Upstream) }

// send sends to the client. An ICMP message about an earlier packet keeps the kernel from
// sending one, which is tried again then: anybody can forge those.
func (t *transfer) send(b []byte) {
	if _, err := t.out.Write(b); errors.Is(err, unix.ECONNREFUSED) {
		_, _ = t.out.Write(b)
	}
}

// relayUp passes packets of the client to the server until the transfer is closed.
func (t *transfer) relayUp() {
	defer t.s.wg.Done()
	size := wire.DefaultBlockSize
	if t.write {
		size = max(size, t.options.BlockSize)
	}
	b := make([]byte, wire.HeaderSize+size+1)
	for {
		n, err := t.out.Read(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			t.up(b[:n], time.Now().UnixNano())
		}
	}
}

// up handles a packet of the client.
func (t *transfer) up(b []byte, now int64) {
	w, proven, ended := t.fromClient(b, now)
	if proven {
		t.s.transfers.reach(t, open)
	}
	if w == forward || w == forwardAndEnd {
		if _, err := t.in.WriteToUDPAddrPort(b, t.tid()); err == nil {
			t.s.stats.toServer.Add(uint64(len(b)))
		}
	}
	switch {
	case w == forwardAndEnd:
		t.fail()
	case ended:
		t.complete(now)
	case w == drop:
		t.s.stats.ignored.Add(1)
	}
}

// tid is where the server is.
func (t *transfer) tid() netip.AddrPort {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.server
}

// relayDown passes packets of the server to the client until the transfer is closed.
func (t *transfer) relayDown() {
	defer t.s.wg.Done()
	b := make([]byte, wire.HeaderSize+wire.DefaultBlockSize+1)
	for {
		n, from, err := t.in.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if size := t.down(b[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), time.Now().UnixNano()); size+1 > len(b) {
			b = make([]byte, size+1)
		}
	}
}

// down handles a packet of the server and returns the size of the largest that may follow.
func (t *transfer) down(b []byte, from netip.AddrPort, now int64) (largest int) {
	w := t.fromServer(b, from, now)
	switch w {
	case forward, forwardAndEnd:
		if !t.write && wire.OpOf(b) == wire.OpError {
			t.missing(b, now)
		}
		t.send(b)
		t.s.stats.toClient.Add(uint64(len(b)))
	case withhold:
		t.s.stats.withheld.Add(1)
	case drop:
		t.s.stats.ignored.Add(1)
		if from != t.tid() && from.Addr() == t.s.cfg.Upstream.Addr() && wire.OpOf(b) != wire.OpError {
			// A second child of the server for a repeated request (RFC 1350 §4).
			_, _ = t.in.WriteToUDPAddrPort(wire.AppendError(nil, wire.ErrUnknownTID, "unknown transfer ID"), from)
		}
	}
	switch {
	case w == forwardAndEnd, w == end:
		t.fail()
	case t.write && w == forward && t.isDone():
		t.complete(now)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return wire.HeaderSize + t.blockSize
}

func (t *transfer) isDone() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.done
}

// missing takes note of a request that the server has refused as one for a file that is
// not there, or not for everybody.
func (t *transfer) missing(b []byte, now int64) {
	code, _ := wire.Number(b)
	if c := wire.ErrorCode(code); !t.isProven() && (c == wire.ErrNotFound || c == wire.ErrAccess) {
		t.s.missed(t, now)
	}
}

func (t *transfer) isProven() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.proven
}

// fail closes a transfer that an ERROR has ended.
func (t *transfer) fail() {
	t.s.stats.failed.Add(1)
	t.shut()
}

// complete notes that the file has arrived. The sockets stay for a while: the server may
// have missed the last acknowledgement.
func (t *transfer) complete(now int64) {
	t.s.transfers.reach(t, lingering)
	t.s.stats.completed.Add(1)
	if !t.write {
		t.s.live.Load().limiter.got(t.client.Addr(), t.file, now)
	}
}

// linger is how long a completed transfer stays.
const linger = int64(5 * time.Second)

// answerTimeout is how long a server may take for its first answer.
const answerTimeout = int64(10 * time.Second)

// expired says whether the transfer has waited for too long.
func (t *transfer) expired(now int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.done:
		return now-max(t.clientAt, t.serverAt) > linger
	case t.proven:
		return now-t.clientAt > t.patience
	case t.answered: // it may have been forged, whatever time it asks for
		return now-t.serverAt > t.idle
	}
	return now-t.started > answerTimeout
}

// cut ends a transfer from our side, and tells the server so that it does not go on.
func (t *transfer) cut(count *atomic.Uint64) {
	t.mu.Lock()
	to, done := t.server, t.done || t.over
	t.over = true
	t.mu.Unlock()
	if !done {
		count.Add(1)
		if to.IsValid() {
			_, _ = t.in.WriteToUDPAddrPort(wire.AppendError(nil, wire.ErrNotDefined, "transfer ended"), to)
		}
	}
	t.shut()
}

// shut closes a transfer.
func (t *transfer) shut() {
	t.s.transfers.close(t)
	t.in.Close()
	t.out.Close()
}
