package conf

import (
	"net"
	"net/netip"
	"strconv"
)

// Mode is the way sipward stands in front of the PBX.
type Mode uint8

// The modes.
const (
	ModeProxy       Mode = iota // the PBX sees sipward's address
	ModeTransparent             // the PBX sees the phone's own, and no message is changed
)

func (m Mode) String() string { return [...]string{"proxy", "transparent"}[m] }

// Placement is where a transparent sipward stands.
type Placement uint8

// The placements.
const (
	PlacementRouter Placement = iota // on the path to the PBX
	PlacementHost                    // on the PBX's own host
)

func (p Placement) String() string { return [...]string{"router", "host"}[p] }

// Fail is what becomes of messages when sipward is not there.
type Fail uint8

// The ways to fail.
const (
	FailOpen   Fail = iota // they pass, unprotected
	FailClosed             // they are dropped
)

func (f Fail) String() string { return [...]string{"open", "closed"}[f] }

// Transport is what a listener speaks.
type Transport uint8

// The transports.
const (
	TransportUDP Transport = iota
	TransportTCP
	TransportTLS
	TransportWS   // SIP over WebSocket (RFC 7118)
	TransportWSS  // … under TLS
	TransportDTLS // draft-jennings-sip-dtls
)

var transportNames = [...]string{"udp", "tcp", "tls", "ws", "wss", "dtls"}

func (t Transport) String() string { return transportNames[t] }

// Datagrams says whether it has a port of UDP, and not of TCP. What comes by it goes on to
// a PBX by UDP alone, because nobody would send again what is lost before sipward.
func (t Transport) Datagrams() bool { return t == TransportUDP || t == TransportDTLS }

// Certified says whether listening needs a certificate.
func (t Transport) Certified() bool {
	return t == TransportTLS || t == TransportWSS || t == TransportDTLS
}

// Web says whether it is for web pages.
func (t Transport) Web() bool { return t == TransportWS || t == TransportWSS }

// port is where it is listened for if nothing is said (RFC 3261 §19.1.2, RFC 7118 §5.4).
func (t Transport) port() uint16 {
	switch t {
	case TransportTLS, TransportDTLS:
		return sipsPort
	case TransportWS:
		return 80
	case TransportWSS:
		return 443
	}
	return sipPort
}

// Listener is one address that sipward receives on. It is comparable.
type Listener struct {
	Transport Transport
	// Addr is numeric, may be a wildcard, and has a port. IPv4 is never in its
	// IPv6-mapped form, and the IPv6 wildcard means IPv6 alone.
	Addr netip.AddrPort
}

func (l Listener) String() string { return l.Transport.String() + "://" + l.Addr.String() }

// Advertised is what phones are told instead of a listener's own address.
type Advertised struct {
	// Host is a host name or an address, IPv6 without brackets.
	Host string
	// Port is zero for the listener's own.
	Port uint16
}

// String returns the form that belongs into a SIP URI or Via: IPv6 in brackets.
func (a Advertised) String() string {
	host := a.Host
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() {
		host = "[" + host + "]"
	}
	if a.Port == 0 {
		return host
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
}

// Probe is what is sent to a PBX to learn whether it is up.
type Probe uint8

// The probes.
const (
	ProbeOptions Probe = iota // a SIP OPTIONS; any response is a success
	ProbeTCP                  // a TCP connection, opened and closed
	ProbeOff                  // nothing: every PBX counts as up
)

func (p Probe) String() string { return [...]string{"options", "tcp", "off"}[p] }

// LogFormat is how a log record is written.
type LogFormat uint8

// The log formats.
const (
	LogText LogFormat = iota // key=value
	LogJSON                  // one JSON object a line
)

func (f LogFormat) String() string { return [...]string{"text", "json"}[f] }
