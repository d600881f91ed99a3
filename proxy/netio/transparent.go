package netio

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Transparent is the configuration of listeners that stand between others: rules of
// the packet filter (tproxy) lead the others' packets to them. They need
// CAP_NET_ADMIN and CAP_NET_RAW.
type Transparent struct {
	// Mark is the packet mark of all that is sent, by which the rules know it.
	Mark uint32
	// MTU returns the largest packet in bytes, with the IP header, that may be sent.
	// It is called once for each batch. nil: 1500.
	MTU func() int
}

// defaultMTU is that of an Ethernet.
const defaultMTU = 1500

// makeTransparent lets the socket take what was sent to others, tells it what a
// forwarder has to keep of a packet, and opens what it answers with.
func (s *udpSocket) makeTransparent(v4 bool, cfg UDPConfig) error {
	opts := []option{
		{unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1},
		{unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR, 1},
		{unix.SOL_IPV6, unix.IPV6_RECVTCLASS, 1},
		{unix.SOL_IPV6, unix.IPV6_RECVFRAGSIZE, 1},
	}
	if v4 {
		opts = []option{
			{unix.SOL_IP, unix.IP_TRANSPARENT, 1},
			{unix.SOL_IP, unix.IP_RECVORIGDSTADDR, 1},
			{unix.SOL_IP, unix.IP_RECVTOS, 1},
			{unix.SOL_IP, unix.IP_RECVFRAGSIZE, 1},
		}
	}
	if err := setOptions(s.fd, opts); err != nil {
		return err
	}
	raw, err := openRaw(v4, cfg)
	s.raw = raw
	return err
}

// makeStream lets a TCP socket have an address that is not this host's.
func (c *Transparent) makeStream(fd int, v4 bool) error {
	opts := []option{
		{unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1},
		{unix.SOL_SOCKET, unix.SO_MARK, int(c.Mark)},
		// The client may come back from the port of a connection that has just ended.
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
	}
	if v4 {
		opts[0] = option{unix.SOL_IP, unix.IP_TRANSPARENT, 1}
	}
	return setOptions(fd, opts)
}

// redirectedFrom asks the packet filter where a connection went before it was
// redirected to us (SO_ORIGINAL_DST).
func redirectedFrom(fd int, or netip.AddrPort) netip.AddrPort {
	const originalDst = 80 // linux/netfilter_ipv4.h; the same for IPv6
	level := unix.SOL_IPV6
	if or.Addr().Is4() {
		level = unix.SOL_IP
	}
	var name sockaddr
	size := uint32(len(name))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), originalDst,
		uintptr(unsafe.Pointer(&name)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return or
	}
	return name.decode(size)
}

// original fills in where the packet was going, from its control data.
func (p *Packet) original(b []byte) {
	p.Local, p.LocalPort, p.TOS, p.Fragment = netip.Addr{}, 0, 0, 0
	for len(b) >= cmsgData {
		h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(b)))
		if int(h.Len) < cmsgData || int(h.Len) > len(b) {
			return
		}
		p.option(h.Level, h.Type, b[cmsgData:h.Len])
		b = b[min(unix.CmsgSpace(int(h.Len)-cmsgData), len(b)):]
	}
}

func (p *Packet) option(level, typ int32, data []byte) {
	switch {
	case level == unix.SOL_IP && typ == unix.IP_RECVORIGDSTADDR,
		level == unix.SOL_IPV6 && typ == unix.IPV6_RECVORIGDSTADDR:
		var name sockaddr
		dst := name.decode(uint32(copy(name[:], data)))
		p.Local, p.LocalPort = dst.Addr(), dst.Port()
	case level == unix.SOL_IP && typ == unix.IP_TOS && len(data) >= 1:
		p.TOS = data[0]
	case level == unix.SOL_IPV6 && typ == unix.IPV6_TCLASS && len(data) >= 4:
		p.TOS = uint8(binary.NativeEndian.Uint32(data))
	case len(data) >= 4 && (level == unix.SOL_IP && typ == unix.IP_RECVFRAGSIZE ||
		level == unix.SOL_IPV6 && typ == unix.IPV6_RECVFRAGSIZE):
		p.Fragment = uint16(min(binary.NativeEndian.Uint32(data), maxDatagram))
	}
}

// rawSocket sends whole IP packets.
type rawSocket struct {
	fd int
	v4 bool
}

// openRaw opens a socket of a protocol that nobody uses: it receives nothing.
func openRaw(v4 bool, cfg UDPConfig) (*rawSocket, error) {
	family, header := unix.AF_INET6, option{unix.SOL_IPV6, unix.IPV6_HDRINCL, 1}
	if v4 {
		family, header = unix.AF_INET, option{unix.SOL_IP, unix.IP_HDRINCL, 1}
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, sockErr("socket", err)
	}
	r := &rawSocket{fd: fd, v4: v4}
	setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, cfg.SendBuffer)
	if err := setOptions(fd, []option{header, {unix.SOL_SOCKET, unix.SO_MARK, int(cfg.Transparent.Mark)}}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return r, nil
}
