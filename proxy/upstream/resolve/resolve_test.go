package resolve_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"sipward/proxy/upstream/resolve"
)

// zone has each shape of RFC 3263 §4.1 and §4.2.
const zone = `
example.com. 300 IN SOA ns.example.com. admin.example.com. 1 2 3 4 60
; NAPTR that prefers TCP, and more that we cannot use
naptr.example.com. 300 IN NAPTR 10 50 "s" "SIPS+D2T" "" _sips._tcp.naptr.example.com.
naptr.example.com. 300 IN NAPTR 20 20 "s" "SIP+D2U" "" _sip._udp.naptr.example.com.
naptr.example.com. 300 IN NAPTR 20 10 "s" "SIP+D2T" "" tcp-service.example.com.
naptr.example.com. 300 IN NAPTR 5 10 "u" "E2U+sip" "!^.*$!sip:x@y!" .
tcp-service.example.com. 300 IN SRV 0 0 5070 one.example.com.
_sip._udp.naptr.example.com. 300 IN SRV 0 0 5071 one.example.com.
; NAPTR whose first service leads nowhere
half.example.com. 300 IN NAPTR 10 10 "s" "SIP+D2T" "" _sip._tcp.half.example.com.
half.example.com. 300 IN NAPTR 20 10 "s" "SIP+D2U" "" _sip._udp.half.example.com.
_sip._udp.half.example.com. 300 IN SRV 0 0 5072 two.example.com.
; NAPTR of which we can use nothing
tls.example.com. 300 IN NAPTR 10 50 "s" "SIPS+D2T" "" _sips._tcp.tls.example.com.
tls.example.com. 300 IN A 192.0.2.9
; SRV without NAPTR
srv.example.com. 300 IN A 192.0.2.99
_sip._udp.srv.example.com. 300 IN SRV 20 0 5062 two.example.com.
_sip._udp.srv.example.com. 300 IN SRV 10 0 5061 one.example.com.
_sip._tcp.srv.example.com. 300 IN SRV 10 0 5064 one.example.com.
; only TCP has SRV
tcponly.example.com. 300 IN A 192.0.2.98
_sip._tcp.tcponly.example.com. 300 IN SRV 10 0 5064 one.example.com.
; decidedly no service, RFC 2782
none.example.com. 300 IN A 192.0.2.97
_sip._udp.none.example.com. 300 IN SRV 0 0 0 .
one.example.com. 300 IN A 192.0.2.1
two.example.com. 300 IN A 192.0.2.2
two.example.com. 300 IN AAAA 2001:db8::2
six.example.com. 300 IN AAAA 2001:db8::6
alias.example.com. 300 IN CNAME alias2.example.com.
alias2.example.com. 300 IN CNAME one.example.com.
loop.example.com. 300 IN CNAME loop2.example.com.
loop2.example.com. 300 IN CNAME loop.example.com.
dangling.example.com. 300 IN CNAME gone.example.com.
`

// texts writes targets as "udp:192.0.2.1:5060".
func texts(targets []resolve.Target) (out []string) {
	for _, t := range targets {
		out = append(out, t.Transport.String()+":"+t.Addr.String())
	}
	return out
}

