//go:build linux

package kernel_test

import (
	"net"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

type mmsghdr struct {
	hdr unix.Msghdr
	_   uint32
	_   [4]byte
}

// blast sends datagrams from an address to the protected port as fast as one
// thread can, and returns the processor time for each. What the host does with
// them is done on the same thread: a veth pair hands a packet over at once.
func (p *peer) blast(from string, d time.Duration) (each time.Duration) {
	p.t.Helper()
	p.do(func() error {
		conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0)),
			net.UDPAddrFromAddrPort(netip.AddrPortFrom(host4, protected)))
		if err != nil {
			return err
		}
		defer conn.Close()
		raw, err := conn.SyscallConn()
		if err != nil {
			return err
		}
		const batch = 256
		payload := make([]byte, 300)
		iov := unix.Iovec{Base: &payload[0], Len: uint64(len(payload))}
		messages := make([]mmsghdr, batch)
		for i := range messages {
			messages[i].hdr.Iov, messages[i].hdr.Iovlen = &iov, 1
		}
		n, began, before := 0, time.Now(), threadCPU()
		for time.Since(began) < d {
			_ = raw.Write(func(fd uintptr) bool {
				sent, _, _ := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&messages[0])), batch, 0, 0, 0)
				if int(sent) > 0 {
					n += int(sent)
				}
				return true
			})
		}
		each = (threadCPU() - before) / time.Duration(max(n, 1))
		return nil
	})
	return each
}

func threadCPU() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_THREAD, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
