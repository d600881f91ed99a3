package proxy

import (
	"sipward/policy"
	"sipward/proxy/flow"
	"sipward/sip"
)

// A sips URI asks for TLS on every hop (RFC 3261 §26.2.2, RFC 5630). The network between
// sipward and its PBXes is the operator's; but a PBX that is not spoken to over TLS does not
// know that it is meant by the last hop of somebody else: it refuses such a request, or tries
// TLS itself to reach such a Contact. So between an encrypted phone and such a PBX
// the scheme is changed, and back on the way back:
//
//	phone                                  PBX
//	INVITE sips:bob@example.com       →    INVITE sip:bob@example.com
//	Contact: <sips:alice@10.0.0.5>    →    Contact: <sip:alice@10.0.0.5;sw-sips>
//	BYE sips:alice@10.0.0.5           ←    BYE sip:alice@10.0.0.5;sw-sips
//	Contact: <sips:bob@203.0.113.2>   ←    Contact: <sip:bob@203.0.113.2>
//
// Towards phones sips is never made sip: they get what is theirs. The last line is for a
// request to, or from, a sips URI alone (RFC 5630 §5.1.1.1: both Contacts are sips then).
// Contacts in a REGISTER are aliases, whose payload knows the scheme.

// sipsMark is the parameter of a URI whose scheme was sips.
const sipsMark = "sw-sips"

// retarget replaces the Request-URI, in which alias has found payload and text.
func (t *task) retarget(payload, text []byte) {
	t.restoreAlias(&t.m.URI, t.m.RequestURI, false, payload, text)
	t.route.replaced, t.route.secure = true, payload[0]&aliasSecure != 0
}

// adaptScheme changes the schemes in a request for the hop that it takes.
func (t *task) adaptScheme(h *hop) {
	switch {
	case h.towards == flow.Outside && h.ep.transport.Secure():
		t.restoreScheme()
		if t.route.secure && t.from.side == flow.Inside && !t.from.ep.transport.Secure() && t.m.Method != sip.MethodRegister {
			t.secureContacts()
		}
	case h.towards == flow.Inside && t.from.ep.transport.Secure() && !h.ep.transport.Secure():
		if uri := &t.m.URI; !t.route.replaced && uri.Kind == sip.SchemeSIPS {
			t.dropSecure(uri)
		}
		if t.m.Method != sip.MethodRegister || t.live.path {
			t.plainContacts()
		}
	}
}

// schemeTowards returns with what a URI of ours begins for that side of a request, and the
// parameter that says what it speaks (RFC 5630 §5.3).
func (t *task) schemeTowards(f *face) (scheme, param string) {
	how := f.ep.spelling()
	if t.route.secure && f.ep.transport.Secure() {
		return "sips:", how.secure
	}
	return "sip:", how.param
}

// restoreScheme undoes in a Request-URI what plainContacts has done.
func (t *task) restoreScheme() {
	uri := &t.m.URI
	if t.route.replaced || uri.Kind != sip.SchemeSIP {
		return
	}
	if mark, found := uri.Param(t.m.Buf, sipsMark); found {
		t.makeSecure(uri, mark)
		t.route.secure = true
	}
}

// dropSecure makes sip of sips.
func (t *task) dropSecure(uri *sip.URI) {
	t.e.Delete(sip.Span{Off: uri.Scheme.End - 1, End: uri.Scheme.End})
}

// makeSecure makes sips of sip, and takes out the mark if there is one.
func (t *task) makeSecure(uri *sip.URI, mark sip.Param) {
	t.insert(uri.Scheme.End, "s")
	if mark.Present {
		t.e.Delete(mark.Whole)
	}
}

func (t *task) insert(at uint32, text string) {
	t.e.Begin(sip.Span{Off: at, End: at})
	t.e.B = append(t.e.B, text...)
	t.e.End()
}

// plainContacts makes sip of the sips Contacts, with a mark. What cannot be read stays.
func (t *task) plainContacts() {
	it := t.m.Values(sip.HeaderContact)
	for it.Next() {
		c, fault := sip.ParseNameAddr(t.m.Buf, it.Value)
		if fault != sip.OK || c.URI.Kind != sip.SchemeSIPS {
			continue
		}
		end := ";" + sipsMark
		if !c.Bracketed { // or the mark would be the header's (RFC 3261 §20.10)
			t.insert(c.URISpan.Off, "<")
			end += ">"
		}
		t.dropSecure(&c.URI)
		t.insert(c.URI.Params.End, end)
	}
}

// secureContacts makes sips of the sip Contacts.
func (t *task) secureContacts() {
	it := t.m.Values(sip.HeaderContact)
	for it.Next() {
		c, fault := sip.ParseNameAddr(t.m.Buf, it.Value)
		if fault == sip.OK && c.URI.Kind == sip.SchemeSIP {
			t.makeSecure(&c.URI, sip.Param{})
		}
	}
}

// adaptAnswer changes the schemes in the Contacts of a response, as adaptScheme does in
// requests; not those of bindings, see restoreContacts. The payload is that of the Via's token.
func (t *task) adaptAnswer(tok *flow.Token, payload []byte, h *hop) {
	if t.m.Method == sip.MethodRegister {
		return
	}
	plainHop := !t.from.ep.transport.Secure()
	if tok.Side == flow.Inside {
		if !plainHop && !h.ep.transport.Secure() {
			t.plainContacts()
		}
		return
	}
	asked := len(payload) > 0 && payload[0]&stampSecure != 0
	if asked && plainHop && h.ep.transport.Secure() && t.m.Status < 300 {
		t.secureContacts()
	}
}

// refuseInsecure refuses a PBX's request for a sips URI that would leave in the clear (RFC 5630
// §5.3, §6.2), or for which there is no way (h is nil). Inside a dialog it goes on: the call is
// up already.
func (t *task) refuseInsecure(h *hop) bool {
	if t.m.URI.Kind != sip.SchemeSIPS || h != nil && h.ep.transport.Secure() || !t.m.To.Tag.Empty() {
		return false
	}
	t.warning = sipsNotAllowed
	t.refuse(480, "Temporarily Unavailable", policy.ReasonBadScheme)
	return true
}

// sipsNotAllowed is a Warning (RFC 5630 §6.2).
const sipsNotAllowed = "380 sipward \"SIPS Not Allowed\""
