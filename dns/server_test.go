package dns_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"sipward/dns"
	"sipward/policy"
	"sipward/policy/iplist"
)

// TestUpstreamsDown: the client is told in time, and told well again when one is back.
func TestUpstreamsDown(t *testing.T) {
	silent := newUpstream(t, func(*mdns.Msg, bool) [][]byte { return nil })
	closed := newUpstream(t, nil)
	closed.close()
	f := start(t, dns.Config{Settings: dns.Settings{Timeout: 400 * time.Millisecond, ServeStale: time.Hour}}, silent, closed)
	began := time.Now()
	if _, m := f.ask(question("www.example.com.", mdns.TypeA, 0), false); m.Rcode != mdns.RcodeServerFailure {
		t.Errorf("got %v", m)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, u := range f.Stats().Upstreams {
		if u.Up || u.Why == "" || u.Failed == 0 {
			t.Errorf("%+v", u)
		}
	}
	silent.change(says(t, "@ 60 IN A 192.0.2.1"))
	for end := time.Now().Add(4 * time.Second); ; time.Sleep(20 * time.Millisecond) { // before a failure could be stale
		if _, m := f.ask(question("www.example.com.", mdns.TypeA, 0), false); len(m.Answer) == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no answer although the upstream is back")
		}
	}
}

// TestFailover: a second upstream answers when the first is silent, cannot, or is gone, and
// the first is passed over for a while then.
func TestFailover(t *testing.T) {
	for name, first := range map[string]speak{
		"silent":   func(*mdns.Msg, bool) [][]byte { return nil },
		"SERVFAIL": func(q *mdns.Msg, _ bool) [][]byte { m := reply(t, q); m.Rcode = 2; return [][]byte{wire(t, m)} },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newUpstream(t, first), newUpstream(t, says(t, "@ 60 IN A 192.0.2.1"))
			f := start(t, dns.Config{Settings: dns.Settings{Try: 100 * time.Millisecond}}, a, b)
			for i := range 5 {
				if _, m := f.ask(question(fmt.Sprintf("h%d.example.com.", i), mdns.TypeA, 0), false); len(m.Answer) != 1 {
					t.Fatalf("got %v", m)
				}
			}
			asked, _ := a.count()
			if name == "silent" && asked != 1 || name == "SERVFAIL" && asked != 5 {
				t.Errorf("the first was asked %d times", asked)
			}
		})
	}
}

// TestWithoutEDNS: an upstream that knows no EDNS is asked without.
func TestWithoutEDNS(t *testing.T) {
	f := start(t, dns.Config{}, newUpstream(t, func(q *mdns.Msg, tcp bool) [][]byte {
		if q.IsEdns0() != nil {
			m := reply(t, q)
			m.Rcode = mdns.RcodeFormatError
			return [][]byte{wire(t, m)}
		}
		return says(t, "@ 60 IN A 192.0.2.1")(q, tcp)
	}))
	if _, m := f.ask(question("www.example.com.", mdns.TypeA, 0), false); len(m.Answer) != 1 {
		t.Errorf("got %v", m)
	}
}

// TestServeStale: an answer out of date is better than none (RFC 8767), and a client does
// not wait for long.
func TestServeStale(t *testing.T) {
	u := newUpstream(t, says(t, "@ 1 IN A 192.0.2.1"))
	f := start(t, dns.Config{Settings: dns.Settings{ServeStale: time.Hour, Timeout: 20 * time.Second}}, u)
	q := question("www.example.com.", mdns.TypeA, 0)
	f.ask(q, false)
	u.change(func(*mdns.Msg, bool) [][]byte { return nil })
	for end := time.Now().Add(30 * time.Second); f.Stats().Stale == 0; time.Sleep(20 * time.Millisecond) {
		began := time.Now()
		_, m := f.ask(q, false)
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("it took %v", took)
		}
		if len(m.Answer) != 1 || time.Now().After(end) {
			t.Fatalf("got %v", m)
		}
	}
	u.change(says(t, "@ 60 IN A 192.0.2.2"))
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, m := f.ask(q, false); strings.Contains(m.String(), "192.0.2.2") {
			return
		} else if len(m.Answer) != 1 || time.Now().After(end) {
			t.Fatalf("got %v", m)
		}
	}
}

// TestOneQuestionForMany: who asks the same at the same time waits for one answer.
func TestOneQuestionForMany(t *testing.T) {
	release := make(chan struct{})
	free := sync.OnceFunc(func() { close(release) })
	u := newUpstream(t, func(q *mdns.Msg, tcp bool) [][]byte {
		<-release
		return says(t, "@ 60 IN A 192.0.2.1")(q, tcp)
	})
	t.Cleanup(free)
	f := start(t, dns.Config{Settings: dns.Settings{Try: 4 * time.Second}}, u)
	var group sync.WaitGroup
	for i := range 40 {
		group.Go(func() {
			if _, m := f.ask(question("www.example.com.", mdns.TypeA, 0), i%4 == 0); len(m.Answer) != 1 {
				t.Errorf("got %v", m)
			}
		})
	}
	for end := time.Now().Add(30 * time.Second); f.Stats().Misses < 40; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the questions do not arrive")
		}
	}
	free()
	group.Wait()
	if n, _ := u.count(); n != 1 {
		t.Errorf("the upstream was asked %d times", n)
	}
}

