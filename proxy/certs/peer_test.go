package certs_test

import (
	"crypto/sha256"
	"crypto/tls"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sipward/proxy/certs"
	"sipward/proxy/certs/certstest"
)

func TestIdentities(t *testing.T) {
	ca := certstest.NewAuthority(t, "CA")
	for _, c := range []struct {
		o    certstest.Options
		want string
	}{
		{certstest.Options{DNS: []string{"Example.COM"}}, "example.com"},
		{certstest.Options{URIs: []string{"sip:example.com"}, DNS: []string{"a.example.com"}}, "example.com"},
		{certstest.Options{URIs: []string{"sip:a.example.com", "SIP:b.example.com;x=y"}}, "a.example.com b.example.com"},
		{certstest.Options{URIs: []string{"sip:example.com:5061"}}, "example.com"},
		{certstest.Options{URIs: []string{"sip:alice@example.com", "sips:secure.example.com", "https://web.example.com"}, DNS: []string{"dns.example.com"}}, "dns.example.com"},
		{certstest.Options{CommonName: "cn.example.com"}, ""},
		{certstest.Options{IPs: []string{"192.0.2.1"}}, ""},
	} {
		if got := strings.Join(certs.Identities(ca.Issue(t, c.o).Cert), " "); got != c.want {
			t.Errorf("%+v: %q, want %q", c.o, got, c.want)
		}
	}
}

// TestPeer connects to PBXes with good and bad certificates; both sides must know why it
// failed.
func TestPeer(t *testing.T) {
	s := newShop(t)
	addr := netip.MustParseAddr("203.0.113.2")
	good := s.Issue(t, certstest.Options{DNS: []string{"pbx.example.com"}, IPs: []string{"203.0.113.2"}})
	domain := s.Issue(t, certstest.Options{URIs: []string{"sip:example.com"}, DNS: []string{"pbx.example.com"}})
	wild := s.Issue(t, certstest.Options{DNS: []string{"*.example.com"}})
	late := s.Issue(t, certstest.Options{DNS: []string{"pbx.example.com"}, From: -2 * time.Hour, Until: -time.Hour})
	alien := certstest.NewAuthority(t, "Foreign CA").Issue(t, certstest.Options{DNS: []string{"pbx.example.com"}})
	byCert := func(i *certstest.Issued) []certs.Pin { return []certs.Pin{sha256.Sum256(i.Cert.Raw)} }
	byKey := func(i *certstest.Issued) []certs.Pin { return []certs.Pin{{}, certs.PinOf(i.Cert)} }
	for _, c := range []struct {
		name  string
		shown *certstest.Issued
		peer  certs.Peer
		says  string // here
		other string // there
	}{
		{"by name", good, certs.Peer{Name: "PBX.example.com"}, "", ""},
		{"by address", good, certs.Peer{}, "", ""},
		{"by an address that it names", good, certs.Peer{Name: "203.0.113.2", Addr: netip.MustParseAddr("10.0.0.1")}, "", ""},
		{"by SIP domain", domain, certs.Peer{Name: "example.com"}, "", ""},
		{"the SIP domain goes before the DNS name", domain, certs.Peer{Name: "pbx.example.com"}, "not for pbx.example.com", "often it is for another name"},
		{"wildcard", wild, certs.Peer{Name: "pbx.example.com"}, "wildcards do not count", "often it is for another name"},
		{"another name", good, certs.Peer{Name: "other.example.com"}, "is for (pbx.example.com, 203.0.113.2), not for other.example.com (wildcards", "often it is for another name"},
		{"another address", good, certs.Peer{Addr: netip.MustParseAddr("10.0.0.1")}, "not for 10.0.0.1", "often it is for another name"},
		{"expired", late, certs.Peer{Name: "pbx.example.com"}, "is out of date: valid from", "often it is for another name"},
		{"foreign authority", alien, certs.Peer{Name: "pbx.example.com"}, "authority that is not trusted here (CN=Foreign CA)", "often it is for another name"},
		{"pinned key", alien, certs.Peer{Pins: byKey(alien)}, "", ""},
		{"pinned certificate", alien, certs.Peer{Pins: byCert(alien)}, "", ""},
		{"pinned and expired", late, certs.Peer{Pins: byKey(late), Name: "nobody.example"}, "", ""},
		{"another pin", good, certs.Peer{Pins: byKey(alien), Name: "pbx.example.com"}, "is not one of its pins: its key is " + certs.PinOf(good.Cert).String(), "often it is for another name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !c.peer.Addr.IsValid() {
				c.peer.Addr = addr
			}
			c.peer.CA = s.ca
			client, err := certs.NewPeer(c.peer)
			if err != nil {
				t.Fatal(err)
			}
			_, _, there, here := shake(t, &tls.Config{Certificates: []tls.Certificate{c.shown.TLS}}, client)
			if c.says == "" {
				if there != nil || here != nil {
					t.Fatal(there, here)
				}
				return
			}
			if here == nil || !strings.Contains(here.Error(), c.says) {
				t.Errorf("here: %v, want … %q", here, c.says)
			}
			if text, blame := certs.Explain(there); there == nil || blame || !strings.Contains(text, c.other) {
				t.Errorf("there: %v, explained as %q (%v), want … %q", there, text, blame, c.other)
			}
		})
	}
}