func TestRFC3263(t *testing.T) {
	s := startServer(t, zone)
	tests := []struct {
		name      string
		host      string
		port      uint16
		transport resolve.Transport
		want      string // in order, separated by a space
		err       error
	}{
		// §4.1: numeric hosts and explicit ports take no NAPTR and no SRV.
		{"numeric", "192.0.2.7", 0, resolve.Any, "udp:192.0.2.7:5060", nil},
		{"numeric with port", "192.0.2.7", 5080, resolve.Any, "udp:192.0.2.7:5080", nil},
		{"numeric with transport", "192.0.2.7", 0, resolve.TCP, "tcp:192.0.2.7:5060", nil},
		{"numeric TLS", "192.0.2.7", 0, resolve.TLS, "tls:192.0.2.7:5061", nil},
		{"numeric IPv6", "[2001:db8::7]", 0, resolve.Any, "udp:[2001:db8::7]:5060", nil},
		{"numeric IPv6 without brackets", "2001:db8::7", 0, resolve.Any, "udp:[2001:db8::7]:5060", nil},
		{"mapped IPv4", "[::ffff:192.0.2.7]", 0, resolve.Any, "udp:192.0.2.7:5060", nil},
		{"name with port", "srv.example.com", 5080, resolve.Any, "udp:192.0.2.99:5080", nil},
		{"name with port and transport", "srv.example.com", 5080, resolve.TCP, "tcp:192.0.2.99:5080", nil},
		{"name with port and NAPTR", "tls.example.com", 5080, resolve.Any, "udp:192.0.2.9:5080", nil},
		// §4.1: NAPTR.
		{"NAPTR", "naptr.example.com", 0, resolve.Any, "tcp:192.0.2.1:5070", nil},
		{"NAPTR, first service empty", "half.example.com", 0, resolve.Any, "udp:192.0.2.2:5072 udp:[2001:db8::2]:5072", nil},
		{"NAPTR without a service of ours", "tls.example.com", 0, resolve.Any, "udp:192.0.2.9:5060", nil},
		// §4.1: no NAPTR.
		{"SRV", "srv.example.com", 0, resolve.Any, "udp:192.0.2.1:5061 udp:192.0.2.2:5062 udp:[2001:db8::2]:5062", nil},
		{"SRV of TCP alone", "tcponly.example.com", 0, resolve.Any, "tcp:192.0.2.1:5064", nil},
		{"no records but A", "one.example.com", 0, resolve.Any, "udp:192.0.2.1:5060", nil},
		// §4.2: the URI names the transport.
		{"SRV for TCP", "srv.example.com", 0, resolve.TCP, "tcp:192.0.2.1:5064", nil},
		{"NAPTR not asked", "naptr.example.com", 0, resolve.UDP, "udp:192.0.2.1:5071", nil},
		{"no SRV for UDP", "tcponly.example.com", 0, resolve.UDP, "udp:192.0.2.98:5060", nil},
		{"no SRV for TLS", "one.example.com", 0, resolve.TLS, "tls:192.0.2.1:5061", nil},
		{"service not offered", "none.example.com", 0, resolve.UDP, "", resolve.ErrNotFound},
		// Addresses.
		{"both families", "two.example.com", 5060, resolve.UDP, "udp:192.0.2.2:5060 udp:[2001:db8::2]:5060", nil},
		{"IPv6 alone", "six.example.com", 5060, resolve.UDP, "udp:[2001:db8::6]:5060", nil},
		{"CNAME", "alias.example.com", 5060, resolve.UDP, "udp:192.0.2.1:5060", nil},
		{"CNAME loop", "loop.example.com", 5060, resolve.UDP, "", resolve.ErrNotFound},
		{"CNAME to nothing", "dangling.example.com", 5060, resolve.UDP, "", resolve.ErrNotFound},
		{"NXDOMAIN", "nobody.example.com", 0, resolve.Any, "", resolve.ErrNotFound},
		{"case and last dot", "ONE.Example.COM.", 0, resolve.UDP, "udp:192.0.2.1:5060", nil},
		// What is not a name.
		{"empty", "", 0, resolve.Any, "", resolve.ErrBadName},
		{"space", "a b", 0, resolve.Any, "", resolve.ErrBadName},
		{"empty label", "a..b", 0, resolve.Any, "", resolve.ErrBadName},
		{"leading dot", ".a", 0, resolve.Any, "", resolve.ErrBadName},
		{"leading hyphen", "-a.b", 0, resolve.Any, "", resolve.ErrBadName},
		{"long label", strings.Repeat("a", 64) + ".b", 0, resolve.Any, "", resolve.ErrBadName},
		{"long name", strings.Repeat("a.", 127) + "b", 0, resolve.Any, "", resolve.ErrBadName},
		{"zone", "[fe80::1%eth0]", 0, resolve.Any, "", resolve.ErrBadName},
		{"bytes", "a\x00b\xff", 0, resolve.Any, "", resolve.ErrBadName},
	}
	r := newResolver(newClock(), s)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 { // from the server, and from the cache
				got, err := r.Lookup(t.Context(), tt.host, tt.port, tt.transport, 1)
				if strings.Join(texts(got), " ") != tt.want || !errors.Is(err, tt.err) {
					t.Errorf("got %v, %v; want %s, %v", texts(got), err, tt.want, tt.err)
				}
			}
			target, ok := r.Cached([]byte(tt.host), tt.port, tt.transport, 1)
			if ok != (tt.err == nil) || ok && texts([]resolve.Target{target})[0] != strings.Fields(tt.want)[0] {
				t.Errorf("Cached: %v %v", target, ok)
			}
		})
	}
}

