package proxy

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sipward/policy"
	"sipward/proxy/flow"
	"sipward/proxy/netio"
	"sipward/sip"
)

// A Listener is one address that sipward receives SIP on.
type Listener struct {
	Transport policy.Transport
	// Addr is the address to bind. A wildcard address serves every address of its
	// family; answers leave from the one that was spoken to.
	Addr netip.AddrPort
	// Advertise is the host (and optionally port) that sipward writes about itself
	// towards the outside. Empty: the address itself. For a sipward behind a 1:1 NAT.
	Advertise string
	// TLS is needed for TLS and WSS, and for nothing else; that of DTLS is in Config.DTLS.
	TLS *tls.Config
	// WebSocket is for WS and WSS; nil: as the zero value.
	WebSocket *netio.WebSocket
}

// check reports what a listener lacks.
func (l *Listener) check() error {
	switch needs := l.Transport == policy.TLS || l.Transport == policy.WSS; {
	case needs && l.TLS == nil:
		return fmt.Errorf("proxy: %s://%s has no TLS configuration", l.Transport, l.Addr)
	case !needs && l.TLS != nil:
		return fmt.Errorf("proxy: %s://%s has a TLS configuration", l.Transport, l.Addr)
	case l.WebSocket != nil && !isWeb(l.Transport):
		return fmt.Errorf("proxy: %s://%s is not for WebSocket", l.Transport, l.Addr)
	}
	return nil
}

func isWeb(t policy.Transport) bool { return t == policy.WS || t == policy.WSS }

// An endpoint is a bound listener as the packet path sees it.
type endpoint struct {
	transport policy.Transport
	listener  int // index among netio's UDP listeners, or among those that take connections
	addr      netip.AddrPort
	text      string // of addr
	wildcard  bool
	outside   bool // phones and trunks are spoken to here
	inside    bool // PBXes are spoken to here
	advertise string
	names     []string             // by which advertise is written: without a standard port, too
	stream    netio.StreamListener // for one that takes connections but DTLS
}

// bound notes the address that the endpoint has really got.
func (e *endpoint) bound(addr netip.AddrPort) { e.addr, e.text = addr, addr.String() }

// framed reports whether messages on a connection of this transport are told apart by their
// Content-Length (RFC 3261 §18.3). Elsewhere each comes by itself.
func (e *endpoint) framed() bool { return e.transport == policy.TCP || e.transport == policy.TLS }

// source is the address to speak from: the system's choice for a wildcard.
func (e *endpoint) source() netip.Addr {
	if e.wildcard {
		return netip.Addr{}
	}
	return e.addr.Addr()
}

// A spelling is how a transport is written.
type spelling struct {
	via   string // our Via up to the host (RFC 3261 §20.42, RFC 7118 §5.2)
	param string // the parameter of a URI that leads to us; none for UDP
	name  string // its value
	// secure is the parameter of a sips URI, which means TLS without any (RFC 3261 §26.2.2).
	secure string
}

// A URI says no more than ws for both of RFC 7118 (§5.3). DTLS is not standardized; the
// names are those of draft-jennings-sip-dtls.
var spellings = [...]spelling{
	policy.UDP:  {via: "Via: SIP/2.0/UDP ", name: "udp"},
	policy.TCP:  {via: "Via: SIP/2.0/TCP ", param: ";transport=tcp", name: "tcp"},
	policy.TLS:  {via: "Via: SIP/2.0/TLS ", param: ";transport=tls", name: "tls"},
	policy.WS:   {via: "Via: SIP/2.0/WS ", param: ";transport=ws", name: "ws"},
	policy.WSS:  {via: "Via: SIP/2.0/WSS ", param: ";transport=ws", name: "ws", secure: ";transport=ws"},
	policy.DTLS: {via: "Via: SIP/2.0/DTLS-UDP ", param: ";transport=dtls-udp", name: "dtls-udp", secure: ";transport=dtls-udp"},
}

func (e *endpoint) spelling() *spelling { return &spellings[e.transport] }

// standardPort is the port of a URI without one (RFC 3261 §19.1.2, RFC 7118 §5.4).
func standardPort(t policy.Transport) uint16 {
	switch t {
	case policy.TLS, policy.DTLS:
		return 5061
	case policy.WS:
		return 80
	case policy.WSS:
		return 443
	}
	return defaultPort
}

// A face is how sipward appears to one side: the endpoint, and for a wildcard
// endpoint the address of ours that the peer speaks to.
type face struct {
	ep      *endpoint
	local   netip.Addr
	port    uint16 // of local, in transparent mode
	towards flow.Side
}

// appendHostPort appends the host and port by which the peer knows us.
func (f *face) appendHostPort(dst []byte) []byte {
	if f.towards == flow.Outside && f.ep.advertise != "" {
		return append(dst, f.ep.advertise...)
	}
	if f.ep.wildcard && f.local.IsValid() {
		return netip.AddrPortFrom(f.local, f.ep.addr.Port()).AppendTo(dst)
	}
	return append(dst, f.ep.text...)
}

// source is the address to send from: that of a wildcard endpoint must be said.
func (f *face) source() netip.Addr {
	if f.ep.wildcard {
		return f.local
	}
	return netip.Addr{}
}

