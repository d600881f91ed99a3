package proxy_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sipward/policy"
	"sipward/policy/event"
	"sipward/policy/iplist"
	"sipward/proxy"
	"sipward/proxy/certs/certstest"
	"sipward/proxy/flow"
	"sipward/proxy/netio"
	"sipward/proxy/upstream"
	"sipward/proxy/upstream/resolve"
	"sipward/sip"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A rig is a real Server on loopback sockets:
//
//	phones 127.0.1.x ── 127.0.0.1 sipward 127.0.0.2 ── 127.0.0.3 the test as PBX
type rig struct {
	tb      testing.TB
	pbx     *peer
	pbxTCP  *net.TCPListener
	engine  *policy.Engine
	pool    *upstream.Pool
	server  *proxy.Server
	outside netip.AddrPort // UDP
	inside  netip.AddrPort
	tcp     netip.AddrPort // outside
	tcpIn   netip.AddrPort
	stop    func()
	options rigOptions
	// authority vouches for everybody's certificates.
	authority *certstest.Authority
}

type rigOptions struct {
	key    *flow.Key
	path   bool
	trunks []string
	shared bool                 // no inside listeners
	old    *rig                 // a rig to replace: same addresses, same PBX, same key
	policy func(*policy.Config) // changes what the engine goes by
	shield bool                 // drops challenges that are not a trunk's on their way to the PBX
	// advertise is what phones are told of the outside listener for UDP.
	advertise string
	// events shows what is decided.
	events *event.Bus
	// nameServer knows the trunks' names; "": nobody answers.
	nameServer string
	// more are transports of further listeners, outside and inside.
	more, moreInside []policy.Transport
	// pbx is what the PBX speaks; with TLS all its connections are for that.
	pbx upstream.Target
	log io.Writer
	// trunkTLS has trunks spoken to over TLS; carrier is the name in the certificate of one.
	trunkTLS bool
	carrier  string
}

// patience is how long a test waits for what must come, on a machine that is busy.
const patience = 30 * time.Second