func TestFamilies(t *testing.T) {
	s := startServer(t, zone)
	for _, tt := range []struct {
		cfg  resolve.Config
		want string
	}{
		{resolve.Config{PreferIPv6: true}, "udp:[2001:db8::2]:5060 udp:192.0.2.2:5060"},
		{resolve.Config{NoIPv6: true}, "udp:192.0.2.2:5060"},
		{resolve.Config{NoIPv4: true}, "udp:[2001:db8::2]:5060"},
	} {
		tt.cfg.Servers = []string{s.addr}
		got, err := resolve.New(tt.cfg).Lookup(t.Context(), "two.example.com", 5060, resolve.UDP, 1)
		if strings.Join(texts(got), " ") != tt.want || err != nil {
			t.Errorf("%+v: %v, %v", tt.cfg, texts(got), err)
		}
	}
}

func TestCacheLivesAsLongAsTheTTL(t *testing.T) {
	s := startServer(t, `
		_sip._udp.example.com. 100 IN SRV 0 0 5060 a.example.com.
		a.example.com. 40 IN A 192.0.2.1
		a.example.com. 70 IN AAAA 2001:db8::1
		example.com. 300 IN SOA ns.example.com. admin.example.com. 1 2 3 4 60`)
	c := newClock()
	r := newResolver(c, s)
	cached := func() bool { _, ok := r.Cached([]byte("example.com"), 0, resolve.UDP, 1); return ok }
	if cached() {
		t.Error("cached before it was looked up")
	}
	if _, err := r.Lookup(t.Context(), "example.com", 0, resolve.UDP, 1); err != nil {
		t.Fatal(err)
	}
	n := s.queries.Load()
	c.advance(39 * time.Second)
	if !cached() {
		t.Error("forgotten before the least TTL")
	}
	c.advance(time.Second)
	if cached() {
		t.Error("cached after the least TTL")
	}
	s.set(t, "_sip._udp.example.com. 100 IN SRV 0 0 5060 192.0.2.1.\nexample.com. 1 IN A 192.0.2.2")
	if _, err := r.Lookup(t.Context(), "example.com", 0, resolve.UDP, 1); !errors.Is(err, resolve.ErrNotFound) || s.queries.Load() == n {
		t.Errorf("after the TTL: %v, %d queries", err, s.queries.Load()-n)
	}
}

func TestNegativeCache(t *testing.T) {
	s := startServer(t, "example.com. 300 IN SOA ns.example.com. admin.example.com. 1 2 3 4 60")
	c := newClock()
	r := newResolver(c, s)
	lookup := func() { t.Helper(); r.Lookup(t.Context(), "x.example.com", 0, resolve.Any, 1) }
	lookup()
	n := s.queries.Load()
	c.advance(59 * time.Second)
	lookup()
	if got := s.queries.Load(); got != n {
		t.Errorf("%d more questions about a name that is known not to exist", got-n)
	}
	c.advance(time.Second)
	lookup()
	if s.queries.Load() == n {
		t.Error("not asked again after the time in the SOA")
	}
}

