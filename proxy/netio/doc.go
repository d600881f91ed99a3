// Package netio moves SIP messages between sockets and handlers.
//
// [UDP] holds all UDP listeners of the process: each listener is a group of
// SO_REUSEPORT sockets, one for each worker, read with recvmmsg and written
// with sendmmsg, without an allocation for a packet. A worker hands a batch
// of packets to its [DatagramHandler] and sends what the handler has put into
// its [Output] once the handler has returned.
//
// A socket that gets more than one packet in UDPConfig.Coalesce (1 ms) is
// read on the ticks of a timer. An echo of 800 bytes with one worker, CPU µs
// for a packet, user and system, medians on two busy cores (so cache and
// wake-ups are dear; what counts is the comparison with the first line):
//
//	                                         1,000/s  5,000/s  40,000/s  100,000/s
//	recvfrom and sendto in C                    28.4     29.3      13.2        8.6
//	thread blocking in recvmmsg                          69.1      17.3
//	runtime poller (Coalesce < 0)               40.5     36.9      15.8        8.8
//	ticks of 500 µs                             40.5     15.6       5.3        4.8
//	ticks of 1 ms                               38.0     12.2       5.1
//
// All were free of loss up to 130,000/s, where the generator ended. A packet waits for half
// a tick on the mean while its socket is busy. Above 32 packets on each tick the ticks are
// twice as long: that saves the whole packet path a tenth at 55,000/s, for its code and data
// stay in the caches for longer batches.
//
// With a [Transparent] configuration the listeners take what the packet filter leads
// to them although it was sent to others, and everything is sent in others' names: UDP
// as whole packets through raw sockets, straight from the receive buffers (see
// [Output.Forward]), TCP from sockets bound to others' addresses.
//
// [TCP] holds all listeners and connections. An idle connection costs 6 KB of
// Go's memory, most of it its goroutine's stack: the receive buffer comes from a
// pool when bytes arrive, and goes back when none are pending. What the kernel
// takes at once is written by Send itself (16 µs for a round trip on loopback;
// 25 µs with a goroutine that writes); only the rest is queued.
//
// On a connection's socket may lie layers: TLS, WebSocket (RFC 7118), or both. Their
// handshakes run in the connection's own goroutine, under one deadline, and compute on
// half of the CPUs at most. Two ends on two busy cores, 600 bytes and their echo, and
// connections a second up to the first answer:
//
//	      round trip  idle connection  connections/s
//	tcp        14 µs             6 KB         11,400
//	tls        17 µs     12 to 18 KB          1,150 (RSA 2048: 600; resumed: 1,400)
//	ws         16 µs     14 to 16 KB          3,400
//	wss        19 µs            22 KB          1,150
//
// [DTLS] holds all DTLS listeners and associations. A stranger's datagram costs
// 0.2 µs and no memory until it has brought back a cookie; an association costs about
// 40 KB, for pion/dtls keeps goroutines and a buffer for each. A datagram of more than
// 8,192 bytes is not read, so a message may have 8,100; one that is sent may fill a
// record (16 KiB), which IP carries in fragments.
//
// The package knows nothing of SIP over UDP, and of SIP over TCP only where a
// message ends. Addresses are unmapped here, once; nothing after this package
// sees an IPv4-mapped IPv6 address. Linux only.
package netio
