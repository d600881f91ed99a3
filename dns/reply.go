package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	mdns "github.com/miekg/dns"
)

// What is wrong with a reply of an upstream.
var (
	errForeign  = errors.New("it answers no question of ours") // a forger's, or too late
	errSpelling = errors.New("it spells the name differently")
	errCut      = errors.New("it is cut off")
	errTrailing = errors.New("it has bytes behind its end")
	errLoop     = errors.New("the chain of aliases is a loop or too long")
	errBadName  = errors.New("it has a name that no host can have")
	errFailed   = errors.New("the upstream could not answer")
	errNoEDNS   = errors.New("the upstream does not know EDNS")
)

// maxChain is how many aliases lead to what was asked for.
const maxChain = 16

// match says whether a reply answers a message that we have sent: everything that a forger
// would have to guess, before anything costly is done with it.
func match(sent, reply []byte) error {
	if len(reply) < headerSize || reply[0] != sent[0] || reply[1] != sent[1] {
		return errForeign
	}
	flags := binary.BigEndian.Uint16(reply[2:])
	if flags&flagQR == 0 || flags&opcode != 0 {
		return errForeign
	}
	end := headerSize
	for sent[end] != 0 {
		end += 1 + int(sent[end])
	}
	end += 5 // the root, type and class
	if binary.BigEndian.Uint16(reply[4:]) != 1 || len(reply) < end {
		return errForeign
	}
	var a, b [maxName]byte
	n := end - 4 - headerSize
	lowerInto(a[:], sent[headerSize:headerSize+n])
	lowerInto(b[:], reply[headerSize:headerSize+n])
	switch {
	case a != b, string(sent[end-4:end]) != string(reply[end-4:end]):
		return errForeign
	case string(sent[headerSize:end]) != string(reply[headerSize:end]):
		return errSpelling
	}
	return nil
}

// read takes a reply apart that matches. What is returned holds only what the question
// asks for, on the way from its name.
func read(q *question, reply []byte, s *Settings) (*answer, error) {
	flags := binary.BigEndian.Uint16(reply[2:])
	if flags&flagTC != 0 {
		return nil, errCut
	}
	switch flags & rcodes {
	case mdns.RcodeSuccess, mdns.RcodeNameError:
	case mdns.RcodeFormatError:
		return nil, errNoEDNS
	default:
		return nil, fmt.Errorf("%w: %s", errFailed, mdns.RcodeToString[int(flags&rcodes)])
	}
	end, err := survey(reply, nil)
	if err != nil {
		return nil, err
	}
	if end != len(reply) && s.Protection == Strict {
		return nil, errTrailing
	}
	var m mdns.Msg
	if err := m.Unpack(reply); err != nil {
		return nil, fmt.Errorf("read the reply: %w", err)
	}
	a, last, err := follow(q, m.Answer)
	if err != nil {
		return nil, err
	}
	a.rcode = m.Rcode
	if s.Protection == Strict {
		if err := checkNames(a); err != nil {
			return nil, err
		}
	}
	switch {
	case len(a.set) > 0:
		a.rcode = mdns.RcodeSuccess
	default:
		a.negative(last, m.Ns)
	}
	a.finish()
	return a, nil
}

// follow collects the records that answer the question, from alias to alias. last is the
// name at the end.
func follow(q *question, records []mdns.RR) (a *answer, last string, err error) {
	a = &answer{ttl: maxTTL}
	last = q.text
	for {
		if q.qtype != mdns.TypeCNAME {
			if alias := find(records, last); alias != nil {
				if len(a.chain) == maxChain {
					return nil, "", errLoop
				}
				alias.Hdr.Name, alias.Target = last, strings.ToLower(alias.Target)
				a.chain = append(a.chain, alias)
				last = alias.Target
				continue
			}
		}
		break
	}
	for _, rr := range records {
		h := rr.Header()
		if h.Rrtype != q.qtype || h.Class != mdns.ClassINET || !strings.EqualFold(h.Name, last) {
			continue
		}
		h.Name = last
		lowerTarget(rr)
		if len(records) > 512 || !slices.ContainsFunc(a.set, func(o mdns.RR) bool { return mdns.IsDuplicate(o, rr) }) {
			a.set = append(a.set, rr)
		}
	}
	return a, last, nil
}