func TestTruncatedAnswerComesOverTCP(t *testing.T) {
	var zone strings.Builder
	for i := range 60 {
		fmt.Fprintf(&zone, "_sip._udp.big.example.com. 300 IN SRV %d 0 5060 a-rather-long-name-of-host-%d.example.com.\n", i, i)
		fmt.Fprintf(&zone, "a-rather-long-name-of-host-%d.example.com. 300 IN A 192.0.2.%d\n", i, i)
	}
	s := startServer(t, zone.String())
	tcp := 0
	var mu sync.Mutex
	s.twisted(func(w dns.ResponseWriter, q, m *dns.Msg) *dns.Msg {
		if w.LocalAddr().Network() == "udp" {
			m.Truncate(512)
		} else {
			mu.Lock()
			tcp++
			mu.Unlock()
		}
		return m
	})
	got, err := newResolver(newClock(), s).Lookup(t.Context(), "big.example.com", 0, resolve.UDP, 1)
	if err != nil || tcp == 0 || len(got) != 16 || got[0].Addr.Addr().String() != "192.0.2.0" || got[15].Addr.Addr().String() != "192.0.2.15" {
		t.Errorf("%d answers over TCP, targets %v, %v; want the sixteen best", tcp, texts(got), err)
	}
}

func TestNameServersFailOver(t *testing.T) {
	for name, twist := range map[string]func(w dns.ResponseWriter, q, m *dns.Msg) *dns.Msg{
		"silent": func(_ dns.ResponseWriter, q, m *dns.Msg) *dns.Msg { return nil },
		"SERVFAIL": func(_ dns.ResponseWriter, q, m *dns.Msg) *dns.Msg {
			return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
		},
		"REFUSED":          func(_ dns.ResponseWriter, q, m *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeRefused) },
		"another question": func(_ dns.ResponseWriter, q, m *dns.Msg) *dns.Msg { m.Question[0].Name = "evil.example.com."; return m },
		"another type":     func(_ dns.ResponseWriter, q, m *dns.Msg) *dns.Msg { m.Question[0].Qtype = dns.TypeTXT; return m },
		"another ID":       func(_ dns.ResponseWriter, q, m *dns.Msg) *dns.Msg { m.Id++; return m },
		"no response bit":  func(_ dns.ResponseWriter, q, m *dns.Msg) *dns.Msg { m.Response = false; return m },
	} {
		t.Run(name, func(t *testing.T) {
			bad, good := startServer(t, "example.com. 300 IN A 192.0.2.66"), startServer(t, "example.com. 300 IN A 192.0.2.1\nexample.net. 300 IN A 192.0.2.2")
			bad.twisted(twist)
			r := newResolver(newClock(), bad, good)
			got, err := r.Lookup(t.Context(), "example.com", 5060, resolve.UDP, 1)
			if err != nil || len(got) != 1 || got[0].Addr.String() != "192.0.2.1:5060" {
				t.Fatalf("got %v, %v", texts(got), err)
			}
			n := bad.queries.Load()
			if _, err := r.Lookup(t.Context(), "example.net", 5060, resolve.UDP, 1); err != nil || bad.queries.Load() != n {
				t.Errorf("the bad server is asked again first: %v", err)
			}
		})
	}
}

func TestRecordsOfOtherNamesAreIgnored(t *testing.T) {
	s := startServer(t, "example.com. 300 IN A 192.0.2.1")
	s.twisted(func(_ dns.ResponseWriter, q, m *dns.Msg) *dns.Msg {
		evil, _ := dns.NewRR("evil.example.com. 300 IN A 192.0.2.66")
		m.Answer = append([]dns.RR{evil}, m.Answer...)
		m.Extra = append(m.Extra, evil)
		return m
	})
	got, err := newResolver(newClock(), s).Lookup(t.Context(), "example.com", 5060, resolve.UDP, 1)
	if err != nil || len(got) != 1 || got[0].Addr.Addr().String() != "192.0.2.1" {
		t.Errorf("got %v, %v", texts(got), err)
	}
}

