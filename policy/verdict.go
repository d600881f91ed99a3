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
	"sipward/policy/scanner"
)

// Verdict is what happens to a message. The zero Verdict is Pass.
type Verdict uint8

// The verdicts.
const (
	Pass   Verdict = iota // forward it
	Drop                  // say nothing
	Reject                // answer with Decision.Code
	// Hold: too many guesses of passwords of this source still wait for their
	// answers. On UDP the message is dropped, and the phone repeats it (RFC 3261
	// §17.1.2.2); on a stream it is kept for a moment and decided on again.
	Hold
)

var verdictNames = [...]string{"pass", "drop", "reject", "hold"}

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
	// RetryAfter is the value of the answer's Retry-After header in seconds; 0:
	// none.
	RetryAfter int
	// Would is set when a guard that only watches would have stopped the message:
	// the reason that it would have had.
	Would Reason
	// Uniform is set by Observe: the response tells a stranger whether an account
	// exists, so an answer that is the same for all is to go out instead.
	Uniform bool
}

// Nonce says where the nonce of a message's credentials comes from.
type Nonce uint8

// The nonces.
const (
	NonceNone    Nonce = iota // the message carries no credentials
	NonceIssued               // a challenge with it went through us to this very source
	NonceForeign              // a challenge with it went to another source
	NonceUnknown              // never seen, or before we were started
)

var nonceNames = [...]string{"none", "issued", "foreign", "unknown"}

// String returns the stable word of the nonce's origin.
func (n Nonce) String() string {
	if int(n) < len(nonceNames) {
		return nonceNames[n]
	}
	return "unknown"
}

// Excerpter shows a message to people who ask why a decision was made. It
// appends the message, without anything that helps to guess a password, to dst, as much of it
// as dst has room for.
// It is called only for messages that are kept as evidence.
type Excerpter interface {
	AppendRedacted(dst []byte) []byte
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
	DTLS
)

var transportNames = [...]string{"udp", "tcp", "tls", "ws", "wss", "dtls"}

// String returns the transport's name in lower case, as in a URI parameter.
func (t Transport) String() string {
	if int(t) < len(transportNames) {
		return transportNames[t]
	}
	return "unknown"
}

// Reliable says whether the transport retransmits by itself (RFC 3261 §17.1.1.2).
func (t Transport) Reliable() bool { return t != UDP && t != DTLS }

// Connected says whether messages come over a connection that both sides have set up.
// Then the address that they come from is not forged.
func (t Transport) Connected() bool { return t != UDP }

// Secure says whether the transport is encrypted.
func (t Transport) Secure() bool { return t == TLS || t == WSS || t == DTLS }

// Request is what policy knows of a request. The byte slices point into the
// message and are valid during the call only.
type Request struct {
	Source    netip.AddrPort
	Transport Transport
	Gate      gate.Verdict // what the gate said of its source
	FromPBX   bool         // it came from one of our PBXes
	Method    []byte

	Account        []byte // user@domain of To for a REGISTER, of From otherwise
	Target         []byte // user@domain of the Request-URI, see Engine.LooksAtTargets
	HasCredentials bool   // it carries Authorization or Proxy-Authorization

	// Nonce is the origin of the credentials' nonce: NonceNone without any.
	Nonce Nonce
	// Proven says that this very message shows that its source address is not
	// forged: it came over a connection, or echoes a nonce or a To tag that was sent
	// to that address. What an earlier message has shown does not count: the next
	// may be forged.
	Proven bool
	// InDialog says that To has a tag.
	InDialog bool
	// Transaction is a keyed hash, the same for retransmissions only.
	Transaction uint64
	// Credentials is a keyed hash of all Authorization and Proxy-Authorization
	// values, 0 without any. A PBX that keeps no transactions judges each message
	// anew, so without it a guesser could hide behind one branch for all guesses.
	Credentials uint64
	// Dialog is a keyed hash of Call-ID and both tags, the same in both
	// directions, for an ACK; 0: not known.
	Dialog uint64
	// Scan is what the signatures look at; nil: they are not asked.
	Scan *scanner.Message
	// Text shows the message when it becomes evidence; may be nil.
	Text Excerpter
}

// Outcome is what became of a request: the response that is about to go back to
// the source that is charged for it. The byte slices are valid during the call
// only.
type Outcome struct {
	Source         netip.AddrPort
	Transport      Transport
	FromPBX        bool // it answers a request of a PBX, and Source is who answered
	Method         []byte
	Status         int
	Account        []byte
	Target         []byte // as in the Request
	HasCredentials bool   // its request carried credentials
	Certified      bool   // it goes over a connection whose client has shown a trunk's certificate

	// Proven says that the request came over a connection, or echoed a nonce that was sent to its
	// source. A To tag is not enough to hold anything against the source.
	Proven bool
	// These are as they were in the Request.
	Nonce       Nonce
	InDialog    bool
	Transaction uint64
	Credentials uint64

	// Unjudged says that a challenge asks for other credentials than the request
	// carried, a proxy's and not a server's or the other way round (RFC 3261 §22.2,
	// §22.3), so that nobody has looked at those.
	Unjudged bool
	// Stale says that a challenge carries stale=true: the password was right and
	// the nonce old (RFC 7616 §3.3).
	Stale bool
	// Expires is how long, in seconds, a 2xx to a REGISTER grants the binding of
	// the request's Contact, the longest if there are several; 0: none is left.
	Expires int64
	// Dialog is a keyed hash of Call-ID and both tags, the same in both
	// directions, for responses to INVITE and BYE.
	Dialog uint64
	// NoAnswer says that there is no response: none came in time.
	NoAnswer bool
	// Text shows the response when it becomes evidence; may be nil.
	Text Excerpter
}

// FromGate turns what the gate said into a decision about the packet.
func FromGate(v gate.Verdict) Decision {
	switch v {
	case gate.Pass:
		return Decision{Verdict: Pass, Reason: ReasonPass}
	case gate.PassAllowed:
		return Decision{Verdict: Pass, Reason: ReasonAllowList}
	case gate.PassPBX:
		return Decision{Verdict: Pass, Reason: ReasonPBX}
	case gate.PassTrusted:
		return Decision{Verdict: Pass, Reason: ReasonTrunk}
	case gate.DropDeny:
		return Decision{Verdict: Drop, Reason: ReasonDenyList}
	case gate.DropBan:
		return Decision{Verdict: Drop, Reason: ReasonBan}
	default:
		return Decision{Verdict: Drop, Reason: ReasonFlood}
	}
}
