package resolve

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Caps on what one answer can make us do.
const (
	maxSRV       = 16 // records of a service, the best ones
	maxAddresses = 16 // of a host, in each family
)

// endpoint is one address of an answer.
type endpoint struct {
	target Target
	rank   uint32  // lower is tried first: SRV priority, then family
	weight float64 // among those of one rank
	seed   uint64  // tells it from the others when one is drawn
}

// finding collects what several questions gave.
type finding struct {
	endpoints []endpoint
	ttl       time.Duration // the least of the records used
	negative  time.Duration // the least of the answers that there is nothing; 0: none
	failed    error         // a question that no server answered
}

// locate does RFC 3263 §4.1 (which transport) and §4.2 (which port and address).
func (r *Resolver) locate(ctx context.Context, k key) *answer {
	f := &finding{ttl: maxTTL}
	transport := k.transport
	switch {
	case k.port != 0: // no NAPTR, no SRV
		r.hosts(ctx, f, k.name, cmp.Or(transport, UDP), k.port)
	case transport != Any:
		if !r.services(ctx, f, serviceName(transport, k.name), transport) {
			r.hosts(ctx, f, k.name, transport, transport.port())
		}
	default:
		if !r.byNAPTR(ctx, f, k.name) && !r.byAnySRV(ctx, f, k.name) {
			r.hosts(ctx, f, k.name, UDP, UDP.port())
		}
	}
	return f.answer()
}

// answer concludes: what was found counts, even if not all could be asked.
func (f *finding) answer() *answer {
	a := &answer{endpoints: f.endpoints, ttl: f.ttl}
	switch {
	case len(f.endpoints) > 0 && f.failed != nil:
		a.ttl = min(a.ttl, partlyTTL)
	case len(f.endpoints) > 0 && f.negative > 0: // a better way may come to be
		a.ttl = min(a.ttl, maxNegative)
	case len(f.endpoints) > 0:
	case f.failed != nil:
		a.err, a.ttl = f.failed, brokenTTL
	default:
		a.err, a.ttl = ErrNotFound, cmp.Or(f.negative, maxNegative)
	}
	a.ttl = max(a.ttl, minTTL)
	slices.SortStableFunc(a.endpoints, func(x, y endpoint) int { return cmp.Compare(x.rank, y.rank) })
	return a
}

func serviceName(t Transport, domain string) string {
	switch t {
	case TCP:
		return "_sip._tcp." + domain
	case TLS:
		return "_sips._tcp." + domain
	default:
		return "_sip._udp." + domain
	}
}

// naptrTransport returns the transport of a service of RFC 3263 §4.1 that a sip:
// URI may use, or Any for another one.
func naptrTransport(service string) Transport {
	switch strings.ToLower(service) {
	case "sip+d2u":
		return UDP
	case "sip+d2t":
		return TCP
	}
	return Any
}

// byNAPTR says whether NAPTR records decided the matter. Those that we cannot
// use are passed over; if that leaves none, it is as if there were none.
func (r *Resolver) byNAPTR(ctx context.Context, f *finding, domain string) bool {
	type pointer struct {
		order, preference uint16
		name              string
		transport         Transport
	}
	var pointers []pointer
	for _, rr := range r.records(ctx, f, domain, dns.TypeNAPTR) {
		n, ok := rr.(*dns.NAPTR)
		if !ok {
			continue
		}
		t := naptrTransport(n.Service)
		if t == Any || !slices.Contains(r.cfg.Transports, t) || !strings.EqualFold(n.Flags, "s") || n.Regexp != "" {
			continue
		}
		pointers = append(pointers, pointer{n.Order, n.Preference, n.Replacement, t})
	}
	slices.SortFunc(pointers, func(a, b pointer) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.preference, b.preference))
	})
	for _, p := range pointers[:min(len(pointers), maxSRV)] {
		if r.services(ctx, f, p.name, p.transport) && len(f.endpoints) > 0 {
			return true
		}
	}
	return false
}

// byAnySRV asks for the SRV records of each transport that we have.
func (r *Resolver) byAnySRV(ctx context.Context, f *finding, domain string) bool {
	for _, t := range r.cfg.Transports {
		if r.services(ctx, f, serviceName(t, domain), t) && len(f.endpoints) > 0 {
			return true
		}
	}
	return false
}