// TestFloodOfNames: random names fill neither the memory nor the places.
func TestFloodOfNames(t *testing.T) {
	u := newUpstream(t, says(t, "@ 3600 IN A 192.0.2.1"))
	f := start(t, dns.Config{CacheEntries: 512, CacheBytes: 1 << 20, MaxInFlight: 64}, u)
	const each, group = 4000, 4
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	most := 0
	var wait sync.WaitGroup
	for g := range group {
		wait.Go(func() {
			c := f.dial(false)
			defer c.Close()
			buf := make([]byte, 2048)
			for i := range each {
				f.send(c, question(fmt.Sprintf("%x.g%d.example.com.", i*2654435761, g), mdns.TypeA, 0), false)
				if i%50 == 49 { // read what is there, and see how full it is
					c.SetReadDeadline(time.Now().Add(time.Millisecond))
					for {
						if _, err := c.Read(buf); err != nil {
							break
						}
					}
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wait.Wait(); close(done) }()
	for busy := true; busy; {
		select {
		case <-done:
			busy = false
		default:
			most = max(most, runtime.NumGoroutine()-goroutines)
			runtime.Gosched()
		}
	}
	for end := time.Now().Add(30 * time.Second); f.Stats().InFlight > 0 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	st := f.Stats()
	if st.Entries > 512 || st.Bytes > 1<<20 {
		t.Errorf("%d answers, %d bytes in the cache", st.Entries, st.Bytes)
	}
	if most > 2*64 { // a flight may end while the next one begins
		t.Errorf("%d goroutines more than before", most)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 6<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	t.Logf("%d questions: %d answers and %d bytes in the cache, %d goroutines more at most", st.Hits+st.Misses, st.Entries, st.Bytes, most)
}

// TestCacheBytes: the cap of bytes holds where answers are large.
func TestCacheBytes(t *testing.T) {
	text := "@ 3600 IN TXT"
	for range 8 {
		text += fmt.Sprintf(" %q", strings.Repeat("x", 255))
	}
	f := start(t, dns.Config{CacheEntries: 10_000, CacheBytes: 1 << 20}, newUpstream(t, says(t, text)))
	for i := range 800 {
		f.ask(question(fmt.Sprintf("h%d.example.com.", i), mdns.TypeTXT, 0), true)
	}
	if st := f.Stats(); st.Bytes > 1<<20 || st.Entries < 150 || st.Entries > 512 {
		t.Errorf("%d answers, %d bytes", st.Entries, st.Bytes)
	}
}

// TestPipeline: many questions on one connection, more than may wait at a time.
func TestPipeline(t *testing.T) {
	f := start(t, dns.Config{}, newUpstream(t, says(t, "@ 60 IN A 192.0.2.1")))
	c := f.dial(true)
	defer c.Close()
	const n = 200
	go func() {
		for i := range n {
			q := question(fmt.Sprintf("h%d.example.com.", i), mdns.TypeA, 0)
			q.Id = uint16(i)
			b, _ := q.Pack()
			c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
		}
	}()
	seen := map[uint16]bool{}
	for range n {
		_, m := f.receive(c, nil, true)
		if len(m.Answer) != 1 || seen[m.Id] || m.Question[0].Name != fmt.Sprintf("h%d.example.com.", m.Id) {
			t.Fatalf("got %v", m)
		}
		seen[m.Id] = true
	}
}

// TestConnectionCaps: one source cannot have all connections, and slow ones end.
func TestConnectionCaps(t *testing.T) {
	f := start(t, dns.Config{MaxPerSource: 3, IdleTimeout: 300 * time.Millisecond}, newUpstream(t, says(t, "@ 60 IN A 192.0.2.1")))
	var open []net.Conn
	for range 3 {
		c := f.dial(true)
		defer c.Close()
		q := question("www.example.com.", mdns.TypeA, 0)
		f.send(c, q, true)
		f.receive(c, q, true)
		open = append(open, c)
	}
	c := f.dial(true)
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a fourth connection is served")
	}
	if f.reasons()["connection-cap"] != 1 {
		t.Errorf("reasons %v", f.reasons())
	}
	for _, c := range open {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("something comes over an idle connection")
		}
	}
	for end := time.Now().Add(30 * time.Second); f.Stats().Connections > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("idle connections are not closed")
		}
	}
}

// TestStop: Run ends at once while questions wait, and leaves nothing behind (TestMain).
func TestStop(t *testing.T) {
	u := newUpstream(t, func(*mdns.Msg, bool) [][]byte { return nil })
	f := start(t, dns.Config{Settings: dns.Settings{Timeout: 20 * time.Second}}, u)
	udp, tcp := f.dial(false), f.dial(true)
	defer udp.Close()
	defer tcp.Close()
	f.send(udp, question("a.example.com.", mdns.TypeA, 0), false)
	f.send(tcp, question("b.example.com.", mdns.TypeA, 0), true)
	for end := time.Now().Add(30 * time.Second); f.Stats().InFlight < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the questions do not arrive")
		}
	}
	began := time.Now()
	f.stop()
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestStrangers: who may not ask is not answered, and at most told so.
func TestStrangers(t *testing.T) {
	nobody := iplist.New([]iplist.Entry{{Prefix: netip.MustParsePrefix("192.0.2.0/24")}})
	u := newUpstream(t, says(t, "@ 60 IN A 192.0.2.1"))
	silence := func(f *front, q *mdns.Msg) {
		t.Helper()
		c := f.dial(false)
		defer c.Close()
		f.send(c, q, false)
		c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, err := c.Read(make([]byte, 512)); err == nil {
			t.Errorf("an answer of %d bytes", n)
		}
	}
	q := question("www.example.com.", mdns.TypeA, 0)
	f := start(t, dns.Config{Engine: newEngine(policy.DNS{Clients: nobody, Strangers: policy.Action{Kind: policy.ActionDrop}})}, u)
	silence(f, q)
	c := f.dial(true)
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a stranger's connection is served")
	}
	f = start(t, dns.Config{Engine: newEngine(policy.DNS{Clients: nobody, Strangers: policy.Action{Kind: policy.ActionReject}})}, u)
	for range 5 {
		if _, m := f.ask(q, false); m.Rcode != mdns.RcodeRefused || len(m.Answer) != 0 {
			t.Errorf("got %v", m)
		}
	}
	silence(f, q) // nobody is told more often than that
	if n, _ := u.count(); n != 0 || f.reasons()["dns-stranger"] != 6 {
		t.Errorf("the upstream was asked %d times; %v", n, f.reasons())
	}
}