// TestPhoneRefusesOurs: what a phone says that does not trust sipward.
func TestPhoneRefusesOurs(t *testing.T) {
	s := newShop(t)
	late := s.pair(t, "late", certstest.Options{DNS: []string{"sip.example.com"}, From: -2 * time.Hour, Until: -time.Hour})
	fine := s.pair(t, "fine", certstest.Options{DNS: []string{"sip.example.com"}})
	for _, c := range []struct {
		pair   certs.Pair
		client *tls.Config
		want   string
	}{
		{late, &tls.Config{RootCAs: s.Pool(), ServerName: "sip.example.com"}, "expired|refuses sipward's certificate"},
		{fine, &tls.Config{RootCAs: s.Pool(), ServerName: "other.example.com"}, "refuses sipward's certificate"},
		{fine, &tls.Config{RootCAs: certstest.NewAuthority(t, "x").Pool(), ServerName: "sip.example.com"}, "refuses sipward's certificate"},
	} {
		st := certs.NewStore(load(t, certs.Config{Pairs: []certs.Pair{c.pair}}), nil)
		_, _, err, _ := shake(t, st.TLS(), c.client)
		text, blame := certs.Explain(err)
		found := false
		for want := range strings.SplitSeq(c.want, "|") {
			found = found || strings.Contains(text, want)
		}
		if err == nil || blame || !found {
			t.Errorf("%v is explained as %q, blame %v", err, text, blame)
		}
	}
}

// TestPeerAsksForOurs: a PBX that wants a certificate is shown ours.
func TestPeerAsksForOurs(t *testing.T) {
	s := newShop(t)
	pbx := s.Issue(t, certstest.Options{IPs: []string{"203.0.113.2"}})
	for _, has := range []bool{true, false} {
		var cfg certs.Config
		if has {
			cfg.Pairs = []certs.Pair{s.pair(t, "ours", certstest.Options{DNS: []string{"edge.example.com"}})}
		}
		st := certs.NewStore(load(t, cfg), nil)
		client, err := certs.NewPeer(certs.Peer{Addr: netip.MustParseAddr("203.0.113.2"), CA: s.ca})
		if err != nil {
			t.Fatal(err)
		}
		client.GetClientCertificate = st.ClientCertificate
		conn, _, there, here := shake(t, &tls.Config{Certificates: []tls.Certificate{pbx.TLS}, ClientAuth: tls.RequestClientCert}, client)
		if there != nil || here != nil {
			t.Fatal(there, here)
		}
		if got := len(conn.ConnectionState().PeerCertificates); (got == 1) != has {
			t.Errorf("has one %v, %d are shown", has, got)
		}
	}
}

// TestTrunks: the certificate must be for the host that was named.
func TestTrunks(t *testing.T) {
	s := newShop(t)
	trunks, err := certs.LoadTrunks(s.ca, tls.VersionTLS12)
	if err != nil {
		t.Fatal(err)
	}
	carrier := s.Issue(t, certstest.Options{URIs: []string{"sip:carrier.example.com"}, DNS: []string{"sbc1.carrier.example.com"}, IPs: []string{"192.0.2.1"}})
	for host, says := range map[string]string{
		"carrier.example.com": "", "192.0.2.1": "",
		"sbc1.carrier.example.com": "not for sbc1.carrier.example.com", "evil.example.com": "the certificate of the trunk is for (sip:carrier.example.com, ",
	} {
		_, _, _, err := shake(t, &tls.Config{Certificates: []tls.Certificate{carrier.TLS}}, trunks.TLS(host))
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v, want … %q", host, err, says)
		}
	}
	foreign := certstest.NewAuthority(t, "Foreign CA").Issue(t, certstest.Options{DNS: []string{"carrier.example.com"}})
	_, _, _, err = shake(t, &tls.Config{Certificates: []tls.Certificate{foreign.TLS}}, trunks.TLS("carrier.example.com"))
	if err == nil || !strings.Contains(err.Error(), "(CN=Foreign CA); the carrier has to mend that") {
		t.Error(err)
	}
	if _, err := certs.LoadTrunks("/nowhere/ca.pem", 0); err == nil || !strings.Contains(err.Error(), "tls.trunk_ca: there is no file /nowhere/ca.pem") {
		t.Error(err)
	}
}

func TestPeerComplains(t *testing.T) {
	if _, err := certs.NewPeer(certs.Peer{CA: "/nowhere/ca.pem"}); err == nil || !strings.Contains(err.Error(), "there is no file /nowhere/ca.pem") {
		t.Error(err)
	}
}
