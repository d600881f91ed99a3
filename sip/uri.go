package sip

import "bytes"

// SchemeKind is the kind of a URI's scheme.
type SchemeKind uint8

// The kinds of schemes.
const (
	SchemeOther SchemeKind = iota
	SchemeSIP
	SchemeSIPS
	SchemeTel
	SchemeURN
)

// URI is a parsed SIP, SIPS or tel URI, or one of another scheme, of which only
// Scheme and Rest are known.
type URI struct {
	Kind   SchemeKind
	Scheme Span
	Rest   Span // everything after the scheme and its colon
	// User is the number of a tel URI. Of a SIP URI it may be empty though there is
	// an '@': some phones write sip:@host when they withhold their number.
	User     Span
	Password Span
	HasUser  bool // there is an '@', even when User is empty
	Host     Span // keeps the brackets of an IPv6 reference
	Port     int  // 0: absent
	HostPort Span
	// Params has the leading ';'. It ends where another parameter may be inserted,
	// also when it is empty; a last ';' with nothing behind it is not in it.
	Params Span
	// HeadersPart is what follows the '?', empty when there is none.
	HeadersPart Span
}

// ParseURI parses the URI that fills s. There may be no white space in it.
func ParseURI(buf []byte, s Span) (u URI, fault Fault) {
	if !s.valid(len(buf)) {
		return u, FaultURI
	}
	fault = u.parse(buf, int(s.Off), int(s.End))
	return u, fault
}

// Param returns the URI parameter with that name, which is given in lower case.
func (u *URI) Param(buf []byte, name string) (p Param, ok bool) {
	for i, end := int(u.Params.Off), int(u.Params.End); i < end; {
		i = scanURIParam(buf, i, end, &p)
		if p.Name.Is(buf, name) {
			return p, true
		}
	}
	return Param{}, false
}

// scanURIParam reads ";name=value" at i of a span that checkParams has passed
// and returns the offset after it.
func scanURIParam(buf []byte, i, end int, p *Param) int {
	whole := i
	for i++; i < end && buf[i] != '=' && buf[i] != ';'; i++ {
	}
	p.Present, p.Name, p.Value = true, span(whole+1, i), span(i, i)
	if i < end && buf[i] == '=' {
		value := i + 1
		for i++; i < end && buf[i] != ';'; i++ {
			if buf[i] == '"' {
				i = skipQuoted(buf, i, end) - 1
			}
		}
		p.Value = span(value, i)
	}
	p.Whole = span(whole, i)
	return i
}

func (u *URI) parse(buf []byte, i, end int) Fault {
	if end-i > 4 && string(buf[i:i+4]) == "sip:" { // what nearly everybody writes
		u.Kind, u.Scheme, u.Rest = SchemeSIP, span(i, i+3), span(i+4, end)
		return u.parseSIP(buf, i+4, end)
	}
	start := i
	if i == end || class[buf[i]]&cScheme == 0 || lower[buf[i]] < 'a' {
		return FaultURI // a scheme begins with a letter (RFC 3986 §3.1)
	}
	for i < end && class[buf[i]]&cScheme != 0 {
		i++
	}
	if i == end || buf[i] != ':' {
		return FaultURI
	}
	u.Scheme, u.Rest = span(start, i), span(i+1, end)
	u.Kind = schemeKind(buf[start:i])
	switch u.Kind {
	case SchemeSIP, SchemeSIPS:
		return u.parseSIP(buf, i+1, end)
	case SchemeTel:
		return u.parseTel(buf, i+1, end)
	}
	if i+1 == end || !rawURI(buf, i+1, end) {
		return FaultURI
	}
	return OK
}

func schemeKind(b []byte) SchemeKind {
	switch len(b) {
	case 3:
		if equalFold(b, "sip") {
			return SchemeSIP
		}
		if equalFold(b, "tel") {
			return SchemeTel
		}
		if equalFold(b, "urn") {
			return SchemeURN
		}
	case 4:
		if equalFold(b, "sips") {
			return SchemeSIPS
		}
	}
	return SchemeOther
}

