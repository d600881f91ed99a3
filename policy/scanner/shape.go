package scanner

import "bytes"

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

func isDigits(v []byte) bool {
	for _, c := range v {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(v) > 0
}

// isUint32Branch says that v is z9hG4bK- and a decimal number of 32 bits, as
// Python's str(getrandbits(32)) writes it: without leading zeros.
func isUint32Branch(v []byte) bool {
	const cookie = "z9hG4bK-"
	if len(v) <= len(cookie) || string(v[:len(cookie)]) != cookie {
		return false
	}
	v = v[len(cookie):]
	if len(v) > 10 || !isDigits(v) || v[0] == '0' && len(v) > 1 {
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

// isSIPViciousTag says that v is the hexadecimal form of printable data, a byte 1
// and a decimal number, which is how SIPVicious marks its requests to know the
// answers again.
func isSIPViciousTag(v []byte) bool {
	if len(v)%2 != 0 || len(v) < 2*(1+1+tagDigits) {
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
