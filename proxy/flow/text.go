package flow

import "encoding/binary"

// Tokens and branches are written in base64url without padding (RFC 4648 §5). encoding/base64
// does the same for any alphabet with twice as many instructions, and overlooks line breaks.

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// invalid is the value of a character that is not in the alphabet.
const invalid = 1 << 7

var values = valuesOf(alphabet)

func valuesOf(alphabet string) (v [256]byte) {
	for i := range v {
		v[i] = invalid
	}
	for i := range alphabet {
		v[alphabet[i]] = byte(i)
	}
	return v
}

// AppendEncode appends the text of src to dst.
func AppendEncode(dst, src []byte) []byte {
	for ; len(src) >= 6; src = src[6:] {
		v := uint64(binary.BigEndian.Uint32(src))<<16 | uint64(binary.BigEndian.Uint16(src[4:]))
		dst = append(dst,
			alphabet[v>>42&63], alphabet[v>>36&63], alphabet[v>>30&63], alphabet[v>>24&63],
			alphabet[v>>18&63], alphabet[v>>12&63], alphabet[v>>6&63], alphabet[v&63])
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
	var seen byte // the bits of all values
	for ; len(text) >= 8; text = text[8:] {
		a, b, c, d := values[text[0]], values[text[1]], values[text[2]], values[text[3]]
		e, f, g, h := values[text[4]], values[text[5]], values[text[6]], values[text[7]]
		seen |= a | b | c | d | e | f | g | h
		hi := uint32(a)<<26 | uint32(b)<<20 | uint32(c)<<14 | uint32(d)<<8 | uint32(e)<<2 | uint32(f)>>4
		lo := uint16(f)<<12 | uint16(g)<<6 | uint16(h)
		dst = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(dst, hi), lo)
	}
	var v uint64
	for _, c := range text {
		seen |= values[c]
		v = v<<6 | uint64(values[c])
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
