package proxy

import (
	"cmp"
	"net/netip"

	"sipward/policy"
	"sipward/policy/event"
	"sipward/policy/gate"
	"sipward/policy/scanner"
	"sipward/proxy/flow"
	"sipward/proxy/netio"
	"sipward/sip"
)

// A task handles one message at a time. It owns all the memory that this takes and
// is reused, so that a forwarded or dropped message allocates nothing. Each UDP
// worker has one; connections and the slow lane borrow theirs from a pool.
type task struct {
	s     *Server
	shard *policy.Shard // of the counters
	out   *netio.Output // batched sending; nil outside a UDP worker
	lane  *lane         // of the worker; nil outside one
	now   int64         // Unix nanoseconds, taken once a batch
	seen  uint          // messages
	times *histogram    // of some of them

	m    sip.Message
	e    sip.Edit
	from origin
	live *live // configuration in force, taken once a message
	// packet is the datagram at hand, in transparent mode.
	packet *netio.Packet

	route   routes
	account []byte         // user@host of the account that the message is about, see accountOf
	client  netip.AddrPort // where outside a PBX's message goes, once that is known

	event      event.Event
	req        policy.Request
	scan       scanner.Message
	outcome    policy.Outcome
	stamped    []byte // see stamp
	target     []byte // user@host of the Request-URI
	retryAfter int    // s, for the next answer
	warning    string // for the next answer

	buf     []byte // scratch for hashing and formatting
	payload []byte // of the token parsed last
	// viaPayload is that of our Via: it is read when other tokens have been parsed.
	viaPayload []byte
	wire       []byte    // a message to be sent outside a batch
	masked     maskedVia // in the response at hand

	mayBlock bool // in the slow lane: may resolve names and dial
}

// origin is where the message at hand came from.
type origin struct {
	face                // how we appear to the sender
	addr netip.AddrPort // as lists and the policy know it: without a zone
	peer netip.AddrPort // where answers go: addr, with the zone of a link-local one
	side flow.Side
	conn *netio.Conn // nil for a datagram
	// trunk is set for an outside source on the trunk list; certified for one that has shown a
	// trunk's certificate: it is trusted as much, but reached over its connection.
	trunk, certified bool
	gate             gate.Verdict
}

// reliable reports whether nothing that is sent over the sender's transport is lost. What
// came that way goes on that way.
func (o *origin) reliable() bool { return o.ep.transport.Reliable() }

// A hop is where a message goes: a face of ours and the peer.
type hop struct {
	face
	addr netip.AddrPort
	conn *netio.Conn // nil for UDP
	pbx  uint16      // the PBX that is spoken to, if it is one
}

func newTask(s *Server, shard *policy.Shard, times *histogram) *task {
	return &task{
		s: s, shard: shard, times: times,
		buf:     make([]byte, 0, 1024),
		payload: make([]byte, 0, flow.MaxSize), viaPayload: make([]byte, 0, flow.MaxSize),
		wire: make([]byte, 0, 2048),
	}
}

// handle takes one whole message. b is the caller's; it is not kept.
func (t *task) handle(b []byte) {
	fault := t.m.Parse(b, t.from.ep.framed())
	t.e.Reset(&t.m)
	t.account, t.client = t.account[:0], netip.AddrPort{}
	if t.s.transit != nil {
		t.transit(fault)
		return
	}
	switch {
	case fault == sip.FaultKeepAlive:
		// It is not answered over UDP: the answer could be sent to anybody.
		t.note(policy.Drop, policy.ReasonKeepalive, "")
	case fault != sip.OK:
		t.malformed(fault)
	case t.m.IsRequest:
		t.request()
	default:
		t.response()
	}
}

// malformed counts a refused message by its source and answers it where an answer
// can be addressed and the policy wants one.
func (t *task) malformed(fault sip.Fault) {
	if t.from.side == flow.Outside {
		d := t.s.engine.Malformed(t.from.addr, t.from.ep.transport, fault.String(), t.now)
		t.note(d.Verdict, d.Reason, fault.String())
		if d.Verdict == policy.Reject && t.m.Answerable() {
			code := cmp.Or(d.Code, fault.Code())
			t.answer(code, reasonPhrase(code), fault.String())
		}
		return
	}
	t.note(policy.Drop, policy.ReasonMalformed, fault.String())
}