func newRig(tb testing.TB, o rigOptions) *rig {
	tb.Helper()
	if o.key == nil {
		o.key = flow.RandomKey()
	}
	r := &rig{tb: tb, options: o, authority: certstest.NewAuthority(tb, "authority")}
	if o.old != nil {
		r.authority = o.old.authority
	}
	out, in := netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort("127.0.0.2:0")
	outTCP, inTCP := out, in
	if o.old != nil {
		r.pbx, r.pbxTCP = o.old.pbx, o.old.pbxTCP
		out, in, outTCP, inTCP = o.old.outside, o.old.inside, o.old.tcp, o.old.tcpIn
	} else {
		r.pbx = newPeer(tb, "127.0.0.3")
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(r.pbx.addr))
		for range 50 { // the port may be free for UDP alone
			if err == nil {
				break
			}
			r.pbx = newPeer(tb, "127.0.0.3")
			l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(r.pbx.addr))
		}
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { l.Close() })
		r.pbxTCP = l
	}
	var trunks []iplist.Entry
	for _, t := range o.trunks {
		trunks = append(trunks, iplist.Entry{Prefix: netip.MustParsePrefix(t)})
	}
	set := iplist.New(trunks)
	rules := policy.Config{Trunks: set, Workers: 3, Flood: policy.Flood{Rate: 1e6, Burst: 1e6}, Malformed: policy.Malformed{Threshold: 20, Period: time.Minute}}
	if o.policy != nil {
		o.policy(&rules)
	}
	r.engine = policy.New(rules)
	var err error
	log := slog.New(slog.NewTextHandler(cmp.Or[io.Writer](o.log, io.Discard), nil))
	target := o.pbx
	target.Address, target.Weight = r.pbx.addr, 1
	if target.TLS != nil {
		target.TLS = target.TLS.Clone()
		target.TLS.RootCAs, target.TLSPort = r.authority.Pool(), r.pbx.addr.Port()
	}
	r.pool, err = upstream.New(upstream.Config{PBXes: []upstream.Target{target}, Interval: -1, Logger: log})
	if err != nil {
		tb.Fatal(err)
	}
	resolver := resolve.New(resolve.Config{Servers: []string{cmp.Or(o.nameServer, "127.0.0.1:9")}}) // port 9: nobody answers
	cfg := proxy.Config{
		Outside:  []proxy.Listener{{Transport: policy.UDP, Addr: out, Advertise: o.advertise}, {Transport: policy.TCP, Addr: outTCP}},
		Inside:   []proxy.Listener{{Transport: policy.UDP, Addr: in}, {Transport: policy.TCP, Addr: inTCP}},
		UDP:      netio.UDPConfig{Workers: 1},
		Settings: proxy.Settings{Path: o.path, Trunks: set, Shield: o.shield},
		Events:   o.events,
		Key:      o.key, Engine: r.engine, Pool: r.pool, Resolver: resolver,
		DTLS: netio.DTLSConfig{TLS: r.certificate("edge.example.com")},
		Log:  log,
	}
	if o.trunkTLS {
		cfg.TrunkTLS = func(host string) *tls.Config { return &tls.Config{RootCAs: r.authority.Pool(), ServerName: host} }
	}
	if o.carrier != "" {
		cfg.Settings.Certified = func(c *tls.ConnectionState) bool {
			return len(c.PeerCertificates) > 0 && c.PeerCertificates[0].VerifyHostname(o.carrier) == nil
		}
	}
	for _, transport := range o.more {
		cfg.Outside = append(cfg.Outside, r.listener(transport, "127.0.0.1"))
	}
	for _, transport := range o.moreInside {
		cfg.Inside = append(cfg.Inside, r.listener(transport, "127.0.0.2"))
	}
	if o.shared {
		cfg.Inside = nil
	}
	if r.server, err = proxy.New(cfg); err != nil {
		tb.Fatal(err)
	}
	r.outside = r.server.Addrs(flow.Outside, policy.UDP)[0]
	r.inside = r.server.Addrs(flow.Inside, policy.UDP)[0]
	r.tcp = r.server.Addrs(flow.Outside, policy.TCP)[0]
	r.tcpIn = r.server.Addrs(flow.Inside, policy.TCP)[0]
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.server.Run(ctx) }()
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			tb.Error("Run:", err)
		}
	}
	tb.Cleanup(r.stop)
	return r
}

// listener is one on any port of an address.
func (r *rig) listener(transport policy.Transport, addr string) proxy.Listener {
	l := proxy.Listener{Transport: transport, Addr: netip.AddrPortFrom(netip.MustParseAddr(addr), 0)}
	if transport == policy.TLS || transport == policy.WSS {
		l.TLS = r.certificate("edge.example.com")
	}
	return l
}

// certificate is the configuration of a server with that name.
func (r *rig) certificate(name string) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{r.authority.Issue(r.tb, certstest.Options{DNS: []string{name}}).TLS},
		ClientAuth:   tls.RequestClientCert,
	}
}

// at is where sipward listens, outside or inside.
func (r *rig) at(side flow.Side, transport policy.Transport) netip.AddrPort {
	r.tb.Helper()
	all := r.server.Addrs(side, transport)
	if len(all) == 0 {
		r.tb.Fatalf("sipward does not listen on %v", transport)
	}
	return all[0]
}

// restart replaces the server by a new one on the same addresses with the same key.
func (r *rig) restart() *rig {
	r.tb.Helper()
	r.stop()
	o := r.options
	o.old = r
	return newRig(r.tb, o)
}

// count returns how many messages ended for a reason.
func (r *rig) count(reason policy.Reason) uint64 { return r.engine.Counters().Snapshot()[reason] }

// expectCount waits until a reason has been counted n times.
func (r *rig) expectCount(reason policy.Reason, n uint64) {
	r.tb.Helper()
	for end := time.Now().Add(patience); r.count(reason) < n; {
		if time.Now().After(end) {
			r.tb.Fatalf("%s counted %d times, want %d", reason, r.count(reason), n)
		}
		time.Sleep(time.Millisecond)
	}
	if got := r.count(reason); got != n {
		r.tb.Fatalf("%s counted %d times, want %d", reason, got, n)
	}
}

