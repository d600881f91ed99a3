// Package iplist holds sets of IPv4 and IPv6 prefixes, and reads them from
// text files.
//
// A Set is immutable: a reload builds a new one and swaps a pointer, so the
// packet path reads it without a lock. IPv4 addresses are expected in their
// own form, not mapped into IPv6 (they are unmapped once, at the socket).
package iplist

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// ParsePrefix reads an address (taken as the one host) or a prefix. An IPv4
// address mapped into IPv6 is unmapped. Bits set after the prefix length are
// an error, because it is not clear which of two things was meant: the error
// names both right forms.
func ParsePrefix(s string) (netip.Prefix, error) {
	addrText, lenText, isPrefix := strings.Cut(s, "/")
	addr, err := netip.ParseAddr(addrText)
	switch {
	case s == "":
		return netip.Prefix{}, fmt.Errorf("no address or prefix given")
	case err != nil:
		return netip.Prefix{}, explainBadAddr(s)
	case addr.Zone() != "":
		return netip.Prefix{}, fmt.Errorf("%.64q has a zone; leave out %%%s", s, addr.Zone())
	case !isPrefix:
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, explainBadLength(s, addr, lenText)
	}
	if addr.Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%.64q covers more than the mapped IPv4 addresses; write the IPv4 prefix itself", s)
		}
		p = netip.PrefixFrom(addr.Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%.64q has bits set after its length; write %s for the network, or %s for the one address",
			s, p.Masked(), p.Addr())
	}
	return p, nil
}

func explainBadAddr(s string) error {
	if left, _, ok := strings.Cut(s, "-"); ok {
		if _, err := netip.ParseAddr(strings.TrimSpace(left)); err == nil {
			return fmt.Errorf("%.64q is a range; write it as prefixes, such as 192.0.2.0/28", s)
		}
	}
	if strings.Contains(s, "*") {
		return fmt.Errorf("%.64q has a wildcard; write a prefix, such as 192.0.2.0/24", s)
	}
	return fmt.Errorf("%.64q is not an address or prefix; write 192.0.2.10, 192.0.2.0/24 or 2001:db8::/32 (names are not looked up)", s)
}

// explainBadLength recognises the old netmask notation and offers the length.
func explainBadLength(s string, addr netip.Addr, length string) error {
	if mask, err := netip.ParseAddr(length); err == nil && mask.Is4() && addr.Is4() {
		b := mask.As4()
		ones, bits := net.IPMask(b[:]).Size()
		if bits == 32 {
			return fmt.Errorf("%.64q has a netmask; write %s", s, netip.PrefixFrom(addr, ones).Masked())
		}
	}
	return fmt.Errorf("%.64q has a bad prefix length; it must be between 0 and %d", s, addr.BitLen())
}
