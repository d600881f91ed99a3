//go:build linux

package lab

import (
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// Zone is a DNS server in the wan, on lab.DNS. Names that it does not have do not exist.
type Zone struct {
	mu      sync.Mutex
	records map[dns.Question][]dns.RR
	asked   []string
}

// StartDNS starts a server with records in the form of zone files.
func (l *Lab) StartDNS(t *testing.T, records ...string) *Zone {
	t.Helper()
	z := &Zone{records: map[dns.Question][]dns.RR{}}
	z.Add(t, records...)
	conn, err := l.WAN.ListenUDP(netip.AddrPortFrom(DNS, 53))
	if err != nil {
		t.Fatalf("start the DNS server: %v", err)
	}
	ready := make(chan struct{})
	srv := &dns.Server{PacketConn: conn, Handler: z, NotifyStartedFunc: func() { close(ready) }}
	go func() { _ = srv.ActivateAndServe() }()
	<-ready
	l.onClose(func() { _ = srv.Shutdown() })
	return z
}

// Add adds records.
func (z *Zone) Add(t *testing.T, records ...string) {
	t.Helper()
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatalf("read record %q: %v", text, err)
		}
		h := rr.Header()
		q := dns.Question{Name: strings.ToLower(h.Name), Qtype: h.Rrtype, Qclass: dns.ClassINET}
		z.records[q] = append(z.records[q], rr)
	}
}

// Asked gives the questions so far, as "name TYPE".
func (z *Zone) Asked() []string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return append([]string(nil), z.asked...)
}

// ServeDNS implements dns.Handler.
func (z *Zone) ServeDNS(w dns.ResponseWriter, req *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(req)
	m.Authoritative = true
	z.mu.Lock()
	if len(req.Question) == 1 {
		q := req.Question[0]
		q.Name = strings.ToLower(q.Name)
		z.asked = append(z.asked, q.Name+" "+dns.TypeToString[q.Qtype])
		m.Answer = z.records[q]
		if len(m.Answer) == 0 && !z.exists(q.Name) {
			m.Rcode = dns.RcodeNameError
		}
	}
	z.mu.Unlock()
	_ = w.WriteMsg(m)
}

// exists says whether the name has records of any type. It is called with the lock held.
func (z *Zone) exists(name string) bool {
	for q := range z.records {
		if q.Name == name {
			return true
		}
	}
	return false
}
