package resolve

import (
	"net/netip"
	"unsafe"
)

// maxName is the length of the longest domain name (RFC 1035 §2.3.4), written
// without its last dot.
const maxName = 253

// Numeric returns the address that host is, if it is one: IPv4, or IPv6 with
// or without brackets. It does not allocate.
func Numeric(host []byte) (netip.Addr, bool) {
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	if len(host) == 0 || len(host) > 45 || !looksNumeric(host) {
		return netip.Addr{}, false
	}
	// ParseAddr keeps its argument in errors only (and as a zone, which
	// looksNumeric does not let pass), and the error is dropped here.
	addr, err := netip.ParseAddr(unsafe.String(&host[0], len(host)))
	return addr.Unmap(), err == nil
}

// looksNumeric: an IPv6 address has a colon, an IPv4 address nothing but digits
// and dots, and a name neither.
func looksNumeric(host []byte) bool {
	digits := true
	for _, c := range host {
		switch {
		case c == ':':
			return isIPv6Text(host)
		case c != '.' && (c < '0' || c > '9'):
			digits = false
		}
	}
	return digits
}

func isIPv6Text(host []byte) bool {
	for _, c := range host {
		if c != ':' && c != '.' && !('0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f') {
			return false
		}
	}
	return true
}

func numericTarget(addr netip.Addr, port uint16, transport Transport) Target {
	if transport == Any {
		transport = UDP // RFC 3263 §4.1
	}
	if port == 0 {
		port = transport.port()
	}
	return Target{netip.AddrPortFrom(addr, port), transport}
}

// canonical returns a host name in lower case and without the last dot, and
// whether it is one: DNS can hold other names, but no SIP URI can (RFC 3261
// §25.1), except for the underscore that people do use.
func canonical(host string) (string, bool) {
	var buf [maxName + 1]byte
	b, ok := appendCanonical(buf[:0], []byte(host))
	return string(b), ok
}

func appendCanonical(dst, host []byte) ([]byte, bool) {
	if n := len(host); n > 0 && host[n-1] == '.' {
		host = host[:n-1]
	}
	if len(host) == 0 || len(host) > maxName {
		return dst, false
	}
	label := 0
	for _, c := range host {
		switch {
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_':
		case c == '-' && label > 0:
		case c == '.' && label > 0:
			label = -1
		default:
			return dst, false
		}
		if label++; label > 63 {
			return dst, false
		}
		dst = append(dst, c)
	}
	return dst, label > 0
}
