package scanner

import (
	"bytes"
	"encoding/binary"
)

// shape tells a value by its form.
type shape uint8

const (
	shapeDigits shape = iota
	shapeUint32Branch
	shapeSIPViciousTag
	shapeBareAddress
)

// shapeNames returns the names of the shapes in signature files, by shape.
func shapeNames() []string {
	return []string{"digits", "uint32-branch", "sipvicious-tag", "bare-address"}
}

func (s shape) fits(v []byte) bool {
	switch s {
	case shapeDigits:
		return isDigits(v)
	case shapeUint32Branch:
		return isUint32Branch(v)
	case shapeSIPViciousTag:
		return isSIPViciousTag(v)
	case shapeBareAddress:
		return isBareAddress(v)
	}
	return false
}

// enter adds to e what a value must have to fit.
func (s shape) enter(e *entry) {
	switch s {
	case shapeDigits:
		e.from(1)
		for c := byte('0'); c <= '9'; c++ {
			e.first.add(c)
		}
	case shapeUint32Branch:
		for n := len(branchCookie) + 1; n <= len(branchCookie)+maxUint32Digits; n++ {
			e.length(n)
		}
		e.first.add(branchCookie[0])
	case shapeSIPViciousTag:
		for n := minTag; n < 63; n += 2 {
			e.length(n)
		}
		e.from(63)
		for c := byte('2'); c <= '7'; c++ { // what begins the code of a printable byte
			e.first.add(c)
		}
	case shapeBareAddress:
		e.from(2)
		for c := range 256 {
			if c != '<' {
				e.first.add(byte(c))
			}
		}
	}
}

func isDigits(v []byte) bool {
	if len(v) == 0 {
		return false
	}
	for len(v) >= 8 {
		// A digit is 0x30 to 0x39: its high half is 3, also when 6 is added.
		const high, zeros = 0xF0F0F0F0F0F0F0F0, 0x3030303030303030
		w := binary.LittleEndian.Uint64(v)
		if w&high != zeros || (w+0x0606060606060606)&high != zeros {
			return false
		}
		v = v[8:]
	}
	for _, c := range v {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

const (
	branchCookie    = "z9hG4bK-"
	maxUint32Digits = 10
)

// isUint32Branch says that v is z9hG4bK- and a decimal number of 32 bits, as
// Python's str(getrandbits(32)) writes it: without leading zeros.
func isUint32Branch(v []byte) bool {
	if len(v) <= len(branchCookie) || string(v[:len(branchCookie)]) != branchCookie {
		return false
	}
	v = v[len(branchCookie):]
	if len(v) > maxUint32Digits || !isDigits(v) || v[0] == '0' && len(v) > 1 {
		return false
	}
	n := uint64(0)
	for _, c := range v {
		n = n*10 + uint64(c-'0')
	}
	return n < 1<<32
}

// tagDigits is how many decimal digits a tag of SIPVicious must end in. Its random
// number of 32 bits has fewer of them once in a million tags, and a random tag of
// an innocent phone has that many once in 10¹⁰.
const tagDigits = 5

// minTag is the length of the shortest such tag: of a byte, the mark and the digits.
const minTag = 2 * (1 + 1 + tagDigits)

// isSIPViciousTag says that v is the hexadecimal form of printable data, a byte 1
// and a decimal number, which is how SIPVicious marks its requests to know the
// answers again.
func isSIPViciousTag(v []byte) bool {
	if len(v)%2 != 0 || len(v) < minTag {
		return false
	}
	digits, marked := 0, false
	for i := len(v) - 2; i >= 0; i -= 2 {
		c, ok := unhex(v[i], v[i+1])
		switch {
		case !ok:
			return false
		case marked:
			if c < ' ' || c > '~' {
				return false
			}
		case c >= '0' && c <= '9':
			digits++
		case c == 1 && digits >= tagDigits && digits <= 10:
			marked = i > 0
		default:
			return false
		}
	}
	return marked
}

func unhex(high, low byte) (byte, bool) {
	h, ok1 := nibble(high)
	l, ok2 := nibble(low)
	return h<<4 | l, ok1 && ok2
}

func nibble(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// isBareAddress says that v is an address without angle brackets. "Contact: *" of
// RFC 3261 §10.2.2 is none.
func isBareAddress(v []byte) bool {
	return len(v) > 1 && bytes.IndexByte(v, '<') < 0
}
