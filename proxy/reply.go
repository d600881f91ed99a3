package proxy

import (
	"sipward/policy"
	"sipward/proxy/flow"
	"sipward/sip"
)

// response forwards a response (RFC 3261 §16.7, §16.11): its top Via must be ours
// and authentic, and says where it goes.
func (t *task) response() {
	m := &t.m
	tok, payload, _, ok := t.ourVia(&m.Via)
	if !ok {
		t.note(policy.Drop, policy.ReasonForeignVia, "")
		return
	}
	// Only a PBX answers what was sent to a PBX, and what has no Via below ours was
	// never a client's.
	if tok.Side == flow.Outside && t.from.side == flow.Outside && tok.PBX != 0 || m.ViaCount < 2 {
		t.note(policy.Drop, policy.ReasonForgedToken, "")
		return
	}
	h, ok := t.hopTo(&tok)
	if !ok {
		t.note(policy.Drop, policy.ReasonStaleToken, "")
		return
	}
	t.account = accountOf(m)
	if m.Method == sip.MethodRegister && m.Status/100 == 2 {
		t.registered(&tok)
	}
	if tok.Side == flow.Outside {
		t.restoreCaller()
	} else {
		if tok.Rewritten {
			t.backToAlias(&m.To, payload, h.face)
		}
		if tok.Follow {
			t.s.resolver.Good(t.from.addr)
		}
	}
	t.popVia()
	if !t.send(&h) {
		t.note(policy.Drop, policy.ReasonUpstreamError, "")
		return
	}
	if tok.Side == flow.Outside {
		t.observe(&tok)
	}
	t.note(policy.Pass, policy.ReasonPass, "")
}

// registered puts the registering side's own Contacts back into the registrar's
// list, and remembers the connection that it registered over.
func (t *task) registered(tok *flow.Token) {
	t.restoreContacts()
	if tok.Side == flow.Outside && tok.Stream {
		t.s.remember(tok, true)
	}
}

// restoreCaller puts the phone's own URI back into From, in the answer to a request
// for which restoreFrom put the alias there.
func (t *task) restoreCaller() {
	from := &t.m.From
	if _, payload, _, ok := t.alias(&from.URI); ok {
		t.restoreAlias(&from.URI, from.URISpan, !from.Bracketed, payload)
	}
}

// observe tells the policy what the PBX answered; the token says who is charged.
func (t *task) observe(tok *flow.Token) {
	m := &t.m
	t.outcome = policy.Outcome{
		Source:    tok.Addr,
		Transport: t.from.ep.transport,
		Method:    m.MethodText.Of(m.Buf),
		Status:    m.Status,
		Account:   t.account.Of(m.Buf),
		CallID:    m.CallID.Of(m.Buf),
	}
	t.s.engine.Observe(&t.outcome, t.now)
}
