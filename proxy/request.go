package proxy

import (
	"bytes"
	"time"

	"sipward/policy"
	"sipward/policy/scanner"
	"sipward/proxy/flow"
	"sipward/sip"
)

// request handles a request from either side (RFC 3261 §16.3–16.6, stateless as in
// §16.11).
func (t *task) request() {
	t.accountOf()
	b := t.branchOf()
	if t.from.side == flow.Outside && !t.permitted(&b) {
		return
	}
	if t.m.Method == sip.MethodAck && t.isOurTag(t.m.To.Tag) {
		t.note(policy.Drop, policy.ReasonOwnAck, "") // to an answer of ours; it ends here
		return
	}
	if !t.valid() {
		return
	}
	if t.looped(&b) {
		t.refuse(482, "Loop Detected", policy.ReasonLoop)
		return
	}
	if fault := t.takeRoutes(); fault != sip.OK {
		t.malformed(fault)
		return
	}
	if t.from.side == flow.Outside {
		t.fromOutside(&b)
	} else {
		t.fromInside(&b)
	}
}

// permitted asks the policy. What it refuses goes no further.
func (t *task) permitted(b *branch) bool {
	t.describe(b)
	d := t.s.engine.Decide(&t.req, t.now)
	for waited := time.Duration(0); d.Verdict == policy.Hold; waited += holdStep {
		// Too many guesses are in flight. A datagram comes again by itself; a stream's
		// reader has nobody else to serve meanwhile.
		if !t.from.reliable() {
			t.note(policy.Drop, d.Reason, "")
			return false
		}
		if waited >= holdMost {
			d = policy.Decision{Verdict: policy.Reject, Reason: d.Reason, Code: 503, RetryAfter: 5}
			break
		}
		time.Sleep(holdStep)
		t.now = t.s.now()
		d = t.s.engine.Decide(&t.req, t.now)
	}
	switch d.Verdict {
	case policy.Drop:
		t.note(d.Verdict, d.Reason, "")
		return false
	case policy.Reject:
		t.note(d.Verdict, d.Reason, "")
		if t.m.Method != sip.MethodAck {
			t.retryAfter = d.RetryAfter
			t.answer(d.Code, reasonPhrase(d.Code), "")
		}
		return false
	}
	return true
}

// How long a connection's request waits for those before it to be answered.
const (
	holdStep = 10 * time.Millisecond
	holdMost = 2 * time.Second
)

// valid makes the checks of RFC 3261 §16.3 that concern a proxy.
func (t *task) valid() bool {
	m := &t.m
	if m.MaxForwards == 0 {
		t.refuse(483, "Too Many Hops", policy.ReasonTooManyHops)
		return false
	}
	if !knownScheme(m.URI.Scheme.Of(m.Buf)) {
		t.refuse(416, "Unsupported URI Scheme", policy.ReasonBadScheme)
		return false
	}
	if h := m.Find(sip.HeaderProxyRequire); h != nil && m.Method != sip.MethodCancel {
		t.refuseExtension(h)
		return false
	}
	return true
}

// knownScheme: what a PBX may be asked for. urn is how emergency calls are made
// (RFC 5031).
func knownScheme(scheme []byte) bool {
	for _, s := range [...]string{"sip", "sips", "tel", "urn", "im", "pres"} {
		if len(scheme) == len(s) && bytes.EqualFold(scheme, []byte(s)) {
			return true
		}
	}
	return false
}

// refuse answers with an error of our own and counts it. Nothing answers an ACK
// (RFC 3261 §17).
func (t *task) refuse(code int, phrase string, r policy.Reason) {
	if t.m.Method == sip.MethodAck {
		t.note(policy.Drop, r, "")
		return
	}
	t.note(policy.Reject, r, "")
	t.answer(code, phrase, "")
}

// accountOf finds the user@host that a message is about: To's of a REGISTER (RFC 3261
// §10.2), else From's.
func (t *task) accountOf() {
	uri := &t.m.From.URI
	if t.m.Method == sip.MethodRegister {
		uri = &t.m.To.URI
	}
	t.account = appendAccount(t.account[:0], t.m.Buf, uri)
}

// appendAccount appends user@host in the one spelling that counts: escapes undone
// (RFC 3261 §19.1.4), the host in lower case.
func appendAccount(dst, buf []byte, uri *sip.URI) []byte {
	if !uri.User.Empty() {
		dst = sip.AppendUnescaped(dst, uri.User.Of(buf))
	}
	if uri.Host.Empty() {
		return dst // a tel URI: the number is all
	}
	if len(dst) > 0 {
		dst = append(dst, '@')
	}
	return sip.AppendLower(dst, uri.Host.Of(buf))
}

// describe fills the policy's view of the request.
func (t *task) describe(b *branch) {
	m, r := &t.m, &t.req
	*r = policy.Request{} // and then one by one: the whole would be built elsewhere and copied
	r.Source, r.Transport, r.Gate = t.from.addr, t.from.ep.transport, t.from.gate
	r.Method, r.Account = m.MethodText.Of(m.Buf), t.account
	r.Transaction = b.transaction()
	r.Scan, r.Text = &t.scan, t
	if m.Method == sip.MethodOptions || t.s.engine.LooksAtTargets() {
		t.target = appendAccount(t.target[:0], m.Buf, &m.URI)
		r.Target = t.target
	}
	if m.Method == sip.MethodAck {
		r.Dialog = t.dialogKey()
	}
	t.describeScan()
	t.prove()
}

