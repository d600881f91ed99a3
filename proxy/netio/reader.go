package netio

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// batchReader reads packets in batches. What receive has read is valid until
// the next call.
type batchReader interface {
	// receive takes what is there, without waiting, and returns how much
	// that is and whether more may be left.
	receive() (n int, more bool, err error)
	// packets returns what receive has read.
	packets() []Packet
	close()
}

// udpReader reads one socket into buffers of its own.
type udpReader struct {
	s    *udpSocket
	mm   mmsgs
	mem  []byte // mapped: a slot costs memory only as far as it was ever filled
	pkts []Packet
	n    int // messages received by the last call
}

var _ batchReader = (*udpReader)(nil)

func newUDPReader(s *udpSocket, batch int) (*udpReader, error) {
	mem, err := unix.Mmap(-1, 0, batch*slotStride, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, sockErr("mmap", err)
	}
	// A huge page for a slot would make a batch's buffers resident at once.
	_ = unix.Madvise(mem, unix.MADV_NOHUGEPAGE)
	r := &udpReader{
		s:    s,
		mm:   newMmsgs(batch, s.wildcard || s.raw != nil),
		mem:  mem,
		pkts: make([]Packet, batch),
	}
	for i := range r.mm.iovs {
		r.mm.iovs[i].Base = &mem[i*slotStride]
		r.mm.iovs[i].SetLen(maxDatagram)
	}
	r.mm.arm(batch)
	return r, nil
}

func (r *udpReader) close() { _ = unix.Munmap(r.mem) }

func (r *udpReader) receive() (n int, more bool, err error) {
	r.mm.arm(r.n)
	n, errno := recvmmsg(r.s.fd, r.mm.hdrs)
	r.n = n
	switch errno {
	case 0:
		r.s.counters.batches.Add(1)
		r.s.counters.packets.Add(uint64(n))
		return n, n == len(r.mm.hdrs), nil
	case unix.EAGAIN:
		return 0, false, nil
	case unix.EBADF, unix.ENOTSOCK, unix.EFAULT, unix.EINVAL: // will not pass
		return 0, false, fmt.Errorf("read udp %s: %w", r.s.addr, errno)
	case unix.ENOMEM, unix.ENOBUFS:
		time.Sleep(time.Millisecond)
	}
	// Also what ICMP has told about something that we have sent.
	r.s.counters.receiveErrors.Add(1)
	return 0, true, nil
}

func (r *udpReader) packets() []Packet {
	for i := range r.n {
		h, p := &r.mm.hdrs[i], &r.pkts[i]
		p.Data = r.mem[i*slotStride:][:h.Len:h.Len]
		p.Src = r.mm.names[i].decode(h.Hdr.Namelen)
		p.Local = r.s.addr.Addr()
		if r.s.raw != nil {
			p.original(r.mm.ctrls[i][:h.Hdr.Controllen])
		} else if r.s.wildcard {
			p.Local = pktinfo(&r.mm.ctrls[i], int(h.Hdr.Controllen))
		}
	}
	return r.pkts[:r.n]
}
