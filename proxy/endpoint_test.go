package proxy

import (
	"crypto/tls"
	"net/netip"
	"testing"

	"sipward/policy"
	"sipward/proxy/flow"
	"sipward/sip"
)

func listener(t policy.Transport, addr, advertise string) Listener {
	l := Listener{Transport: t, Addr: netip.MustParseAddrPort(addr), Advertise: advertise}
	if t == policy.TLS || t == policy.WSS {
		l.TLS = &tls.Config{}
	}
	return l
}

// TestEndpointNumbers: UDP has numbers of its own, what takes connections too, DTLS last.
func TestEndpointNumbers(t *testing.T) {
	outside := []Listener{
		listener(policy.DTLS, "198.51.100.1:5061", ""), listener(policy.TCP, "198.51.100.1:5060", ""),
		listener(policy.UDP, "198.51.100.1:5060", ""), listener(policy.WSS, "198.51.100.1:443", ""),
		listener(policy.TLS, "198.51.100.1:5061", ""),
	}
	eps, err := newEndpoints(outside, []Listener{listener(policy.UDP, "203.0.113.1:5060", ""), listener(policy.TLS, "203.0.113.1:5061", "")})
	if err != nil {
		t.Fatal(err)
	}
	for want, e := range eps.udp {
		if e.transport != policy.UDP || e.listener != want {
			t.Errorf("UDP %d is %v with the number %d", want, e.transport, e.listener)
		}
	}
	want := [...]policy.Transport{policy.TCP, policy.WSS, policy.TLS, policy.TLS, policy.DTLS}
	if len(eps.udp) != 2 || len(eps.conns) != len(want) {
		t.Fatalf("%d for datagrams, %d for connections", len(eps.udp), len(eps.conns))
	}
	for i, e := range eps.conns {
		if e.transport != want[i] || e.listener != i {
			t.Errorf("connection %d is %v with the number %d, want %v", i, e.transport, e.listener, want[i])
		}
	}
	pbx := netip.MustParseAddr("203.0.113.2")
	if e := eps.find(policy.TLS, flow.Inside, pbx); e != eps.conns[3] {
		t.Errorf("TLS towards the PBX is %+v", e)
	}
	if e := eps.find(policy.TCP, flow.Inside, pbx); e != nil {
		t.Errorf("TCP towards the PBX is %+v, want none", e)
	}
}

// TestSharedEndpoints: without inside listeners those serve both sides over which a PBX can
// be spoken to.
func TestSharedEndpoints(t *testing.T) {
	for transport, inside := range map[policy.Transport]bool{
		policy.UDP: true, policy.TCP: true, policy.TLS: true, policy.WS: false, policy.WSS: false, policy.DTLS: false,
	} {
		eps, err := newEndpoints([]Listener{listener(transport, "198.51.100.1:5060", "")}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if e := eps.all[0]; e.inside != inside || !e.outside {
			t.Errorf("%v: inside %v, outside %v", transport, e.inside, e.outside)
		}
		_, err = newEndpoints(nil, []Listener{listener(transport, "203.0.113.1:5060", "")})
		if (err == nil) != inside {
			t.Errorf("%v inside: %v", transport, err)
		}
	}
}

// TestNamesUs: a URI without a port has its transport's standard one.
func TestNamesUs(t *testing.T) {
	eps, err := newEndpoints([]Listener{
		listener(policy.UDP, "198.51.100.1:5060", ""), listener(policy.TLS, "198.51.100.2:5061", ""),
		listener(policy.WSS, "198.51.100.3:443", "edge.example.com:443"), listener(policy.WS, "198.51.100.4:8080", "edge.example.net:8080"),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for host, ports := range map[string][2]uint16{"198.51.100.1": {5060, 5061}, "198.51.100.2": {5061, 5060}, "198.51.100.3": {443, 80}, "198.51.100.4": {8080, 80}} {
		a := netip.MustParseAddr(host)
		if !eps.isOurs(a, ports[0], netip.Addr{}) || eps.isOurs(a, ports[1], netip.Addr{}) {
			t.Errorf("%s: wrong port", host)
		}
		if got, want := eps.isOurs(a, 0, netip.Addr{}), ports[0] != 8080; got != want {
			t.Errorf("%s without a port: %v, want %v", host, got, want)
		}
	}
	for text, want := range map[string]bool{
		"edge.example.com": true, "edge.example.com:443": true, "edge.example.net:8080": true, "EDGE.example.COM": true,
		"edge.example.net": false, "edge.example": false, "edge.example.com:4433": false, "": false,
	} {
		if got := eps.advertises([]byte(text), sip.Span{End: uint32(len(text))}); got != want {
			t.Errorf("%q is advertised: %v, want %v", text, got, want)
		}
	}
}
