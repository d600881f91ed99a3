package proxy

import (
	"encoding/binary"

	"sipward/policy"
	"sipward/proxy/flow"
	"sipward/proxy/netio"
	"sipward/proxy/retransmit"
	"sipward/sip"
)

// Where a request comes in over a stream and goes on over UDP, or the other way round,
// whoever is on the stream repeats nothing that UDP loses, and expects nothing twice. Then,
// and only then, a transaction is remembered to do that for him: see package retransmit. It is
// so for a PBX that speaks UDP alone behind phones with TCP, TLS or WebSocket, and for one
// that calls a trunk over another transport than it speaks with us.

// repeatBytes is how much may be remembered for it.
const repeatBytes = 64 << 20

func (s *Server) newRepeats() *retransmit.Table {
	return retransmit.New(retransmit.Config{Bytes: repeatBytes, Send: s.sendAgain, TimedOut: s.timedOut})
}

func (h *hop) reliable() bool { return h.ep.transport.Reliable() }

// transactionKey names the transaction of the message at hand in the table.
func (t *task) transactionKey(b *branch) retransmit.Key {
	return retransmit.Key{Branch: *b, Method: t.m.Method}
}

// successKey is the same for a 2xx to an INVITE and for the ACK to it, which has a branch of
// its own.
func (t *task) successKey() uint64 {
	m := &t.m
	h := binary.BigEndian.AppendUint32(t.buf[:0], m.CSeq)
	h = append(h, m.From.Tag.Of(m.Buf)...)
	h = append(h, 0)
	h = append(h, m.To.Tag.Of(m.Buf)...)
	h = append(h, 0)
	h = append(h, m.CallID.Of(m.Buf)...)
	t.buf = h
	return t.s.key.Hash(h)
}

func (h *hop) path() retransmit.Path {
	return retransmit.Path{Listener: h.ep.listener, Addr: h.addr, Local: h.source()}
}

// hopOf is the hop along a path.
func (s *Server) hopOf(p retransmit.Path) hop {
	return hop{face: face{ep: s.eps.udp[p.Listener], local: p.Local}, addr: p.Addr}
}

// class says how much of the table the sender may fill.
func (t *task) class() retransmit.Class {
	switch {
	case t.from.side == flow.Inside:
		return retransmit.PBX
	case t.s.engine.Standing(t.from.addr.Addr(), t.now) != policy.Stranger:
		return retransmit.Known
	}
	return retransmit.Stranger
}

// keepRequest keeps a request that came over a stream and goes on over UDP, to be sent again
// until it is answered. It reports whether the request may go on; if not, it is answered.
func (t *task) keepRequest(h *hop, b *branch) bool {
	if t.e.Size() > maxDatagram {
		t.refuse(513, "Message Too Large", policy.ReasonTooLarge)
		return false
	}
	t.wire = t.e.AppendTo(t.wire[:0])
	key := t.transactionKey(b)
	if t.m.Method == sip.MethodAck {
		t.s.repeats.SendAck(key, h.path(), t.wire)
		return true
	}
	ok := t.s.repeats.SendRequest(&retransmit.Request{
		Key: key, Class: t.class(), Source: t.from.addr.Addr(), Path: h.path(), Message: t.wire,
	}, t.now)
	if !ok {
		t.refuse(503, "Service Unavailable", policy.ReasonRetransmitFull)
	}
	return ok
}

// absorbed reports whether a request that came over UDP need not go on over c, because it has
// gone before. The last response is then sent again. c is nil if the connection that it
// should go on over is no more.
func (t *task) absorbed(c *netio.Conn, b *branch) bool {
	key := t.transactionKey(b)
	if t.m.Method == sip.MethodAck {
		t.s.repeats.ReceiveSuccessAck(t.successKey())
		if t.s.repeats.ReceiveAck(key, t.now) {
			return false
		}
		t.note(policy.Drop, policy.ReasonRepeat, "")
		return true
	}
	r := retransmit.Request{Key: key, Class: t.class(), Source: t.from.addr.Addr()}
	if c != nil {
		r.Flow = c.ID()
	}
	v, again, path := t.s.repeats.ReceiveRequest(&r, t.now, t.wire)
	switch v {
	case retransmit.Absorb:
		t.note(policy.Drop, policy.ReasonRepeat, "")
		t.sendAlong(path, again)
	case retransmit.Refuse:
		t.refuse(503, "Service Unavailable", policy.ReasonRetransmitFull)
	}
	return v != retransmit.Forward
}

// repeated reports whether a response that came over UDP is one that its client has got over
// a stream before. The ACK to it is then sent again.
func (t *task) repeated(b *branch) bool {
	forward, again, path := t.s.repeats.ReceiveResponse(t.transactionKey(b), t.m.Status, t.now, t.wire)
	if forward {
		return false
	}
	t.note(policy.Drop, policy.ReasonRepeat, "")
	t.sendAlong(path, again)
	return true
}

// sendAlong sends what is to be repeated now, if there is anything.
func (t *task) sendAlong(p retransmit.Path, message []byte) {
	if len(message) > 0 {
		h := t.s.hopOf(p)
		t.sendBytes(&h, message)
	}
}

// keepResponse keeps a response that came over a stream and goes on over UDP, to be sent again
// as the method of its request wants.
func (t *task) keepResponse(h *hop, b *branch) {
	t.wire = t.e.AppendTo(t.wire[:0])
	t.s.repeats.SendResponse(t.transactionKey(b), t.m.Status, t.successKey(), h.path(), t.wire, t.now)
}

// sendAgain implements retransmit.Config.Send.
func (s *Server) sendAgain(p retransmit.Path, message []byte) {
	// An error is counted by the socket; the next repeat may do better.
	_ = s.udp.WriteTo(p.Listener, message, p.Addr, p.Local)
}

// timedOut implements retransmit.Config.TimedOut: the phone gets the 408 that the UDP side
// never sent (RFC 3261 §17.1.1.2, §16.7 step 6), on the way of all responses. Other requests
// than INVITE get nothing: their clients have given up, too (RFC 4320 §4.1).
func (s *Server) timedOut(p retransmit.Path, request []byte) {
	t := s.tasks.Get().(*task)
	defer s.tasks.Put(t)
	t.begin(s.now())
	t.from = origin{face: s.hopOf(p).face, addr: p.Addr, peer: p.Addr, side: flow.Inside}
	if t.m.Parse(request, false) != sip.OK {
		return // it has been parsed before it was sent
	}
	if tok, _, _, ok := t.ourVia(&t.m.Via); ok && tok.Side == flow.Inside {
		t.from.side = flow.Outside
	}
	t.from.towards = t.from.side
	t.handle(t.appendAnswer(nil, 408, "Request Timeout", ""))
}
