// Package retransmit makes a stateless proxy's forwarding reliable where a request comes
// in over a reliable transport (TCP, TLS, WebSocket) and goes out over UDP, or the other
// way round.
//
// Between two links of the same kind a stateless proxy needs none of it: over UDP each
// end repeats what has not been answered, and over streams nothing is lost. Where the
// kinds differ, the end on the stream does not repeat, and does not expect to be sent
// anything twice. A [Table] does on the UDP side what that end leaves to its transport:
//
//	towards the UDP side (RFC 3261 §17.1, client transaction)
//	  INVITE              sent again after T1, 2*T1, … until any response (timer A), for
//	                      64*T1 (timer B, then Config.TimedOut)
//	  other requests      sent again after T1, 2*T1, … T2; T2 after a provisional
//	                      response (timer E); given up silently after 64*T1 (timer F,
//	                      RFC 4320)
//	  ACK to a failure    kept, and sent again for each repeat of the response (timer D)
//	  repeated responses  absorbed (timer D, timer K); 2xx to INVITE are passed on, each
//	                      is answered by the phone itself with an ACK (RFC 6026)
//
//	from the UDP side (RFC 3261 §17.2, server transaction)
//	  repeated requests   absorbed; the last response is sent again (timer J for other
//	                      requests than INVITE)
//	  failures of INVITE  sent again after T1, 2*T1, … T2 until the ACK (timers G and H)
//	  2xx to INVITE       the same until the ACK (RFC 3261 §13.3.1.4): that is the
//	                      phone's own task over any transport, but not every phone does
//	                      it over a stream
//	  repeated ACKs       absorbed (timer I)
//
// The proxy forwards all the same when an entry is lost, by a restart for one; then the
// messages of that transaction are repeated by nobody. A Table makes no response of its
// own, reads no message, and is capped in bytes.
package retransmit

import "time"

// The timers of RFC 3261 §17 and RFC 6026, for UDP.
const (
	T1 = 500 * time.Millisecond // a round trip
	T2 = 4 * time.Second        // the most between two repeats
	T4 = 5 * time.Second        // how long a message stays in the network

	// lifetime is the length of timers B, D, F, H, J and L.
	lifetime = 64 * T1
	// ringing is how long a call may be set up without another provisional response
	// (timer C is to be longer than three minutes). Then its entry is forgotten, and the
	// final response passes as in any stateless proxy.
	ringing = 10 * time.Minute
)
