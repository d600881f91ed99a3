package proxy

import (
	"net/netip"
	"time"

	"sipward/policy"
	"sipward/proxy/flow"
	"sipward/proxy/netio"
	"sipward/sip"
)

// In transparent mode the packet filter leads to us what phones and PBXes send to each
// other. The policy is asked as in proxy mode; what may pass goes on from its own source
// to its own destination, byte for byte. So nothing can be written into a message for
// its answer to bring back, and what an answer is judged by is remembered here instead.
// As everything that is remembered it is needed to observe, never to forward.

// Transparent is the configuration of transparent mode.
type Transparent struct {
	// Mark is the packet mark of everything that is sent, by which the rules of the
	// packet filter know it.
	Mark uint32
	// MTU returns the size in bytes of the largest packet that every interface takes;
	// nil: 1500.
	MTU func() int
	// OnHost says that the PBXes are on this host, so that a connection which one of
	// them has opened occupies its own address and port here.
	OnHost bool
}

// transit is what transparent mode has beside what both modes have.
type transit struct {
	Transparent
	since    int64                 // when it began
	asked    [2]*flow.Transactions // requests from outside: of strangers, of others
	asking   *flow.Transactions    // requests of PBXes
	bindings *flow.Memory          // addresses that phones have registered from
}

const (
	strangersAsked = 1 << 17
	othersAsked    = 1 << 16
	pbxAsking      = 1 << 16
	bindings       = 1 << 16

	// A transaction lasts for 64*T1 (RFC 3261 §17.1), one with INVITE as long as it rings.
	transactionLife = int64(40 * time.Second)
	inviteLife      = int64(10 * time.Minute)
)

func newTransit(cfg *Transparent, now int64) *transit {
	if cfg == nil {
		return nil
	}
	return &transit{
		Transparent: *cfg, since: now,
		asked:    [2]*flow.Transactions{flow.NewTransactions(strangersAsked), flow.NewTransactions(othersAsked)},
		asking:   flow.NewTransactions(pbxAsking),
		bindings: flow.NewMemory(bindings),
	}
}

// sockets returns what the sockets have to know.
func (c *Transparent) sockets() *netio.Transparent {
	if c == nil {
		return nil
	}
	return &netio.Transparent{Mark: c.Mark, MTU: c.MTU}
}

// classifyTransit finds out on which side the sender of a datagram stands. The rules
// have said so by the listener; what else reaches it is not forwarded, least of all to
// the listener itself.
func (t *task) classifyTransit() bool {
	src, dst := t.from.addr.Addr(), t.from.target()
	if t.from.ep.inside {
		pbx := t.s.pool.ByAddr(src)
		if pbx == nil || !dst.IsValid() || dst.Addr().IsLoopback() {
			t.note(policy.Drop, policy.ReasonNotPBX, "")
			return false
		}
		pbx.Heard(t.now)
		t.from.side, t.from.towards = flow.Inside, flow.Inside
		return true
	}
	t.from.side, t.from.towards = flow.Outside, flow.Outside
	switch {
	case t.s.pool.ByAddrPort(dst) == nil:
		t.note(policy.Drop, policy.ReasonNoRoute, "")
		return false
	case t.s.pool.Has(src):
		t.note(policy.Drop, policy.ReasonForgedSource, "")
		return false
	}
	return t.admitted()
}

// target is where the sender's peer is, in transparent mode.
func (o *origin) target() netip.AddrPort { return netip.AddrPortFrom(o.local, o.port) }

// transit handles one message in transparent mode.
func (t *task) transit(fault sip.Fault) {
	switch {
	case t.from.side == flow.Inside && fault != sip.OK:
		t.pass() // whatever a PBX sends, a keep-alive for a phone's NAT for one
	case t.from.side == flow.Inside:
		t.client = t.from.target()
		if t.m.IsRequest {
			t.transitAsking()
		} else {
			t.transitAnswer()
		}
	case fault == sip.FaultKeepAlive:
		t.note(policy.Drop, policy.ReasonKeepalive, "")
	case fault != sip.OK:
		t.malformed(fault)
	case t.m.IsRequest:
		t.transitRequest()
	default:
		t.transitReply()
	}
}

// pass sends the message at hand on as it came.
func (t *task) pass() {
	if t.forward() {
		t.note(policy.Pass, policy.ReasonPass, "")
	}
}

func (t *task) forward() (sent bool) {
	if t.from.conn != nil {
		return t.forwardStream()
	}
	src, p := t.from.addr, t.packet
	t.out.Forward(t.from.ep.listener, netio.Datagram{
		Data: p.Data, Dst: t.from.target(), Local: src.Addr(), LocalPort: src.Port(),
		TOS: p.TOS, Fragment: p.Fragment,
	})
	return true
}

// forwardStream sends the message over the paired connection. Where there can be none
// the sender's is closed, as it would be if it had reached the other side itself.
func (t *task) forwardStream() bool {
	conn, err := t.s.pairInTransit(t.from.conn)
	if err == nil {
		err = conn.Send(t.m.Buf)
	}
	if err != nil {
		t.note(policy.Drop, policy.ReasonUpstreamError, "")
		t.from.conn.Close(errPeerClosed)
	}
	return err == nil
}

// transitRequest handles a request from outside.
func (t *task) transitRequest() {
	t.accountOf()
	b := t.branchOf()
	if !t.permitted(&b) {
		return
	}
	if t.m.Method == sip.MethodAck && t.isOurTag(t.m.To.Tag) {
		t.note(policy.Drop, policy.ReasonOwnAck, "")
		return
	}
	if t.m.Method != sip.MethodAck && !t.noteAsked(&b) {
		t.note(policy.Drop, policy.ReasonGuessesInFlight, "")
		return
	}
	t.pass()
	if t.lane != nil && t.m.Method != sip.MethodAck {
		t.lane.asked.Add(1)
	}
}

