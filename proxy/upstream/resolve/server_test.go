package resolve_test

import (
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"sipward/proxy/upstream/resolve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// nameserver is a real DNS server on loopback that answers from a zone given as
// text, and does the wrong thing where it is told to.
type nameserver struct {
	addr string

	mu      sync.Mutex
	zone    []dns.RR
	twist   func(w dns.ResponseWriter, q, answer *dns.Msg) *dns.Msg // nil result: silence
	queries atomic.Int64
	byName  map[string]int // "A name"
}

// listenBoth finds a port that is free for UDP and for TCP: another process may hold the
// one while the other is free.
func listenBoth(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	var err error
	for range 50 {
		var pc net.PacketConn
		if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			break
		}
		var l net.Listener
		if l, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			return pc, l
		}
		pc.Close()
	}
	t.Fatal(err)
	return nil, nil
}

func startServer(t testing.TB, zone string) *nameserver {
	t.Helper()
	s := &nameserver{byName: map[string]int{}}
	s.set(t, zone)
	pc, l := listenBoth(t)
	s.addr = pc.LocalAddr().String()
	for _, server := range []*dns.Server{{PacketConn: pc, Handler: s}, {Listener: l, Handler: s}} {
		started, done := make(chan struct{}), make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { defer close(done); server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { server.Shutdown(); <-done })
	}
	return s
}

func (s *nameserver) set(t testing.TB, zone string) {
	t.Helper()
	var rrs []dns.RR
	for line := range strings.Lines(zone) {
		rr, err := dns.NewRR(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if rr != nil {
			rrs = append(rrs, rr)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone = rrs
}

func (s *nameserver) twisted(twist func(w dns.ResponseWriter, q, answer *dns.Msg) *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.twist = twist
}

func (s *nameserver) asked(question string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byName[question]
}

// ServeDNS answers like a resolver: with the whole chain of CNAMEs.
func (s *nameserver) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	s.queries.Add(1)
	s.mu.Lock()
	s.byName[dns.TypeToString[q.Question[0].Qtype]+" "+q.Question[0].Name]++
	m, twist := s.answer(q), s.twist
	s.mu.Unlock()
	if twist != nil {
		m = twist(w, q, m)
	}
	if m != nil {
		w.WriteMsg(m)
	}
}

func (s *nameserver) answer(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	name, exists := q.Question[0].Name, false
	for range 5 {
		next := ""
		for _, rr := range s.zone {
			h := rr.Header()
			if !strings.EqualFold(h.Name, name) {
				continue
			}
			exists = true
			if h.Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			} else if c, ok := rr.(*dns.CNAME); ok {
				m.Answer = append(m.Answer, rr)
				next = c.Target
			}
		}
		if next == "" {
			break
		}
		name = next
	}
	if !exists {
		m.Rcode = dns.RcodeNameError
	}
	for _, rr := range s.zone {
		if soa, ok := rr.(*dns.SOA); ok && len(m.Answer) == 0 {
			m.Ns = append(m.Ns, soa)
		}
	}
	return m
}

// clock is the time as the resolver sees it.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) unix() int64             { return c.ns.Load() }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

func newResolver(c *clock, servers ...*nameserver) *resolve.Resolver {
	cfg := resolve.Config{Timeout: 300 * time.Millisecond, Now: c.now}
	for _, s := range servers {
		cfg.Servers = append(cfg.Servers, s.addr)
	}
	return resolve.New(cfg)
}
