package dns_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"go.uber.org/goleak"

	"sipward/dns"
	"sipward/policy"
	"sipward/policy/event"
	"sipward/policy/iplist"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// speak is what an upstream says to a question: any number of messages, as they are.
type speak func(q *mdns.Msg, tcp bool) [][]byte

// upstream is a resolver that says what a test wants.
type upstream struct {
	addr netip.AddrPort
	udp  *net.UDPConn
	tcp  *net.TCPListener

	mu      sync.Mutex
	asked   int
	overTCP int
	speak   speak
	group   sync.WaitGroup
	// before is called with a question over UDP before it is answered; nil: nothing is.
	before func(q *mdns.Msg, from netip.AddrPort)
}

func newUpstream(t testing.TB, f speak) *upstream {
	t.Helper()
	u := &upstream{speak: f}
	for { // a port that both have
		tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		u.addr = tcp.Addr().(*net.TCPAddr).AddrPort()
		if u.udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(u.addr)); err == nil {
			u.tcp = tcp
			break
		}
		tcp.Close()
	}
	u.group.Go(u.serveUDP)
	u.group.Go(u.serveTCP)
	t.Cleanup(u.close)
	return u
}

func (u *upstream) close() { u.udp.Close(); u.tcp.Close(); u.group.Wait() }

func (u *upstream) say(b []byte, tcp bool) [][]byte {
	var q mdns.Msg
	if q.Unpack(b) != nil {
		return nil
	}
	u.mu.Lock()
	u.asked++
	if tcp {
		u.overTCP++
	}
	f := u.speak
	u.mu.Unlock()
	return f(&q, tcp)
}

func (u *upstream) count() (asked, overTCP int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.asked, u.overTCP
}

func (u *upstream) change(f speak) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.speak = f
}

func (u *upstream) serveUDP() {
	buf := make([]byte, 65536)
	for {
		n, from, err := u.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		var q mdns.Msg
		u.mu.Lock()
		before := u.before
		u.mu.Unlock()
		if before != nil && q.Unpack(buf[:n]) == nil {
			before(&q, from)
		}
		for _, m := range u.say(buf[:n], false) {
			u.udp.WriteToUDPAddrPort(m, from)
		}
	}
}

func (u *upstream) serveTCP() {
	for {
		c, err := u.tcp.Accept()
		if err != nil {
			return
		}
		u.group.Go(func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(20 * time.Second))
			for {
				b, err := readTCP(c)
				if err != nil {
					return
				}
				for _, m := range u.say(b, true) {
					c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...))
				}
			}
		})
	}
}

func readTCP(c io.Reader) ([]byte, error) {
	var n [2]byte
	if _, err := io.ReadFull(c, n[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(n[:]))
	_, err := io.ReadFull(c, b)
	return b, err
}

// front is a server under test.
type front struct {
	*dns.Server
	t        testing.TB
	engine   *policy.Engine
	events   *event.Bus
	udp, tcp netip.AddrPort
	stop     func()
}

var loopback = netip.MustParsePrefix("127.0.0.0/8")

func newEngine(rule policy.DNS) *policy.Engine {
	if rule.Clients == nil {
		rule.Clients = iplist.New([]iplist.Entry{{Prefix: loopback}})
	}
	return policy.New(policy.Config{DNS: rule, Sources: 1024})
}

func start(t testing.TB, cfg dns.Config, ups ...*upstream) *front {
	t.Helper()
	f := &front{t: t, events: new(event.Bus)}
	for _, u := range ups {
		cfg.Upstreams = append(cfg.Upstreams, dns.Upstream{Address: u.addr})
	}
	if cfg.Engine == nil {
		cfg.Engine = newEngine(policy.DNS{Strangers: policy.Action{Kind: policy.ActionDrop}})
	}
	f.engine, cfg.Events = cfg.Engine, f.events
	local := netip.MustParseAddrPort("127.0.0.1:0")
	cfg.Listen = []dns.Listener{{policy.UDP, local}, {policy.TCP, local}}
	if cfg.Timeout == 0 {
		cfg.Timeout = 4 * time.Second
	}
	var err error
	if f.Server, err = dns.New(cfg); err != nil {
		t.Fatal(err)
	}
	udp, tcp := f.Addrs()
	f.udp, f.tcp = udp[0], tcp[0]
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	var once sync.Once
	f.stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(30 * time.Second):
				t.Error("Run does not end")
			}
		})
	}
	t.Cleanup(f.stop)
	return f
}

