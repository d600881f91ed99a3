// Package policy decides which messages pass. The proxies fill in a Request
// and ask for a Decision; when the answer comes back they report an Outcome.
// The package knows nothing of SIP's wire format, so that the TFTP and DNS
// fronts are judged by the same engine.
//
// Times are passed in: now is always nanoseconds of a clock that does not run
// backwards, and is not negative.
package policy

import (
	"net/netip"

	"sipward/policy/gate"
)

// Verdict is what happens to a message. The zero Verdict is Pass.
type Verdict uint8

// The verdicts.
const (
	Pass   Verdict = iota // forward it
	Drop                  // say nothing
	Reject                // answer with Decision.Code
)

var verdictNames = [...]string{"pass", "drop", "reject"}

// String returns the verdict's name.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return "unknown"
}

// Decision is a verdict and why.
type Decision struct {
	Verdict Verdict
	Reason  Reason
	Code    int // the status to answer with when the verdict is Reject
}

// Transport is how a message travels.
type Transport uint8

// The transports.
const (
	UDP Transport = iota
	TCP
	TLS
	WS
	WSS
)

var transportNames = [...]string{"udp", "tcp", "tls", "ws", "wss"}

// String returns the transport's name in lower case, as in a URI parameter.
func (t Transport) String() string {
	if int(t) < len(transportNames) {
		return transportNames[t]
	}
	return "unknown"
}

// Reliable says whether the transport retransmits by itself. Its source
// addresses cannot be forged, either.
func (t Transport) Reliable() bool { return t != UDP }

// Request is what policy knows of a request. The byte slices point into the
// message and are valid during the call only.
type Request struct {
	Source    netip.AddrPort
	Transport Transport
	Gate      gate.Verdict // what the gate said of its source
	FromPBX   bool         // it came from one of our PBXes
	Method    []byte

	Account        []byte // user@domain of To for a REGISTER, of From otherwise
	Target         []byte // user@domain of the Request-URI
	UserAgent      []byte
	CallID         []byte
	HasCredentials bool // it carries Authorization or Proxy-Authorization
}

// Outcome is what became of a request: the response that went back to the
// source that is charged for it. The byte slices are valid during the call
// only.
type Outcome struct {
	Source         netip.AddrPort
	Transport      Transport
	FromPBX        bool // it answers a request of a PBX, and Source is who answered
	Method         []byte
	Status         int
	Account        []byte
	CallID         []byte
	HasCredentials bool // its request carried credentials
}

// FromGate turns what the gate said into a decision about the packet.
func FromGate(v gate.Verdict) Decision {
	switch v {
	case gate.Pass:
		return Decision{Pass, ReasonPass, 0}
	case gate.PassAllowed:
		return Decision{Pass, ReasonAllowList, 0}
	case gate.PassPBX:
		return Decision{Pass, ReasonPBX, 0}
	case gate.PassTrusted:
		return Decision{Pass, ReasonTrunk, 0}
	case gate.DropDeny:
		return Decision{Drop, ReasonDenyList, 0}
	case gate.DropBan:
		return Decision{Drop, ReasonBan, 0}
	default:
		return Decision{Drop, ReasonFlood, 0}
	}
}
