//go:build linux

package mmsg

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// slotSize holds what the benchmark sends; Headroom is what a forwarder may put in front.
const (
	slotSize = 2048
	Headroom = 256
)

// Batch is a fixed set of slots, each with a buffer and an address. One thread owns it.
type Batch struct {
	hdrs  []unix.Mmsghdr
	iovs  []unix.Iovec
	addrs []unix.RawSockaddrInet4
	infos []pktinfo
	mem   []byte
	used  int // slots that the last Receive filled, and whose pointers may have moved since
}

// pktinfo is one IP_PKTINFO control message (ip(7)).
type pktinfo struct {
	hdr  unix.Cmsghdr
	info unix.Inet4Pktinfo
	_    [4]byte
}

// NewBatch makes a batch of n slots.
func NewBatch(n int) *Batch {
	b := &Batch{
		hdrs:  make([]unix.Mmsghdr, n),
		iovs:  make([]unix.Iovec, n),
		addrs: make([]unix.RawSockaddrInet4, n),
		infos: make([]pktinfo, n),
		mem:   make([]byte, n*slotSize),
	}
	for i := range b.hdrs {
		h := &b.hdrs[i].Hdr
		h.Iov = &b.iovs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&b.addrs[i]))
		h.Namelen = unix.SizeofSockaddrInet4
		b.addrs[i].Family = unix.AF_INET
		b.infos[i].hdr.Level = unix.IPPROTO_IP
		b.infos[i].hdr.Type = unix.IP_PKTINFO
		b.infos[i].hdr.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
	}
	b.used = n
	b.rearm()
	return b
}

// Len is the number of slots.
func (b *Batch) Len() int { return len(b.hdrs) }

// rearm points the slots at their whole buffer behind the headroom, ready to receive.
func (b *Batch) rearm() {
	for i := range b.used {
		b.iovs[i].Base = &b.mem[i*slotSize+Headroom]
		b.iovs[i].SetLen(slotSize - Headroom)
		b.hdrs[i].Hdr.Namelen = unix.SizeofSockaddrInet4
	}
}

// Slot is the whole memory of slot i: Headroom bytes, then where a datagram was received.
func (b *Batch) Slot(i int) []byte { return b.mem[i*slotSize : (i+1)*slotSize : (i+1)*slotSize] }

// Data is the datagram that was received into slot i, valid until the next Receive.
func (b *Batch) Data(i int) []byte {
	return b.mem[i*slotSize+Headroom:][:b.hdrs[i].Len:b.hdrs[i].Len]
}

// Set makes [from, to) of Slot(i) the datagram to send.
func (b *Batch) Set(i, from, to int) {
	b.iovs[i].Base = &b.mem[i*slotSize+from]
	b.iovs[i].SetLen(to - from)
}

// Peer is the address of slot i: the sender's after Receive, the destination before Send. It is
// packed as address<<16 | port, which compares and encodes cheaper than a netip.AddrPort.
func (b *Batch) Peer(i int) uint64 {
	a := &b.addrs[i]
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&a.Port))[:])
	return uint64(binary.BigEndian.Uint32(a.Addr[:]))<<16 | uint64(port)
}

// SetPeer sets the destination of slot i from its packed form.
func (b *Batch) SetPeer(i int, peer uint64) {
	a := &b.addrs[i]
	binary.BigEndian.PutUint32(a.Addr[:], uint32(peer>>16))
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&a.Port))[:], uint16(peer))
}

// SetSource makes slot i leave from the given address (packed without port) on a wildcard socket.
func (b *Batch) SetSource(i int, addr uint32) {
	h := &b.hdrs[i].Hdr
	h.Control = (*byte)(unsafe.Pointer(&b.infos[i]))
	h.SetControllen(unix.CmsgSpace(unix.SizeofInet4Pktinfo))
	binary.BigEndian.PutUint32(b.infos[i].info.Spec_dst[:], addr)
}

// Pack is the packed form of an IPv4 address and port.
func Pack(a netip.AddrPort) uint64 {
	v4 := a.Addr().As4()
	return uint64(binary.BigEndian.Uint32(v4[:]))<<16 | uint64(a.Port())
}

// Unpack reverses Pack.
func Unpack(p uint64) netip.AddrPort {
	var v4 [4]byte
	binary.BigEndian.PutUint32(v4[:], uint32(p>>16))
	return netip.AddrPortFrom(netip.AddrFrom4(v4), uint16(p))
}
