package netio

import "net/netip"

// Datagram is a message on its way out.
type Datagram struct {
	Data  []byte
	Dst   netip.AddrPort
	Local netip.Addr // the source to use on a wildcard listener; may be invalid

	// On a transparent listener Local must be valid, and these count, too:

	LocalPort uint16 // the source port
	TOS       uint8  // type of service or traffic class
	Fragment  uint16 // the largest packet that may be sent, in bytes; 0: what the MTU allows
}

// batchWriter sends messages. It never blocks for long: what cannot be sent
// is dropped and counted.
type batchWriter interface {
	writeBatch(msgs []Datagram)
}

// Output collects what a worker sends, on every listener, and hands it to
// the kernel in batches. It belongs to one worker: it is not safe for
// concurrent use.
type Output struct {
	senders []sender
	waiting bool // some sender may hold messages
}

// sender is the part of an Output that belongs to one listener. Messages are
// packed into one arena: a batch of usual size stays in the CPU's cache.
type sender struct {
	w     batchWriter
	arena []byte // len is what is queued; cap leaves room for one more Slot
	msgs  []Datagram
}

// NewOutput makes an Output that hands its messages to deliver in place of the
// kernel: for handlers without sockets, see package memio. The messages are
// deliver's until it returns. One batch is up to batch messages.
func NewOutput(listeners, batch int, deliver func(listener int, msgs []Datagram)) *Output {
	writers := make([]batchWriter, listeners)
	for l := range writers {
		writers[l] = delivery{listener: l, deliver: deliver}
	}
	return newOutput(batch, writers)
}

// delivery is a batchWriter without a socket.
type delivery struct {
	listener int
	deliver  func(listener int, msgs []Datagram)
}

var _ batchWriter = delivery{}

func (d delivery) writeBatch(msgs []Datagram) { d.deliver(d.listener, msgs) }

func newOutput(batch int, writers []batchWriter) *Output {
	o := &Output{senders: make([]sender, len(writers))}
	for i, w := range writers {
		o.senders[i] = sender{
			w:     w,
			arena: make([]byte, 0, maxDatagram+batch*1024),
			msgs:  make([]Datagram, 0, batch),
		}
	}
	return o
}

// Slot returns an empty slice with room for the largest datagram, to append
// one message into. It is valid until the next call of Slot, Push or Flush.
func (o *Output) Slot(listener int) []byte {
	s := &o.senders[listener]
	if cap(s.arena)-len(s.arena) < maxDatagram {
		s.flush()
	}
	used := len(s.arena)
	return s.arena[used : used : used+maxDatagram]
}

// Push queues the first n bytes of the last Slot to be sent to dst. On a
// wildcard listener local is the address to send from; when it is invalid
// the kernel chooses. The message leaves when the handler has returned, or
// when the batch is full. One that has outgrown its Slot is dropped and
// counted as a send error.
func (o *Output) Push(listener, n int, dst netip.AddrPort, local netip.Addr) {
	s := &o.senders[listener]
	d := s.add()
	d.Dst, d.Local = dst, local
	s.cut(d, n)
	o.added(s)
}

// PushFrom is Push for a transparent listener: src is whom the message is to
// come from.
func (o *Output) PushFrom(listener, n int, dst, src netip.AddrPort) {
	s := &o.senders[listener]
	d := s.add()
	d.Dst, d.Local, d.LocalPort = dst, src.Addr(), src.Port()
	s.cut(d, n)
	o.added(s)
}

// Forward queues d without a copy: its Data must stay as it is until the worker has
// flushed its Output, as that of the Packets of this round does.
func (o *Output) Forward(listener int, d Datagram) {
	s := &o.senders[listener]
	*s.add() = d
	o.added(s)
}

// add returns the next message to be queued, empty.
func (s *sender) add() *Datagram {
	n := len(s.msgs)
	s.msgs = s.msgs[:n+1]
	d := &s.msgs[n]
	*d = Datagram{}
	return d
}

// cut makes the first n bytes of the last Slot the data of d.
func (s *sender) cut(d *Datagram, n int) {
	if n > maxDatagram {
		n, d.Dst = 0, netip.AddrPort{}
	}
	used := len(s.arena)
	s.arena = s.arena[:used+n]
	d.Data = s.arena[used : used+n : used+n]
}

// added queues what add has returned.
func (o *Output) added(s *sender) {
	o.waiting = true
	if len(s.msgs) == cap(s.msgs) {
		s.flush()
	}
}

// Flush sends what is queued. The worker does so after each call of its
// handler.
func (o *Output) Flush() {
	if !o.waiting {
		return
	}
	o.waiting = false
	for i := range o.senders {
		o.senders[i].flush()
	}
}

func (s *sender) flush() {
	if len(s.msgs) > 0 {
		s.w.writeBatch(s.msgs)
		s.msgs = s.msgs[:0]
	}
	s.arena = s.arena[:0]
}
