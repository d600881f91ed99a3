//go:build linux

// Package mmsg moves UDP datagrams over IPv4 in batches (recvmmsg, sendmmsg). It serves the
// processes of the peer benchmark: each of them owns a thread and may block it, and the fewer
// cycles they burn, the more of the two cores is left for what is measured.
package mmsg

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Options of a socket. The zero value is a plain bound socket with the kernel's default buffers.
type Options struct {
	// ReceiveBuffer in bytes; 0 leaves the default. Past net.core.rmem_max only root is obeyed.
	ReceiveBuffer int
	// HoldProcessor keeps Go's scheduler out of the blocking calls. A process that does nothing else
	// then saves some 9 µs for each wake-up, in which the runtime would hand its processor to another
	// thread and back; nothing else may want that processor meanwhile, not even the collector.
	HoldProcessor bool
	// ReceiveTimeout in microseconds lets Receive return ErrTimeout; 0 blocks for ever.
	ReceiveTimeout int64
}

// ErrTimeout is what Receive returns when nothing came within Options.ReceiveTimeout.
var ErrTimeout = errors.New("mmsg: receive timeout")

// Socket is one UDP socket. Receive and Send may be called from two threads at once.
type Socket struct {
	fd   int
	hold bool
}

// Listen binds a blocking UDP socket to an IPv4 address.
func Listen(addr netip.AddrPort, opt Options) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open UDP socket: %w", err)
	}
	s := &Socket{fd: fd, hold: opt.HoldProcessor}
	if err := s.configure(addr, opt); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return s, nil
}

func (s *Socket) configure(addr netip.AddrPort, opt Options) error {
	if opt.ReceiveBuffer > 0 {
		if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, opt.ReceiveBuffer) != nil {
			if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, opt.ReceiveBuffer); err != nil {
				return fmt.Errorf("set receive buffer: %w", err)
			}
		}
	}
	if opt.ReceiveTimeout > 0 {
		tv := unix.NsecToTimeval(opt.ReceiveTimeout * 1000)
		if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return fmt.Errorf("set receive timeout: %w", err)
		}
	}
	if err := unix.Bind(s.fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}); err != nil {
		return fmt.Errorf("bind %s: %w", addr, err)
	}
	return nil
}

// LocalAddr is the bound address, with the real port when 0 was asked.
func (s *Socket) LocalAddr() (netip.AddrPort, error) {
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("read socket address: %w", err)
	}
	in, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("read socket address: unexpected family %T", sa)
	}
	return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port)), nil
}

// Drops is how many datagrams the kernel threw away because the receive queue was full.
func (s *Socket) Drops() (uint32, error) {
	var info [9]uint32 // SK_MEMINFO_VARS; the last is SK_MEMINFO_DROPS
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, os.NewSyscallError("getsockopt SO_MEMINFO", errno)
	}
	return info[8], nil
}

// Close releases the descriptor. A Receive that blocks is not woken: use ReceiveTimeout for that.
func (s *Socket) Close() error {
	if err := unix.Close(s.fd); err != nil {
		return fmt.Errorf("close UDP socket: %w", err)
	}
	return nil
}

// batch makes one call for many datagrams; see Options.HoldProcessor for the two ways.
func (s *Socket) batch(trap uintptr, hdrs []unix.Mmsghdr, flags uintptr) (int, unix.Errno) {
	if s.hold {
		n, _, errno := unix.RawSyscall6(trap, uintptr(s.fd), uintptr(unsafe.Pointer(&hdrs[0])), uintptr(len(hdrs)), flags, 0, 0)
		return int(n), errno
	}
	n, _, errno := unix.Syscall6(trap, uintptr(s.fd), uintptr(unsafe.Pointer(&hdrs[0])), uintptr(len(hdrs)), flags, 0, 0)
	return int(n), errno
}

// Receive blocks for the first datagram, then takes what else is queued, up to the batch's size.
func (s *Socket) Receive(b *Batch) (int, error) {
	for {
		b.rearm()
		n, errno := s.batch(unix.SYS_RECVMMSG, b.hdrs, unix.MSG_WAITFORONE)
		switch errno {
		case 0:
			b.used = n
			return n, nil
		case unix.EINTR, unix.ECONNREFUSED:
			continue
		case unix.EAGAIN:
			return 0, ErrTimeout
		default:
			return 0, os.NewSyscallError("recvmmsg", errno)
		}
	}
}

// Send sends slots from (included) to to (excluded) and returns how many the kernel refused;
// those are skipped.
func (s *Socket) Send(b *Batch, from, to int) (refused int) {
	for from < to {
		sent, errno := s.batch(unix.SYS_SENDMMSG, b.hdrs[from:to], 0)
		switch errno {
		case 0:
			from += sent
		case unix.EINTR:
		default:
			refused++
			from++
		}
	}
	return refused
}
