package netio

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawWriter sends a worker's batches as whole packets, from the addresses and ports
// that the messages name. What does not fit into one packet it sends in fragments: the
// kernel does not do that for packets that it has not made (raw(7)).
type rawWriter struct {
	s   *udpSocket
	mtu func() int

	hdrs  []unix.Mmsghdr
	iovs  [][2]unix.Iovec // of each packet: its headers, and its part of the message
	names []sockaddr
	heads [][maxRawHead]byte
	of    []int  // the message that each belongs to
	n     int    // packets that are ready
	ident uint32 // of the last fragmented message

	large []int // messages that the kernel finds too large for their paths
	note  func(packet int, errno unix.Errno) bool
}

const (
	headV4   = 20
	headV6   = 40
	headUDP  = 8
	headFrag = 8 // of IPv6

	maxRawHead = headV6 + headFrag + headUDP

	// minMTU is what every link carries (RFC 8200 §5); IPv4 may have less, and
	// fragments once more then.
	minMTU = 1280

	moreFragments = 1 << 13 // flag of IPv4's fragment offset
	hopLimit      = 64
)

var _ batchWriter = (*rawWriter)(nil)

func newRawWriter(s *udpSocket, batch int, mtu func() int) *rawWriter {
	if mtu == nil {
		mtu = func() int { return defaultMTU }
	}
	n := batch + maxDatagram/(minMTU-maxRawHead) + 1 // a batch, one of them in fragments
	w := &rawWriter{
		s: s, mtu: mtu, ident: rand.Uint32(), of: make([]int, n), large: make([]int, 0, batch),
		hdrs: make([]unix.Mmsghdr, n), iovs: make([][2]unix.Iovec, n),
		names: make([]sockaddr, n), heads: make([][maxRawHead]byte, n),
	}
	for i := range w.hdrs {
		h := &w.hdrs[i].Hdr
		h.Name = &w.names[i][0]
		h.Iov = &w.iovs[i][0]
		h.SetIovlen(2)
		w.iovs[i][0].Base = &w.heads[i][0]
	}
	w.note = w.stopped
	return w
}

func (w *rawWriter) writeBatch(msgs []Datagram) {
	mtu := max(w.mtu(), minMTU)
	for i := range msgs {
		d := &msgs[i]
		if !w.permitted(d) {
			w.s.counters.sendErrors.Add(1)
			continue
		}
		limit := mtu
		if f := int(d.Fragment); f > 0 {
			// As large as its sender has made them: he may know the path (RFC 8900 §5).
			limit = min(mtu, max(f, minMTU))
		}
		w.queue(msgs, i, limit)
	}
	w.flush(w.note)
	w.resend(msgs)
}

func (w *rawWriter) queue(msgs []Datagram, i, limit int) {
	if !w.pack(&msgs[i], i, limit) { // no room: there are many fragments
		w.flush(w.note)
		w.pack(&msgs[i], i, limit)
	}
}

// stopped is told at which packet the kernel has stopped. It notes the message when that
// is too large: the kernel knows of a narrow path, or a device has got another MTU.
// Connection tracking joins the fragments and says so with the last one, once; if that
// were sent again, it would go alone.
func (w *rawWriter) stopped(packet int, errno unix.Errno) bool {
	i := w.of[packet]
	later := packet > 0 && w.of[packet-1] == i
	if errno != unix.EMSGSIZE && !(errno == 0 && later) {
		return false
	}
	if n := len(w.large); (n == 0 || w.large[n-1] != i) && n < cap(w.large) {
		w.large = append(w.large, i)
	}
	return true
}

// resend sends messages that were too large in fragments that pass everywhere.
func (w *rawWriter) resend(msgs []Datagram) {
	for _, i := range w.large {
		if !w.pack(&msgs[i], i, minMTU) {
			w.flush(nil)
			w.pack(&msgs[i], i, minMTU)
		}
	}
	w.large = w.large[:0]
	w.flush(nil)
}

func (w *rawWriter) permitted(d *Datagram) bool {
	return sendable(d.Dst) && d.LocalPort != 0 && d.Local.IsValid() &&
		d.Dst.Addr().Is4() == w.s.raw.v4 && d.Local.Is4() == w.s.raw.v4
}

func (w *rawWriter) flush(stopped func(packet int, errno unix.Errno) bool) {
	sent := w.s.counters.send(w.s.raw.fd, w.hdrs[:w.n], stopped)
	w.s.counters.sent.Add(uint64(sent))
	w.n = 0
}

