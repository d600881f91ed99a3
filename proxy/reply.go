package proxy

import (
	"net/netip"

	"sipward/policy"
	"sipward/proxy/flow"
	"sipward/proxy/netio"
	"sipward/sip"
)

// response forwards a response (RFC 3261 §16.7, §16.11): its top Via must be ours
// and authentic, and says where it goes.
func (t *task) response() {
	m := &t.m
	tok, payload, b, ok := t.ourVia(&m.Via)
	switch {
	case ok:
	case t.forgedVia(&m.Via):
		t.note(policy.Drop, policy.ReasonForgedToken, "")
		return
	default:
		t.note(policy.Drop, policy.ReasonForeignVia, "")
		return
	}
	// Only a PBX answers what was sent to a PBX, and what has no Via below ours was
	// never a client's.
	if tok.Side == flow.Outside && t.from.side == flow.Outside && tok.PBX != 0 || m.ViaCount < 2 {
		t.note(policy.Drop, policy.ReasonForgedToken, "")
		return
	}
	if tok.Stream && !t.from.reliable() && t.repeated(&b) {
		return
	}
	h, ok := t.hopTo(&tok)
	if !ok {
		t.note(policy.Drop, policy.ReasonStaleToken, "")
		return
	}
	if tok.Side == flow.Outside {
		t.client = unzoned(tok.Addr)
	}
	t.masked = t.findMasked(&h)
	if t.lane != nil && tok.Side == flow.Outside && !tok.Stream { // what came over a connection is not counted as asked
		t.lane.answered.Add(1)
	}
	t.accountOf()
	if h.conn != nil {
		// The answer that gets its source banned is the last one that it gets: it must
		// go out before the ban closes the connection.
		h.conn.Pin()
		defer h.conn.Unpin()
	}
	d := t.observed(&tok, h.conn, payload, &b, t.restoreContacts(&tok))
	switch {
	case d.Verdict != policy.Pass:
		t.note(d.Verdict, d.Reason, "")
		return
	case d.Uniform && t.sendUniform(&h, &tok):
		t.note(policy.Pass, policy.ReasonUniform, "")
		return
	}
	if tok.Side == flow.Outside {
		if tok.Stream && t.registered() {
			t.s.remember(&tok, true) // the connection that it registered over
		}
		t.restoreCaller()
	} else {
		if tok.Rewritten {
			t.backToAlias(&m.To, payload, &h.face)
		}
		if tok.Follow {
			t.s.resolver.Good(t.from.addr)
		}
	}
	t.adaptAnswer(&tok, payload, &h)
	t.popVia()
	t.unmaskVia()
	if t.from.reliable() && !h.reliable() {
		t.keepResponse(&h, &b)
	}
	if !t.send(&h) {
		t.note(policy.Drop, policy.ReasonUpstreamError, "")
		return
	}
	t.note(policy.Pass, policy.ReasonPass, "")
}

// registered reports whether the message at hand is a registrar's 2xx to a REGISTER.
func (t *task) registered() bool { return t.m.Method == sip.MethodRegister && t.m.Status/100 == 2 }

// restoreCaller puts the phone's own URI back into From, in the answer to a request
// for which restoreFrom put the alias there.
func (t *task) restoreCaller() {
	from := &t.m.From
	if _, payload, text, ok := t.alias(&from.URI); ok {
		t.restoreAlias(&from.URI, from.URISpan, !from.Bracketed, payload, text)
	}
}

// challenging reports whether a status asks for credentials (RFC 3261 §22).
func challenging(status int) bool { return status == 401 || status == 407 }

// observed tells the policy what came of a request; the token says who is charged, conn is
// his connection, if he has one, and granted for how many seconds a registrar keeps his
// binding. It returns what is to happen to the response.
func (t *task) observed(tok *flow.Token, conn *netio.Conn, payload []byte, b *branch, granted int64) policy.Decision {
	m := &t.m
	challenge := challenging(m.Status)
	carrier := tok.Follow || t.from.trunk || t.from.certified
	if tok.Side == flow.Inside && challenge && !carrier && t.live.shield {
		// Only carriers may ask a PBX for its password.
		t.s.engine.DigestLeak(t.from.addr.Addr(), t.now)
		return policy.Decision{Verdict: policy.Drop, Reason: policy.ReasonDigestLeak}
	}
	o := &t.outcome
	*o = policy.Outcome{}
	o.Transport, o.Status, o.Transaction, o.Text = t.from.ep.transport, m.Status, b.transaction(), t
	o.Method, o.Account = m.MethodText.Of(m.Buf), t.account
	if m.Method == sip.MethodInvite || m.Method == sip.MethodBye {
		o.Dialog = t.dialogKey()
	}
	if tok.Side == flow.Inside {
		o.FromPBX, o.Source = true, t.from.addr
		o.Proven = true // only who got the request knows its branch
	} else {
		o.Source = unzoned(tok.Addr)
		o.Certified = t.s.isCertified(conn)
		o.Expires = granted
		t.unstamp(payload)
		t.noteSent(tok, challenge)
	}
	t.shard.Reply(m.Status)
	return t.s.engine.Observe(o, t.now)
}

// unzoned is an address as lists and the policy know it.
func unzoned(a netip.AddrPort) netip.AddrPort {
	if a.Addr().Is4() {
		return a // there are none
	}
	return netip.AddrPortFrom(a.Addr().WithZone(""), a.Port())
}

// noteSent remembers what a response gives the client to echo.
func (t *task) noteSent(tok *flow.Token, challenge bool) {
	m := &t.m
	if challenge {
		t.outcome.Stale = t.noteChallenge(tok.Addr.Addr())
		t.learnForm()
	}
	if m.Method != sip.MethodRegister && !tok.Stream && m.Status > 100 {
		t.noteTag(tok.Addr.Addr())
	}
}
