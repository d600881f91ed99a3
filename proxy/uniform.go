package proxy

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"sipward/proxy/flow"
	"sipward/sip"
)

// A PBX that answers 404 for an account that does not exist and 401 for one that does
// tells a scanner which is which. Strangers therefore get one answer for both: the
// challenge that the PBX itself last gave to somebody, with the same headers in the same
// order, and a nonce of the same shape.

// A challengeForm is the shape of a PBX's challenges, learnt from a real one.
type challengeForm struct {
	learned int64
	status  []byte // the start line, with its CRLF
	lines   []formLine
	length  bool // there is a Content-Length
}

// A formLine is one header line of the form. One that belongs to the request is taken
// from the answer at hand; of a challenge the nonce is made anew.
type formLine struct {
	id    sip.HeaderID
	text  []byte
	nonce sip.Span // in text
}

// forms are the forms of the methods that have a uniform answer.
type forms struct {
	register, invite atomic.Pointer[challengeForm]
}

// learnEvery is how often a form is learnt again: often enough that the time in a
// nonce is not far off.
const learnEvery = int64(time.Second)

func (f *forms) of(m sip.Method) *atomic.Pointer[challengeForm] {
	switch m {
	case sip.MethodRegister:
		return &f.register
	case sip.MethodInvite:
		return &f.invite
	}
	return nil
}

// learnForm takes the form of a real challenge that is on its way to a client.
func (t *task) learnForm() {
	p := t.s.forms.of(t.m.Method)
	if p == nil {
		return
	}
	if old := p.Load(); old != nil && t.now-old.learned < learnEvery {
		return
	}
	m := &t.m
	if !m.Body.Empty() {
		return
	}
	f := &challengeForm{
		learned: t.now, status: bytes.Clone(m.Buf[:m.Headers[0].Line.Off]), length: m.Has(sip.HeaderContentLength),
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		line := formLine{id: h.ID}
		if !ofRequest(h.ID) {
			line.text = bytes.Clone(h.Line.Of(m.Buf))
		}
		if h.ID == sip.HeaderWWWAuthenticate || h.ID == sip.HeaderProxyAuthenticate {
			c, fault := sip.ParseChallenge(m.Buf, h.Value)
			if fault != sip.OK || !c.Digest {
				return // not a challenge that we could imitate
			}
			line.nonce = sip.Span{Off: c.Nonce.Off - h.Line.Off, End: c.Nonce.End - h.Line.Off}
		}
		f.lines = append(f.lines, line)
	}
	p.Store(f)
}

// ofRequest reports whether a response's header belongs to its request (RFC 3261
// §8.2.6.2) and not to who answers.
func ofRequest(id sip.HeaderID) bool {
	switch id {
	case sip.HeaderVia, sip.HeaderFrom, sip.HeaderTo, sip.HeaderCallID, sip.HeaderCSeq, sip.HeaderRecordRoute:
		return true
	}
	return false
}

// sendUniform sends the challenge in the place of the response at hand. It reports
// false while no challenge of the PBX is known: the response then goes as it is.
func (t *task) sendUniform(h *hop, tok *flow.Token) bool {
	p := t.s.forms.of(t.m.Method)
	if p == nil {
		return false
	}
	f := p.Load()
	if f == nil {
		return false
	}
	b := append(t.wire[:0], f.status...)
	for i := range f.lines {
		line := &f.lines[i]
		switch {
		case ofRequest(line.id):
			if i == 0 || f.lines[i-1].id != line.id {
				b = t.appendOfRequest(b, line.id)
			}
		case line.nonce.Empty():
			b = append(b, line.text...)
		default:
			b = append(b, line.text[:line.nonce.Off]...)
			from := len(b)
			b = appendNonce(b, line.nonce.Of(line.text))
			t.madeUp(b[from:], line.text, tok.Addr.Addr())
			b = append(b, line.text[line.nonce.End:]...)
		}
	}
	if !f.length && h.ep.framed() {
		b = append(b, "Content-Length: 0\r\n"...)
	}
	b = append(b, "\r\n"...)
	t.wire = b
	return t.sendBytes(h, b)
}

// appendOfRequest appends the header lines with that ID of the response at hand,
// without our own Via, which it has in proxy mode.
func (t *task) appendOfRequest(b []byte, id sip.HeaderID) []byte {
	m := &t.m
	for i := range m.Headers {
		h := &m.Headers[i]
		if h.ID != id {
			continue
		}
		if i != m.Via.Header || id != sip.HeaderVia || t.s.transit != nil {
			b = t.appendUnmasked(b, h.Line)
			continue
		}
		if rest := bytes.TrimLeft(m.Buf[m.Via.Value.End:h.Value.End], ", \t\r\n"); len(rest) > 0 {
			b = append(b, "Via: "...)
			b = t.appendUnmasked(b, sip.Span{Off: h.Value.End - uint32(len(rest)), End: h.Value.End})
			b = append(b, "\r\n"...)
		}
	}
	return b
}

// madeUp remembers a nonce that we made up as if the PBX had issued it: whoever answers it has
// proved his address.
func (t *task) madeUp(nonce, line []byte, addr netip.Addr) {
	var qop uint64
	if bytes.Contains(line, []byte("qop=")) {
		qop = withQOP
	}
	t.noteNonce(t.s.hash(nonce), addr, 0, qop)
}

// nonceHead is how much of a real nonce is kept: where PBXes write the time. Of a short one nothing
// is, or it would be the one that somebody else was given.
const nonceHead = 10

// appendNonce appends a nonce that looks like the given one.
func appendNonce(b, like []byte) []byte {
	const hex, alnum = "0123456789abcdef", "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	alphabet := hex
	for _, c := range like {
		if c >= 'g' && c <= 'z' || c >= 'A' && c <= 'Z' {
			alphabet = alnum
		}
	}
	head := nonceHead
	if len(like) < 2*nonceHead {
		head = 0
	}
	for i, c := range like {
		plain := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if i >= head && plain {
			c = alphabet[rand.IntN(len(alphabet))]
		}
		b = append(b, c)
	}
	return b
}
