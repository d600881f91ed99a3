package sip

// Redact appends to dst a copy of msg, a message or any bytes, that people may
// see: digest responses, nonces and their like, Basic and Bearer credentials,
// passwords in URIs and media keys are replaced by "***", and control characters
// that could play tricks on a terminal by '.'. It needs no well-formed message,
// and rather hides too much: a name and '=' announce a secret even where they
// stand in a quoted string, or in another secret.
func Redact(dst, msg []byte) []byte {
	hidden := 0       // end of the secret being left out
	from, to := 0, -1 // the next secret
	for i, c := range msg {
		if class[c]&cToken != 0 && (i == 0 || class[msg[i-1]]&cToken == 0) {
			if f, t := secretAt(msg, i); t > f {
				if to < 0 {
					from = f
				}
				to = max(to, t)
			}
		}
		if to >= 0 && i >= from {
			if i >= hidden {
				dst = append(dst, "***"...)
			}
			hidden, to = max(hidden, to), -1
		}
		if i < hidden {
			continue
		}
		if c < ' ' && c != '\r' && c != '\n' && c != '\t' || c == 0x7f {
			c = '.'
		}
		dst = append(dst, c)
	}
	return dst
}

// maxSecret bounds the search for the end of a secret, so that hostile bytes do
// not make it quadratic.
const maxSecret = 1024

// skipFolds skips white space, and line ends that begin a continuation line.
func skipFolds(msg []byte, i int) int {
	for i < len(msg) {
		switch {
		case msg[i] == ' ' || msg[i] == '\t':
			i++
		case msg[i] == '\r' && i+2 < len(msg) && msg[i+1] == '\n' && (msg[i+2] == ' ' || msg[i+2] == '\t'):
			i += 3
		default:
			return i
		}
	}
	return i
}

// secretAt looks at the word that begins at i and returns the range of a secret
// that it announces, empty if none.
func secretAt(msg []byte, i int) (from, to int) {
	word := i
	for i < len(msg) && class[msg[i]]&cToken != 0 {
		i++
	}
	w := span(word, i)
	switch w.Len() {
	case 3, 4:
		if w.Is(msg, "sip") || w.Is(msg, "sips") {
			return uriPassword(msg, i)
		}
	case 5:
		if w.Is(msg, "nonce") {
			return paramSecret(msg, i)
		}
		if w.Is(msg, "basic") {
			return nextWord(msg, i)
		}
	case 6:
		if w.Is(msg, "cnonce") || w.Is(msg, "opaque") {
			return paramSecret(msg, i)
		}
		if w.Is(msg, "bearer") {
			return nextWord(msg, i)
		}
		if w.Is(msg, "inline") { // RFC 4568: the SRTP master key
			return afterColon(msg, i)
		}
	case 7:
		if w.Is(msg, "rspauth") {
			return paramSecret(msg, i)
		}
		if w.Is(msg, "ice-pwd") {
			return afterColon(msg, i)
		}
	case 8:
		if w.Is(msg, "response") {
			return paramSecret(msg, i)
		}
	case 9:
		if w.Is(msg, "nextnonce") {
			return paramSecret(msg, i)
		}
	}
	return 0, 0
}

// paramSecret returns the range of the value in ` = "value"` at i, without its
// quotes. A quote that stays open hides all up to the end of the line.
func paramSecret(msg []byte, i int) (from, to int) {
	if i = skipFolds(msg, i); i == len(msg) || msg[i] != '=' {
		return 0, 0
	}
	i = skipFolds(msg, i+1)
	if i == len(msg) || msg[i] != '"' {
		return i, wordEnd(msg, i)
	}
	if end := skipQuoted(msg, i, min(len(msg), i+maxSecret)); end > 0 {
		return i + 1, end - 1
	}
	end := i + 1
	for end < len(msg) && msg[end] != '\r' && msg[end] != '\n' {
		end++
	}
	return i + 1, end
}

// nextWord returns the range of the word after the white space at i.
func nextWord(msg []byte, i int) (from, to int) {
	from = skipFolds(msg, i)
	if from == i {
		return 0, 0
	}
	return from, wordEnd(msg, from)
}

// afterColon returns the range of the word after the colon at i.
func afterColon(msg []byte, i int) (from, to int) {
	if i == len(msg) || msg[i] != ':' {
		return 0, 0
	}
	return i + 1, wordEnd(msg, i+1)
}

// wordEnd returns the end of what is neither white space nor a delimiter.
func wordEnd(msg []byte, i int) int {
	for i < len(msg) && class[msg[i]]&cDelim == 0 {
		i++
	}
	return i
}

// uriPassword returns the range between the ':' and the '@' of "sip:user:pw@".
func uriPassword(msg []byte, i int) (from, to int) {
	if i == len(msg) || msg[i] != ':' {
		return 0, 0
	}
	for k := i + 1; k < min(len(msg), i+maxSecret) && class[msg[k]]&cURI != 0; k++ {
		switch msg[k] {
		case ':':
			if from == 0 {
				from = k + 1
			}
		case '@':
			if from == 0 {
				return 0, 0
			}
			return from, k
		}
	}
	return 0, 0
}
