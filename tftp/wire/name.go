package wire

import "unicode/utf8"

// NameFault says what is wrong with the name of a file.
type NameFault uint8

// The faults of names.
const (
	NameOK        NameFault = iota
	NameControl             // a control character, or bytes that are not UTF-8
	NameTraversal           // leads out of the served folder
	NameAbsolute            // begins at the root, or with a drive
)

var nameFaults = [...]string{"ok", "control character in the name", "path traversal", "absolute path"}

// String says it in a few words.
func (f NameFault) String() string {
	if int(f) < len(nameFaults) {
		return nameFaults[f]
	}
	return "unknown"
}

// CheckName looks for names that could lead a server out of the folder that it
// serves, in every spelling that some server resolves: slashes of both kinds, and
// percent-encoded, even more than once.
func CheckName(name []byte) NameFault {
	var buf [MaxRequest]byte
	if len(name) > len(buf) {
		return NameControl
	}
	b := buf[:copy(buf[:], name)]
	absolute := false
	for {
		switch f := checkSpelling(b); f {
		case NameOK:
		case NameAbsolute: // unless it is worse than that
			absolute = true
		default:
			return f
		}
		n := unescape(b)
		if n == len(b) {
			break
		}
		b = b[:n]
	}
	if absolute {
		return NameAbsolute
	}
	return NameOK
}

func checkSpelling(b []byte) NameFault {
	for _, c := range b {
		if c < ' ' || c == 0x7f {
			return NameControl
		}
	}
	if !utf8.Valid(b) { // overlong forms of . and / among them
		return NameControl
	}
	start := 0
	for i := 0; i <= len(b); i++ {
		if i < len(b) && !isSlash(b[i]) {
			continue
		}
		if climbs(b[start:i]) {
			return NameTraversal
		}
		start = i + 1
	}
	switch {
	case len(b) > 0 && isSlash(b[0]), len(b) > 1 && b[1] == ':':
		return NameAbsolute
	}
	return NameOK
}

func isSlash(c byte) bool { return c == '/' || c == '\\' }

// climbs says whether a part of a path is "..", or what Windows makes of it: it
// ignores dots and spaces at the end.
func climbs(part []byte) bool {
	dots := 0
	for _, c := range part {
		switch c {
		case '.':
			dots++
		case ' ':
		default:
			return false
		}
	}
	return dots > 1
}

// unescape resolves percent-encoding in place, once, and returns the new length.
func unescape(b []byte) int {
	n := 0
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c == '%' && i+2 < len(b) {
			if hi, lo := unhex(b[i+1]), unhex(b[i+2]); hi|lo < 16 {
				c = hi<<4 | lo
				i += 2
			}
		}
		b[n] = c
		n++
	}
	return n
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 0xff
}
