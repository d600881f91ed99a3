package conf

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Ports; those of SIP over UDP and TCP, and over TLS, are in RFC 3261 §19.1.2.
const (
	sipPort  = 5060
	sipsPort = 5061
	dnsPort  = 53
)

// prefix reads an address or a prefix; an address is a prefix of full length.
func prefix() kind[netip.Prefix] {
	return scalar("address or prefix", parsePrefix)
}

func parsePrefix(text string) (netip.Prefix, error) {
	addrText, _, isPrefix := strings.Cut(text, "/")
	addr, err := parseAddr(addrText)
	if err != nil {
		return netip.Prefix{}, err
	}
	if !isPrefix {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%s does not end in a prefix length; write /0 to /%d after the address", quote(text), addr.BitLen())
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%s is wider than all of IPv4; write the IPv4 prefix itself", quote(text))
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%s has bits set behind its prefix length; write %s for the whole network or %s for this one address", quote(text), p.Masked(), p.Addr())
	}
	return p, nil
}

// parseAddr reads a numeric address, and says so when it is something else.
func parseAddr(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil && looksLikeName(text):
		return addr, fmt.Errorf("%s is a host name; write its address, because a name is whatever DNS says at the moment", quote(text))
	case err != nil:
		return addr, fmt.Errorf("%s is not an IP address; write one such as 192.0.2.1 or 2001:db8::1", quote(text))
	case addr.Zone() != "":
		return addr, fmt.Errorf("%s has a zone; write an address that is valid on the whole machine", quote(text))
	}
	return addr.Unmap(), nil
}

// looksLikeName tells a host name from a number with a typing error.
func looksLikeName(text string) bool {
	last := text[strings.LastIndexByte(text, '.')+1:]
	return validHost(text) && strings.ContainsAny(last, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
}

// validHost follows the grammar of RFC 3261 §25.1, and its length limits
// RFC 1035 §2.3.4.
func validHost(text string) bool {
	if text == "" || len(text) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(text, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if c != '-' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
				return false
			}
		}
	}
	return true
}

// parseAddrPort reads "address" or "address:port", with IPv6 in brackets when a
// port follows.
func parseAddrPort(text string, port uint16) (netip.AddrPort, error) {
	host, portText, err := splitPort(text)
	if err != nil {
		return netip.AddrPort{}, err
	}
	addr, err := parseAddr(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if portText != "" {
		if port, err = parsePort(portText); err != nil {
			return netip.AddrPort{}, err
		}
	}
	if addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return netip.AddrPort{}, fmt.Errorf("%s is not the address of one machine; write a unicast address", quote(text))
	}
	return netip.AddrPortFrom(addr, port), nil
}

// splitPort separates the host, without brackets, from the port.
func splitPort(text string) (host, port string, err error) {
	if rest, ok := strings.CutPrefix(text, "["); ok {
		host, port, ok = strings.Cut(rest, "]")
		if !ok || port != "" && port[0] != ':' || port == ":" {
			return "", "", fmt.Errorf("%s is not an address with a port; write [2001:db8::1]:5060", quote(text))
		}
		return host, strings.TrimPrefix(port, ":"), nil
	}
	if strings.Count(text, ":") > 1 {
		return text, "", ambiguous(text)
	}
	host, port, colon := strings.Cut(text, ":")
	if colon && port == "" {
		return "", "", fmt.Errorf("%s ends in a colon; write the port after it, or remove the colon", quote(text))
	}
	return host, port, nil
}

// ambiguous reports an IPv6 address without brackets whose end could be meant
// as a port: 2001:db8::1:5060.
func ambiguous(text string) error {
	i := strings.LastIndexByte(text, ':')
	if port, err := parsePort(text[i+1:]); err != nil || port < 1000 && port != dnsPort {
		return nil
	}
	if _, err := netip.ParseAddr(text[:i]); err != nil {
		return nil
	}
	return fmt.Errorf("%s has a port, or else its last group looks like one; write [%s]:%s with a port, or [%s] without",
		quote(text), text[:i], text[i+1:], text)
}

func parsePort(text string) (uint16, error) {
	var port uint32
	for _, c := range []byte(text) {
		if c < '0' || c > '9' || port > 65535 {
			port = 0
			break
		}
		port = port*10 + uint32(c-'0')
	}
	if port < 1 || port > 65535 {
		return 0, fmt.Errorf("%s is not a port; write a number 1 to 65535", quote(text))
	}
	return uint16(port), nil
}

