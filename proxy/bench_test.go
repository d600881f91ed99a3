package proxy

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"

	"sipward/policy"
	"sipward/policy/iplist"
	"sipward/policy/scanner"
	"sipward/proxy/flow"
	"sipward/proxy/netio"
	"sipward/proxy/upstream"
	"sipward/proxy/upstream/resolve"
	"sipward/sip/siptest"
)

var (
	benchPhone = netip.MustParseAddrPort("192.0.2.10:5060")
	benchPBX   = netip.MustParseAddrPort("203.0.113.2:5060")
)

// benchPath is the whole packet path, from the datagram to the datagram, with every
// guard on and no socket.
func benchPath(tb testing.TB) *path {
	tb.Helper()
	return newPath(tb, nil)
}

// newPath is a path in proxy mode, or in transparent mode.
func newPath(tb testing.TB, transparent *Transparent) *path {
	tb.Helper()
	pool, err := upstream.New(upstream.Config{PBXes: []upstream.Target{{Address: benchPBX, Weight: 1}}, Interval: -1})
	if err != nil {
		tb.Fatal(err)
	}
	s, err := New(Config{
		Outside: []Listener{{Addr: netip.MustParseAddrPort("127.0.0.1:0")}},
		Inside:  []Listener{{Addr: netip.MustParseAddrPort("127.0.0.2:0")}},
		UDP:     netio.UDPConfig{Workers: 1}, Transparent: transparent,
		Settings: Settings{
			Trunks: iplist.New(nil), Shield: true,
		},
		Key: flow.RandomKey(), Pool: pool, Resolver: resolve.New(resolve.Config{}),
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Engine: policy.New(policy.Config{
			Register:    policy.Register{HitCount: 10},
			Invite:      policy.Invite{RateLimit: 30},
			Scanner:     policy.Scanner{Set: scanner.Default()},
			Enumeration: policy.Enumeration{Accounts: 15},
			Malformed:   policy.Malformed{Threshold: 20},
			Flood:       policy.Flood{Rate: 1e9, Burst: 1e9},
			Uniform:     true,
		}),
	})
	if errors.Is(err, os.ErrPermission) {
		tb.Skip("needs root: ", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	p := &path{s: s}
	p.out = netio.NewOutput(len(s.eps.udp), 64, func(_ int, msgs []netio.Datagram) {
		if p.last = p.last[:0]; len(msgs) > 0 {
			p.to = msgs[len(msgs)-1]
			p.last = append(p.last, p.to.Data...)
		}
	})
	for l := range s.eps.udp {
		p.handlers = append(p.handlers, s.newWorker(l, 0, p.out))
	}
	return p
}

// A path is a server's UDP handlers with what they send going nowhere.
type path struct {
	s        *Server
	handlers []netio.DatagramHandler
	out      *netio.Output
	last     []byte         // the message sent last
	to       netio.Datagram // without its Data
}

func (p *path) run(listener int, pkts ...netio.Packet) {
	p.handlers[listener].Datagrams(pkts)
	p.out.Flush()
}

// TestPathAllocs: with every guard on, a request and its response allocate nothing.
func TestPathAllocs(t *testing.T) {
	net := benchPath(t)
	request, response := registration(t, net)
	in, out := []netio.Packet{{Data: request, Src: benchPhone}}, []netio.Packet{{Data: response, Src: benchPBX}}
	if n := testing.AllocsPerRun(1000, func() {
		net.run(0, in...)
		net.run(1, out...)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// registration is a REGISTER with credentials and the PBX's 200 to it.
func registration(tb testing.TB, net *path) (request, response []byte) {
	tb.Helper()
	request = siptest.Register(siptest.Options{Via: benchPhone.String(), Auth: siptest.Auth("alice", "example.com", "f84f1cec41e6cbe5aea9c8e88d359", "sip:example.com")})
	return request, answered(tb, net, request)
}

// answered sends a REGISTER and returns the PBX's 200 to it.
func answered(tb testing.TB, net *path, request []byte) (response []byte) {
	tb.Helper()
	net.last = net.last[:0]
	net.run(0, netio.Packet{Data: request, Src: benchPhone})
	if len(net.last) == 0 {
		tb.Fatal("the REGISTER was not forwarded")
	}
	var b strings.Builder
	b.WriteString("SIP/2.0 200 OK\r\n")
	for line := range strings.SplitSeq(string(net.last), "\r\n") {
		for _, keep := range []string{"Via:", "From:", "To:", "Call-ID:", "CSeq:", "Contact:"} {
			if strings.HasPrefix(line, keep) {
				b.WriteString(line + "\r\n")
			}
		}
	}
	b.WriteString("Expires: 3600\r\nContent-Length: 0\r\n\r\n")
	return []byte(b.String())
}

// BenchmarkRequest: scan, decide, edit and queue a REGISTER. Budget: 2.5 µs, no
// allocation.
func BenchmarkRequest(b *testing.B) {
	net := benchPath(b)
	request, _ := registration(b, net)
	bench(b, net, 0, netio.Packet{Data: request, Src: benchPhone})
}

// BenchmarkResponse: the same for the PBX's answer.
func BenchmarkResponse(b *testing.B) {
	net := benchPath(b)
	_, response := registration(b, net)
	bench(b, net, 1, netio.Packet{Data: response, Src: benchPBX})
}

// BenchmarkTransaction: REGISTERs of many accounts, and the PBX's answers to them.
// Budget: 2.2 µs for each message, no allocation.
func BenchmarkTransaction(b *testing.B) {
	const batch = 64
	net := benchPath(b)
	requests, responses := make([]netio.Packet, batch), make([]netio.Packet, batch)
	for i := range batch {
		request := siptest.Register(siptest.Options{
			Via: benchPhone.String(), User: fmt.Sprintf("u%04x", i), CallID: fmt.Sprintf("%032x", 7919*i), Branch: fmt.Sprintf("z9hG4bK%016x", 7919*i),
		})
		requests[i] = netio.Packet{Data: request, Src: benchPhone}
		responses[i] = netio.Packet{Data: answered(b, net, request), Src: benchPBX}
	}
	b.ReportAllocs()
	for b.Loop() {
		net.run(0, requests...)
		net.run(1, responses...)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*2*batch), "ns/message")
}

// BenchmarkInvite: an INVITE with SDP and Record-Route.
func BenchmarkInvite(b *testing.B) {
	net := benchPath(b)
	bench(b, net, 0, netio.Packet{Data: siptest.Invite(siptest.Options{Via: benchPhone.String()}), Src: benchPhone})
}

func bench(b *testing.B, net *path, listener int, p netio.Packet) {
	const batch = 64
	pkts := make([]netio.Packet, batch)
	for i := range pkts {
		pkts[i] = p
	}
	b.ReportAllocs()
	for b.Loop() {
		net.run(listener, pkts...)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/message")
}
