package sip

// maxAuthParams caps the parameters of one Authorization or challenge: those that no
// RFC knows are compared with each other.
const maxAuthParams = 32

// Credentials is the value of an Authorization or Proxy-Authorization header
// field (RFC 3261 §22, RFC 7616). Quoted strings are given without their quotes,
// with their escapes.
type Credentials struct {
	Scheme                                       Span
	Digest                                       bool // Scheme is Digest; else nothing but Scheme is known
	Username, Realm, Nonce, URI, Response        Span
	Algorithm, CNonce, Opaque, QOP, NC, UserHash Span
}

// ParseCredentials parses the header value that fills s. Digest credentials
// without username, realm, nonce, uri or response are FaultCredentials, with the
// rest filled in.
func ParseCredentials(buf []byte, s Span) (c Credentials, fault Fault) {
	var p authParams
	if !p.begin(buf, s) {
		return c, FaultCredentials
	}
	c.Scheme = p.scheme
	if c.Digest = p.scheme.Is(buf, "digest"); !c.Digest {
		return c, OK
	}
	for p.next() {
	}
	c.Username, c.Realm, c.Nonce, c.URI = p.values[authUsername], p.values[authRealm], p.values[authNonce], p.values[authURI]
	c.Response, c.Algorithm, c.CNonce = p.values[authResponse], p.values[authAlgorithm], p.values[authCNonce]
	c.Opaque, c.QOP, c.NC, c.UserHash = p.values[authOpaque], p.values[authQOP], p.values[authNC], p.values[authUserHash]
	if p.fault != OK {
		return c, p.fault
	}
	if !present(c.Username) || !present(c.Realm) || !present(c.Nonce) || !present(c.URI) || !present(c.Response) {
		return c, FaultCredentials
	}
	return c, OK
}

// Challenge is the value of a WWW-Authenticate or Proxy-Authenticate header
// field.
type Challenge struct {
	Scheme                                       Span
	Digest                                       bool // Scheme is Digest; else nothing but Scheme is known
	Realm, Nonce, Opaque, Algorithm, QOP, Domain Span
	Stale                                        bool
}

// ParseChallenge parses the header value that fills s, one challenge. A digest
// challenge without realm or nonce is FaultChallenge.
func ParseChallenge(buf []byte, s Span) (c Challenge, fault Fault) {
	var p authParams
	if !p.begin(buf, s) {
		return c, FaultChallenge
	}
	c.Scheme = p.scheme
	if c.Digest = p.scheme.Is(buf, "digest"); !c.Digest {
		return c, OK
	}
	for p.next() {
	}
	c.Realm, c.Nonce, c.Opaque = p.values[authRealm], p.values[authNonce], p.values[authOpaque]
	c.Algorithm, c.QOP, c.Domain = p.values[authAlgorithm], p.values[authQOP], p.values[authDomain]
	c.Stale = p.values[authStale].Is(buf, "true")
	if p.fault == FaultCredentials {
		return c, FaultChallenge
	}
	if p.fault == OK && (!present(c.Realm) || !present(c.Nonce)) {
		return c, FaultChallenge
	}
	return c, p.fault
}

// present tells a parameter that is there, even an empty one, from one that is
// not: no parameter begins at offset 0.
func present(s Span) bool { return s.End != 0 }

// authParam is a parameter that Credentials or Challenge holds.
type authParam uint8

const (
	authOther authParam = iota
	authUsername
	authRealm
	authNonce
	authURI
	authResponse
	authAlgorithm
	authCNonce
	authOpaque
	authQOP
	authNC
	authUserHash
	authDomain
	authStale
	authParamCount
)

// authNames are the names of the parameters.
var authNames = [authParamCount]string{
	"", "username", "realm", "nonce", "uri", "response", "algorithm", "cnonce", "opaque", "qop", "nc",
	"userhash", "domain", "stale",
}

