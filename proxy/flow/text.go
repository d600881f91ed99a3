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
		a := chars[0][v>>42&63] | chars[1][v>>36&63] | chars[2][v>>30&63] | chars[3][v>>24&63]
		b := chars[0][v>>18&63] | chars[1][v>>12&63] | chars[2][v>>6&63] | chars[3][v&63]
		dst = binary.BigEndian.AppendUint64(dst, uint64(a)<<32|uint64(b))
	}
	var v uint64
	for i, c := range src {
		v |= uint64(c) << (40 - 8*i)
	}
	for bits := 8 * len(src); bits > 0; bits -= 6 {
		dst = append(dst, alphabet[v>>42&63])
		v <<= 6
	}
	return dst
}

// AppendDecode appends to dst the bytes that AppendEncode has made text of. It reports false
// for what it never makes: there is exactly one text for the same bytes.
func AppendDecode(dst, text []byte) (_ []byte, ok bool) {
	var seen uint32 // the bits of all values
	for ; len(text) >= 8; text = text[8:] {
		a := values[0][text[0]] | values[1][text[1]] | values[2][text[2]] | values[3][text[3]]
		b := values[0][text[4]] | values[1][text[5]] | values[2][text[6]] | values[3][text[7]]
		seen |= a | b
		dst = append(dst, byte(a>>16), byte(a>>8), byte(a), byte(b>>16), byte(b>>8), byte(b))
	}
	var v uint64
	for _, c := range text {
		seen |= values[3][c]
		v = v<<6 | uint64(values[3][c])
	}
	bits := 6 * len(text)
	spare := bits % 8 // that the last character has beyond the bytes
	if seen&invalid != 0 || spare == 6 || v&(1<<spare-1) != 0 {
		return dst, false
	}
	for bits -= 8; bits >= 0; bits -= 8 {
		dst = append(dst, byte(v>>bits))
	}
	return dst, true
}
