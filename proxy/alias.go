package proxy

import (
	"bytes"

	"sipward/proxy/flow"
	"sipward/sip"
)

// A Contact alias lets an unmodified PBX call a phone back through sipward
// without sipward remembering the phone. In
//
//	sip:alice@10.0.0.5:5062;ob   →   sip:alice~TOKEN@203.0.113.1:5060;ob
//
// the token carries the phone's flow and, as its payload, the host and port that were
// replaced. The user part and the parameters stay readable and in place, so that the
// PBX's own matching on them works, and the alias stays within the 255 bytes that PBXes
// have for a Contact. Only parameters that would send the PBX elsewhere (maddr) or over
// another transport than the phone's flow (transport, a sips scheme) are taken out; then
// the payload carries all of the parameters.

// aliasMark separates the user part from the token. It is unreserved in RFC 3261
// §25.1 and not in the token's alphabet.
const aliasMark = '~'

// Flags in the first byte of an alias's payload. The second is the length of host
// and port, which follow, and after them the parameters if aliasParams is set.
const (
	aliasSecure    = 1 << iota // the scheme was sips
	aliasNoUser                // there was no "user@"
	aliasTransport             // a transport was added at the end
	aliasParams                // the payload has the original parameters
)

// makeAlias replaces span (a URI, parsed as uri) by its alias: a URI that leads to
// f and from there on to tok. A URI too long for a token is left as it came; no PBX
// would store its alias. wrap says that the URI stands without angle brackets and
// needs them now (RFC 3261 §20.10: its parameters would else be the header's).
func (t *task) makeAlias(uri *sip.URI, span sip.Span, wrap bool, tok *flow.Token, f *face) {
	buf := t.m.Buf
	transport, _ := uri.Param(buf, "transport")
	maddr, _ := uri.Param(buf, "maddr")
	want := f.ep.spelling()
	scheme, param := t.schemeTowards(f)
	var flags byte
	if uri.Kind == sip.SchemeSIPS {
		flags |= aliasSecure
	}
	if !uri.HasUser {
		flags |= aliasNoUser
	}
	conflict := transport.Present && !bytes.EqualFold(transport.Value.Of(buf), []byte(want.name)) || maddr.Present
	switch {
	case conflict:
		flags |= aliasParams
	case param != "" && !transport.Present:
		flags |= aliasTransport
	}
	if 2+uri.HostPort.Len()+uri.Params.Len() > flow.MaxPayload {
		return
	}
	var space [flow.MaxPayload]byte
	payload := append(space[:0], flags, byte(uri.HostPort.Len()))
	payload = append(payload, uri.HostPort.Of(buf)...)
	if conflict {
		payload = append(payload, uri.Params.Of(buf)...)
	}

	t.e.Begin(span)
	if wrap {
		t.e.B = append(t.e.B, '<')
	}
	t.e.B = append(t.e.B, scheme...)
	t.e.B = append(t.e.B, uri.User.Of(buf)...)
	t.e.B = append(t.e.B, aliasMark)
	t.e.B = t.s.key.Append(t.e.B, tok, payload, 0)
	if !uri.Password.Empty() {
		t.e.B = append(t.e.B, ':')
		t.e.B = append(t.e.B, uri.Password.Of(buf)...)
	}
	t.e.B = append(t.e.B, '@')
	t.e.B = f.appendHostPort(t.e.B)
	if conflict {
		t.e.B = appendWithout(t.e.B, buf, uri.Params, transport.Whole, maddr.Whole)
	} else {
		t.e.B = append(t.e.B, uri.Params.Of(buf)...)
	}
	if conflict || flags&aliasTransport != 0 {
		t.e.B = append(t.e.B, param...)
	}
	t.e.B = appendHeaders(t.e.B, buf, uri)
	if wrap {
		t.e.B = append(t.e.B, '>')
	}
	t.e.End()
}

// alias reads the alias in a URI's user part. The payload is valid until the next
// call; text is the token as it stands in the message.
func (t *task) alias(uri *sip.URI) (tok flow.Token, payload, text []byte, ok bool) {
	if !isSIP(uri) {
		return tok, nil, nil, false
	}
	user := uri.User.Of(t.m.Buf)
	i := lastMark(user)
	if i < 0 {
		return tok, nil, nil, false
	}
	text = user[i+1:]
	payload, ok = t.s.key.Parse(&tok, text, flow.KindAlias, 0, t.payload[:0])
	if !ok || len(payload) < 2 || len(payload) < 2+int(payload[1]) {
		return flow.Token{}, nil, nil, false
	}
	return tok, payload, text, true
}

// lastMark returns where the last aliasMark of a user part is, -1 if there is none, or more
// behind it than a token. It goes from one to the next, as bytes.LastIndexByte goes from byte
// to byte.
func lastMark(user []byte) int {
	from, last := max(0, len(user)-flow.MaxText-1), -1
	for {
		i := bytes.IndexByte(user[from:], aliasMark)
		if i < 0 {
			return last
		}
		last = from + i
		from = last + 1
	}
}

