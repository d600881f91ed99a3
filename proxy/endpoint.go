package proxy

import (
	"fmt"
	"net/netip"

	"sipward/policy"
	"sipward/proxy/flow"
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
}

// An endpoint is a bound listener as the packet path sees it.
type endpoint struct {
	transport policy.Transport
	listener  int // index in netio's UDP or TCP set
	addr      netip.AddrPort
	wildcard  bool
	outside   bool // phones and trunks are spoken to here
	inside    bool // PBXes are spoken to here
	advertise string
}

func (e *endpoint) stream() bool { return e.transport != policy.UDP }

// A face is how sipward appears to one side: the endpoint, and for a wildcard
// endpoint the address of ours that the peer speaks to.
type face struct {
	ep      *endpoint
	local   netip.Addr
	port    uint16 // of local, in transparent mode
	towards flow.Side
}

// appendHostPort appends the host and port by which the peer knows us.
func (f face) appendHostPort(dst []byte) []byte {
	if f.towards == flow.Outside && f.ep.advertise != "" {
		return append(dst, f.ep.advertise...)
	}
	if f.ep.wildcard && f.local.IsValid() {
		return netip.AddrPortFrom(f.local, f.ep.addr.Port()).AppendTo(dst)
	}
	return f.ep.addr.AppendTo(dst)
}

// source is the address to send from: that of a wildcard endpoint must be said.
func (f face) source() netip.Addr {
	if f.ep.wildcard {
		return f.local
	}
	return netip.Addr{}
}

// same reports whether both faces are written alike, so that one Record-Route
// serves both sides.
func (f face) same(g face) bool {
	return f.ep == g.ep && (!f.ep.wildcard || f.local == g.local) && f.ep.advertise == ""
}

// endpoints are all the endpoints of a server; fixed after start.
type endpoints struct {
	all []*endpoint
	udp []*endpoint // by netio listener index
	tcp []*endpoint
}

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
		e := &endpoint{transport: l.Transport, addr: l.Addr, wildcard: l.Addr.Addr().IsUnspecified(), advertise: l.Advertise}
		eps.all = append(eps.all, e)
		set := &eps.udp
		if e.stream() {
			set = &eps.tcp
		}
		e.listener = len(*set)
		*set = append(*set, e)
		return e
	}
	for _, l := range outside {
		e := add(l)
		e.outside = true
		e.inside = e.inside || len(inside) == 0
	}
	for _, l := range inside {
		add(l).inside = true
	}
	if len(eps.all) == 0 {
		return nil, fmt.Errorf("proxy: nothing to listen on")
	}
	// A token holds the listener in one byte.
	if len(eps.udp) > 256 || len(eps.tcp) > 256 {
		return nil, fmt.Errorf("proxy: more than 256 listeners of one transport")
	}
	return eps, nil
}

func (s *endpoints) set(stream bool) []*endpoint {
	if stream {
		return s.tcp
	}
	return s.udp
}

// get returns the endpoint with a listener index from a token if it still serves
// that side and family, or else one that does. After a change of the configuration
// an old token thus still works where it can.
func (s *endpoints) get(stream bool, listener int, side flow.Side, dst netip.Addr) *endpoint {
	set := s.set(stream)
	if listener < len(set) && set[listener].serves(side, dst) {
		return set[listener]
	}
	return s.find(stream, side, dst)
}

// find returns the first endpoint of the transport that can reach dst on a side.
func (s *endpoints) find(stream bool, side flow.Side, dst netip.Addr) *endpoint {
	for _, e := range s.set(stream) {
		if e.serves(side, dst) {
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

// isOurs reports whether host:port (port 0: the default, 5060) names one of our
// endpoints; local is the address that the message came to, for wildcards.
func (s *endpoints) isOurs(host netip.Addr, port uint16, local netip.Addr) bool {
	if port == 0 {
		port = defaultPort
	}
	for _, e := range s.all {
		if e.addr.Port() == port && (e.addr.Addr() == host || e.wildcard && local == host) {
			return true
		}
	}
	return false
}

// advertises reports whether text, a host with an optional port, is what an
// endpoint advertises.
func (s *endpoints) advertises(text []byte) bool {
	for _, e := range s.all {
		if e.advertise != "" && string(text) == e.advertise {
			return true
		}
	}
	return false
}

// defaultPort is the port of a SIP URI without one (RFC 3261 §19.1.2).
const defaultPort = 5060
