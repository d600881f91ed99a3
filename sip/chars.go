package sip

import "bytes"

// Character classes of RFC 3261 §25.1, as bits of one table.
const (
	cToken  = 1 << iota // token
	cLWS                // SP, HTAB, and the CR and LF of a fold
	cHost               // host name; '_' is no host name character, but phones and PBXes use it
	cIPv6               // inside the brackets of an IPv6 reference
	cURI                // may stand raw in a URI: no control, no white space, none of <>"
	cScheme             // URI scheme after its first letter
	cDelim              // ends the value of a header parameter
	cDigit
	cEqual // '='
	cBlank // SP and controls
)

// class maps a byte to its classes. Read-only.
var class = func() (t [256]uint16) {
	set := func(chars string, bits uint16) {
		for i := range len(chars) {
			t[chars[i]] |= bits
		}
	}
	for c := 'a'; c <= 'z'; c++ {
		set(string(c)+string(c-32), cToken|cHost|cScheme)
	}
	set("0123456789", cToken|cHost|cScheme|cDigit|cIPv6)
	set("-.!%*_+`'~", cToken)
	set("-._", cHost)
	set("+-.", cScheme)
	set("abcdefABCDEF:.", cIPv6)
	set(" \t\r\n", cLWS|cDelim)
	set(";,<>\"", cDelim)
	set("=", cEqual)
	for c := range 0x21 {
		t[c] |= cBlank
	}
	t[0x7f] |= cBlank
	for c := 0x21; c < 0x100; c++ {
		if c != '<' && c != '>' && c != '"' && c != 0x7f {
			t[c] |= cURI
		}
	}
	return t
}()

// lower maps ASCII capitals to small letters and all else to itself. Read-only.
var lower = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
		if 'A' <= i && i <= 'Z' {
			t[i] = byte(i + 32)
		}
	}
	return t
}()

// equalFold reports whether b equals the lower-case s, ignoring ASCII case.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		if lower[b[i]] != s[i] {
			return false
		}
	}
	return true
}

// until returns the first offset from i whose byte is of one of the classes, or end.
func until(buf []byte, i, end int, classes uint16) int {
	b := buf[i:end]
	for len(b) >= 4 && (class[b[0]]|class[b[1]]|class[b[2]]|class[b[3]])&classes == 0 {
		b = b[4:]
	}
	for len(b) > 0 && class[b[0]]&classes == 0 {
		b = b[1:]
	}
	return end - len(b)
}

// during returns the first offset from i whose byte is not of that class, or end.
func during(buf []byte, i, end int, of uint16) int {
	b := buf[i:end]
	for len(b) >= 4 && class[b[0]]&class[b[1]]&class[b[2]]&class[b[3]]&of != 0 {
		b = b[4:]
	}
	for len(b) > 0 && class[b[0]]&of != 0 {
		b = b[1:]
	}
	return end - len(b)
}

// skipLWS returns the first offset from i that holds no linear white space.
// Folds need no look at what follows: head.next has made sure of it.
func skipLWS(buf []byte, i, end int) int {
	for i < end && buf[i] <= ' ' && class[buf[i]]&cLWS != 0 { // the first test is the cheap one
		i++
	}
	return i
}

// trimLWS returns the end of [i,end) without trailing linear white space.
func trimLWS(buf []byte, i, end int) int {
	for end > i && buf[end-1] <= ' ' && class[buf[end-1]]&cLWS != 0 {
		end--
	}
	return end
}

// isToken reports whether buf[i:end] is a token of RFC 3261 §25.1.
func isToken(buf []byte, i, end int) bool {
	if i >= end {
		return false
	}
	for _, c := range buf[i:end] {
		if class[c]&cToken == 0 {
			return false
		}
	}
	return true
}

// skipQuoted takes the offset of an opening quote and returns the offset after
// the closing one, or -1 when there is none before end.
func skipQuoted(buf []byte, i, end int) int {
	i++
	k := bytes.IndexByte(buf[i:end], '"')
	if k < 0 {
		return -1
	}
	if bytes.IndexByte(buf[i:i+k], '\\') < 0 {
		return i + k + 1
	}
	for ; i < end; i++ {
		switch buf[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// skipAngle takes the offset of '<' and returns the offset after its '>', or -1.
// Quotes inside are honoured: some phones write +sip.instance="<urn:…>" inside
// the brackets of their Contact.
func skipAngle(buf []byte, i, end int) int {
	k := bytes.IndexByte(buf[i:end], '>')
	if k < 0 {
		return -1
	}
	if bytes.IndexByte(buf[i:i+k], '"') < 0 {
		return i + k + 1
	}
	for i++; i < end; i++ {
		switch buf[i] {
		case '>':
			return i + 1
		case '"':
			if i = skipQuoted(buf, i, end) - 1; i < 0 {
				return -1
			}
		}
	}
	return -1
}
