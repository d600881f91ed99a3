// Package netio moves SIP messages between sockets and handlers.
//
// [UDP] holds all UDP listeners of the process: each listener is a group of
// SO_REUSEPORT sockets, one for each worker, read with recvmmsg and written
// with sendmmsg, without an allocation for a packet. A worker hands a batch
// of packets to its [DatagramHandler] and sends what the handler has put into
// its [Output] once the handler has returned.
//
// The package knows nothing of SIP over UDP, and of SIP over TCP only where a
// message ends. Addresses are unmapped here, once; nothing after this package
// sees an IPv4-mapped IPv6 address. Linux only.
package netio
