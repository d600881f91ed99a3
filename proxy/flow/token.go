package flow

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// Kind says in which place of a message a token belongs, so that one cannot be
// replayed in another.
type Kind uint8

// The places that carry tokens.
const (
	KindVia   Kind = iota // parameter of our Via: where the response goes
	KindRoute             // user part of our Record-Route or Path URI
	KindAlias             // user part of an aliased Contact
)

// Side says to whom the address in a token belongs.
type Side uint8

// The two sides of sipward.
const (
	Outside Side = iota // a phone or a trunk
	Inside              // a PBX
)

// A Token is what sipward needs to find the way back to one side of a flow.
type Token struct {
	Kind Kind
	Side Side
	// Stream is set for a flow over a connection (TCP).
	Stream bool
	// Follow is set when the peer is a trunk, whose requests inside a dialog
	// follow their Route set and Request-URI (RFC 3261 §12.2.1.1) and not the flow.
	Follow bool
	// Rewritten is set when To (for the phone) was restored from an alias, so
	// that it can be put back in what the phone sends (RFC 3261 §8.2.6.2).
	Rewritten bool
	// Listener is the index of the listener that the peer spoke to.
	Listener uint8
	// PBX is the identity of the PBX on the other side, 0 if it is not settled.
	PBX uint16
	// Addr is the peer's transport address; the zone of a link-local one is the number of
	// its interface.
	Addr netip.AddrPort
	// Local is the address of ours that the peer spoke to; invalid unless the
	// listener is bound to a wildcard address.
	Local netip.Addr
	// Conn is the connection of a stream (48 bits); Who is a hash of the account,
	// by which its newer connection is found when Conn is gone.
	Conn uint64
	Who  uint32
}

const (
	macSize = 8
	// minBinary is a head and an IPv4 address with its port.
	minBinary = 4 + 6 + macSize
	// minText is the length of the shortest token as text.
	minText = (minBinary*8 + 5) / 6
	// MaxPayload is the most that a token can carry besides the flow, in bytes.
	MaxPayload = 192
	// MaxSize is the length of the longest token in bytes: head 4, address 16+2, local 16,
	// connection 6, who 4; and the payload.
	MaxSize = 4 + 18 + 16 + 10 + MaxPayload + macSize
	// MaxText is the length of the longest token as text.
	MaxText = (MaxSize*8 + 5) / 6
)

const (
	bitInside    = 1 << 5
	bitStream    = 1 << 4
	bitV6        = 1 << 3
	bitLocal     = 1 << 2
	bitFollow    = 1 << 1
	bitRewritten = 1 << 0
)

// Append appends the text of t with its payload, authenticated together with
// bind (which is not carried: the reader must know it), to dst. The characters are
// those of base64url, which may stand in a token and in a user part unescaped
// (RFC 3261 §25.1). The payload may have up to MaxPayload bytes; a longer one is cut
// and will not verify.
func (k *Key) Append(dst []byte, t *Token, payload []byte, bind uint64) []byte {
	var raw [MaxSize + 8]byte
	b := t.appendHead(raw[:0])
	if len(payload) > MaxPayload {
		payload = payload[:MaxPayload]
	}
	b = append(b, payload...)
	sum := k.mac(binary.LittleEndian.AppendUint64(b, bind))
	b = binary.LittleEndian.AppendUint64(b, sum)
	return AppendEncode(dst, b)
}

func (t *Token) appendHead(b []byte) []byte {
	flags := byte(t.Kind) << 6
	addr, local := t.Addr.Addr(), t.Local
	set := func(on bool, bit byte) {
		if on {
			flags |= bit
		}
	}
	set(t.Side == Inside, bitInside)
	set(t.Stream, bitStream)
	set(addr.Is6(), bitV6)
	set(local.IsValid(), bitLocal)
	set(t.Follow, bitFollow)
	set(t.Rewritten, bitRewritten)
	b = append(b, flags, t.Listener, byte(t.PBX>>8), byte(t.PBX))
	b = appendAddr(b, addr, flags)
	b = binary.BigEndian.AppendUint16(b, t.Addr.Port())
	if local.IsValid() {
		b = appendAddr(b, local, flags)
	}
	if t.Stream {
		b = append(b, byte(t.Conn>>40), byte(t.Conn>>32), byte(t.Conn>>24), byte(t.Conn>>16), byte(t.Conn>>8), byte(t.Conn))
		b = binary.BigEndian.AppendUint32(b, t.Who)
	}
	return b
}

