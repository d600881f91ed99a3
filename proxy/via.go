package proxy

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"

	"sipward/policy"
	"sipward/proxy/flow"
	"sipward/proxy/upstream/resolve"
	"sipward/sip"
)

// Our Via reads
//
//	Via: SIP/2.0/UDP 203.0.113.1:5060;branch=z9hG4bK<16 characters>;sw=<token>
//
// The branch is a keyed function of the received transaction (RFC 3261 §16.11), so
// that CANCEL, ACK to a non-2xx and retransmissions get the same one; its second part
// is the hash for loop detection (§16.6 step 8). The token says where the response goes
// and is authenticated together with the branch.

const (
	magicCookie = "z9hG4bK"
	tokenParam  = "sw"
	branchBytes = 12
	branchText  = branchBytes * 8 / 6
)

// A branch is the unique part of our Via's branch.
type branch [branchBytes]byte

// bind is what a Via's token is authenticated with.
func (b *branch) bind() uint64 {
	return binary.LittleEndian.Uint64(b[:8]) + uint64(binary.LittleEndian.Uint32(b[8:]))<<17
}

func (b *branch) loop() [4]byte { return [4]byte(b[8:]) }

// branchOf computes our branch for the request at hand. Call-ID and CSeq number
// stand in for the branch of an RFC 2543 client without the magic cookie.
func (t *task) branchOf() (b branch) {
	m := &t.m
	h := append(t.buf[:0], m.Via.Branch.Value.Of(m.Buf)...)
	h = append(h, 0)
	h = append(h, m.Via.SentBy.Of(m.Buf)...)
	h = append(h, 0)
	h = append(h, m.CallID.Of(m.Buf)...)
	h = binary.BigEndian.AppendUint32(h, m.CSeq)
	binary.LittleEndian.PutUint64(b[:], t.s.key.Hash(h))

	// What §16.6 step 8 lists and CANCEL and ACK have in common with their INVITE;
	// the direction tells a spiral through the PBX from a loop.
	h = append(h[:0], byte(t.from.side))
	h = append(h, m.RequestURI.Of(m.Buf)...)
	h = append(h, 0)
	h = append(h, m.From.Tag.Of(m.Buf)...)
	h = append(h, 0)
	h = append(h, m.CallID.Of(m.Buf)...)
	h = binary.BigEndian.AppendUint32(h, m.CSeq)
	binary.LittleEndian.PutUint32(b[8:], uint32(t.s.key.Hash(h)))
	t.buf = h
	return b
}

// forgedVia reports whether a Via that ourVia does not verify has our address and a token.
func (t *task) forgedVia(v *sip.Via) bool {
	if _, found := v.Param(t.m.Buf, tokenParam); !found {
		return false
	}
	a, ok := resolve.Numeric(v.Host.Of(t.m.Buf))
	return ok && t.s.eps.isOurs(a, uint16(v.Port), t.from.local) || t.s.eps.advertises(t.m.Buf, v.SentBy)
}

// ourVia reads a Via value as one of ours.
func (t *task) ourVia(v *sip.Via) (tok flow.Token, payload []byte, b branch, ok bool) {
	text := v.Branch.Value.Of(t.m.Buf)
	if len(text) != len(magicCookie)+branchText || string(text[:len(magicCookie)]) != magicCookie {
		return tok, nil, b, false
	}
	if _, ok := flow.AppendDecode(b[:0], text[len(magicCookie):]); !ok {
		return tok, nil, b, false
	}
	p, found := v.Param(t.m.Buf, tokenParam)
	if !found {
		return tok, nil, b, false
	}
	payload, ok = t.s.key.Parse(&tok, p.Value.Of(t.m.Buf), flow.KindVia, b.bind(), t.viaPayload[:0])
	return tok, payload, b, ok
}

// looped reports whether the request has passed here before with the same
// target (RFC 3261 §16.3 step 4).
func (t *task) looped(b *branch) bool {
	if t.m.ViaCount < 2 {
		return false
	}
	it := t.m.Values(sip.HeaderVia)
	for it.Next() {
		v, fault := sip.ParseVia(t.m.Buf, it.Value)
		if fault != 0 {
			continue
		}
		if _, _, seen, ok := t.ourVia(&v); ok && seen.loop() == b.loop() {
			return true
		}
	}
	return false
}

// pushVia adds our Via on top. It is the first splice at the start of the headers.
func (t *task) pushVia(f *face, b *branch, tok *flow.Token, payload []byte) {
	t.e.B = append(t.e.B, f.ep.spelling().via...)
	t.e.B = f.appendHostPort(t.e.B)
	t.e.B = append(t.e.B, ";branch="+magicCookie...)
	t.e.B = flow.AppendEncode(t.e.B, b[:])
	t.e.B = append(t.e.B, ";"+tokenParam+"="...)
	t.e.B = t.s.key.Append(t.e.B, tok, payload, b.bind())
	t.e.B = append(t.e.B, "\r\n"...)
}