// lookupAuthParam finds the parameter with that name, in any case.
func lookupAuthParam(name []byte) authParam {
	switch string(name) { // what nearly everybody writes
	case "username":
		return authUsername
	case "realm":
		return authRealm
	case "nonce":
		return authNonce
	case "uri":
		return authURI
	case "response":
		return authResponse
	case "algorithm":
		return authAlgorithm
	case "cnonce":
		return authCNonce
	case "opaque":
		return authOpaque
	case "qop":
		return authQOP
	case "nc":
		return authNC
	}
	for id := authUsername; id < authParamCount; id++ {
		if n := authNames[id]; len(n) == len(name) && n[0] == lower[name[0]] && equalFold(name, n) {
			return id
		}
	}
	return authOther
}

// authParams walks the comma separated parameters after an authentication
// scheme.
type authParams struct {
	buf         []byte
	pos, end    int
	scheme      Span
	name, value Span
	fault       Fault
	values      [authParamCount]Span // of the parameters seen
	seen        uint16               // the set of them
	n           int                  // parameters seen
	strange     int                  // those of them that have no place in values
	others      [maxAuthParams]Span  // the names of these
}

func (p *authParams) begin(buf []byte, s Span) bool {
	if !s.valid(len(buf)) {
		return false
	}
	i := skipLWS(buf, int(s.Off), int(s.End))
	p.buf, p.end = buf, trimLWS(buf, i, int(s.End))
	start := i
	for i < p.end && class[buf[i]]&cToken != 0 {
		i++
	}
	p.scheme, p.pos = span(start, i), skipLWS(buf, i, p.end)
	return i > start && (i == p.end || p.pos > i)
}

// next reads one name=value and the comma after it.
func (p *authParams) next() bool {
	if p.pos == p.end || p.fault != OK {
		return false
	}
	buf, i := p.buf, p.pos
	for i < p.end && class[buf[i]]&cToken != 0 {
		i++
	}
	p.name = span(p.pos, i)
	i = skipLWS(buf, i, p.end)
	if p.name.Empty() || i == p.end || buf[i] != '=' {
		p.fault = FaultCredentials
		return false
	}
	if i = p.scanValue(skipLWS(buf, i+1, p.end)); i < 0 {
		p.fault = FaultCredentials
		return false
	}
	if i = skipLWS(buf, i, p.end); i < p.end {
		if buf[i] != ',' {
			p.fault = FaultCredentials
			return false
		}
		if i = skipLWS(buf, i+1, p.end); i == p.end {
			p.fault = FaultCredentials // a comma, and nothing after it
			return false
		}
	}
	p.pos = i
	return p.remember()
}

// scanValue reads a token or quoted string. Some phones leave out the quotes
// where they belong, or set them where they do not: both read the same.
func (p *authParams) scanValue(i int) int {
	buf, start := p.buf, i
	if i < p.end && buf[i] == '"' {
		if i = skipQuoted(buf, i, p.end); i > 0 {
			p.value = span(start+1, i-1)
		}
		return i
	}
	for i < p.end && class[buf[i]]&cLWS == 0 && buf[i] != ',' && buf[i] != '"' {
		i++
	}
	if i == start {
		return -1
	}
	p.value = span(start, i)
	return i
}

// remember keeps the value, and refuses a parameter that has been there before: of two
// nonces one parser checks the first and another the last.
func (p *authParams) remember() bool {
	if p.n == maxAuthParams {
		p.fault = FaultCredentials
		return false
	}
	p.n++
	name := p.name.Of(p.buf)
	if id := lookupAuthParam(name); id != authOther {
		if p.seen&(1<<id) != 0 {
			p.fault = FaultRepeatedParam
			return false
		}
		p.seen |= 1 << id
		p.values[id] = p.value
		return true
	}
	for _, s := range p.others[:p.strange] {
		if s.Len() == len(name) && foldEqual(s.Of(p.buf), name) {
			p.fault = FaultRepeatedParam
			return false
		}
	}
	p.others[p.strange] = p.name
	p.strange++
	return true
}

// foldEqual compares two names of equal length, ignoring ASCII case.
func foldEqual(a, b []byte) bool {
	for i := range a {
		if lower[a[i]] != lower[b[i]] {
			return false
		}
	}
	return true
}
