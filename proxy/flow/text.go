package flow

import "encoding/binary"

// Tokens and branches are written in base64url without padding (RFC 4648 §5). encoding/base64
// does the same for any alphabet with more than twice as many instructions, and overlooks line
// breaks.

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// chars are the characters, values their values, as they stand in each of four places: three
// bytes are four characters.
var (
	chars  = charsOf(alphabet)
	values = valuesOf(alphabet)
)

// invalid is the value of a character that is not in the alphabet.
const invalid = 1 << 24

func charsOf(alphabet string) (v [4][64]uint32) {
	for place := range v {
		for i := range alphabet {
			v[place][i] = uint32(alphabet[i]) << (24 - 8*place)
		}
	}
	return v
}

func valuesOf(alphabet string) (v [4][256]uint32) {
	for place := range v {
		for c := range v[place] {
			v[place][c] = invalid
		}
		for i := range alphabet {
			v[place][alphabet[i]] = uint32(i) << (18 - 6*place)
		}
	}
	return v
}

// AppendEncode appends the text of src to dst.
func AppendEncode(dst, src []byte) []byte {
	for ; len(src) >= 6; src = src[6:] {
		v := uint64(binary.BigEndian.Uint32(src))<<16 | uint64(binary.BigEndian.Uint16(src[4:]))
		dst = binary.BigEndian.AppendUint64(dst, uint64(four(uint32(v>>24)))<<32|uint64(four(uint32(v))))
	}
	if len(src) >= 3 {
		dst = binary.BigEndian.AppendUint32(dst, four(uint32(src[0])<<16|uint32(src[1])<<8|uint32(src[2])))
		src = src[3:]
	}
	switch len(src) {
	case 1:
		return append(dst, alphabet[src[0]>>2], alphabet[src[0]<<4&63])
	case 2:
		v := uint32(src[0])<<8 | uint32(src[1])
		return append(dst, alphabet[v>>10&63], alphabet[v>>4&63], alphabet[v<<2&63])
	}
	return dst
}

// four returns the characters of the three low bytes of v.
func four(v uint32) uint32 {
	return chars[0][v>>18&63] | chars[1][v>>12&63] | chars[2][v>>6&63] | chars[3][v&63]
}

// AppendDecode appends to dst the bytes that AppendEncode has made text of. It reports false
// for what it never makes: there is exactly one text for the same bytes.
func AppendDecode(dst, text []byte) (_ []byte, ok bool) {
	var wrong uint32 // bits that must not be set
	for ; len(text) >= 8; text = text[8:] {
		a := values[0][text[0]] | values[1][text[1]] | values[2][text[2]] | values[3][text[3]]
		b := values[0][text[4]] | values[1][text[5]] | values[2][text[6]] | values[3][text[7]]
		wrong |= (a | b) & invalid
		dst = append(dst, byte(a>>16), byte(a>>8), byte(a), byte(b>>16), byte(b>>8), byte(b))
	}
	if len(text) >= 4 {
		a := values[0][text[0]] | values[1][text[1]] | values[2][text[2]] | values[3][text[3]]
		wrong |= a & invalid
		dst = append(dst, byte(a>>16), byte(a>>8), byte(a))
		text = text[4:]
	}
	switch len(text) { // the last character has no bits beyond the bytes
	case 1:
		return dst, false
	case 2:
		a := values[0][text[0]] | values[1][text[1]]
		wrong |= a & (invalid | 0xffff)
		dst = append(dst, byte(a>>16))
	case 3:
		a := values[0][text[0]] | values[1][text[1]] | values[2][text[2]]
		wrong |= a & (invalid | 0xff)
		dst = append(dst, byte(a>>16), byte(a>>8))
	}
	return dst, wrong == 0
}
