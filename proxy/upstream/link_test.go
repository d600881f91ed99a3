package upstream_test

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"sipward/policy"
	"sipward/proxy/certs/certstest"
	"sipward/proxy/upstream"
)

func TestLinks(t *testing.T) {
	addr := netip.MustParseAddrPort("10.0.0.1:5060")
	secure := &tls.Config{ServerName: "pbx.example.com"}
	at := func(transport policy.Transport, port uint16) string {
		return transport.String() + "://" + netip.AddrPortFrom(addr.Addr(), port).String()
	}
	for name, tt := range map[string]struct {
		target           upstream.Target
		reliable, others string
	}{
		"nothing said": {upstream.Target{}, at(policy.TCP, 5060), at(policy.UDP, 5060)},
		"both":         {upstream.Target{UDP: true, TCP: true}, at(policy.TCP, 5060), at(policy.UDP, 5060)},
		"udp":          {upstream.Target{UDP: true}, at(policy.UDP, 5060), at(policy.UDP, 5060)},
		"tcp":          {upstream.Target{TCP: true}, at(policy.TCP, 5060), ""},
		"udp, tls":     {upstream.Target{UDP: true, TLS: secure}, at(policy.TLS, 5061), at(policy.UDP, 5060)},
		"all":          {upstream.Target{UDP: true, TCP: true, TLS: secure, TLSPort: 5071}, at(policy.TLS, 5071), at(policy.UDP, 5060)},
		"tls":          {upstream.Target{TLS: secure}, at(policy.TLS, 5061), ""},
	} {
		t.Run(name, func(t *testing.T) {
			tt.target.Address = addr
			p := newPool(t, upstream.Config{PBXes: []upstream.Target{tt.target}})
			for reliable, want := range map[bool]string{true: tt.reliable, false: tt.others} {
				got := ""
				if l := p.ByAddrPort(addr).Link(reliable); l != nil {
					got = l.Transport.String() + "://" + l.Addr.String()
				}
				if got != want {
					t.Errorf("reliable %v: %q, want %q", reliable, got, want)
				}
			}
			tlsAddr := netip.AddrPortFrom(addr.Addr(), max(tt.target.TLSPort, upstream.DefaultTLSPort))
			if found := p.ByAddrPort(tlsAddr) != nil; found != (tt.target.TLS != nil) {
				t.Errorf("it is found by its TLS port: %v", found)
			}
		})
	}
}

// TestTLSName: a certificate is for the PBX's address if the configuration has no name.
func TestTLSName(t *testing.T) {
	addr := netip.MustParseAddrPort("[2001:db8::1]:5060")
	given := &tls.Config{}
	p := newPool(t, upstream.Config{PBXes: []upstream.Target{{Address: addr, TLS: given}}})
	if got := p.ByAddrPort(addr).Link(true).TLS.ServerName; got != "2001:db8::1" || given.ServerName != "" {
		t.Errorf("it is %q, and %q in what was given", got, given.ServerName)
	}
}

// TestPickByTransport: datagrams go to PBXes that speak UDP only, and a reload may change that.
func TestPickByTransport(t *testing.T) {
	list := targets(1, 1)
	list[0].TCP = true
	p := newPool(t, upstream.Config{PBXes: list})
	streams := map[*upstream.PBX]bool{}
	for i := range 100 {
		if got := p.Pick(account(i)); got.Addr() != list[1].Address {
			t.Fatalf("a datagram goes to %v", got.Addr())
		}
		streams[p.PickStream(account(i))] = true
	}
	if len(streams) != 2 {
		t.Error("connections go to one PBX only")
	}
	only := upstream.Config{PBXes: list[:1]}
	if err := p.Reload(only); err != nil {
		t.Fatal(err)
	}
	if p.Pick(account(1)) != nil || p.PickStream(account(1)) == nil {
		t.Error("the only PBX speaks TCP alone")
	}
	only.PBXes[0].UDP = true
	if err := p.Reload(only); err != nil {
		t.Fatal(err)
	}
	if p.Pick(account(1)) == nil {
		t.Error("the only PBX has got UDP")
	}
}

// TestTLSProbe: a PBX with TLS alone is well when its certificate is; else the reason says why.
func TestTLSProbe(t *testing.T) {
	authority := certstest.NewAuthority(t, "authority")
	cert := authority.Issue(t, certstest.Options{DNS: []string{"pbx.example.com"}}).TLS
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	var shaken atomic.Int64
	wait := acceptAll(l, func(c net.Conn) {
		if c.(*tls.Conn).Handshake() == nil {
			shaken.Add(1)
		}
	})
	t.Cleanup(func() { l.Close(); wait() })
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	addr := netip.MustParseAddrPort("127.0.0.1:5060") // nobody is asked there
	cfg := quick(addr)
	cfg.PBXes[0].TLSPort = port
	cfg.PBXes[0].TLS = &tls.Config{RootCAs: authority.Pool(), ServerName: "pbx.example.com"}
	p := run(t, cfg)
	eventually(t, "handshakes", func() bool { return shaken.Load() >= 3 })
	if s := p.State()[0]; !s.Up || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
	cfg.PBXes[0].TLS = &tls.Config{RootCAs: authority.Pool(), ServerName: "other.example.com"}
	if err := p.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "down", upIs(p, addr, false))
	if s := p.State()[0]; !strings.Contains(s.LastErr, "certificate is valid for pbx.example.com, not other.example.com") {
		t.Errorf("the reason: %s", s.LastErr)
	}
}
