// Package event carries what happened on the packet path to whoever shows or
// records it. An Event is a plain value that holds no part of a packet's
// buffer, and a Bus never makes the packet path wait: what a slow subscriber
// cannot take is lost to him and counted.
package event

import (
	"net/netip"

	"sipward/policy"
)

// Protocol is what a message is written in.
type Protocol uint8

// The protocols.
const (
	SIP Protocol = iota
	TFTP
	DNS
)

var protocolNames = [...]string{"sip", "tftp", "dns"}

// String returns the protocol's stable word.
func (p Protocol) String() string {
	if int(p) < len(protocolNames) {
		return protocolNames[p]
	}
	return "unknown"
}

// Direction is the side that a message came from.
type Direction uint8

// The directions.
const (
	FromOutside Direction = iota
	FromPBX
)

// String returns the direction's name.
func (d Direction) String() string {
	if d == FromPBX {
		return "from-pbx"
	}
	return "from-outside"
}

// Event is one message and its fate.
type Event struct {
	Time      int64          // Unix time in nanoseconds
	Source    netip.AddrPort // where it came from
	Client    netip.AddrPort // of what a PBX sent: where outside it goes; not valid if that is not known
	Protocol  Protocol
	Transport policy.Transport
	Direction Direction
	Verdict   policy.Verdict
	Reason    policy.Reason
	Status    uint16 // of a response, or of the answer that sipward gave; 0: none
	Method    string // a constant, never a piece of a message; "" if not known
	Account   Text64
	Detail    Text128 // what a person would want to know beside the reason
}

// Text64 is a short text held in place; what does not fit is cut off. The
// bytes may come from a stranger: who shows them must escape them.
type Text64 struct {
	n uint8
	b [63]byte
}

// Set copies b.
func (t *Text64) Set(b []byte) { t.n = uint8(copy(t.b[:], b)) }

// SetString copies s.
func (t *Text64) SetString(s string) { t.n = uint8(copy(t.b[:], s)) }

// Bytes returns the text; it is valid as long as t is not changed.
func (t *Text64) Bytes() []byte { return t.b[:t.n] }

// String returns a copy of the text.
func (t Text64) String() string { return string(t.b[:t.n]) }

// Text128 is Text64 with more room.
type Text128 struct {
	n uint8
	b [127]byte
}

// Set copies b.
func (t *Text128) Set(b []byte) { t.n = uint8(copy(t.b[:], b)) }

// SetString copies s.
func (t *Text128) SetString(s string) { t.n = uint8(copy(t.b[:], s)) }

// Bytes returns the text; it is valid as long as t is not changed.
func (t *Text128) Bytes() []byte { return t.b[:t.n] }

// String returns a copy of the text.
func (t Text128) String() string { return string(t.b[:t.n]) }
