//go:build linux

package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Forger sends UDP datagrams from addresses that are not its own: whole frames, to the edge.
type Forger struct {
	fd     int
	header []byte // of Ethernet
	frames [][]byte
	iovs   []unix.Iovec
	hdrs   []unix.Mmsghdr
	queued int
}

// forgerBatch is how many frames go to the kernel at once.
const forgerBatch = 64

// Forger opens a packet socket in the wan.
func (l *Lab) Forger() (*Forger, error) {
	f := &Forger{
		frames: make([][]byte, forgerBatch), iovs: make([]unix.Iovec, forgerBatch), hdrs: make([]unix.Mmsghdr, forgerBatch),
	}
	mac, err := l.mac(l.Edge, "wan0")
	if err != nil {
		return nil, err
	}
	err = l.WAN.Do(func() error {
		own, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		// Protocol 0: it sends only, and is not bothered with what arrives.
		if f.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		f.header = append(append(append(f.header, mac...), own.HardwareAddr...), 0x08, 0x00)
		return unix.Bind(f.fd, &unix.SockaddrLinklayer{Ifindex: own.Index})
	})
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	for i := range f.hdrs {
		f.hdrs[i].Hdr.Iov = &f.iovs[i]
		f.hdrs[i].Hdr.SetIovlen(1)
	}
	return f, nil
}

func (l *Lab) mac(ns *Namespace, link string) (mac net.HardwareAddr, err error) {
	err = ns.Do(func() error {
		i, err := net.InterfaceByName(link)
		if err == nil {
			mac = i.HardwareAddr
		}
		return err
	})
	return mac, err
}

// Close closes the packet socket.
func (f *Forger) Close() { _ = unix.Close(f.fd) }

// Send sends one datagram, after those that are queued. IPv4 only; without a UDP checksum, which IPv4 allows.
func (f *Forger) Send(from, to netip.AddrPort, payload []byte) error {
	if err := f.Queue(from, to, payload); err != nil {
		return err
	}
	return f.Flush()
}

// Queue copies a datagram to be sent with others: by Flush, or when there are many.
func (f *Forger) Queue(from, to netip.AddrPort, payload []byte) error {
	b := append(append(f.frames[f.queued][:0], f.header...), 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(28+len(payload)))
	b = append(b, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0)
	src, dst := from.Addr().As4(), to.Addr().As4()
	b = append(append(b, src[:]...), dst[:]...)
	binary.BigEndian.PutUint16(b[24:], checksum(b[14:34]))
	b = binary.BigEndian.AppendUint16(b, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	b = append(append(b, 0, 0), payload...)
	f.frames[f.queued] = b
	f.iovs[f.queued].Base = &b[0]
	f.iovs[f.queued].SetLen(len(b))
	if f.queued++; f.queued == len(f.frames) {
		return f.Flush()
	}
	return nil
}

// Flush sends what is queued.
func (f *Forger) Flush() error {
	queued := f.queued
	f.queued = 0
	for at := 0; at < queued; {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(f.fd), uintptr(unsafe.Pointer(&f.hdrs[at])), uintptr(queued-at), 0, 0, 0)
		switch errno {
		case 0:
			at += int(n)
		case unix.ENOBUFS, unix.EINTR:
			time.Sleep(50 * time.Microsecond) // the device's queue is full
		default:
			return errno
		}
	}
	return nil
}

// checksum of an IPv4 header (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