func find(records []mdns.RR, owner string) *mdns.CNAME {
	for _, rr := range records {
		if c, ok := rr.(*mdns.CNAME); ok && c.Hdr.Class == mdns.ClassINET && strings.EqualFold(c.Hdr.Name, owner) {
			return c
		}
	}
	return nil
}

// lowerTarget takes our random spelling of the question out of the names that an upstream
// may have compressed with it (RFC 3597 §4).
func lowerTarget(rr mdns.RR) {
	switch v := rr.(type) {
	case *mdns.CNAME:
		v.Target = strings.ToLower(v.Target)
	case *mdns.NS:
		v.Ns = strings.ToLower(v.Ns)
	case *mdns.PTR:
		v.Ptr = strings.ToLower(v.Ptr)
	case *mdns.MX:
		v.Mx = strings.ToLower(v.Mx)
	case *mdns.SOA:
		v.Ns, v.Mbox = strings.ToLower(v.Ns), strings.ToLower(v.Mbox)
	case *mdns.SRV:
		v.Target = strings.ToLower(v.Target)
	}
}

// The bounds of what is remembered, in seconds.
const (
	maxTTL      = 24 * 3600
	maxNegative = 3600 // RFC 2308 §5
)

// negative takes the SOA record that says how long the name has no such records (RFC 2308
// §5). Without one that is not remembered.
func (a *answer) negative(last string, authority []mdns.RR) {
	a.ttl = 0
	for _, rr := range authority {
		soa, ok := rr.(*mdns.SOA)
		if !ok || soa.Hdr.Class != mdns.ClassINET || !mdns.IsSubDomain(strings.ToLower(soa.Hdr.Name), last) {
			continue
		}
		soa.Hdr.Name = strings.ToLower(soa.Hdr.Name)
		lowerTarget(soa)
		a.soa, a.ttl = soa, min(seconds(soa.Hdr.Ttl), seconds(soa.Minttl), maxNegative)
		return
	}
}

// seconds is a TTL; one with the highest bit set is zero (RFC 2181 §8).
func seconds(ttl uint32) uint32 {
	if ttl >= 1<<31 {
		return 0
	}
	return ttl
}

// finish gives all records the same TTL, the shortest.
func (a *answer) finish() {
	all := slices.Concat(a.chain, a.set)
	if a.soa != nil {
		all = append(all, a.soa)
	}
	for _, rr := range all {
		a.ttl = min(a.ttl, seconds(rr.Header().Ttl))
	}
	for _, rr := range all {
		rr.Header().Ttl = a.ttl
	}
}

// checkNames refuses names that a program may take for something else than a host's.
func checkNames(a *answer) error {
	for _, rr := range slices.Concat(a.chain, a.set) {
		var name string
		switch v := rr.(type) {
		case *mdns.CNAME:
			name = v.Target
		case *mdns.PTR:
			name = v.Ptr
		case *mdns.SRV:
			name = v.Target
		case *mdns.MX:
			name = v.Mx
		case *mdns.NAPTR:
			name = v.Replacement
		}
		if strings.ContainsFunc(name, notInHost) {
			return errBadName
		}
	}
	return nil
}

func notInHost(c rune) bool {
	letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
	return !letter && c != '-' && c != '_' && c != '.'
}

// withoutPrivate takes addresses out that no public name has, and says how many.
func (a *answer) withoutPrivate() int {
	before := len(a.set)
	a.set = slices.DeleteFunc(a.set, func(rr mdns.RR) bool {
		switch v := rr.(type) {
		case *mdns.A:
			addr, ok := netip.AddrFromSlice(v.A)
			return !ok || private(addr)
		case *mdns.AAAA:
			addr, ok := netip.AddrFromSlice(v.AAAA)
			return !ok || private(addr)
		}
		return false
	})
	return before - len(a.set)
}

var carrierNAT = netip.MustParsePrefix("100.64.0.0/10")

func private(a netip.Addr) bool {
	a = a.Unmap()
	return !a.IsGlobalUnicast() || a.IsPrivate() || carrierNAT.Contains(a)
}

// within says whether a name, in lower case, is in one of the domains.
func within(name string, domains []string) bool {
	return slices.ContainsFunc(domains, func(d string) bool { return mdns.IsSubDomain(d, name) })
}
