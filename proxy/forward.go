package proxy

import (
	"cmp"
	"errors"
	"net/netip"

	"sipward/policy"
	"sipward/proxy/flow"
	"sipward/proxy/upstream"
	"sipward/proxy/upstream/resolve"
	"sipward/sip"
)

// fromOutside forwards a request of a phone or a trunk. It goes to a PBX and to
// nowhere else; the one exception is a dialog whose path the PBX has left (it did not
// record a route), where our own token names the other phone. A request without a To tag
// is not inside a dialog: it would bypass the PBX.
func (t *task) fromOutside(b *branch) {
	if t.refuseForged() {
		return
	}
	r := &t.route
	if r.hops > 1 && !t.m.To.Tag.Empty() && r.last.Side == flow.Outside && !r.last.Follow {
		if h, ok := t.hopTo(&r.last); ok {
			via := t.flowToken(flow.KindVia, 0) // no PBX will answer
			t.transmit(&h, b, &via, nil, nil)
			return
		}
		t.refuse(430, "Flow Failed", policy.ReasonStaleToken) // RFC 5626 §11.3.2
		return
	}
	h, ok := t.hopToPBX()
	if !ok {
		t.refuse(503, "Service Unavailable", policy.ReasonNoUpstream)
		return
	}
	via := t.flowToken(flow.KindVia, h.pbx)
	if t.from.conn != nil {
		t.s.remember(&via, false)
	}
	t.restoreFrom(&h)
	if t.m.Method == sip.MethodRegister {
		if fault := t.leadBack(&h, &via); fault != sip.OK {
			t.malformed(fault)
			return
		}
	}
	if !createsDialog(&t.m) {
		t.transmit(&h, b, &via, nil, nil)
		return
	}
	rr := via
	rr.Kind = flow.KindRoute
	t.transmit(&h, b, &via, &rr, nil)
}

// refuseForged refuses a stranger's request whose Route or Request-URI has a token that does
// not verify: he made it up, or altered one. From a source in good standing it is a call of
// before the key was replaced. Without the token its request still finds the PBX, as any
// request does, and the call ends on both sides.
func (t *task) refuseForged() bool {
	if !t.route.forged && !t.forgedAlias(&t.m.URI) ||
		t.s.engine.Standing(t.from.addr.Addr(), t.now) != policy.Stranger {
		return false
	}
	if t.m.To.Tag.Empty() {
		t.refuse(430, "Flow Failed", policy.ReasonForgedToken)
	} else {
		t.refuse(481, "Call/Transaction Does Not Exist", policy.ReasonForgedToken)
	}
	return true
}

// leadBack makes a REGISTER's Contacts, or with path: true its Path (RFC 3327),
// lead back through us to the sender.
func (t *task) leadBack(h *hop, via *flow.Token) sip.Fault {
	tok := *via
	tok.Follow = false // who has registered is called over his flow, also if he is a trunk
	if !t.live.path || t.from.side == flow.Inside {
		tok.Kind = flow.KindAlias
		return t.aliasContacts(&tok, &h.face)
	}
	tok.Kind = flow.KindRoute
	at := t.m.Headers[0].Line.Off
	t.e.Begin(sip.Span{Off: at, End: at})
	t.e.B = append(t.e.B, "Path: <sip:"...)
	t.e.B = t.s.key.Append(t.e.B, &tok, nil, 0)
	t.e.B = append(t.e.B, '@')
	t.e.B = h.appendHostPort(t.e.B)
	t.e.B = append(t.e.B, h.ep.spelling().param...)
	t.e.B = append(t.e.B, ";lr>\r\n"...)
	if !t.supportsPath() {
		// A registrar may refuse a Path whose phone does not say that it knows of it
		// (RFC 3327 §5.3). The phone need not do anything with it.
		t.e.B = append(t.e.B, "Supported: path\r\n"...)
	}
	t.e.End()
	return sip.OK
}

func (t *task) supportsPath() bool {
	it := t.m.Values(sip.HeaderSupported)
	for it.Next() {
		if string(it.Value.Of(t.m.Buf)) == "path" {
			return true
		}
	}
	return false
}

// restoreFrom puts the alias back into the From of a request inside a dialog in
// which the PBX knows the phone by its alias.
func (t *task) restoreFrom(h *hop) {
	if t.route.hops > 0 && t.route.last.Rewritten {
		t.backToAlias(&t.m.From, t.route.payload, &h.face)
	}
}

// backToAlias replaces the URI in n by the alias that text is the token of.
func (t *task) backToAlias(n *sip.NameAddr, text []byte, f *face) {
	var tok flow.Token
	if _, ok := t.s.key.Parse(&tok, text, flow.KindAlias, 0, t.payload[:0]); ok && isSIP(&n.URI) {
		t.makeAlias(&n.URI, n.URISpan, !n.Bracketed, &tok, f)
	}
}

// hopToPBX chooses the PBX for a request from outside: the one that its URI or its
// route names, else by the account, so that a phone's REGISTER and INVITE meet.
func (t *task) hopToPBX() (h hop, ok bool) {
	if tok, payload, text, found := t.alias(&t.m.URI); found && tok.Side == flow.Inside {
		t.retarget(payload, text)
		if !t.from.reliable() && !tok.Stream {
			h, ok = t.hopTo(&tok)
			h.pbx = tok.PBX
			return h, ok
		}
		if p := t.s.pool.ByID(tok.PBX); p != nil {
			return t.connectPBX(p)
		}
	}
	return t.connectPBX(t.namedPBX())
}