func question(name string, qtype uint16, edns uint16) *mdns.Msg {
	m := new(mdns.Msg)
	m.SetQuestion(name, qtype)
	if edns > 0 {
		m.SetEdns0(edns, false)
	}
	return m
}

// ask sends a question and returns the answer as it came, and taken apart.
func (f *front) ask(m *mdns.Msg, tcp bool) ([]byte, *mdns.Msg) {
	f.t.Helper()
	c := f.dial(tcp)
	defer c.Close()
	f.send(c, m, tcp)
	return f.receive(c, m, tcp)
}

func (f *front) dial(tcp bool) net.Conn {
	f.t.Helper()
	network, to := "udp", f.udp
	if tcp {
		network, to = "tcp", f.tcp
	}
	c, err := net.Dial(network, to.String())
	if err != nil {
		f.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

func (f *front) send(c net.Conn, m *mdns.Msg, tcp bool) {
	f.t.Helper()
	b, err := m.Pack()
	if err != nil {
		f.t.Fatal(err)
	}
	if tcp {
		b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
	}
	if _, err := c.Write(b); err != nil {
		f.t.Fatal(err)
	}
}

// receive reads an answer and holds it to what is true of all of them. q may be nil.
func (f *front) receive(c net.Conn, q *mdns.Msg, tcp bool) ([]byte, *mdns.Msg) {
	f.t.Helper()
	var b []byte
	var err error
	if tcp {
		b, err = readTCP(c)
	} else {
		b = make([]byte, 65536)
		var n int
		n, err = c.Read(b)
		b = b[:n]
	}
	if err != nil {
		f.t.Fatalf("no answer: %v", err)
	}
	var m mdns.Msg
	if err := m.Unpack(b); err != nil {
		f.t.Fatalf("the answer cannot be read: %v", err)
	}
	if q == nil {
		return b, &m
	}
	limit := 512
	if o := q.IsEdns0(); o != nil {
		limit = min(max(512, int(o.UDPSize())), 1232)
	}
	if tcp {
		limit = 16384
		if t := q.Question[0].Qtype; t == mdns.TypeA || t == mdns.TypeAAAA {
			limit = 1024
		}
	}
	if len(b) > limit {
		f.t.Errorf("an answer of %d bytes, at most %d are allowed", len(b), limit)
	}
	if m.Id != q.Id || !m.Response || m.Question[0] != q.Question[0] || (m.IsEdns0() != nil) != (q.IsEdns0() != nil) {
		f.t.Errorf("the answer is not to the question %v: %v", q, &m)
	}
	return b, &m
}

// reply makes a reply to a question.
func reply(t testing.TB, q *mdns.Msg, records ...string) *mdns.Msg {
	m := new(mdns.Msg)
	m.SetReply(q)
	m.Compress = true
	for _, text := range records {
		rr, err := mdns.NewRR(text)
		if err != nil {
			t.Error(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

func wire(t testing.TB, m *mdns.Msg) []byte {
	b, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return b
}

// says is an upstream that answers everything with these records, and their owner as it was
// asked for where that is @.
func says(t testing.TB, records ...string) speak {
	return func(q *mdns.Msg, _ bool) [][]byte { return [][]byte{wire(t, reply(t, q, owned(q, records)...))} }
}

func owned(q *mdns.Msg, records []string) []string {
	out := make([]string, len(records))
	for i, r := range records {
		out[i] = r
		if r[0] == '@' {
			out[i] = q.Question[0].Name + r[1:]
		}
	}
	return out
}

func (f *front) reasons() map[string]uint64 {
	out := map[string]uint64{}
	for r, n := range f.engine.Counters().Snapshot() {
		if n > 0 {
			out[policy.Reason(r).String()] = n
		}
	}
	return out
}