// pack makes the packets of message i, of limit bytes at most. It reports false when
// there is no room for them.
func (w *rawWriter) pack(d *Datagram, i, limit int) bool {
	head := headV6
	if w.s.raw.v4 {
		head = headV4
	}
	total := headUDP + len(d.Data)
	if head+total <= limit {
		if w.n == len(w.hdrs) {
			return false
		}
		w.packet(d, i, 0, total, false)
		return true
	}
	if !w.s.raw.v4 {
		head += headFrag
	}
	step := (limit - head) &^ 7 // offsets count eights
	if w.n+(total+step-1)/step > len(w.hdrs) {
		return false
	}
	w.ident++
	if uint16(w.ident) == 0 {
		w.ident++ // the kernel would choose one for each fragment
	}
	for at := 0; at < total; at += step {
		w.packet(d, i, at, min(step, total-at), true)
	}
	return true
}

// packet makes one packet with the n bytes from offset at of the UDP datagram,
// whose first bytes are its header.
func (w *rawWriter) packet(d *Datagram, message, at, n int, fragment bool) {
	i := w.n
	w.n++
	w.of[i] = message
	head := &w.heads[i]
	more := at+n < headUDP+len(d.Data)
	size := w.header(head, d, at, n, fragment, more)
	from := at - headUDP
	if at == 0 {
		putUDP(head[size:size+headUDP], d)
		size += headUDP
		from = 0
	}
	to := at + n - headUDP
	w.hdrs[i].Hdr.Namelen = w.names[i].encode(netip.AddrPortFrom(d.Dst.Addr(), 0)) // a port would be taken for a protocol
	w.iovs[i][0].SetLen(size)
	w.iovs[i][1].Base = unsafe.SliceData(d.Data[from:to])
	w.iovs[i][1].SetLen(to - from)
}

// header writes the IP header, and returns its length.
func (w *rawWriter) header(b *[maxRawHead]byte, d *Datagram, at, n int, fragment, more bool) int {
	if w.s.raw.v4 {
		// The kernel fills in the length and the checksum, and the identification where
		// it is 0.
		ident, offset := uint16(0), uint16(at/8)
		if fragment {
			ident = uint16(w.ident)
		}
		if more {
			offset |= moreFragments
		}
		b[0], b[1] = 0x45, d.TOS
		binary.BigEndian.PutUint16(b[2:], uint16(headV4+n))
		binary.BigEndian.PutUint16(b[4:], ident)
		binary.BigEndian.PutUint16(b[6:], offset)
		b[8], b[9], b[10], b[11] = hopLimit, unix.IPPROTO_UDP, 0, 0
		src, dst := d.Local.As4(), d.Dst.Addr().As4()
		copy(b[12:], src[:])
		copy(b[16:], dst[:])
		return headV4
	}
	next, length := byte(unix.IPPROTO_UDP), n
	if fragment {
		next, length = unix.IPPROTO_FRAGMENT, n+headFrag
	}
	binary.BigEndian.PutUint32(b[0:], 6<<28|uint32(d.TOS)<<20)
	binary.BigEndian.PutUint16(b[4:], uint16(length))
	b[6], b[7] = next, hopLimit
	src, dst := d.Local.As16(), d.Dst.Addr().As16()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
	if !fragment {
		return headV6
	}
	// RFC 8200 §4.5.
	offset := uint16(at)
	if more {
		offset |= 1
	}
	b[40], b[41] = unix.IPPROTO_UDP, 0
	binary.BigEndian.PutUint16(b[42:], offset)
	binary.BigEndian.PutUint32(b[44:], w.ident)
	return headV6 + headFrag
}

// putUDP writes the UDP header with its checksum (RFC 768, RFC 8200 §8.1).
func putUDP(b []byte, d *Datagram) {
	length := uint16(headUDP + len(d.Data))
	binary.BigEndian.PutUint16(b[0:], d.LocalPort)
	binary.BigEndian.PutUint16(b[2:], d.Dst.Port())
	binary.BigEndian.PutUint16(b[4:], length)
	b[6], b[7] = 0, 0
	// The mapped form of IPv4 would add 2 × 0xffff, which is 0.
	src, dst := d.Local.As16(), d.Dst.Addr().As16()
	sum := uint64(unix.IPPROTO_UDP) + uint64(length)
	sum = onesSum(sum, src[:])
	sum = onesSum(sum, dst[:])
	sum = onesSum(sum, b[:headUDP])
	check := ^fold(onesSum(sum, d.Data))
	if check == 0 {
		check = 0xffff // 0 means that there is none
	}
	binary.BigEndian.PutUint16(b[6:], check)
}
