//go:build linux

// Package bare is the yardstick of the peer benchmark: a UDP forwarder with one thread that adds
// one Via to what goes to the PBX, strips it from what comes back, and inspects nothing. What it
// costs is what the kernel asks for moving the datagrams; whatever sipward costs on top is sipward's.
package bare

import (
	"bytes"
	"fmt"
	"net/netip"
	"runtime"

	"sipward/e2e/bench/mmsg"
)

const (
	batch = 64
	// peerLen is the client's packed address in hexadecimal (48 bits), the whole of our branch:
	// the answer finds its way without any state.
	peerLen     = 12
	branchMagic = "z9hG4bK"
)

// Forwarder moves datagrams between clients and one upstream through one socket.
type Forwarder struct {
	sock     *mmsg.Socket
	upstream uint64
	via      []byte // "Via: SIP/2.0/UDP host:port;branch=z9hG4bK", to be followed by the peer
}

// Listen binds the forwarder's socket.
func Listen(listen, upstream netip.AddrPort, opt mmsg.Options) (*Forwarder, error) {
	s, err := mmsg.Listen(listen, opt)
	if err != nil {
		return nil, err
	}
	local, err := s.LocalAddr()
	if err != nil {
		return nil, err
	}
	return &Forwarder{
		sock:     s,
		upstream: mmsg.Pack(upstream),
		via:      fmt.Appendf(nil, "Via: SIP/2.0/UDP %s;branch=%s", local, branchMagic),
	}, nil
}

// Close releases the socket.
func (f *Forwarder) Close() error { return f.sock.Close() }

// Run forwards until the socket fails or its receive timeout passes without a datagram.
func (f *Forwarder) Run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b := mmsg.NewBatch(batch)
	for {
		n, err := f.sock.Receive(b)
		if err != nil {
			return err
		}
		from := 0
		for i := range n {
			if f.turn(b, i) {
				continue
			}
			f.sock.Send(b, from, i)
			from = i + 1
		}
		f.sock.Send(b, from, n)
	}
}

// turn makes of slot i, in its own memory, the datagram that leaves. It moves only the start line:
// a request's to the left, making room for our Via behind it, a response's to the right, over it.
func (f *Forwarder) turn(b *mmsg.Batch, i int) bool {
	data, slot := b.Data(i), b.Slot(i)
	line := bytes.IndexByte(data, '\n') + 1
	if line == 0 {
		return false
	}
	peer := b.Peer(i)
	if peer != f.upstream {
		added := len(f.via) + peerLen + 2
		if added > mmsg.Headroom {
			return false
		}
		start := mmsg.Headroom - added
		copy(slot[start:], data[:line])
		at := start + line
		at += copy(slot[at:], f.via)
		at += putHex(slot[at:], peer)
		copy(slot[at:], "\r\n")
		b.Set(i, start, mmsg.Headroom+len(data))
		b.SetPeer(i, f.upstream)
		return true
	}
	strip := len(f.via) + peerLen + 2
	if len(data) < line+strip || !bytes.Equal(data[line:line+len(f.via)], f.via) {
		return false
	}
	client, ok := hex(data[line+len(f.via):][:peerLen])
	if !ok {
		return false
	}
	start := mmsg.Headroom + strip
	copy(slot[start:start+line], data[:line])
	b.Set(i, start, mmsg.Headroom+len(data))
	b.SetPeer(i, client)
	return true
}

func putHex(dst []byte, v uint64) int {
	const digits = "0123456789abcdef"
	for i := range peerLen {
		dst[i] = digits[v>>(4*(peerLen-1-i))&15]
	}
	return peerLen
}

func hex(s []byte) (v uint64, ok bool) {
	for _, c := range s {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		default:
			return 0, false
		}
		v = v<<4 | uint64(c)
	}
	return v, true
}
