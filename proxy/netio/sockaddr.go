package netio

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// sockaddr is room for an IPv4 or IPv6 socket address as the kernel writes
// it. It is read and written byte by byte, so that one fixed array serves
// both families without a conversion that allocates.
type sockaddr [unix.SizeofSockaddrInet6]byte

// decode reads the address that the kernel wrote into the first n bytes. An
// address of another family, or none, gives the zero AddrPort.
func (s *sockaddr) decode(n uint32) netip.AddrPort {
	if n < unix.SizeofSockaddrInet4 {
		return netip.AddrPort{}
	}
	port := binary.BigEndian.Uint16(s[2:])
	switch binary.NativeEndian.Uint16(s[:]) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(s[4:8])), port)
	case unix.AF_INET6:
		if n < unix.SizeofSockaddrInet6 {
			return netip.AddrPort{}
		}
		a := netip.AddrFrom16([16]byte(s[8:24])).Unmap()
		return netip.AddrPortFrom(withScope(a, binary.NativeEndian.Uint32(s[24:])), port)
	}
	return netip.AddrPort{}
}

// encode writes a and returns its length.
func (s *sockaddr) encode(a netip.AddrPort) uint32 {
	ip := a.Addr().Unmap()
	binary.BigEndian.PutUint16(s[2:], a.Port())
	if ip.Is4() {
		binary.NativeEndian.PutUint16(s[:], unix.AF_INET)
		b := ip.As4()
		copy(s[4:8], b[:])
		clear(s[8:16])
		return unix.SizeofSockaddrInet4
	}
	binary.NativeEndian.PutUint16(s[:], unix.AF_INET6)
	binary.NativeEndian.PutUint32(s[4:], 0)
	b := ip.As16()
	copy(s[8:24], b[:])
	binary.NativeEndian.PutUint32(s[24:], scopeOf(ip))
	return unix.SizeofSockaddrInet6
}

// withScope keeps the interface of a link-local address as its zone: without
// it an answer could not be sent (RFC 4007 §6). Other addresses have none.
func withScope(a netip.Addr, scope uint32) netip.Addr {
	if scope == 0 || !scoped(a) {
		return a
	}
	return a.WithZone(strconv.FormatUint(uint64(scope), 10))
}

// scopeOf is the interface index of a link-local address, or 0.
func scopeOf(a netip.Addr) uint32 {
	if !scoped(a) || a.Zone() == "" {
		return 0
	}
	if n, err := strconv.ParseUint(a.Zone(), 10, 32); err == nil {
		return uint32(n)
	}
	if i, err := net.InterfaceByName(a.Zone()); err == nil {
		return uint32(i.Index)
	}
	return 0
}

func scoped(a netip.Addr) bool { return a.IsLinkLocalUnicast() && a.Is6() }

// sendable reports whether a packet may be sent to a. The kernel takes the
// unspecified address for the local host, so that a stranger who could write
// it into a header would reach services that listen on loopback only.
func sendable(a netip.AddrPort) bool {
	return a.Port() != 0 && a.IsValid() && !a.Addr().Unmap().IsUnspecified()
}