// A server that answers with a CNAME alone is asked for what it means.
func TestHalfAChainIsFollowed(t *testing.T) {
	s := startServer(t, zone)
	s.twisted(func(_ dns.ResponseWriter, q, m *dns.Msg) *dns.Msg {
		m.Answer = m.Answer[:min(len(m.Answer), 1)]
		return m
	})
	got, err := newResolver(newClock(), s).Lookup(t.Context(), "alias.example.com", 5060, resolve.UDP, 1)
	if err != nil || len(got) != 1 || got[0].Addr.String() != "192.0.2.1:5060" {
		t.Errorf("got %v, %v", texts(got), err)
	}
}

func TestServerWithoutEDNS(t *testing.T) {
	s := startServer(t, zone)
	s.twisted(func(_ dns.ResponseWriter, q, m *dns.Msg) *dns.Msg {
		if q.IsEdns0() != nil {
			return new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
		}
		return m
	})
	if got, err := newResolver(newClock(), s).Lookup(t.Context(), "one.example.com", 5060, resolve.UDP, 1); err != nil || len(got) != 1 {
		t.Errorf("got %v, %v", texts(got), err)
	}
}

func TestAllNameServersDown(t *testing.T) {
	s := startServer(t, "example.com. 10 IN A 192.0.2.1")
	c := newClock()
	r := newResolver(c, s)
	lookup := func(host string) ([]resolve.Target, error) {
		return r.Lookup(t.Context(), host, 5060, resolve.UDP, 1)
	}
	if _, err := lookup("example.com"); err != nil {
		t.Fatal(err)
	}
	s.twisted(func(dns.ResponseWriter, *dns.Msg, *dns.Msg) *dns.Msg { return nil })
	c.advance(time.Minute)
	if got, err := lookup("example.com"); err != nil || len(got) != 1 {
		t.Errorf("what was known is forgotten: %v, %v", got, err)
	}
	if _, ok := r.Cached([]byte("example.com"), 5060, resolve.UDP, 1); !ok {
		t.Error("the old answer is not in the cache")
	}
	if _, err := lookup("unknown.example.com"); !errors.Is(err, resolve.ErrServer) {
		t.Errorf("unknown name: %v", err)
	}
	n := s.queries.Load()
	if _, err := lookup("unknown.example.com"); !errors.Is(err, resolve.ErrServer) || s.queries.Load() != n {
		t.Errorf("asked again at once: %v", err)
	}
	s.twisted(nil)
	c.advance(time.Minute)
	if got, err := lookup("example.com"); err != nil || len(got) != 1 || s.queries.Load() == n {
		t.Errorf("after they came back: %v, %v", got, err)
	}
	s.twisted(func(dns.ResponseWriter, *dns.Msg, *dns.Msg) *dns.Msg { return nil })
	c.advance(25 * time.Hour)
	if _, err := lookup("example.com"); !errors.Is(err, resolve.ErrServer) {
		t.Errorf("an answer of yesterday is still used: %v", err)
	}
}

// Those who ask for one name at one time share one question; one of them who
// gives up does not take it from the others.
func TestSingleFlight(t *testing.T) {
	s := startServer(t, zone)
	release := make(chan struct{})
	s.twisted(func(_ dns.ResponseWriter, _, m *dns.Msg) *dns.Msg { <-release; return m })
	r := resolve.New(resolve.Config{Servers: []string{s.addr}, Timeout: 10 * time.Second, NoIPv6: true})
	first, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	lookup := func(ctx context.Context, want error) {
		wg.Go(func() {
			got, err := r.Lookup(ctx, "one.example.com", 5060, resolve.UDP, 1)
			if !errors.Is(err, want) || want == nil && len(got) != 1 {
				t.Errorf("%v, %v; want the error %v", got, err, want)
			}
		})
	}
	lookup(first, context.Canceled)
	for s.queries.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	for range 20 {
		lookup(t.Context(), nil)
	}
	cancel()
	for s.queries.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	if n := s.asked("A one.example.com."); n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
}

