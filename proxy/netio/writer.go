package netio

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// sendPatience is the longest that one batch waits for room in the socket's
// send buffer.
const sendPatience = 2 * time.Millisecond

// udpWriter sends a worker's batches on one socket. Several writers may share
// a socket.
type udpWriter struct {
	s  *udpSocket
	mm mmsgs
}

var _ batchWriter = (*udpWriter)(nil)

func newUDPWriter(s *udpSocket, batch int) *udpWriter {
	return &udpWriter{s: s, mm: newMmsgs(batch, s.wildcard)}
}

func (w *udpWriter) writeBatch(msgs []Datagram) {
	n := 0
	for i := range msgs {
		if !sendable(msgs[i].Dst) {
			w.s.counters.sendErrors.Add(1)
			continue
		}
		w.mm.set(n, &msgs[i])
		n++
	}
	sent := w.s.counters.send(w.s.fd, w.mm.hdrs[:n], nil)
	w.s.counters.sent.Add(uint64(sent))
}

// send writes to fd and returns how many messages have left. sendmmsg stops at the first
// message that fails and, unless that is the first one, tells only how many
// came before it; the error comes with the next call, which begins with that
// message. stopped, unless it is nil, is told of the message that sendmmsg has stopped
// at, with the error, or 0 while that is not known; it returns true when it answers
// for that message, which is passed over then.
func (c *udpCounters) send(fd int, hdrs []unix.Mmsghdr, stopped func(i int, errno unix.Errno) bool) (sent int) {
	all := len(hdrs)
	patience := sendPatience
	retried := false
	for len(hdrs) > 0 {
		n, errno := sendmmsg(fd, hdrs)
		if errno == 0 {
			sent += n
			hdrs = hdrs[n:]
			retried = false
			if len(hdrs) > 0 && stopped != nil && stopped(all-len(hdrs), 0) {
				hdrs = hdrs[1:]
			}
			continue
		}
		switch errno {
		case unix.EINTR:
		case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
			if patience <= 0 {
				c.sendDrops.Add(uint64(len(hdrs)))
				return sent
			}
			patience -= waitWritable(fd, patience)
		default:
			if stopped != nil && stopped(all-len(hdrs), errno) {
				hdrs = hdrs[1:]
				continue
			}
			// An ICMP error about an earlier packet is reported in place of
			// sending this one, and only once.
			if !retried && delayed(errno) {
				retried = true
				continue
			}
			retried = false
			c.sendErrors.Add(1)
			hdrs = hdrs[1:]
		}
	}
	return sent
}

// delayed reports whether errno may be the consequence of an earlier packet.
func delayed(errno unix.Errno) bool {
	switch errno {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENOPROTOOPT, unix.EPROTO, unix.EMSGSIZE, unix.EACCES:
		return true
	}
	return false
}

// waitWritable waits until fd takes packets again, at most for d, and returns
// how much of d is used up.
func waitWritable(fd int, d time.Duration) time.Duration {
	start := time.Now()
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	ts := unix.NsecToTimespec(int64(d))
	_, _ = unix.Ppoll(fds[:], &ts, nil)
	// A queue below the socket may be full while the socket is writable:
	// each round uses up something, so that they come to an end.
	return max(time.Since(start), sendPatience/8)
}

// writeTo sends one message. The caller sees that s stays open.
func (s *udpSocket) writeTo(b []byte, dst netip.AddrPort, local netip.Addr) error {
	if !sendable(dst) {
		s.counters.sendErrors.Add(1)
		return unix.EDESTADDRREQ
	}
	mm := newMmsgs(1, s.wildcard)
	mm.set(0, &Datagram{Data: b, Dst: dst, Local: local})
	for attempt := 0; ; attempt++ {
		n, errno := sendmmsg(s.fd, mm.hdrs)
		switch {
		case errno == 0 && n == 1:
			s.counters.sent.Add(1)
			return nil
		case errno == unix.EINTR, attempt == 0 && delayed(errno):
		case errno == unix.EAGAIN:
			s.counters.sendDrops.Add(1)
			return errno
		default:
			s.counters.sendErrors.Add(1)
			return errno
		}
	}
}