// expectClosed waits until the server has no connection any more.
func (r *rig) expectClosed() {
	r.tb.Helper()
	for end := time.Now().Add(patience); r.server.Stats().TCP.Open > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.tb.Fatal("a connection is still open")
		}
	}
}

// A peer is a UDP socket of a phone, a trunk or a PBX.
type peer struct {
	tb   testing.TB
	conn *net.UDPConn
	addr netip.AddrPort
}

func newPeer(tb testing.TB, host string) *peer {
	tb.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return &peer{tb: tb, conn: c, addr: c.LocalAddr().(*net.UDPAddr).AddrPort()}
}

func (p *peer) send(to netip.AddrPort, b []byte) {
	p.tb.Helper()
	if _, err := p.conn.WriteToUDPAddrPort(b, to); err != nil {
		p.tb.Fatal(err)
	}
}

// receive waits for a message and scans it.
func (p *peer) receive() (*sip.Message, netip.AddrPort) {
	p.tb.Helper()
	buf := make([]byte, 65535)
	p.conn.SetReadDeadline(time.Now().Add(patience))
	n, from, err := p.conn.ReadFromUDPAddrPort(buf)
	if err != nil {
		p.tb.Fatalf("%s receives nothing: %v", p.addr, err)
	}
	return scan(p.tb, buf[:n]), netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

// silent checks that nothing has arrived. It follows an exchange that came later,
// so it need not wait for long.
func (p *peer) silent() {
	p.tb.Helper()
	buf := make([]byte, 65535)
	p.conn.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	if n, from, err := p.conn.ReadFromUDPAddrPort(buf); err == nil {
		p.tb.Fatalf("%s received from %s:\n%s", p.addr, from, buf[:n])
	}
}

func scan(tb testing.TB, b []byte) *sip.Message {
	tb.Helper()
	m := new(sip.Message)
	if fault := m.Parse(b, false); fault != 0 {
		tb.Fatalf("%v in:\n%s", fault, b)
	}
	return m
}

// value returns the i-th value of a header, "" if there are fewer.
func value(m *sip.Message, id sip.HeaderID, i int) string {
	it := m.Values(id)
	for it.Next() {
		if i == 0 {
			return string(it.Value.Of(m.Buf))
		}
		i--
	}
	return ""
}

// values returns all values of a header.
func values(m *sip.Message, id sip.HeaderID) (all []string) {
	it := m.Values(id)
	for it.Next() {
		all = append(all, string(it.Value.Of(m.Buf)))
	}
	return all
}

// respond builds the response to a request as a UAS would: Via, From, To, Call-ID,
// CSeq and Record-Route copied, a tag added.
func respond(m *sip.Message, status string, headers ...string) []byte {
	var b strings.Builder
	b.WriteString("SIP/2.0 " + status + "\r\n")
	for _, h := range m.Headers {
		switch h.ID {
		case sip.HeaderVia, sip.HeaderRecordRoute, sip.HeaderFrom, sip.HeaderCallID, sip.HeaderCSeq:
			b.Write(h.Line.Of(m.Buf))
		case sip.HeaderTo:
			b.WriteString("To: " + string(h.Value.Of(m.Buf)))
			if m.To.Tag.Empty() && !strings.HasPrefix(status, "100") {
				b.WriteString(";tag=uas")
			}
			b.WriteString("\r\n")
		}
	}
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	b.WriteString("Content-Length: 0\r\n\r\n")
	return []byte(b.String())
}

func uri(m *sip.Message) string { return string(m.RequestURI.Of(m.Buf)) }

// proxyWith tries to make a Server with one listener.
func proxyWith(r *rig, l proxy.Listener) error {
	s, err := proxy.New(proxy.Config{
		Outside: []proxy.Listener{l}, UDP: netio.UDPConfig{Workers: 1}, Key: flow.RandomKey(), Engine: r.engine, Pool: r.pool,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err == nil {
		s.Close()
	}
	return err
}