func TestRate(t *testing.T) {
	f := start(t, dns.Config{Engine: newEngine(policy.DNS{Rate: 1, Burst: 10, Action: policy.Action{Kind: policy.ActionReject}})},
		newUpstream(t, says(t, "@ 60 IN A 192.0.2.1")))
	var codes [6]int
	for range 20 {
		_, m := f.ask(question("www.example.com.", mdns.TypeA, 0), false)
		codes[m.Rcode]++
	}
	if codes[0] < 10 || codes[0] > 12 || codes[0]+codes[mdns.RcodeRefused] != 20 {
		t.Errorf("rcodes %v", codes)
	}
	x := f.engine.Explain(netip.MustParseAddr("127.0.0.1"), time.Now().UnixNano())
	if len(x.Counts) != 1 || x.Counts[0].Guard != "dns-limit" || x.Counts[0].Count != codes[mdns.RcodeRefused] {
		t.Errorf("explained as %+v", x.Counts)
	}
}

// TestTLS: an upstream over TLS, whose certificate is for its name.
func TestTLS(t *testing.T) {
	cert, pool := certificate(t, "dns.example.com")
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	var dials atomic.Int32
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			dials.Add(1)
			group.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(20 * time.Second))
				for {
					b, err := readTCP(c)
					if err != nil {
						return
					}
					var q mdns.Msg
					if q.Unpack(b) != nil {
						return
					}
					m := says(t, "@ 60 IN A 192.0.2.1")(&q, true)[0]
					c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...))
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); group.Wait() })
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	f := start(t, dns.Config{RootCAs: pool, Settings: dns.Settings{Upstreams: []dns.Upstream{{addr, policy.TLS, "dns.example.com"}}}})
	for i := range 10 {
		if _, m := f.ask(question(fmt.Sprintf("h%d.example.com.", i), mdns.TypeA, 0), false); len(m.Answer) != 1 {
			t.Errorf("got %v", m)
		}
	}
	f.stop()
	if dials.Load() != 1 {
		t.Errorf("%d connections for ten questions", dials.Load())
	}
	f = start(t, dns.Config{RootCAs: pool, Settings: dns.Settings{Timeout: time.Second, Upstreams: []dns.Upstream{{addr, policy.TLS, "other.example.com"}}}})
	if _, m := f.ask(question("www.example.com.", mdns.TypeA, 0), false); m.Rcode != mdns.RcodeServerFailure {
		t.Errorf("with a certificate for another name: %v", m)
	}
	if why := f.Stats().Upstreams[0].Why; !strings.Contains(why, "certificate") {
		t.Errorf("down because %q", why)
	}
}

func certificate(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
