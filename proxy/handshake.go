package proxy

import (
	"errors"
	"net/netip"
	"time"

	"sipward/policy"
	"sipward/proxy/flow"
	"sipward/proxy/netio"
)

// What a failed handshake that speaks against the other side is counted as.
const (
	wordPlainSIP = "plain-sip"
	wordNotTLS   = "not-tls"
	wordTooSlow  = "handshake-timeout"
	wordUpgrade  = "bad-upgrade"
	wordBad      = "bad-handshake"
)

// HandshakeFailed implements netio.StreamHandler. It is evidence like a message that cannot be
// read, unless the reason may lie with us: a certificate that the other side does not
// trust is for the administrator to mend.
func (s *Server) HandshakeFailed(remote netip.AddrPort, listener int, err error) {
	t := s.tasks.Get().(*task)
	defer s.tasks.Put(t)
	t.begin(s.now())
	ep := s.eps.conns[listener]
	t.from = origin{face: face{ep: ep}, addr: remote, peer: remote, side: flow.Outside}
	word, text, blame := s.explain(err)
	if ep.transport == policy.DTLS {
		blame = false // anybody can disturb it in another's name
	}
	switch {
	case ep.inside && s.pool.Has(remote.Addr()):
		t.from.side = flow.Inside
	case blame:
		s.engine.BadHandshake(remote, ep.transport, word, t.now)
	}
	t.m.Buf = nil
	t.note(policy.Drop, policy.ReasonBadHandshake, text)
	if !blame && s.mayTell(t.now) {
		s.log.Warn("handshake failed", "listener", ep.transport.String()+"://"+ep.addr.String(), "source", remote.String(), "reason", text)
	}
}

// explain returns the reason of a failed handshake for people, whether it speaks against the
// other side, and if so the word by which it is counted.
func (s *Server) explain(err error) (word, text string, blame bool) {
	text, blame = err.Error(), true
	if s.cfg.Explain != nil {
		text, blame = s.cfg.Explain(err)
	}
	switch {
	case errors.Is(err, netio.ErrPlainSIP):
		return wordPlainSIP, text, true
	case errors.Is(err, netio.ErrNotTLS):
		return wordNotTLS, text, true
	case errors.Is(err, netio.ErrHandshakeTimeout):
		return wordTooSlow, text, true
	case errors.Is(err, netio.ErrRejected), errors.Is(err, netio.ErrOrigin): // whoever looks at a stranger's page is not to blame
		return "", text, false
	case errors.Is(err, netio.ErrUpgrade):
		return wordUpgrade, text, true
	}
	return wordBad, text, blame
}

// tellEvery bounds how often a failed handshake is logged, whoever is to blame for it.
const tellEvery = int64(10 * time.Second)

func (s *Server) mayTell(now int64) bool {
	last := s.told.Load()
	return now-last >= tellEvery && s.told.CompareAndSwap(last, now)
}
