//go:build linux

package kernel

import (
	"encoding/binary"
	"iter"

	"golang.org/x/sys/unix"
)

// nfgenmsgLen is the header of each netfilter message: family, version, and a
// number of 16 bits.
const nfgenmsgLen = 4

// attrs is a list of netlink attributes as bytes: a message of 1,000 elements
// is built in one piece of memory.
type attrs []byte

func (a *attrs) begin(typ uint16) int {
	at := len(*a)
	*a = binary.NativeEndian.AppendUint16(*a, 0)
	*a = binary.NativeEndian.AppendUint16(*a, typ)
	return at
}

// end closes what begin has opened, and pads it.
func (a *attrs) end(at int) {
	binary.NativeEndian.PutUint16((*a)[at:], uint16(len(*a)-at))
	for len(*a)%4 != 0 {
		*a = append(*a, 0)
	}
}

func (a *attrs) nest(typ uint16) int { return a.begin(typ | unix.NLA_F_NESTED) }

func (a *attrs) bytes(typ uint16, b []byte) {
	at := a.begin(typ)
	*a = append(*a, b...)
	a.end(at)
}

func (a *attrs) u8(typ uint16, v uint8) {
	at := a.begin(typ)
	*a = append(*a, v)
	a.end(at)
}

func (a *attrs) be32(typ uint16, v uint32) {
	at := a.begin(typ)
	*a = binary.BigEndian.AppendUint32(*a, v)
	a.end(at)
}

func (a *attrs) be64(typ uint16, v uint64) {
	at := a.begin(typ)
	*a = binary.BigEndian.AppendUint64(*a, v)
	a.end(at)
}

func (a *attrs) text(typ uint16, s string) {
	at := a.begin(typ)
	*a = append(*a, s...)
	*a = append(*a, 0)
	a.end(at)
}

// parseAttrs goes through the attributes in b; the types come without flags. It
// ends where b is not well formed.
func parseAttrs(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.NLA_HDRLEN {
			n := int(binary.NativeEndian.Uint16(b))
			typ := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if n < unix.NLA_HDRLEN || n > len(b) || !yield(typ, b[unix.NLA_HDRLEN:n]) {
				return
			}
			b = b[min((n+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(b)):]
		}
	}
}
