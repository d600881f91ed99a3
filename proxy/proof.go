package proxy

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"time"

	"sipward/policy"
	"sipward/proxy/flow"
	"sipward/sip"
)

// UDP sources can be forged. A request proves its own when it echoes something that
// only we or the PBX have sent to that address: the nonce of a challenge that passed
// through us, or the To tag of a response (for who was called, the From tag of the INVITE).
// Both are remembered for a while, as keyed hashes, in fixed memory; those of sources in
// good standing apart from the others', so that a flood of strangers does not make us
// forget them.
//
// Some PBXes give everybody the same nonce within a second (Kamailio does, unless told
// otherwise), so that a stranger knows what a phone was sent. A nonce that went to more
// than one address proves one only together with the Call-ID of the request that was
// challenged, which the same request with credentials has, too (RFC 3261 §22.2).
type proofs struct {
	nonces [2]*flow.Memory // issued to an address, also with a Call-ID: strangers, others
	issued [2]*flow.Memory // issued to anybody, and which to more than one address
	tags   [2]*flow.Memory // tags sent to an address
}

const (
	// Challenges wait for their answer for a moment, and phones use a nonce again for
	// as long as the PBX lets them.
	proofLife     = int64(time.Hour)
	strangerProof = 1 << 18 // keys in each memory, 16 bytes each
	knownProof    = 1 << 16
)

func newProofs() (p proofs) {
	for i, n := range [2]int{strangerProof, knownProof} {
		p.nonces[i], p.issued[i], p.tags[i] = flow.NewMemory(2*n), flow.NewMemory(n), flow.NewMemory(n)
	}
	return p
}

// withQOP marks the key of a nonce whose challenge offered a qop, and shared that of one which
// went to more than one address. The bit is not among those that choose a bucket.
const (
	withQOP = 1 << 63
	shared  = 1 << 63
)

// The kinds of keys.
const (
	keyNonce    = 'n' // a nonce that was sent to an address
	keyNonceFor = 'c' // … in the answer to a request with that Call-ID
	keyIssued   = 'i' // a nonce that was sent to anybody
	keyTag      = 't' // the tag of a response, and the dialog
	keyCaller   = 'f' // the tag of who calls, and the call
	keyAsked    = 'q' // a transaction, in transparent mode
	keyBinding  = 'b' // that a phone has registered, in transparent mode
)

// proofKey hashes the hashes of what was echoed, three at most, together with the address that it
// was sent to.
func (s *Server) proofKey(kind byte, addr netip.Addr, parts ...uint64) uint64 {
	var b [1 + 3*8 + 16]byte
	key := append(b[:0], kind)
	for _, p := range parts {
		key = binary.LittleEndian.AppendUint64(key, p)
	}
	if addr.IsValid() {
		a := addr.As16()
		key = append(key, a[:]...)
	}
	return s.hash(key) &^ withQOP
}

// hashOf is the hash of a part of the message at hand.
func (t *task) hashOf(part sip.Span) uint64 { return t.s.hash(part.Of(t.m.Buf)) }

// hash is a keyed hash of what this process alone needs to know again, as Key.Hash is of what
// outlives it, and several times as fast.
func (s *Server) hash(b []byte) uint64 { return maphash.Bytes(s.seed, b) }

// tagKey hashes a To tag together with the dialog and the address that it was sent to.
func (t *task) tagKey(addr netip.Addr) uint64 {
	m := &t.m
	return t.s.proofKey(keyTag, addr, t.hashOf(m.To.Tag), t.hashOf(m.From.Tag), t.hashOf(m.CallID))
}

// memory says in which of the two memories a source is remembered.
func (t *task) memory(addr netip.Addr) int {
	if t.s.engine.Standing(addr, t.now) == policy.Stranger {
		return 0
	}
	return 1
}

// noteChallenge remembers the nonces of a 401 or 407 that goes to addr, and reports
// whether one of them says stale=true.
func (t *task) noteChallenge(addr netip.Addr) (stale bool) {
	m := &t.m
	which := t.memory(addr)
	for i := range m.Headers {
		h := &m.Headers[i]
		if h.ID != sip.HeaderWWWAuthenticate && h.ID != sip.HeaderProxyAuthenticate {
			continue
		}
		c, fault := sip.ParseChallenge(m.Buf, h.Value)
		if fault != sip.OK || !c.Digest {
			continue
		}
		stale = stale || c.Stale
		var qop uint64
		if !c.QOP.Empty() {
			qop = withQOP
		}
		t.noteNonce(t.hashOf(c.Nonce), addr, which, qop)
	}
	return stale
}

