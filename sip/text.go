package sip

import (
	"bytes"
	"encoding/binary"
)

// AppendUnquoted appends to dst the text of a quoted string without its escapes
// (quoted-pair of RFC 3261 §25.1). raw is the string without its quotes, as
// [Credentials] gives it, or with them.
func AppendUnquoted(dst, raw []byte) []byte {
	if n := len(raw); n >= 2 && raw[0] == '"' && raw[n-1] == '"' {
		raw = raw[1 : n-1]
	}
	for i := 0; i < len(raw); i++ {
		if raw[i] == '\\' && i+1 < len(raw) {
			i++
		}
		dst = append(dst, raw[i])
	}
	return dst
}

// AppendUnescaped appends to dst a part of a URI with its %HH escapes undone
// (RFC 3261 §19.1.2): %61lice and alice are the same account. An escape that is
// none stays as it is.
func AppendUnescaped(dst, raw []byte) []byte {
	if bytes.IndexByte(raw, '%') < 0 {
		return append(dst, raw...)
	}
	for i := 0; i < len(raw); i++ {
		if raw[i] == '%' && i+2 < len(raw) {
			hi, lo := unhex(raw[i+1]), unhex(raw[i+2])
			if hi < 16 && lo < 16 {
				dst = append(dst, hi<<4|lo)
				i += 2
				continue
			}
		}
		dst = append(dst, raw[i])
	}
	return dst
}

// AppendLower appends raw to dst with the letters A to Z in lower case.
func AppendLower(dst, raw []byte) []byte {
	at := len(dst)
	dst = append(dst, raw...)
	rest := dst[at:]
	for ; len(rest) >= 8; rest = rest[8:] {
		binary.LittleEndian.PutUint64(rest, lower8(binary.LittleEndian.Uint64(rest)))
	}
	for i, c := range rest {
		rest[i] = lower[c]
	}
	return dst
}

// lower8 is lower for eight bytes at a time. To the lower seven bits of each is added what sets
// its highest bit from 'A' on, and from the first byte after 'Z' on.
func lower8(w uint64) uint64 {
	const each = 0x0101010101010101
	low := w & (0x7f * each)
	from, after := low+(0x80-'A')*each, low+(0x7f-'Z')*each
	letters := from &^ after &^ w & (0x80 * each)
	return w | letters>>2 // 0x20, which tells 'a' from 'A'
}

// unhex returns the value of a hexadecimal digit, 16 for anything else.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}
