package netio

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ReportICMP makes the kernel report ICMP errors on a listener's sockets, as
// it otherwise does for connected sockets only.
func (u *UDP) ReportICMP(listener int) error {
	for _, s := range u.groups[listener] {
		if err := unix.SetsockoptInt(s.fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1); err != nil {
			return err
		}
	}
	return nil
}

// WriteBatch sends on a listener's first socket, as a worker does.
func (u *UDP) WriteBatch(listener int, msgs []Datagram) {
	newUDPWriter(u.groups[listener][0], len(msgs)).writeBatch(msgs)
}

// RawPackets gives the packets that a transparent listener would send.
func RawPackets(msgs []Datagram, mtu int) (packets [][]byte) {
	w := newRawWriter(&udpSocket{raw: &rawSocket{v4: msgs[0].Dst.Addr().Is4()}}, len(msgs), func() int { return mtu })
	for i := range msgs {
		w.n = 0
		w.pack(&msgs[i], i, mtu)
		for p := range w.n {
			var b []byte
			for _, v := range w.iovs[p] {
				b = append(b, unsafe.Slice(v.Base, v.Len)...)
			}
			packets = append(packets, b)
		}
	}
	return packets
}

// RawWriter gives what packs a batch, without sending it.
func RawWriter(batch int) func(msgs []Datagram) {
	w := newRawWriter(&udpSocket{raw: &rawSocket{v4: true}}, batch, nil)
	return func(msgs []Datagram) {
		for i := range msgs {
			w.pack(&msgs[i], i, defaultMTU)
		}
		w.n = 0
	}
}

// Checksum is the Internet checksum.
func Checksum(parts ...[]byte) uint16 {
	var sum uint64
	for _, p := range parts {
		sum = onesSum(sum, p)
	}
	return ^fold(sum)
}

// SetStale changes after what silence an association makes room for another of its source.
func (d *DTLS) SetStale(after time.Duration) { d.stale.Store(int64(after)) }

// Handler gives what shares out the datagrams of d's first listener.
func (d *DTLS) Handler(h StreamHandler, out *Output) DatagramHandler {
	return newDTLSListener(d, h, 0, out)
}

// HoldTurns takes all turns of handshakes, and gives them back.
func (t *TCP) HoldTurns() (release func()) {
	for range cap(t.shaking.turns) {
		t.shaking.turns <- struct{}{}
	}
	return func() {
		for range cap(t.shaking.turns) {
			<-t.shaking.turns
		}
	}
}

// FirstHello gives the ClientHello without a cookie that b was preceded by, if b is
// a ClientHello, and whether it is one.
func FirstHello(b []byte) (first []byte, ok bool) {
	h, ok := parseHello(b)
	if !ok {
		return nil, false
	}
	return h.appendFirst(nil), true
}

// Records gives what an association takes of a datagram.
func Records(b []byte, established bool) []byte {
	out, _ := appendRecords(nil, b, established)
	return out
}