// describeScan fills what the signatures of attack tools look at.
func (t *task) describeScan() {
	m, s := &t.m, &t.scan
	*s = scanner.Message{}
	s.Method, s.RequestURI = m.MethodText.Of(m.Buf), m.RequestURI.Of(m.Buf)
	s.FromDisplay, s.FromTag = m.From.Display.Of(m.Buf), m.From.Tag.Of(m.Buf)
	s.FromUser, s.FromHost = m.From.URI.User.Of(m.Buf), m.From.URI.Host.Of(m.Buf)
	s.ToDisplay, s.ToUser, s.ToHost = m.To.Display.Of(m.Buf), m.To.URI.User.Of(m.Buf), m.To.URI.Host.Of(m.Buf)
	s.CallID = m.CallID.Of(m.Buf)
	s.ViaHost, s.ViaBranch = m.Via.Host.Of(m.Buf), m.Via.Branch.Value.Of(m.Buf)
	s.UserAgent, s.Server = t.headerText(sip.HeaderUserAgent), t.headerText(sip.HeaderServer)
	s.Contact, s.Accept = t.headerText(sip.HeaderContact), t.headerText(sip.HeaderAccept)
}

func (t *task) headerText(id sip.HeaderID) []byte {
	if h := t.m.Find(id); h != nil {
		return h.Value.Of(t.m.Buf)
	}
	return nil
}

// AppendRedacted implements policy.Excerpter: the head of the message at hand, for people; of a
// response without our own Via, as its receiver gets it.
func (t *task) AppendRedacted(dst []byte) []byte {
	t.buf = t.appendShown(t.buf[:0])
	return append(dst, t.buf[:min(len(t.buf), cap(dst)-len(dst))]...)
}

func (t *task) appendShown(dst []byte) []byte {
	m := &t.m
	if m.IsRequest || m.ViaCount == 0 {
		return sip.Redact(dst, headOf(m.Buf))
	}
	h, own := &m.Headers[m.Via.Header], m.Via.Value
	if rest := bytes.TrimLeft(m.Buf[own.End:h.Value.End], ", \t\r\n"); len(rest) > 0 {
		own.End = h.Value.End - uint32(len(rest)) // others stand in the same line
	} else {
		own = h.Line
	}
	return sip.Redact(sip.Redact(dst, headOf(m.Buf[:own.Off])), headOf(m.Buf[own.End:]))
}

// maxShown is how much of a message is looked at for what people are shown, in bytes.
const maxShown = 4096

// headOf returns the first lines of b: whole ones, so that no secret is cut in two.
func headOf(b []byte) []byte {
	if len(b) > maxShown {
		b = b[:bytes.LastIndexByte(b[:maxShown], '\n')+1]
	}
	return b
}

// createsDialog reports whether a request may create a dialog, so that we must
// stay in its path (RFC 3261 §16.6 step 4). Methods that we do not know may.
func createsDialog(m *sip.Message) bool {
	if !m.To.Tag.Empty() {
		return false
	}
	switch m.Method {
	case sip.MethodInvite, sip.MethodSubscribe, sip.MethodNotify, sip.MethodRefer, sip.MethodOther:
		return true
	}
	return false
}

// transmit completes the edits that every forwarded request gets and sends it.
// rr describes the outside flow for Record-Route, nil if none is due; its payload is the
// token of the alias that To had, if any.
func (t *task) transmit(h *hop, b *branch, via, rr *flow.Token, payload []byte) {
	if t.from.side == flow.Inside && h.towards == flow.Outside {
		t.client = unzoned(h.addr)
	}
	crosses := t.from.reliable() != h.reliable()
	if crosses && h.reliable() && t.absorbed(h.conn, b) {
		return
	}
	t.markReceived()
	t.maskVia()
	t.forwardsLess()
	t.adaptScheme(h)

	at := t.m.Headers[0].Line.Off
	t.e.Begin(sip.Span{Off: at, End: at})
	if via.Side == flow.Outside {
		t.pushVia(&h.face, b, via, t.stamp())
	} else {
		t.pushVia(&h.face, b, via, payload)
	}
	if rr != nil {
		t.recordRoute(&h.face, rr, payload)
		if !h.face.same(&t.from.face) {
			t.recordRoute(&t.from.face, rr, payload)
		}
	}
	if t.m.MaxForwards < 0 {
		t.e.B = append(t.e.B, "Max-Forwards: 70\r\n"...)
	}
	t.e.End()

	if crosses && !h.reliable() && !t.keepRequest(h, b) {
		return
	}
	if !t.send(h) {
		if crosses {
			t.s.repeats.Forget(t.transactionKey(b))
		}
		t.note(policy.Drop, policy.ReasonUpstreamError, "")
		return
	}
	if t.lane != nil && h.towards == flow.Inside && t.m.Method != sip.MethodAck {
		t.lane.asked.Add(1)
	}
	t.note(policy.Pass, policy.ReasonPass, "")
}

// recordRoute adds a Record-Route header that leads to f (RFC 3261 §16.6 step 4),
// with the outside flow in its user part.
func (t *task) recordRoute(f *face, rr *flow.Token, payload []byte) {
	scheme, param := t.schemeTowards(f)
	t.e.B = append(t.e.B, "Record-Route: <"...)
	t.e.B = append(t.e.B, scheme...)
	t.e.B = t.s.key.Append(t.e.B, rr, payload, 0)
	t.e.B = append(t.e.B, '@')
	t.e.B = f.appendHostPort(t.e.B)
	t.e.B = append(t.e.B, param...)
	t.e.B = append(t.e.B, ";lr>\r\n"...)
}

// forwardsLess decrements Max-Forwards (RFC 3261 §16.6 step 3).
func (t *task) forwardsLess() {
	if t.m.MaxForwards > 0 {
		t.e.Begin(t.m.MaxForwardsValue)
		t.e.B = appendInt(t.e.B, t.m.MaxForwards-1)
		t.e.End()
	}
}