// services says whether a service has SRV records, and adds the addresses of
// their targets.
func (r *Resolver) services(ctx context.Context, f *finding, name string, t Transport) bool {
	var srvs []*dns.SRV
	for _, rr := range r.records(ctx, f, name, dns.TypeSRV) {
		if srv, ok := rr.(*dns.SRV); ok {
			srvs = append(srvs, srv)
		}
	}
	if len(srvs) == 0 {
		return false
	}
	slices.SortStableFunc(srvs, func(a, b *dns.SRV) int { return cmp.Compare(a.Priority, b.Priority) })
	parts := make([]finding, min(len(srvs), maxSRV))
	var wg sync.WaitGroup
	for i := range parts {
		srv := srvs[i]
		parts[i] = finding{ttl: maxTTL}
		if srv.Target == "." || srv.Target == "" { // decidedly not offered (RFC 2782)
			continue
		}
		wg.Go(func() {
			r.hosts(ctx, &parts[i], srv.Target, t, cmp.Or(srv.Port, t.port()))
			parts[i].weigh(srv.Priority, srv.Weight)
		})
	}
	wg.Wait()
	for i := range parts {
		f.merge(&parts[i])
	}
	return true
}

// weigh gives a host's addresses the rank of its SRV record, and each its part
// of the record's weight. RFC 2782 wants weight 0 to have a very small chance
// beside others.
func (f *finding) weigh(priority, weight uint16) {
	first := 0
	for i := range f.endpoints {
		if f.endpoints[i].rank == 0 {
			first++
		}
	}
	w := max(float64(weight), 0.01)
	for i := range f.endpoints {
		e := &f.endpoints[i]
		if e.rank == 0 {
			e.weight = w / float64(first)
		} else {
			e.weight = w / float64(len(f.endpoints)-first)
		}
		e.rank += uint32(priority) << 1
	}
}

func (f *finding) merge(part *finding) {
	f.endpoints = append(f.endpoints, part.endpoints...)
	f.ttl = min(f.ttl, part.ttl)
	f.nothing(part.negative)
	f.failed = cmp.Or(f.failed, part.failed)
}

// nothing notes for how long it is known that there is nothing.
func (f *finding) nothing(ttl time.Duration) {
	if ttl = min(ttl, maxNegative); ttl > 0 && (f.negative == 0 || ttl < f.negative) {
		f.negative = ttl
	}
}

// hosts adds the addresses of a host. Those of the family that is not preferred
// have the next rank, if there are others.
func (r *Resolver) hosts(ctx context.Context, f *finding, name string, t Transport, port uint16) {
	types := []uint16{dns.TypeA, dns.TypeAAAA}
	if r.cfg.PreferIPv6 {
		slices.Reverse(types)
	}
	var parts [2]finding
	var wg sync.WaitGroup
	for i, qtype := range types {
		parts[i] = finding{ttl: maxTTL}
		if qtype == dns.TypeA && r.cfg.NoIPv4 || qtype == dns.TypeAAAA && r.cfg.NoIPv6 {
			continue
		}
		wg.Go(func() {
			for _, rr := range r.records(ctx, &parts[i], name, qtype) {
				if addr, ok := addressOf(rr); ok && len(parts[i].endpoints) < maxAddresses {
					parts[i].endpoints = append(parts[i].endpoints, newEndpoint(addr, port, t))
				}
			}
		})
	}
	wg.Wait()
	rank := uint32(0)
	for i := range parts {
		for j := range parts[i].endpoints {
			parts[i].endpoints[j].rank = rank
		}
		if len(parts[i].endpoints) > 0 {
			rank = 1
		}
		f.merge(&parts[i])
	}
}

func addressOf(rr dns.RR) (netip.Addr, bool) {
	switch rr := rr.(type) {
	case *dns.A:
		addr, ok := netip.AddrFromSlice(rr.A)
		return addr.Unmap(), ok
	case *dns.AAAA:
		addr, ok := netip.AddrFromSlice(rr.AAAA)
		return addr.Unmap(), ok
	}
	return netip.Addr{}, false
}

func newEndpoint(addr netip.Addr, port uint16, t Transport) endpoint {
	ap := netip.AddrPortFrom(addr, port)
	return endpoint{target: Target{ap, t}, weight: 1, seed: hashAddr(ap)}
}

// records returns the records of a type, and notes in f how long what was
// learned is good for.
func (r *Resolver) records(ctx context.Context, f *finding, name string, qtype uint16) []dns.RR {
	rrs, ttl, err := r.dns.records(ctx, name, qtype)
	switch {
	case errors.Is(err, ErrNotFound):
		f.nothing(max(ttl, minTTL))
	case err != nil:
		f.failed = cmp.Or(f.failed, err)
	default:
		f.ttl = min(f.ttl, ttl)
	}
	return rrs
}
