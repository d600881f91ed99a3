package netio

import (
	"errors"
	"sync/atomic"

	"sipward/sip"
)

// TCPStats counts what all TCP connections have done.
type TCPStats struct {
	Open          int // now, accepted and dialled
	Accepted      uint64
	Dialled       uint64
	Messages      uint64
	Pings         uint64 // keep-alives answered (RFC 5626 §4.4.1)
	RefusedGate   uint64 // by StreamHandler.Accept
	RefusedTotal  uint64 // by MaxConns
	RefusedSource uint64 // by MaxPerSource
	MadeRoom      uint64 // connections of strangers that gave way to newer ones
	AcceptErrors  uint64

	RefusedHandshake uint64 // by MaxHandshakesPerSource and MayShake
	CrowdedOut       uint64 // handshakes that gave way to newer ones
	HandshakesFailed uint64

	ClosedMessage uint64 // message not complete in time
	ClosedIdle    uint64
	ClosedFault   uint64 // framing, and floods of keep-alives
	ClosedSlow    uint64 // peer did not read
	ClosedSource  uint64 // of sources that were cut off
}

type tcpCounters struct {
	accepted, dialled, messages, pings       atomic.Uint64
	refusedGate, refusedTotal, refusedSource atomic.Uint64
	acceptErrors, madeRoom                   atomic.Uint64
	refusedHandshake, crowdedOut             atomic.Uint64
	handshakesFailed                         atomic.Uint64
	late, idle, fault, slow, cut             atomic.Uint64
}

func (k *tcpCounters) closed(reason error) {
	var fault sip.Fault
	switch {
	case errors.Is(reason, ErrMessageTimeout):
		k.late.Add(1)
	case errors.Is(reason, ErrIdle):
		k.idle.Add(1)
	case errors.Is(reason, ErrSlowPeer):
		k.slow.Add(1)
	case errors.Is(reason, ErrSourceClosed):
		k.cut.Add(1)
	case errors.As(reason, &fault), errors.Is(reason, ErrWebSocket), errors.Is(reason, ErrKeepAlive):
		k.fault.Add(1)
	}
}

// Stats returns the counters of all listeners and connections.
func (t *TCP) Stats() TCPStats {
	k := &t.counters
	return TCPStats{
		Open:          int(t.open.Load()),
		Accepted:      k.accepted.Load(),
		Dialled:       k.dialled.Load(),
		Messages:      k.messages.Load(),
		Pings:         k.pings.Load(),
		RefusedGate:   k.refusedGate.Load(),
		RefusedTotal:  k.refusedTotal.Load(),
		RefusedSource: k.refusedSource.Load(),
		MadeRoom:      k.madeRoom.Load(),
		AcceptErrors:  k.acceptErrors.Load(),

		RefusedHandshake: k.refusedHandshake.Load(),
		CrowdedOut:       k.crowdedOut.Load(),
		HandshakesFailed: k.handshakesFailed.Load(),

		ClosedMessage: k.late.Load(),
		ClosedIdle:    k.idle.Load(),
		ClosedFault:   k.fault.Load(),
		ClosedSlow:    k.slow.Load(),
		ClosedSource:  k.cut.Load(),
	}
}