// note counts a decision and shows it to whoever watches.
func (t *task) note(v policy.Verdict, r policy.Reason, detail string) {
	method := uint8(policy.NoMethod)
	if len(t.m.Buf) > 0 {
		method = uint8(t.m.Method)
	}
	t.shard.Add(policy.ClassOf(t.from.side == flow.Inside, method, v), r)
	if t.s.events.Active() {
		t.publish(v, r, detail)
	}
}

// flowToken describes the sender's flow, for a token of the given kind.
func (t *task) flowToken(kind flow.Kind, pbx uint16) flow.Token {
	tok := flow.Token{
		Kind: kind, Side: t.from.side, Follow: t.from.trunk,
		Listener: uint8(t.from.ep.listener), PBX: pbx, Addr: t.replyAddr(),
	}
	if t.from.ep.wildcard {
		tok.Local = t.from.local
	}
	if c := t.from.conn; c != nil {
		tok.Stream, tok.Conn = true, c.ID()
		tok.Who = uint32(t.s.key.Hash(t.account))
	}
	return tok
}

// hopTo finds the way to the flow in a token.
func (t *task) hopTo(tok *flow.Token) (h hop, ok bool) {
	if !tok.Stream {
		ep := t.s.eps.datagram(int(tok.Listener), tok.Side, tok.Addr.Addr())
		return hop{face: face{ep: ep, local: tok.Local, towards: tok.Side}, addr: tok.Addr}, ep != nil
	}
	c := t.s.streamOf(tok)
	if c == nil {
		return h, false
	}
	ep := t.s.streamState(c).ep
	return hop{face: face{ep: ep, local: c.Local().Addr(), towards: tok.Side}, addr: c.Remote(), conn: c}, true
}

// send writes the edited message to h.
func (t *task) send(h *hop) bool {
	if h.conn != nil {
		if t.m.ContentLength < 0 && h.ep.framed() {
			t.sayLength()
		}
		t.wire = t.e.AppendTo(t.wire[:0])
		return h.conn.Send(t.wire) == nil
	}
	if t.e.Size() > maxDatagram {
		return false
	}
	if t.out != nil {
		n := len(t.e.AppendTo(t.out.Slot(h.ep.listener)))
		t.out.Push(h.ep.listener, n, h.addr, h.source())
		return true
	}
	t.wire = t.e.AppendTo(t.wire[:0])
	return t.s.udp.WriteTo(h.ep.listener, t.wire, h.addr, h.source()) == nil
}

// sayLength adds the Content-Length that a stream needs (RFC 3261 §18.3) to a message that
// came as a whole without one.
func (t *task) sayLength() {
	at := t.m.HeadEnd - 2 // before the empty line
	t.e.Begin(sip.Span{Off: at, End: at})
	t.e.B = append(t.e.B, "Content-Length: "...)
	t.e.B = appendInt(t.e.B, t.m.Body.Len())
	t.e.B = append(t.e.B, "\r\n"...)
	t.e.End()
}

// sendBytes writes a message of our own making to h.
func (t *task) sendBytes(h *hop, b []byte) bool {
	switch {
	case h.conn != nil:
		return h.conn.Send(b) == nil
	case len(b) > maxDatagram:
		return false
	case t.out != nil:
		n := copy(t.out.Slot(h.ep.listener)[:maxDatagram], b)
		if t.s.transit != nil {
			t.out.PushFrom(h.ep.listener, n, h.addr, netip.AddrPortFrom(h.local, h.port))
		} else {
			t.out.Push(h.ep.listener, n, h.addr, h.source())
		}
		return true
	}
	return t.s.udp.WriteTo(h.ep.listener, b, h.addr, h.source()) == nil
}

// maxDatagram is the most that one UDP datagram over IPv4 can hold.
const maxDatagram = 65507
