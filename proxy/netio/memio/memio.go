// Package memio runs datagram handlers without sockets, for tests: packets go
// in by a call, and what the handler sends comes back from it. Nothing runs in
// the background.
package memio

import (
	"bytes"
	"net/netip"
	"sync"

	"sipward/proxy/netio"
)

// batch is how many messages an Output holds before it hands them on.
const batch = 64

// Sent is a message that a handler has sent.
type Sent struct {
	Listener int
	Data     []byte
	Dst      netip.AddrPort
	Local    netip.Addr // the address it is sent from
}

// Net is a set of listeners with one worker. Its methods may be called from
// any goroutine; the handlers run in the caller's, one at a time.
type Net struct {
	mu       sync.Mutex
	addrs    []netip.AddrPort
	handlers []netio.DatagramHandler
	out      *netio.Output

	sentMu sync.Mutex
	sent   []Sent
}

// New makes a listener for each address, with handlers from the factory that
// netio.UDP.Run takes.
func New(addrs []netip.AddrPort, newHandler func(listener, worker int, out *netio.Output) netio.DatagramHandler) *Net {
	n := &Net{addrs: addrs}
	n.out = netio.NewOutput(len(addrs), batch, n.deliver)
	for l := range addrs {
		n.handlers = append(n.handlers, newHandler(l, 0, n.out))
	}
	return n
}

func (n *Net) deliver(listener int, msgs []netio.Datagram) {
	for i := range msgs {
		m := &msgs[i]
		_ = n.WriteTo(listener, m.Data, m.Dst, m.Local)
	}
}

// Receive gives a listener one batch of packets, and returns what has been
// sent since the last call: by the handler, and by WriteTo. A packet's zero
// Local is the listener's address.
func (n *Net) Receive(listener int, pkts ...netio.Packet) []Sent {
	n.mu.Lock()
	defer n.mu.Unlock()
	own := make([]netio.Packet, len(pkts))
	for i, p := range pkts {
		p.Data = bytes.Clone(p.Data) // the handler may scribble
		if !p.Local.IsValid() {
			p.Local = n.addrs[listener].Addr()
		}
		own[i] = p
	}
	n.handlers[listener].Datagrams(own)
	n.out.Flush()
	for i := range own { // valid until Datagrams returns: make it show
		clear(own[i].Data)
	}
	n.sentMu.Lock()
	defer n.sentMu.Unlock()
	sent := n.sent
	n.sent = nil
	return sent
}

// WriteTo sends one message, as netio.UDP.WriteTo does.
func (n *Net) WriteTo(listener int, b []byte, dst netip.AddrPort, local netip.Addr) error {
	if from := n.addrs[listener].Addr(); !local.IsValid() || !from.IsUnspecified() {
		local = from
	}
	n.sentMu.Lock()
	defer n.sentMu.Unlock()
	n.sent = append(n.sent, Sent{Listener: listener, Data: bytes.Clone(b), Dst: dst, Local: local})
	return nil
}

// LocalAddr is the address of a listener.
func (n *Net) LocalAddr(listener int) netip.AddrPort { return n.addrs[listener] }
