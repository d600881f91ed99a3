package upstream

import (
	"crypto/tls"
	"net/netip"

	"sipward/policy"
)

// DefaultTLSPort is where a PBX listens for TLS that does not say (RFC 3261 §19.1.2).
const DefaultTLSPort = 5061

// A Link is a way to a PBX. It is not changed once it is in force.
type Link struct {
	Transport policy.Transport // UDP, TCP or TLS
	Addr      netip.AddrPort
	TLS       *tls.Config // of a client, with a ServerName; nil for UDP and TCP
}

// links are all the ways to a PBX.
type links struct {
	datagram *Link // nil: it does not speak UDP
	stream   *Link // nil: it speaks UDP alone
}

func (t *Target) links() *links {
	l := &links{}
	plain := t.TLS == nil && !t.UDP && !t.TCP // nothing is said: both
	if t.UDP || plain {
		l.datagram = &Link{Transport: policy.UDP, Addr: t.Address}
	}
	switch {
	case t.TLS != nil:
		l.stream = &Link{Transport: policy.TLS, Addr: t.tlsAddr(), TLS: t.TLS}
		if t.TLS.ServerName == "" {
			l.stream.TLS = t.TLS.Clone()
			l.stream.TLS.ServerName = t.Address.Addr().String()
		}
	case t.TCP || plain:
		l.stream = &Link{Transport: policy.TCP, Addr: t.Address}
	}
	return l
}

func (t *Target) tlsAddr() netip.AddrPort {
	port := t.TLSPort
	if port == 0 {
		port = DefaultTLSPort
	}
	return netip.AddrPortFrom(t.Address.Addr(), port)
}

// Link returns the way to the PBX for what came over a reliable transport, or over one that
// is not. TLS is preferred to TCP. What came reliably leads to UDP if the PBX speaks nothing
// else; the other way round there is none (nil), because nobody would send again what
// is lost on the phone's side.
func (p *PBX) Link(reliable bool) *Link {
	l := p.links.Load()
	if reliable && l.stream != nil {
		return l.stream
	}
	return l.datagram
}

// probed is the way by which the PBX is probed.
func (l *links) probed(byStream bool) *Link {
	if l.datagram == nil || byStream && l.stream != nil {
		return l.stream
	}
	return l.datagram
}