// same reports whether both faces are written alike, so that one Record-Route
// serves both sides.
func (f *face) same(g *face) bool {
	return f.ep == g.ep && (!f.ep.wildcard || f.local == g.local) && f.ep.advertise == ""
}

// endpoints are all the endpoints of a server; fixed after start.
type endpoints struct {
	all []*endpoint
	udp []*endpoint // by netio listener index
	// conns are those that take connections, by the index that netio knows them by: first the
	// streams, then DTLS.
	conns   []*endpoint
	streams int // how many of them are streams
}

func (s *endpoints) dtls() []*endpoint { return s.conns[s.streams:] }

// newEndpoints merges the outside and inside listeners: one that is in both, or
// every outside one when there is no inside, serves both sides.
func newEndpoints(outside, inside []Listener) (*endpoints, error) {
	eps := &endpoints{}
	add := func(l Listener) *endpoint {
		for _, e := range eps.all {
			if e.transport == l.Transport && e.addr == l.Addr {
				return e
			}
		}
		e := &endpoint{
			transport: l.Transport, addr: l.Addr, wildcard: l.Addr.Addr().IsUnspecified(),
			advertise: l.Advertise, names: namesOf(l.Advertise, l.Transport),
			stream: netio.StreamListener{Addr: l.Addr, TLS: l.TLS, WebSocket: l.WebSocket},
		}
		if e.stream.WebSocket == nil && isWeb(l.Transport) {
			e.stream.WebSocket = new(netio.WebSocket)
		}
		eps.all = append(eps.all, e)
		return e
	}
	for _, l := range slices.Concat(outside, inside) {
		if err := l.check(); err != nil {
			return nil, err
		}
	}
	for _, l := range outside {
		e := add(l)
		e.outside = true
		e.inside = e.inside || len(inside) == 0 && ofPBX(l.Transport)
	}
	for _, l := range inside {
		if !ofPBX(l.Transport) {
			return nil, fmt.Errorf("proxy: %s://%s: no PBX is spoken to over %s", l.Transport, l.Addr, l.Transport)
		}
		add(l).inside = true
	}
	if len(eps.all) == 0 {
		return nil, fmt.Errorf("proxy: nothing to listen on")
	}
	eps.number()
	// A token holds the listener in one byte.
	if len(eps.udp) > 256 || len(eps.conns) > 256 {
		return nil, fmt.Errorf("proxy: more than 256 listeners for datagrams, or for connections")
	}
	return eps, nil
}

// number gives the endpoints the indices that netio knows them by.
func (s *endpoints) number() {
	var dtls []*endpoint
	for _, e := range s.all {
		switch e.transport {
		case policy.UDP:
			s.udp = append(s.udp, e)
		case policy.DTLS:
			dtls = append(dtls, e)
		default:
			s.conns = append(s.conns, e)
		}
	}
	s.streams = len(s.conns)
	s.conns = append(s.conns, dtls...)
	for _, set := range [...][]*endpoint{s.udp, s.conns} {
		for i, e := range set {
			e.listener = i
		}
	}
}

// ofPBX reports whether PBXes can be spoken to over a transport.
func ofPBX(t policy.Transport) bool {
	return t == policy.UDP || t == policy.TCP || t == policy.TLS
}

// datagram returns the endpoint with a listener index from a token if it still serves
// that side and family, or else one that does. After a change of the configuration
// an old token thus still works where it can.
func (s *endpoints) datagram(listener int, side flow.Side, dst netip.Addr) *endpoint {
	if listener < len(s.udp) && s.udp[listener].serves(side, dst) {
		return s.udp[listener]
	}
	return s.find(policy.UDP, side, dst)
}

// find returns the first endpoint of the transport that can reach dst on a side.
func (s *endpoints) find(transport policy.Transport, side flow.Side, dst netip.Addr) *endpoint {
	for _, e := range s.all {
		if e.transport == transport && e.serves(side, dst) {
			return e
		}
	}
	return nil
}

func (e *endpoint) serves(side flow.Side, dst netip.Addr) bool {
	role := e.outside
	if side == flow.Inside {
		role = e.inside
	}
	return role && e.addr.Addr().Is4() == dst.Is4()
}

// isOurs reports whether host:port (port 0: the transport's standard one) names one of our
// endpoints; local is the address that the message came to, for wildcards.
func (s *endpoints) isOurs(host netip.Addr, port uint16, local netip.Addr) bool {
	for _, e := range s.all {
		if e.addr.Port() == cmp.Or(port, standardPort(e.transport)) && (e.addr.Addr() == host || e.wildcard && local == host) {
			return true
		}
	}
	return false
}

// advertises reports whether what stands in buf, a host with an optional port, is what an
// endpoint advertises.
func (s *endpoints) advertises(buf []byte, hostPort sip.Span) bool {
	for _, e := range s.all {
		for _, name := range e.names {
			if hostPort.Is(buf, name) {
				return true
			}
		}
	}
	return false
}

// namesOf returns how an advertised address may be written.
func namesOf(advertise string, t policy.Transport) []string {
	if advertise == "" {
		return nil
	}
	names := []string{strings.ToLower(advertise)}
	if host, ok := strings.CutSuffix(names[0], ":"+strconv.Itoa(int(standardPort(t)))); ok {
		names = append(names, host)
	}
	return names
}

// defaultPort is the port of a SIP URI without one (RFC 3261 §19.1.2).
const defaultPort = 5060