// stampAnswered is the flag of a stamp whose request has its final answer.
const stampAnswered = 1 << 7

// askedKey is the same for a request and its responses. The client's address is part of
// it, so that a stranger who knows a branch cannot meddle.
func (t *task) askedKey(b *branch, client netip.Addr) uint64 {
	return t.s.proofKey(keyAsked, client, b.transaction(), t.hashOf(t.m.MethodText))
}

// noteAsked remembers what the answer to the request at hand will be judged by. It
// reports false while the same transaction waits for the answer to other credentials:
// otherwise all guesses could hide behind one of them.
func (t *task) noteAsked(b *branch) bool {
	key := t.askedKey(b, t.from.addr.Addr())
	stamp := t.stamp()
	const either, credentials = stampCredentials | stampProxy, 1 + 4
	if old, ok := t.s.transit.recall(key, t.now, t.wire[:0]); ok && old[0]&stampAnswered == 0 &&
		old[0]&either != 0 && stamp[0]&either != 0 && string(old[1:credentials]) != string(stamp[1:credentials]) {
		return false
	}
	t.s.transit.asked[t.memory(t.from.addr.Addr())].Put(key, stamp, t.now, t.transactionEnd())
	return true
}

func (s *transit) recall(key uint64, now int64, buf []byte) (stamp []byte, ok bool) {
	for _, table := range s.asked {
		if stamp, ok = table.Get(key, now, buf); ok {
			return stamp, true
		}
	}
	return nil, false
}

func (t *task) transactionEnd() int64 {
	if t.m.Method == sip.MethodInvite {
		return t.now + inviteLife
	}
	return t.now + transactionLife
}

// transitAnswer handles a PBX's response. Of a request that is not known any more it
// tells only what the response itself does.
func (t *task) transitAnswer() {
	t.accountOf()
	b := t.branchOf()
	client := flow.Token{Side: flow.Outside, Stream: t.from.conn != nil, Addr: t.from.target()}
	if client.Stream {
		if conn, err := t.s.pairInTransit(t.from.conn); err == nil {
			conn.Pin() // the answer that gets a source cut off still goes out
			defer conn.Unpin()
		}
	}
	key := t.askedKey(&b, client.Addr.Addr())
	stamp, known := t.s.transit.recall(key, t.now, t.viaPayload[:0])
	d := t.observed(&client, nil, stamp, &b, t.restoreContacts(&client))
	if known && t.m.Status >= 200 && stamp[0]&stampAnswered == 0 {
		stamp[0] |= stampAnswered
		t.s.transit.asked[t.memory(client.Addr.Addr())].Put(key, stamp, t.now, t.now+transactionLife)
	}
	if t.lane != nil {
		t.lane.answered.Add(1)
	}
	if t.outcome.Expires > 0 {
		t.s.transit.bindings.Add(t.bindingKey(client.Addr.Addr()), t.now, t.now+t.outcome.Expires*int64(time.Second))
	}
	if d.Verdict != policy.Pass {
		t.note(d.Verdict, d.Reason, "")
		return
	}
	if d.Uniform && !challenging(t.m.Status) && t.uniformInTransit(&client) {
		t.note(policy.Pass, policy.ReasonUniform, "")
		return
	}
	t.pass()
}

// uniformInTransit sends the client a challenge in place of the answer at hand.
func (t *task) uniformInTransit(client *flow.Token) bool {
	back := hop{face: face{ep: t.from.ep, local: t.from.addr.Addr(), port: t.from.addr.Port()}, addr: client.Addr}
	if t.from.conn != nil {
		conn, err := t.s.pairInTransit(t.from.conn)
		if err != nil {
			return false
		}
		back.conn = conn
	}
	return t.sendUniform(&back, client)
}

func (t *task) bindingKey(addr netip.Addr) uint64 { return t.s.proofKey(keyBinding, addr) }

// What is noted of a PBX's request: whether it went to an address that a phone has
// registered from.
const (
	notedOthers byte = iota
	notedPhone
)

// transitAsking handles a PBX's request.
func (t *task) transitAsking() {
	t.accountOf()
	if t.from.conn == nil {
		t.noteCaller(t.from.local)
	}
	if t.m.Method != sip.MethodAck {
		b := t.branchOf()
		note := notedOthers
		if t.s.transit.bindings.Has(t.bindingKey(t.from.local), t.now) {
			note = notedPhone
		}
		key := t.askedKey(&b, netip.Addr{})
		t.s.transit.asking.Put(key, append(t.payload[:0], note), t.now, t.transactionEnd())
	}
	t.pass()
}

// transitReply handles a response from outside. Who knows a PBX's branch has got its
// request. What answers nothing comes from an attacker, or belongs to the time before our
// start.
func (t *task) transitReply() {
	t.accountOf()
	b := t.branchOf()
	note, known := t.s.transit.asking.Get(t.askedKey(&b, netip.Addr{}), t.now, t.payload[:0])
	if !known {
		stranger := t.s.engine.Standing(t.from.addr.Addr(), t.now) == policy.Stranger
		if stranger && t.now-t.s.transit.since > inviteLife {
			t.note(policy.Drop, policy.ReasonUnmatchedResponse, "")
			return
		}
		t.pass()
		return
	}
	pbx := flow.Token{Side: flow.Inside, Stream: t.from.conn != nil, Addr: t.from.target(), Follow: note[0] == notedOthers}
	if d := t.observed(&pbx, nil, nil, &b, 0); d.Verdict != policy.Pass {
		t.note(d.Verdict, d.Reason, "")
		return
	}
	t.pass()
}