// namedPBX returns the PBX that a request inside a dialog belongs to, nil if any
// will do.
func (t *task) namedPBX() *upstream.PBX {
	r := &t.route
	if !t.m.To.Tag.Empty() {
		if p := t.pbxAt(&r.next); p != nil {
			return p
		}
	}
	if r.hops > 0 {
		return t.s.pool.ByID(r.last.PBX)
	}
	return nil
}

// pbxAt returns the PBX whose address a URI names, if it is one.
func (t *task) pbxAt(uri *sip.URI) *upstream.PBX {
	a, ok := resolve.Numeric(uri.Host.Of(t.m.Buf))
	if !ok {
		return nil
	}
	p := t.s.pool.ByAddrPort(netip.AddrPortFrom(a, cmp.Or(uint16(uri.Port), defaultPort)))
	if p == nil && uri.Port == 0 {
		p = t.s.pool.ByAddrPort(netip.AddrPortFrom(a, upstream.DefaultTLSPort))
	}
	return p
}

// pick chooses the account's PBX among those that are up.
func (t *task) pick() *upstream.PBX {
	account := t.account
	if t.from.reliable() {
		return t.s.pool.PickStream(account)
	}
	return t.s.pool.Pick(account)
}

// connectPBX makes the hop to p, or to the account's PBX if p is nil. For what came over a
// stream it may have to dial; a PBX that refuses is taken out and the next one tried.
func (t *task) connectPBX(p *upstream.PBX) (h hop, ok bool) {
	for range t.s.pool.Len() {
		if p == nil {
			p = t.pick()
		}
		if p == nil {
			return h, false
		}
		link := p.Link(t.from.reliable())
		if link == nil {
			return h, false
		}
		ep := t.s.eps.find(link.Transport, flow.Inside, link.Addr.Addr())
		if ep == nil {
			return h, false
		}
		h = hop{face: face{ep: ep, towards: flow.Inside}, addr: link.Addr, pbx: p.ID()}
		if link.Transport == policy.UDP {
			h.local, ok = t.s.localTo(ep, link.Addr.Addr())
			return h, ok
		}
		var err error
		if h.conn, err = t.s.pair(t.from.conn, p.ID(), link, ep); err == nil {
			h.local = h.conn.Local().Addr()
			return h, true
		}
		if errors.Is(err, errClosing) {
			return h, false
		}
		t.s.pool.MarkDown(p, err)
		p = nil
	}
	return h, false
}

// fromInside forwards a request of a PBX: to the phone that a token names, or,
// because it is a PBX, to wherever its URI leads (RFC 3261 §16.5, RFC 3263).
func (t *task) fromInside(b *branch) {
	r := &t.route
	pbx := t.s.pool.IDOf(t.from.addr)
	tok, payload, text, aliased := t.alias(&t.m.URI)
	if aliased {
		t.retarget(payload, text)
	}
	routed := r.hops > 0 && r.last.Side == flow.Outside
	switch {
	case routed && !r.last.Follow:
		tok = r.last
	case aliased && tok.Side == flow.Outside && !tok.Follow:
	case t.onPair():
		tok = t.pairToken()
	default:
		t.toTrunk(b, pbx)
		return
	}
	t.toPhone(b, &tok, pbx)
}

// toPhone sends a PBX's request to the flow in tok.
func (t *task) toPhone(b *branch, tok *flow.Token, pbx uint16) {
	h, ok := t.hopTo(tok)
	if !ok && !t.from.reliable() && t.absorbed(nil, b) {
		return // it has arrived, and the phone has gone since
	}
	if !ok {
		// The connection is gone and the phone has not come back (RFC 5626 §5.3.1).
		t.refuse(430, "Flow Failed", policy.ReasonStaleToken)
		return
	}
	if t.refuseInsecure(&h) {
		return
	}
	if h.conn == nil {
		t.noteCaller(h.addr.Addr().WithZone(""))
	}
	via := t.flowToken(flow.KindVia, pbx)
	rr := *tok
	rr.Kind, rr.PBX, rr.Rewritten = flow.KindRoute, pbx, false
	text := t.restoreTo()
	via.Rewritten, rr.Rewritten = len(text) > 0, len(text) > 0
	if !createsDialog(&t.m) {
		t.transmit(&h, b, &via, nil, text)
		return
	}
	t.transmit(&h, b, &via, &rr, text)
}

// restoreTo puts the phone's own URI into a To that holds its alias, as a PBX
// writes it that addresses a request by the Contact. It returns the alias's token,
// which the Via and the Record-Route then carry as their payload.
func (t *task) restoreTo() []byte {
	to := &t.m.To
	_, payload, text, ok := t.alias(&to.URI)
	if !ok || len(text) > flow.MaxPayload {
		return nil
	}
	t.restoreAlias(&to.URI, to.URISpan, !to.Bracketed, payload, text)
	return text
}