// noteNonce remembers the hash of a nonce that is issued to addr.
func (t *task) noteNonce(nonce uint64, addr netip.Addr, which int, qop uint64) {
	p, until := &t.s.proofs, t.now+proofLife
	own, anybody := t.s.proofKey(keyNonce, addr, nonce), t.s.proofKey(keyIssued, netip.Addr{}, nonce)
	before, _ := p.issuedTo(own, t.now)
	p.nonces[which].Add(own|qop, t.now, until)
	p.nonces[which].Add(t.s.proofKey(keyNonceFor, addr, nonce, t.hashOf(t.m.CallID)), t.now, until)
	if known := p.issued[which].Add(anybody, t.now, until) || p.issued[1-which].Has(anybody, t.now); known && !before {
		p.issued[1].Add(anybody|shared, t.now, until) // strangers fill it no faster than a PBX repeats itself
	}
}

// has reports whether one of the two memories has a key. Those in good standing, who ask for
// most, are looked up first.
func has(m *[2]*flow.Memory, key uint64, now int64) bool {
	return m[1].Has(key, now) || m[0].Has(key, now)
}

// issuedTo reports whether the nonce of a key was issued to its address, and whether never
// without a qop.
func (p *proofs) issuedTo(key uint64, now int64) (ok, qop bool) {
	for _, m := range [...]*flow.Memory{p.nonces[1], p.nonces[0]} {
		if found, ok := m.Find(key, withQOP, now); ok {
			return true, found != key && !m.Has(key, now)
		}
	}
	return false, false
}

// noteTag remembers the To tag of a response that goes to addr.
func (t *task) noteTag(addr netip.Addr) {
	if !t.m.To.Tag.Empty() {
		t.s.proofs.tags[t.memory(addr)].Add(t.tagKey(addr), t.now, t.now+proofLife)
	}
}

// callerKey hashes the tag of who called together with the call and the address that was called.
func (t *task) callerKey(tag sip.Span, addr netip.Addr) uint64 {
	return t.s.proofKey(keyCaller, addr, t.hashOf(tag), t.hashOf(t.m.CallID))
}

// noteCaller remembers the From tag of a PBX's INVITE that goes to addr: who was called echoes it as To
// tag in what he sends inside the call.
func (t *task) noteCaller(addr netip.Addr) {
	if t.m.Method == sip.MethodInvite {
		t.s.proofs.tags[t.memory(addr)].Add(t.callerKey(t.m.From.Tag, addr), t.now, t.now+proofLife)
	}
}

// proveNonce finds out where a nonce comes from, of which it is given the hash: that of the request's
// credentials.
func (t *task) proveNonce(nonce uint64, addr netip.Addr) (class policy.Nonce, qop bool) {
	p := &t.s.proofs
	own, qop := p.issuedTo(t.s.proofKey(keyNonce, addr, nonce), t.now)
	anybody := t.s.proofKey(keyIssued, netip.Addr{}, nonce)
	switch {
	case own && (!p.issued[1].Has(anybody|shared, t.now) || has(&p.nonces, t.s.proofKey(keyNonceFor, addr, nonce, t.hashOf(t.m.CallID)), t.now)):
		return policy.NonceIssued, qop
	case own, has(&p.issued, anybody, t.now):
		return policy.NonceForeign, false
	}
	return policy.NonceUnknown, false
}

// prove fills in what the request at hand shows about its source.
func (t *task) prove() {
	m, r := &t.m, &t.req
	addr := t.from.addr.Addr()
	r.Proven = t.from.conn != nil
	r.InDialog = !m.To.Tag.Empty()
	if r.InDialog && !r.Proven {
		tags := &t.s.proofs.tags
		r.Proven = has(tags, t.tagKey(addr), t.now) || has(tags, t.callerKey(m.To.Tag, addr), t.now)
	}
	if m.Has(sip.HeaderAuthorization) || m.Has(sip.HeaderProxyAuthorization) {
		t.proveCredentials(addr)
	}
	r.Proven = r.Proven || r.Nonce == policy.NonceIssued
}

