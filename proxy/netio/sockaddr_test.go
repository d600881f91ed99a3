package netio

import (
	"net/netip"
	"testing"
)

func TestSockaddr(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"192.0.2.1:5060", "192.0.2.1:5060"},
		{"[2001:db8::1]:65535", "[2001:db8::1]:65535"},
		{"[::ffff:192.0.2.1]:1", "192.0.2.1:1"},
		{"[fe80::1%7]:5060", "[fe80::1%7]:5060"},
		{"[fe80::1%lo]:5060", "[fe80::1%1]:5060"},
		{"[fe80::1%none]:5060", "[fe80::1]:5060"},
		{"[2001:db8::1%7]:5060", "[2001:db8::1]:5060"}, // only a link needs its name
	} {
		var s sockaddr
		for i := range s {
			s[i] = 0xff // what an earlier message has left
		}
		n := s.encode(netip.MustParseAddrPort(tt.in))
		if got := s.decode(n); got.String() != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, got, tt.want)
		}
		if got := s.decode(n - 1); got.IsValid() {
			t.Errorf("%s, cut short: got %s", tt.in, got)
		}
	}
	if got := new(sockaddr).decode(28); got.IsValid() { // AF_UNSPEC
		t.Errorf("no family: got %s", got)
	}
}

func TestPktinfo(t *testing.T) {
	for _, a := range []string{"192.0.2.1", "2001:db8::1", "fe80::1%3"} {
		var b [controlSpace]byte
		local := netip.MustParseAddr(a)
		n := putPktinfo(&b, local)
		if got := pktinfo(&b, n); got != local {
			t.Errorf("%s: got %s", a, got)
		}
		for short := range n / 2 {
			if got := pktinfo(&b, short); got.IsValid() {
				t.Errorf("%s, %d bytes of it: got %s", a, short, got)
			}
		}
	}
	for _, a := range []netip.Addr{{}, netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if n := putPktinfo(new([controlSpace]byte), a); n != 0 {
			t.Errorf("%s: %d bytes", a, n)
		}
	}
}
