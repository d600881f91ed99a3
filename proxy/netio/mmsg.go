package netio

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// maxDatagram is the room for one message: more than the 65,507 bytes
	// that fit into an IPv4 datagram.
	maxDatagram = 65535

	// slotStride separates receive buffers. It is not a multiple of 64 KiB:
	// the first lines of all slots would share one set of the CPU's caches.
	slotStride = maxDatagram + 1 + 17*64

	// controlSpace holds one IP_PKTINFO or IPV6_PKTINFO message, or what a
	// transparent socket gets of each kind.
	controlSpace = 128
)

// mmsgs is the kernel's view of a batch: arrays that are set up once and
// point into each other.
type mmsgs struct {
	hdrs  []unix.Mmsghdr
	iovs  []unix.Iovec
	names []sockaddr
	ctrls [][controlSpace]byte
}

func newMmsgs(n int, control bool) mmsgs {
	m := mmsgs{
		hdrs:  make([]unix.Mmsghdr, n),
		iovs:  make([]unix.Iovec, n),
		names: make([]sockaddr, n),
	}
	if control {
		m.ctrls = make([][controlSpace]byte, n)
	}
	for i := range m.hdrs {
		h := &m.hdrs[i].Hdr
		h.Name = &m.names[i][0]
		h.Iov = &m.iovs[i]
		h.SetIovlen(1)
	}
	return m
}

// arm makes the first n entries ready to receive: the kernel overwrites the
// lengths.
func (m *mmsgs) arm(n int) {
	for i := range m.hdrs[:n] {
		h := &m.hdrs[i].Hdr
		h.Namelen = uint32(len(m.names[i]))
		if m.ctrls != nil {
			h.Control = &m.ctrls[i][0]
			h.SetControllen(controlSpace)
		}
	}
}

// set fills entry i with a message to send; with room for control data, the
// source address, too.
func (m *mmsgs) set(i int, d *Datagram) {
	h := &m.hdrs[i].Hdr
	h.Namelen = m.names[i].encode(d.Dst)
	m.iovs[i].Base = unsafe.SliceData(d.Data)
	m.iovs[i].SetLen(len(d.Data))
	if m.ctrls == nil {
		return
	}
	n := putPktinfo(&m.ctrls[i], d.Local)
	h.Control = nil
	if n > 0 {
		h.Control = &m.ctrls[i][0]
	}
	h.SetControllen(n)
}

// recvmmsg and sendmmsg never wait, so the scheduler need not know of them.
// After an error recvmmsg's count is 0.
func recvmmsg(fd int, hdrs []unix.Mmsghdr) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(hdrs))), uintptr(len(hdrs)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		n = 0
	}
	return int(n), errno
}

func sendmmsg(fd int, hdrs []unix.Mmsghdr) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(hdrs))), uintptr(len(hdrs)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}

// cmsgData is the offset of a control message's payload on this platform.
var cmsgData = unix.CmsgLen(0)

// putPktinfo writes the control message that chooses the source address
// local, and returns its length: 0 when local is no address to send from.
func putPktinfo(b *[controlSpace]byte, local netip.Addr) int {
	local = local.Unmap()
	if !local.IsValid() || local.IsUnspecified() {
		return 0
	}
	clear(b[:])
	h := (*unix.Cmsghdr)(unsafe.Pointer(b))
	p := b[cmsgData:]
	if local.Is4() {
		// struct in_pktinfo: index, the source to use, destination.
		h.Level, h.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
		h.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
		a := local.As4()
		copy(p[4:8], a[:])
		return unix.CmsgSpace(unix.SizeofInet4Pktinfo)
	}
	// struct in6_pktinfo: source, index (RFC 3542 §6.1).
	h.Level, h.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
	h.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
	a := local.As16()
	copy(p[:16], a[:])
	binary.NativeEndian.PutUint32(p[16:], scopeOf(local))
	return unix.CmsgSpace(unix.SizeofInet6Pktinfo)
}

// pktinfo finds the address that a packet was sent to in the first n bytes of
// its control data.
func pktinfo(b *[controlSpace]byte, n int) netip.Addr {
	h := (*unix.Cmsghdr)(unsafe.Pointer(b))
	if n < cmsgData || int(h.Len) > n {
		return netip.Addr{}
	}
	p := b[cmsgData:]
	switch {
	case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && n >= unix.CmsgLen(unix.SizeofInet4Pktinfo):
		return netip.AddrFrom4([4]byte(p[4:8]))
	case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && n >= unix.CmsgLen(unix.SizeofInet6Pktinfo):
		return withScope(netip.AddrFrom16([16]byte(p[:16])).Unmap(), binary.NativeEndian.Uint32(p[16:]))
	}
	return netip.Addr{}
}