// proveCredentials fills in what the request's credentials show. Of several (for several
// realms) the best nonce counts.
func (t *task) proveCredentials(addr netip.Addr) {
	m, r := &t.m, &t.req
	r.HasCredentials = true
	for i := range m.Headers {
		h := &m.Headers[i]
		if h.ID != sip.HeaderAuthorization && h.ID != sip.HeaderProxyAuthorization {
			continue
		}
		// 32 bits, so that the Via's stamp can carry them.
		r.Credentials = uint64(uint32(r.Credentials*31+t.hashOf(h.Value))) | 1
		c, fault := sip.ParseCredentials(m.Buf, h.Value)
		class, qop := policy.NonceUnknown, false
		if fault == sip.OK && c.Digest {
			class, qop = t.proveNonce(t.hashOf(c.Nonce), addr)
			t.scan.QOP, t.scan.CNonce = c.QOP.Of(m.Buf), c.CNonce.Of(m.Buf)
		}
		if r.Nonce == policy.NonceNone || better(class, r.Nonce) {
			r.Nonce = class
			t.scan.ChallengeKnown, t.scan.ChallengeHadQOP = class == policy.NonceIssued, qop
		}
	}
}

// better reports whether nonce class a says more for the source than b.
func better(a, b policy.Nonce) bool {
	rank := [...]int{policy.NonceNone: 0, policy.NonceUnknown: 1, policy.NonceForeign: 2, policy.NonceIssued: 3}
	return rank[a] > rank[b]
}

// A Via of ours carries, as the payload of its token, what the outcome needs to know
// of its request, so that nothing about the transaction has to be remembered here:
// a byte of flags, with credentials the hash of them, and for OPTIONS whom it asked for.
const (
	stampNonce       = 0b0000_0011
	stampCredentials = 1 << 2 // an Authorization header
	stampProven      = 1 << 3 // the address; by a tag alone it is not: who is called knows it, too
	stampInDialog    = 1 << 4
	stampProxy       = 1 << 5 // a Proxy-Authorization header
	stampSecure      = 1 << 6 // a sips URI; see adaptAnswer
	maxStampTarget   = 64
)

// stamp packs the request for its Via.
func (t *task) stamp() []byte {
	r := &t.req
	flags := byte(r.Nonce) & stampNonce
	if t.m.Has(sip.HeaderAuthorization) {
		flags |= stampCredentials
	}
	if t.m.Has(sip.HeaderProxyAuthorization) {
		flags |= stampProxy
	}
	if t.from.conn != nil || r.Nonce == policy.NonceIssued {
		flags |= stampProven
	}
	if r.InDialog {
		flags |= stampInDialog
	}
	if t.route.secure {
		flags |= stampSecure
	}
	t.stamped = append(t.stamped[:0], flags)
	if r.HasCredentials {
		t.stamped = binary.LittleEndian.AppendUint32(t.stamped, uint32(r.Credentials))
	}
	if t.m.Method == sip.MethodOptions {
		t.stamped = append(t.stamped, r.Target[:min(len(r.Target), maxStampTarget)]...)
	}
	return t.stamped
}

// unstamp reads a stamp back into the outcome.
func (t *task) unstamp(payload []byte) {
	if len(payload) == 0 {
		return
	}
	o, flags := &t.outcome, payload[0]
	o.Nonce = policy.Nonce(flags & stampNonce)
	o.HasCredentials = flags&(stampCredentials|stampProxy) != 0
	o.Unjudged = o.HasCredentials && challenging(t.m.Status) && !t.asksFor(flags)
	o.Proven = flags&stampProven != 0
	o.InDialog = flags&stampInDialog != 0
	payload = payload[1:]
	if o.HasCredentials && len(payload) >= 4 {
		o.Credentials = uint64(binary.LittleEndian.Uint32(payload))
		payload = payload[4:]
	}
	t.stamped = append(t.stamped[:0], payload...)
	o.Target = t.stamped
}

// asksFor reports whether the challenge at hand asks for credentials that its request
// carried; a challenge may come from several who want some (RFC 3261 §16.7 step 7). One
// without a header for them is taken for the answer to whatever there was.
func (t *task) asksFor(flags byte) bool {
	server, proxy := t.m.Has(sip.HeaderWWWAuthenticate), t.m.Has(sip.HeaderProxyAuthenticate)
	return server && flags&stampCredentials != 0 || proxy && flags&stampProxy != 0 || !server && !proxy
}

// transaction is our branch as the policy's transaction.
func (b *branch) transaction() uint64 { return binary.LittleEndian.Uint64(b[:8]) }

// dialogKey is the same for both directions of a dialog.
func (t *task) dialogKey() uint64 {
	m := &t.m
	return t.hashOf(m.CallID) ^ (t.hashOf(m.From.Tag) + t.hashOf(m.To.Tag))
}