// Where SIP can be listened for: outside, and where PBXes send to.
var (
	outsideTransports = []Transport{TransportUDP, TransportTCP, TransportTLS, TransportWS, TransportWSS, TransportDTLS}
	insideTransports  = []Transport{TransportUDP, TransportTCP, TransportTLS}
)

// listeners reads a list of listen addresses such as udp://192.0.2.1:5060.
func listeners(of []Transport) kind[[]Listener] {
	k := scalar("URL "+urlsOf(of, "or"), func(text string) (Listener, error) { return parseListener(text, of) })
	return listOf("list of "+urlsOf(of, "and"), k)
}

// urlsOf writes the URLs of transports for people.
func urlsOf(of []Transport, last string) string {
	var text strings.Builder
	for i, t := range of {
		switch {
		case i > 0 && i == len(of)-1:
			text.WriteString(" " + last + " ")
		case i > 0:
			text.WriteString(", ")
		}
		text.WriteString(t.String() + "://")
		if i == len(of)-1 || len(of) == 2 {
			text.WriteString("ADDRESS:PORT")
		}
	}
	return text.String()
}

// parseListener reads one of SIP.
func parseListener(text string, of []Transport) (Listener, error) {
	return parseListenerOn(text, of, Transport.port)
}

// plainTransports are those of protocols other than SIP.
var plainTransports = []Transport{TransportUDP, TransportTCP}

// parseListenerOn reads one whose port is the given one if it names none.
func parseListenerOn(text string, of []Transport, port func(Transport) uint16) (Listener, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		bare := shorten(strings.TrimPrefix(strings.TrimPrefix(text, "sips:"), "sip:"))
		return Listener{}, fmt.Errorf("%s says no transport; write udp://%s or tcp://%s", quote(text), bare, bare)
	}
	var names []string
	for _, t := range of {
		names = append(names, t.String()+"://")
	}
	i := slices.Index(names, scheme+"://")
	switch {
	case i >= 0:
	case slices.Contains(transportNames[:], scheme):
		return Listener{}, fmt.Errorf("%s:// is not for this key; use %s", scheme, anyOf(names))
	default:
		return Listener{}, fmt.Errorf("%s is not a transport; use %s", quote(scheme), anyOf(names))
	}
	l := Listener{Transport: of[i]}
	byDefault := port(l.Transport)
	if i := strings.IndexAny(rest, "/?#@"); i >= 0 {
		return l, fmt.Errorf("%s has a %s behind the transport; write only the address and the port", quote(text), quote(rest[i:i+1]))
	}
	if host, port, found := strings.Cut(rest, ":"); host == "*" || host == "" {
		if !found {
			port = strconv.Itoa(int(byDefault))
		}
		port = shorten(port)
		return l, fmt.Errorf("%s names no address; write %s://0.0.0.0:%s for all IPv4 addresses and %s://[::]:%s for all IPv6 addresses", quote(text), scheme, port, scheme, port)
	}
	addr, err := parseAddrPort(rest, byDefault)
	l.Addr = addr
	return l, err
}

// on makes a function that gives every transport the same port.
func on(port uint16) func(Transport) uint16 { return func(Transport) uint16 { return port } }

// nameserver reads the address of a DNS server.
func nameserver() kind[netip.AddrPort] {
	return scalar("address, with or without port", func(text string) (netip.AddrPort, error) {
		a, err := parseAddrPort(text, dnsPort)
		if err == nil && a.Addr().IsUnspecified() {
			err = fmt.Errorf("%s is not the address of a server; write where it listens", quote(text))
		}
		return a, err
	})
}

// parseAdvertised reads what phones are told: an address or a name, with or
// without a port.
func parseAdvertised(text string) (Advertised, error) {
	host, portText, err := splitPort(text)
	if err != nil {
		return Advertised{}, err
	}
	a := Advertised{Host: host}
	if portText != "" {
		if a.Port, err = parsePort(portText); err != nil {
			return a, err
		}
	}
	if validHost(host) && looksLikeName(host) {
		return a, nil
	}
	addr, err := parseAddrPort(host, sipPort)
	if err == nil && addr.Addr().IsUnspecified() {
		err = fmt.Errorf("%s is no address that a phone could send to; write the public one", quote(text))
	}
	a.Host = addr.Addr().String()
	return a, err
}