// restoreAlias replaces span (a URI, parsed as uri, in which alias has found payload and text)
// by what the peer had called itself. wrap is as for makeAlias.
func (t *task) restoreAlias(uri *sip.URI, span sip.Span, wrap bool, payload, text []byte) {
	buf, flags := t.m.Buf, payload[0]
	host, params := payload[2:2+payload[1]], payload[2+payload[1]:]
	user := uri.User.Of(buf)
	user = user[:len(user)-len(text)-1]

	t.e.Begin(span)
	if wrap {
		t.e.B = append(t.e.B, '<')
	}
	if flags&aliasSecure != 0 {
		t.e.B = append(t.e.B, "sips:"...)
	} else {
		t.e.B = append(t.e.B, "sip:"...)
	}
	if flags&aliasNoUser == 0 {
		t.e.B = append(t.e.B, user...)
		if !uri.Password.Empty() {
			t.e.B = append(t.e.B, ':')
			t.e.B = append(t.e.B, uri.Password.Of(buf)...)
		}
		t.e.B = append(t.e.B, '@')
	}
	t.e.B = append(t.e.B, host...)
	switch {
	case flags&aliasParams != 0:
		t.e.B = append(t.e.B, params...)
	case flags&aliasTransport != 0:
		added, _ := uri.Param(buf, "transport")
		t.e.B = appendWithout(t.e.B, buf, uri.Params, added.Whole, sip.Span{})
	default:
		t.e.B = append(t.e.B, uri.Params.Of(buf)...)
	}
	t.e.B = appendHeaders(t.e.B, buf, uri)
	if wrap {
		t.e.B = append(t.e.B, '>')
	}
	t.e.End()
}

// appendWithout appends s without the parts a and b of it, either of which may be
// empty.
func appendWithout(dst, buf []byte, s, a, b sip.Span) []byte {
	if a.Empty() || !b.Empty() && b.Off < a.Off {
		a, b = b, a
	}
	at := s.Off
	for _, cut := range [...]sip.Span{a, b} {
		if !cut.Empty() {
			dst = append(dst, buf[at:cut.Off]...)
			at = cut.End
		}
	}
	return append(dst, buf[at:s.End]...)
}

// aliasContacts replaces the Contacts of a REGISTER by aliases that lead back to
// tok (RFC 3261 §10.3). "*" and URIs that are not SIP's stay. A Contact that cannot be
// read is a fault: the PBX might read it, and then call past us.
func (t *task) aliasContacts(tok *flow.Token, f *face) sip.Fault {
	it := t.m.Values(sip.HeaderContact)
	for it.Next() {
		if it.Value.Is(t.m.Buf, "*") {
			continue
		}
		c, fault := sip.ParseNameAddr(t.m.Buf, it.Value)
		if fault != sip.OK {
			return fault
		}
		if isSIP(&c.URI) {
			t.makeAlias(&c.URI, c.URISpan, !c.Bracketed, tok, f)
		}
	}
	return it.Fault
}

// restoreContacts puts back what aliasContacts replaced, in the registrar's list of
// bindings (RFC 3261 §10.3 step 8): each phone sees its own Contact. It returns for how
// many seconds the registrar keeps a binding of the client in tok: the longest of those
// whose alias leads to its address, or of all if there are no aliases (path: true,
// transparent mode). Other responses stay as they are.
func (t *task) restoreContacts(tok *flow.Token) (longest int64) {
	if !t.registered() {
		return 0
	}
	m := &t.m
	byHeader := int64(defaultExpires)
	if h := m.Find(sip.HeaderExpires); h != nil {
		if n, ok := h.Value.Number(m.Buf); ok {
			byHeader = int64(n)
		}
	}
	it := m.Values(sip.HeaderContact)
	for it.Next() {
		c, fault := sip.ParseNameAddr(m.Buf, it.Value)
		if fault != sip.OK {
			continue
		}
		alias, payload, text, ok := t.alias(&c.URI)
		if ok {
			t.restoreAlias(&c.URI, c.URISpan, !c.Bracketed, payload, text)
		}
		if !ok && t.live.path && c.URI.Kind == sip.SchemeSIP {
			if mark, found := c.URI.Param(m.Buf, sipsMark); found {
				t.makeSecure(&c.URI, mark)
			}
		}
		if ok && alias.Addr.Addr() != tok.Addr.Addr() || !ok && !t.live.path {
			continue
		}
		n := byHeader
		if p, found := c.Param(m.Buf, "expires"); found {
			if v, ok := p.Value.Number(m.Buf); ok {
				n = int64(v)
			}
		}
		longest = max(longest, n)
	}
	return longest
}

// defaultExpires is what a registrar grants that says nothing (RFC 3261 §10.2.1.1
// leaves it to the registrar; an hour is what §10.2 suggests).
const defaultExpires = 3600

func isSIP(uri *sip.URI) bool { return uri.Kind == sip.SchemeSIP || uri.Kind == sip.SchemeSIPS }

// appendHeaders appends a URI's headers part with its question mark.
func appendHeaders(dst, buf []byte, uri *sip.URI) []byte {
	if uri.HeadersPart.Empty() {
		return dst
	}
	return append(append(dst, '?'), uri.HeadersPart.Of(buf)...)
}
