package proxy

import (
	"sipward/proxy/flow"
	"sipward/proxy/upstream/resolve"
	"sipward/sip"
)

// routes is what a request's Route headers and Request-URI said about us.
type routes struct {
	// hops counts the distinct tokens of ours that were taken off; first and last
	// are the outermost of them.
	hops        int
	first, last flow.Token
	// forged is set when a Route at our address had a user part that only a token of ours
	// looks like, and that does not verify.
	forged bool
	// replaced is set when the Request-URI has become another one, secure when what it is now
	// has the scheme sips.
	replaced, secure bool
	// payload is that of last, in a buffer of its own.
	payload []byte
	// next is the URI that the request follows from here: of the first Route that is
	// left, or the Request-URI.
	next     sip.URI
	nextSpan sip.Span
}

// takeRoutes removes the Route values that name us, from the top (RFC 3261 §16.4).
// A doubled Record-Route comes back as two values with equal tokens and counts once.
func (t *task) takeRoutes() sip.Fault {
	m, r := &t.m, &t.route
	r.hops, r.payload, r.forged = 0, r.payload[:0], false
	r.replaced, r.secure = false, m.URI.Kind == sip.SchemeSIPS
	r.nextSpan = m.RequestURI
	r.next = m.URI
	last := t.strictRoute()

	it := m.Values(sip.HeaderRoute)
	for it.Next() {
		if it.Value == last {
			return sip.OK // it has become the Request-URI
		}
		v, fault := sip.ParseNameAddr(m.Buf, it.Value)
		if fault != sip.OK {
			return fault
		}
		if !t.takeToken(&v.URI) {
			if !t.namesUs(&v.URI) {
				r.next, r.nextSpan = v.URI, v.URISpan
				return sip.OK
			}
			r.forged = r.forged || flow.Resembles(v.URI.User.Of(m.Buf))
		}
		t.e.DeleteValue(m, it.Header, it.Value)
	}
	return it.Fault
}

// takeToken remembers the route token in a URI's user part, if it has one.
func (t *task) takeToken(uri *sip.URI) bool {
	r := &t.route
	var tok flow.Token
	payload, ok := t.s.key.Parse(&tok, uri.User.Of(t.m.Buf), flow.KindRoute, 0, t.payload[:0])
	if !ok {
		return false
	}
	if r.hops == 0 {
		r.first = tok
	}
	if r.hops == 0 || tok != r.last {
		r.hops++
	}
	r.last = tok
	r.payload = append(r.payload[:0], payload...)
	return true
}

// strictRoute undoes what a strict router did (RFC 3261 §16.4): it put our
// Record-Route into the Request-URI and the Request-URI at the end of the Route.
// It returns the Route value that became the Request-URI.
func (t *task) strictRoute() (last sip.Span) {
	m := &t.m
	if !t.takeToken(&t.route.next) {
		return last
	}
	it := m.Values(sip.HeaderRoute)
	end := it
	for it.Next() {
		end = it
	}
	v, fault := sip.ParseNameAddr(m.Buf, end.Value)
	if end.Value.Empty() || fault != 0 {
		return last
	}
	t.e.Begin(m.RequestURI)
	t.e.B = append(t.e.B, v.URISpan.Of(m.Buf)...)
	t.e.End()
	t.e.DeleteValue(m, end.Header, end.Value)
	t.route.replaced, t.route.secure = true, v.URI.Kind == sip.SchemeSIPS
	t.route.next, t.route.nextSpan = v.URI, v.URISpan
	return end.Value
}

// forgedAlias reports whether a URI is at our address and has the form of an alias of ours,
// but does not verify.
func (t *task) forgedAlias(uri *sip.URI) bool {
	user := uri.User.Of(t.m.Buf)
	i := lastMark(user)
	if i < 0 || !flow.Resembles(user[i+1:]) || !t.namesUs(uri) {
		return false
	}
	_, _, _, ok := t.alias(uri)
	return !ok
}

// namesUs reports whether a URI's host and port are those of an endpoint of ours,
// as in a Route that a phone has preloaded for its outbound proxy.
func (t *task) namesUs(uri *sip.URI) bool {
	if !isSIP(uri) {
		return false
	}
	host := uri.Host.Of(t.m.Buf)
	if a, ok := resolve.Numeric(host); ok && t.s.eps.isOurs(a, uint16(uri.Port), t.from.local) {
		return true
	}
	return t.s.eps.advertises(t.m.Buf, uri.HostPort)
}
