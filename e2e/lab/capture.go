//go:build linux

package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Flow is one direction between two sockets.
type Flow struct {
	TCP      bool
	Src, Dst netip.AddrPort
}

func (f Flow) String() string {
	name := "udp"
	if f.TCP {
		name = "tcp"
	}
	return fmt.Sprintf("%s %v → %v", name, f.Src, f.Dst)
}

// Capture records what passes an interface from or to a port.
type Capture struct {
	fd   int
	port uint16
	skip byte // packets of that type are not recorded
	done chan struct{}

	mu        sync.Mutex
	fragments map[fragmentKey][]fragment
	datagrams map[Flow][]string
	streams   map[Flow]*stream
	pieces    int // fragments seen
	largest   int // IP packet
	tos       map[Flow]byte
}

type fragmentKey struct {
	src, dst netip.Addr
	id       uint32
}

type fragment struct {
	at   int
	more bool
	data []byte
}

// stream is a TCP stream's bytes by their sequence number.
type stream struct {
	next  uint32
	known bool
	data  []byte
	early map[uint32][]byte
}

// Capture starts to record on an interface of the host. What passes the loopback interface, which shows each packet twice,
// is recorded once.
func (n *Namespace) Capture(iface string, port uint16) (*Capture, error) {
	c := &Capture{
		port: port, skip: 255, done: make(chan struct{}),
		fragments: map[fragmentKey][]fragment{}, datagrams: map[Flow][]string{}, streams: map[Flow]*stream{}, tos: map[Flow]byte{},
	}
	if iface == "lo" {
		c.skip = unix.PACKET_OUTGOING
	}
	err := n.Do(func() error {
		i, err := net.InterfaceByName(iface)
		if err != nil {
			return err
		}
		if c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, everyProtocol); err != nil {
			return err
		}
		_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
		return unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: everyProtocol, Ifindex: i.Index})
	})
	if err != nil {
		return nil, fmt.Errorf("capture on %s in %s: %w", iface, n.Name, err)
	}
	tick := unix.NsecToTimeval(int64(20 * time.Millisecond))
	_ = unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tick)
	go c.run()
	return c, nil
}

// Stop ends the recording.
func (c *Capture) Stop() {
	c.mu.Lock()
	c.skip = stopped
	c.mu.Unlock()
	<-c.done
}

const stopped = 254

// everyProtocol is ETH_P_ALL in network byte order.
const everyProtocol = unix.ETH_P_ALL << 8

func (c *Capture) run() {
	defer close(c.done)
	defer unix.Close(c.fd)
	buf := make([]byte, 1<<17)
	for {
		n, from, err := unix.Recvfrom(c.fd, buf, 0)
		c.mu.Lock()
		if c.skip == stopped {
			c.mu.Unlock()
			return
		}
		if sa, ok := from.(*unix.SockaddrLinklayer); err == nil && ok && sa.Pkttype != c.skip {
			c.packet(slices.Clone(buf[:n]))
		}
		c.mu.Unlock()
	}
}

func (c *Capture) packet(b []byte) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		size := int(binary.BigEndian.Uint16(b[2:]))
		head := int(b[0]&15) * 4
		if size > len(b) || head > size {
			return
		}
		flags := binary.BigEndian.Uint16(b[6:])
		src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		c.size(size)
		c.part(b[9], b[1], fragmentKey{src, dst, uint32(binary.BigEndian.Uint16(b[4:]))}, int(flags&0x1fff)*8, flags&0x2000 != 0, b[head:size])
	case len(b) >= 40 && b[0]>>4 == 6:
		size := 40 + int(binary.BigEndian.Uint16(b[4:]))
		if size > len(b) {
			return
		}
		src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		key := fragmentKey{src: src, dst: dst}
		class := b[0]<<4 | b[1]>>4
		c.size(size)
		if b[6] != unix.IPPROTO_FRAGMENT {
			c.part(b[6], class, key, 0, false, b[40:size])
			return
		}
		key.id = binary.BigEndian.Uint32(b[44:])
		offset := binary.BigEndian.Uint16(b[42:])
		c.part(b[40], class, key, int(offset&^7), offset&1 != 0, b[48:size])
	}
}

func (c *Capture) size(n int) { c.largest = max(c.largest, n) }

// part takes what an IP packet carries, and waits for the rest of a fragmented one.
func (c *Capture) part(protocol, tos byte, key fragmentKey, at int, more bool, data []byte) {
	if at > 0 || more {
		c.pieces++
		all := append(c.fragments[key], fragment{at, more, data})
		slices.SortFunc(all, func(a, b fragment) int { return a.at - b.at })
		c.fragments[key] = all
		var whole []byte
		for _, f := range all {
			if f.at != len(whole) {
				return
			}
			whole = append(whole, f.data...)
		}
		if all[len(all)-1].more {
			return
		}
		delete(c.fragments, key)
		data = whole
	}
	if len(data) < 8 {
		return
	}
	f := Flow{
		Src: netip.AddrPortFrom(key.src, binary.BigEndian.Uint16(data)),
		Dst: netip.AddrPortFrom(key.dst, binary.BigEndian.Uint16(data[2:])),
	}
	if f.Src.Port() != c.port && f.Dst.Port() != c.port {
		return
	}
	switch protocol {
	case unix.IPPROTO_UDP:
		c.tos[f] = tos
		c.datagrams[f] = append(c.datagrams[f], string(data[8:]))
	case unix.IPPROTO_TCP:
		if head := int(data[12]>>4) * 4; len(data) >= 20 && head <= len(data) {
			f.TCP = true
			c.segment(f, binary.BigEndian.Uint32(data[4:]), data[13], data[head:])
		}
	}
}

func (c *Capture) segment(f Flow, seq uint32, flags byte, data []byte) {
	const syn = 2
	s := c.streams[f]
	if s == nil || flags&syn != 0 && !(s.known && s.next == seq+1) {
		old := s
		s = &stream{early: map[uint32][]byte{}}
		if old != nil { // the same ports again
			s.data = old.data
		}
		c.streams[f] = s
	}
	if flags&syn != 0 {
		s.next, s.known = seq+1, true
		return
	}
	if len(data) > 0 {
		s.early[seq] = data
	}
	for progress := true; progress; {
		progress = false
		for at, d := range s.early {
			behind := s.next - at
			if int32(behind) < 0 {
				continue
			}
			delete(s.early, at)
			if int(behind) < len(d) {
				s.data = append(s.data, d[behind:]...)
				s.next = at + uint32(len(d))
			}
			progress = true
		}
	}
}

// Payloads gives what was sent on each flow so far: each datagram, or the whole stream.
func (c *Capture) Payloads() map[Flow][]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[Flow][]string{}
	for f, d := range c.datagrams {
		all[f] = slices.Clone(d)
	}
	for f, s := range c.streams {
		if len(s.data) > 0 {
			all[f] = []string{string(s.data)}
		}
	}
	return all
}

// TOS gives the type of service, or traffic class, of the last datagram of a flow.
func (c *Capture) TOS(f Flow) byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tos[f]
}

// Fragments is how many fragments there were so far, and the size of the largest packet.
func (c *Capture) Fragments() (pieces, largest int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pieces, c.largest
}