// appendAddr writes the address in the family that the flags tell.
func appendAddr(b []byte, a netip.Addr, flags byte) []byte {
	if flags&bitV6 != 0 {
		x := a.As16()
		if zone := a.Zone(); zone != "" {
			n, _ := strconv.ParseUint(zone, 10, 32)
			binary.BigEndian.PutUint32(x[zoneAt:], uint32(n))
		}
		return append(b, x[:]...)
	}
	x := a.Unmap().As4()
	return append(b, x[:]...)
}

// zoneAt is where in a link-local address the number of its interface is written: the
// bytes are zero otherwise (RFC 4291 §2.5.6).
const zoneAt = 4

// parseAddr reads what appendAddr has written.
func parseAddr(b []byte) netip.Addr {
	if len(b) == 4 {
		return netip.AddrFrom4([4]byte(b))
	}
	x := [16]byte(b)
	a := netip.AddrFrom16(x)
	if !a.IsLinkLocalUnicast() {
		return a
	}
	zone := binary.BigEndian.Uint32(x[zoneAt:])
	if zone == 0 {
		return a
	}
	clear(x[zoneAt : zoneAt+4])
	return netip.AddrFrom16(x).WithZone(strconv.FormatUint(uint64(zone), 10))
}

// Parse reads the token in text into t and verifies it with bind. The payload stands in the
// memory of buf, which may be nil; with room for MaxSize bytes in it nothing is allocated.
// It reports false, and leaves t as it is, for everything that this key did not make.
func (k *Key) Parse(t *Token, text []byte, kind Kind, bind uint64, buf []byte) (payload []byte, ok bool) {
	if len(text) > MaxText || len(text) < minText {
		return nil, false
	}
	b, ok := AppendDecode(buf[:0], text)
	if !ok || len(b) < minBinary || Kind(b[0]>>6) != kind {
		return nil, false
	}
	body := b[:len(b)-macSize]
	sum := binary.LittleEndian.Uint64(b[len(body):])
	if k.mac(binary.LittleEndian.AppendUint64(body, bind)) != sum { // overwrites the sum, which is read
		return nil, false
	}
	return t.parseHead(body)
}

// Resembles reports whether text has the form of a token: its alphabet and a length that one
// can have. What does, stands where a token of ours would, and does not [Key.Parse], was
// forged, altered, or made with a key that has been replaced since.
func Resembles(text []byte) bool {
	if len(text) < minText || len(text) > MaxText {
		return false
	}
	for _, c := range text {
		if values[0][c] == invalid {
			return false
		}
	}
	return true
}

// parseHead reads the fields from authenticated bytes and returns the payload.
func (t *Token) parseHead(b []byte) (rest []byte, ok bool) {
	flags := b[0]
	size := 4
	if flags&bitV6 != 0 {
		size = 16
	}
	need := 4 + size + 2
	if flags&bitLocal != 0 {
		need += size
	}
	if flags&bitStream != 0 {
		need += 10
	}
	if len(b) < need {
		return nil, false
	}
	*t = Token{}
	t.Kind, t.Listener, t.PBX = Kind(flags>>6), b[1], binary.BigEndian.Uint16(b[2:])
	t.Stream, t.Follow, t.Rewritten = flags&bitStream != 0, flags&bitFollow != 0, flags&bitRewritten != 0
	if flags&bitInside != 0 {
		t.Side = Inside
	}
	b = b[4:]
	t.Addr = netip.AddrPortFrom(parseAddr(b[:size]), binary.BigEndian.Uint16(b[size:]))
	b = b[size+2:]
	if flags&bitLocal != 0 {
		t.Local = parseAddr(b[:size])
		b = b[size:]
	}
	if t.Stream {
		t.Conn = uint64(b[0])<<40 | uint64(b[1])<<32 | uint64(binary.BigEndian.Uint32(b[2:]))
		t.Who = binary.BigEndian.Uint32(b[6:])
		b = b[10:]
	}
	return b, true
}
