package netio

import (
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// udpSocket is one bound UDP socket.
type udpSocket struct {
	fd       int
	addr     netip.AddrPort
	wildcard bool
	raw      *rawSocket // sends for it, on a transparent listener; else nil
	counters udpCounters
}

func (s *udpSocket) close() {
	unix.Close(s.fd)
	if s.raw != nil {
		unix.Close(s.raw.fd)
	}
}

// bindGroup binds n sockets to addr that share its packets by flow.
//
// SO_REUSEPORT alone would silently share the port with any other process of
// the same user, a second sipward for one. So the first socket binds without
// it, which fails when anyone holds the port, and is opened to the others of
// its group only then.
func bindGroup(addr netip.AddrPort, n int, cfg UDPConfig) (socks []*udpSocket, err error) {
	defer func() {
		if err != nil {
			for _, s := range socks {
				s.close()
			}
			socks, err = nil, fmt.Errorf("listen udp %s: %w", addr, err)
		}
	}()
	for i := range n {
		s, err := openUDP(addr)
		if err != nil {
			return socks, err
		}
		socks = append(socks, s)
		if i > 0 {
			if err := setReusePort(s.fd); err != nil {
				return socks, err
			}
		}
		if err := s.bind(addr, cfg); err != nil {
			return socks, err
		}
		addr = s.addr // the port that the kernel chose, when 0 was asked for
		if i == 0 && n > 1 {
			if err := setReusePort(s.fd); err != nil {
				return socks, err
			}
		}
	}
	return socks, nil
}

func setReusePort(fd int) error {
	return sockErr("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
}

func openUDP(addr netip.AddrPort) (*udpSocket, error) {
	family := unix.AF_INET6
	if addr.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return nil, sockErr("socket", err)
	}
	return &udpSocket{fd: fd, wildcard: addr.Addr().IsUnspecified()}, nil
}

func (s *udpSocket) bind(addr netip.AddrPort, cfg UDPConfig) error {
	if err := s.options(addr.Addr().Is4()); err != nil {
		return err
	}
	if cfg.Transparent != nil {
		if err := s.makeTransparent(addr.Addr().Is4(), cfg); err != nil {
			return err
		}
	}
	setBuffer(s.fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, cfg.ReceiveBuffer)
	setBuffer(s.fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, cfg.SendBuffer)
	if err := unix.Bind(s.fd, unixAddr(addr)); err != nil {
		return sockErr("", err)
	}
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return sockErr("getsockname", err)
	}
	s.addr = netip.AddrPortFrom(addr.Addr(), sockPort(sa))
	return nil
}

func (s *udpSocket) options(v4 bool) error {
	var opts []option
	if v4 {
		// No DF bit: a large INVITE is fragmented on the way rather than
		// lost where a router's ICMP does not come back.
		opts = append(opts, option{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT})
		if s.wildcard {
			opts = append(opts, option{unix.IPPROTO_IP, unix.IP_PKTINFO, 1})
		}
	} else {
		opts = append(opts, option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1})
		if s.wildcard {
			opts = append(opts, option{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1})
		}
	}
	return setOptions(s.fd, opts)
}

// option is a socket option with a number for a value.
type option struct{ level, name, value int }

func setOptions(fd int, opts []option) error {
	for _, o := range opts {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return sockErr("setsockopt", err)
		}
	}
	return nil
}

// setBuffer asks for size bytes: past the system's limit where we may, else
// up to it. A smaller buffer is no reason not to start.
func setBuffer(fd, force, plain, size int) {
	if size <= 0 {
		return
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size)
	}
}

func unixAddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: scopeOf(a.Addr())}
}

func sockPort(sa unix.Sockaddr) uint16 {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(sa.Port)
	case *unix.SockaddrInet6:
		return uint16(sa.Port)
	}
	return 0
}

func sockErr(call string, err error) error {
	if err == nil || call == "" {
		return err
	}
	return os.NewSyscallError(call, err)
}

// meminfo asks for the state of the socket's queues (SO_MEMINFO, socket(7)):
// what is in the receive queue and how much may be, in bytes, and how many
// packets, modulo 2^32, have found it full. Asking costs a packet nothing, and
// knows of drops that SO_RXQ_OVFL reports only with a later packet. All is 0
// when the kernel does not answer.
func (s *udpSocket) meminfo() (queued, room, drops uint32) {
	var info [unix.SK_MEMINFO_VARS]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, 0, 0
	}
	return info[unix.SK_MEMINFO_RMEM_ALLOC], info[unix.SK_MEMINFO_RCVBUF], info[unix.SK_MEMINFO_DROPS]
}
