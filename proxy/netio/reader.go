package netio

import (
	"time"

	"golang.org/x/sys/unix"
)

// udpReader reads batches from one socket into buffers of its own.
type udpReader struct {
	s    *udpSocket
	mm   mmsgs
	mem  []byte // mapped: a slot costs memory only as far as it was ever filled
	pkts []Packet
	last int // slots used by the last call, to be armed again
}

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
		mm:   newMmsgs(batch, s.wildcard),
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

// readBatch blocks for the next packets. None and no error means that the
// socket was shut down, or that the wait was interrupted. The packets are
// valid until the next call.
func (r *udpReader) readBatch() ([]Packet, error) {
	r.mm.arm(r.last)
	r.last = 0
	n, errno := recvmmsg(r.s.fd, r.mm.hdrs, unix.MSG_WAITFORONE)
	if errno != 0 {
		return nil, r.failed(errno)
	}
	r.last = n
	k := 0
	for i := range n {
		h := &r.mm.hdrs[i]
		src := r.mm.names[i].decode(h.Hdr.Namelen)
		if !src.IsValid() {
			continue // what a socket that was shut down returns
		}
		p := &r.pkts[k]
		k++
		p.Data = r.mem[i*slotStride:][:h.Len:h.Len]
		p.Src = src
		p.Local = r.s.addr.Addr()
		if r.s.wildcard {
			p.Local = pktinfo(&r.mm.ctrls[i], int(h.Hdr.Controllen))
		}
	}
	if k > 0 {
		r.s.counters.batches.Add(1)
		r.s.counters.packets.Add(uint64(k))
	}
	return r.pkts[:k], nil
}

// failed sorts errors: what ICMP told about something that we sent is
// counted, want of memory is waited out, and only what cannot pass by itself
// is returned.
func (r *udpReader) failed(errno unix.Errno) error {
	switch errno {
	case unix.EINTR, unix.EAGAIN:
		return nil
	case unix.EBADF, unix.ENOTSOCK, unix.EFAULT, unix.EINVAL:
		return sockErr("recvmmsg", errno)
	case unix.ENOMEM, unix.ENOBUFS:
		time.Sleep(time.Millisecond)
	}
	r.s.counters.receiveErrors.Add(1)
	return nil
}