// rawURI reports whether all bytes may stand in a URI.
func rawURI(buf []byte, i, end int) bool {
	return during(buf, i, end, cURI) == end
}

// parseTel splits number and parameters (RFC 3966 §3).
func (u *URI) parseTel(buf []byte, i, end int) Fault {
	if !rawURI(buf, i, end) {
		return FaultURI
	}
	semi := end
	if k := bytes.IndexByte(buf[i:end], ';'); k >= 0 {
		semi = i + k
	}
	if semi == i {
		return FaultURI
	}
	u.User, u.Params = span(i, semi), span(semi, end)
	return OK
}

// parseSIP parses what follows "sip:" (RFC 3261 §19.1.1). The user part may hold
// ';', '?', ',' and '/', so the '@' is looked for first. A second '@' is refused
// except in the headers part: parsers take the first or the last.
func (u *URI) parseSIP(buf []byte, i, end int) Fault {
	if at := bytes.IndexByte(buf[i:end], '@'); at >= 0 {
		at += i
		if !rawURI(buf, i, at) {
			return FaultURI
		}
		u.HasUser, u.User, u.Password = true, span(i, at), span(at, at)
		if k := bytes.IndexByte(buf[i:at], ':'); k >= 0 {
			if k == 0 {
				return FaultURI // a password without a user
			}
			u.User, u.Password = span(i, i+k), span(i+k+1, at)
		}
		i = at + 1
	}
	hostport := i
	if i = scanHost(buf, i, end); i < 0 {
		return FaultURI
	}
	u.Host = span(hostport, i)
	if i < end && buf[i] == ':' {
		if i, u.Port = scanPort(buf, i+1, end); u.Port == 0 {
			return FaultURI
		}
	}
	u.HostPort = span(hostport, i)
	params := i
	if i = uriParamsEnd(buf, i, end); i < 0 {
		return FaultURI
	}
	u.Params, u.HeadersPart = span(params, i), span(i, i)
	if i == end && i > params && buf[i-1] == ';' {
		u.Params.End--
	}
	if i < end {
		u.HeadersPart = span(i+1, end)
		if !rawURI(buf, i+1, end) {
			return FaultURI
		}
	}
	return OK
}

// uriParamsEnd returns where the parameters that begin at i end: at a '?' or at
// end. It returns -1 when a byte is out of place or a name is empty; but a ';'
// may be the last byte, as some phones write it.
func uriParamsEnd(buf []byte, i, end int) int {
	if i < end && buf[i] != ';' && buf[i] != '?' {
		return -1
	}
	for ; i < end && buf[i] != '?'; i++ {
		switch c := buf[i]; {
		case c == ';':
			if i+1 < end && (buf[i+1] == ';' || buf[i+1] == '=' || buf[i+1] == '?') {
				return -1
			}
		case c == '"': // not in the grammar; see skipAngle
			if i = skipQuoted(buf, i, end) - 1; i < 0 {
				return -1
			}
		case c == '@' || class[c]&cURI == 0:
			return -1
		}
	}
	return i
}

// scanHost returns the end of the host at i: a name, an IPv4 address or an IPv6
// reference in brackets. -1: there is none.
func scanHost(buf []byte, i, end int) int {
	start := i
	if i < end && buf[i] == '[' {
		colons := 0
		for i++; i < end && class[buf[i]]&cIPv6 != 0; i++ {
			if buf[i] == ':' {
				colons++
			}
		}
		if i == end || buf[i] != ']' || colons < 2 || i-start > 46 {
			return -1
		}
		return i + 1
	}
	if i = during(buf, i, end, cHost); i == start {
		return -1
	}
	return i
}

// scanPort reads a port, 1 to 65535. A port of 0 says that there is none.
func scanPort(buf []byte, i, end int) (next, port int) {
	for ; i < end && class[buf[i]]&cDigit != 0; i++ {
		if port = port*10 + int(buf[i]-'0'); port > 65535 {
			return i, 0
		}
	}
	return i, port
}