func TestDeadlineIsKept(t *testing.T) {
	s := startServer(t, zone)
	s.twisted(func(dns.ResponseWriter, *dns.Msg, *dns.Msg) *dns.Msg { return nil })
	r := resolve.New(resolve.Config{Servers: []string{s.addr}, Timeout: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := r.Lookup(ctx, "one.example.com", 0, resolve.UDP, 1); err == nil || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestResolvConfIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	c := newClock()
	r := resolve.New(resolve.Config{ResolvConf: path, Now: c.now})
	check := func(what string, want ...string) {
		t.Helper()
		if got := r.NameServers(); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	write := func(text string, age time.Duration) {
		t.Helper()
		when := time.Now().Add(-age)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, when, when)); err != nil {
			t.Fatal(err)
		}
	}
	check("without a file", "127.0.0.1:53")
	write("# by DHCP\nsearch example.com\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n", time.Hour)
	check("at once", "127.0.0.1:53")
	c.advance(5 * time.Second)
	check("after a while", "192.0.2.1:53", "[2001:db8::1]:53")
	write("nameserver 192.0.2.2\n", time.Minute)
	c.advance(5 * time.Second)
	check("after a change", "192.0.2.2:53")
	write("# empty\n", 0)
	c.advance(5 * time.Second)
	check("without a server", "127.0.0.1:53")
}

func TestCacheIsCapped(t *testing.T) {
	s := startServer(t, "")
	s.twisted(func(_ dns.ResponseWriter, q, m *dns.Msg) *dns.Msg {
		rr, _ := dns.NewRR(q.Question[0].Name + " 300 IN A 192.0.2.1")
		m.Rcode, m.Answer = dns.RcodeSuccess, []dns.RR{rr}
		return m
	})
	r := resolve.New(resolve.Config{Servers: []string{s.addr}, Cache: 64, NoIPv6: true})
	for i := range 500 {
		if _, err := r.Lookup(t.Context(), fmt.Sprintf("h%d.example.com", i), 5060, resolve.UDP, 1); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.CacheSize(); n > 64 || n < 32 {
		t.Errorf("%d names in a cache of 64", n)
	}
}

func TestCachedDoesNotAllocate(t *testing.T) {
	s := startServer(t, zone)
	r := newResolver(newClock(), s)
	if _, err := r.Lookup(t.Context(), "srv.example.com", 0, resolve.UDP, 1); err != nil {
		t.Fatal(err)
	}
	hosts := [][]byte{[]byte("192.0.2.1"), []byte("[2001:db8::1]"), []byte("2001:db8::1"), []byte("SRV.example.com")}
	r.Failed(netip.MustParseAddrPort("192.0.2.1:5061"), time.Now().UnixNano())
	seed := uint64(0)
	for _, host := range hosts {
		if n := testing.AllocsPerRun(100, func() {
			seed++
			if _, ok := r.Cached(host, 0, resolve.UDP, seed); !ok {
				t.Fatal("miss")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", host, n)
		}
	}
}

func BenchmarkCached(b *testing.B) {
	s := startServer(b, zone)
	r := newResolver(newClock(), s)
	if _, err := r.Lookup(b.Context(), "srv.example.com", 0, resolve.UDP, 1); err != nil {
		b.Fatal(err)
	}
	for _, host := range []string{"192.0.2.1", "[2001:db8::1]", "srv.example.com"} {
		b.Run(host, func(b *testing.B) {
			h := []byte(host)
			b.ReportAllocs()
			for seed := uint64(0); b.Loop(); seed++ {
				r.Cached(h, 0, resolve.UDP, seed)
			}
		})
	}
}

func TestTransportNames(t *testing.T) {
	var got []string
	for _, tr := range []resolve.Transport{resolve.Any, resolve.UDP, resolve.TCP, resolve.TLS, 9} {
		got = append(got, tr.String())
	}
	if !slices.Equal(got, []string{"any", "udp", "tcp", "tls", "unknown"}) {
		t.Error(got)
	}
}
