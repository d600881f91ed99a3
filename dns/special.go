package dns

import (
	"net/netip"

	mdns "github.com/miekg/dns"
)

// localTTL is how long the answers to special names may be kept, in seconds.
const localTTL = 3600

// loopbackNames are the reverse names of the loopback addresses that are asked for.
var loopbackNames = []string{
	"1.0.0.127.in-addr.arpa.",
	"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.",
}

// absent are domains that no resolver is to be asked for: RFC 6761 §6.2 and §6.4, RFC 7686
// and RFC 9476.
var absent = []string{"test.", "invalid.", "onion.", "alt."}

// special answers the names that have a meaning of their own (RFC 6761); nil: it has none.
func special(q *question, s *Settings) *answer {
	if within(q.text, s.PrivateNames) {
		return nil
	}
	if within(q.text, absent) {
		return &answer{rcode: mdns.RcodeNameError, ttl: localTTL}
	}
	h := mdns.RR_Header{Name: q.text, Rrtype: q.qtype, Class: mdns.ClassINET, Ttl: localTTL}
	a := &answer{ttl: localTTL}
	switch {
	case within(q.text, []string{"localhost."}): // RFC 6761 §6.3
		switch q.qtype {
		case mdns.TypeA:
			a.set = []mdns.RR{&mdns.A{Hdr: h, A: netip.AddrFrom4([4]byte{127, 0, 0, 1}).AsSlice()}}
		case mdns.TypeAAAA:
			a.set = []mdns.RR{&mdns.AAAA{Hdr: h, AAAA: netip.IPv6Loopback().AsSlice()}}
		}
	case within(q.text, loopbackNames):
		if q.qtype == mdns.TypePTR {
			a.set = []mdns.RR{&mdns.PTR{Hdr: h, Ptr: "localhost."}}
		}
	default:
		return nil
	}
	return a
}