// markReceived writes into the sender's Via where its request came from (RFC 3261
// §18.2.1, RFC 3581 §4). A received or rport value that the sender wrote itself is
// replaced: the next element would believe it.
func (t *task) markReceived() {
	v := &t.m.Via
	at := sip.Span{Off: v.Value.End, End: v.Value.End} // where received goes
	if v.Received.Present {
		at = v.Received.Whole
	} else if !v.RPort.Present && t.sentByIsSource() {
		return
	}
	switch {
	case !v.RPort.Present:
		t.e.Begin(at)
	case v.RPort.Whole.End == at.Off: // side by side, as most write them: one edit
		t.e.Begin(sip.Span{Off: v.RPort.Whole.Off, End: at.End})
		t.appendRPort()
	default:
		t.e.Begin(v.RPort.Whole)
		t.appendRPort()
		t.e.End()
		t.e.Begin(at)
	}
	t.e.B = append(t.e.B, ";received="...)
	t.e.B = t.from.addr.Addr().AppendTo(t.e.B)
	t.e.End()
}

func (t *task) appendRPort() {
	t.e.B = append(t.e.B, ";rport="...)
	t.e.B = strconv.AppendUint(t.e.B, uint64(t.from.addr.Port()), 10)
}

// sentByIsSource reports whether the top Via's host is the address that the
// request came from.
func (t *task) sentByIsSource() bool {
	host := t.m.Via.Host.Of(t.m.Buf)
	t.buf = t.from.addr.Addr().AppendTo(t.buf[:0])
	if bytes.Equal(host, t.buf) {
		return true
	}
	a, ok := resolve.Numeric(host)
	return ok && a == t.from.addr.Addr()
}

// replyAddr is where answers to the request at hand go: to where it came from,
// never to a maddr or a host that the sender wrote. Only the port may be the sent-by
// port, for a client that neither asks for rport nor sits behind a NAT (RFC 3261
// §18.2.2): phones exist that send from one port and listen on another.
func (t *task) replyAddr() netip.AddrPort {
	v := &t.m.Via
	if t.from.conn != nil || v.RPort.Present || !t.sentByIsSource() {
		return t.from.peer
	}
	port := uint16(v.Port)
	if port == 0 {
		port = defaultPort
	}
	return netip.AddrPortFrom(t.from.peer.Addr(), port)
}

// Programs exist that drop a request with DTLS-UDP in a Via: Kamailio knows no such
// transport. A PBX therefore sees UDP, over which it has got the request, in the Via of a
// phone on DTLS, with a parameter by which the phone's own word is restored in the answer.
const (
	viaDTLS    = "DTLS-UDP"
	viaUDP     = "UDP"
	dtlsMarker = "sw-dtls"
)

// maskVia is called for what a phone sends.
func (t *task) maskVia() {
	v := &t.m.Via
	if t.from.ep.transport != policy.DTLS || !bytes.EqualFold(v.Transport.Of(t.m.Buf), []byte(viaDTLS)) {
		return
	}
	t.e.Begin(v.Transport)
	t.e.B = append(t.e.B, viaUDP...)
	t.e.End()
	t.e.Begin(sip.Span{Off: v.Value.End, End: v.Value.End})
	t.e.B = append(t.e.B, ";"+dtlsMarker...)
	t.e.End()
}

// A maskedVia says where, in the response at hand, the Via below ours has what maskVia has
// put there. Both are empty if it has not.
type maskedVia struct{ transport, marker sip.Span }

func (t *task) findMasked(h *hop) (masked maskedVia) {
	if h.ep.transport != policy.DTLS {
		return masked
	}
	it := t.m.Values(sip.HeaderVia)
	it.Next() // ours
	if !it.Next() {
		return masked
	}
	v, fault := sip.ParseVia(t.m.Buf, it.Value)
	if p, found := v.Param(t.m.Buf, dtlsMarker); found && fault == sip.OK {
		masked = maskedVia{v.Transport, p.Whole}
	}
	return masked
}

// unmaskVia restores the phone's own Via in its answer.
func (t *task) unmaskVia() {
	if t.masked.marker.Empty() {
		return
	}
	t.e.Begin(t.masked.transport)
	t.e.B = append(t.e.B, viaDTLS...)
	t.e.End()
	t.e.Delete(t.masked.marker)
}

// appendUnmasked appends a part of the response at hand, with the phone's own Via.
func (t *task) appendUnmasked(b []byte, s sip.Span) []byte {
	buf, m := t.m.Buf, &t.masked
	if m.marker.Empty() || m.transport.Off < s.Off || m.marker.End > s.End {
		return append(b, s.Of(buf)...)
	}
	b = append(append(b, buf[s.Off:m.transport.Off]...), viaDTLS...)
	b = append(b, buf[m.transport.End:m.marker.Off]...)
	return append(b, buf[m.marker.End:s.End]...)
}

// popVia removes the top Via value (RFC 3261 §16.7 step 3).
func (t *task) popVia() {
	t.e.DeleteValue(&t.m, t.m.Via.Header, t.m.Via.Value)
}
