package certs_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sipward/proxy/certs"
	"sipward/proxy/certs/certstest"
)

// shake has a client and a server meet over a loopback connection, which is open until the
// test ends.
func shake(t *testing.T, server, client *tls.Config) (s, c *tls.Conn, serverErr, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialed, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialed.Close(); accepted.Close() })
	deadline := time.Now().Add(30 * time.Second)
	dialed.SetDeadline(deadline)
	accepted.SetDeadline(deadline)
	s, c = tls.Server(accepted, server), tls.Client(dialed, client)
	done := make(chan error)
	go func() {
		err := s.HandshakeContext(t.Context())
		if err == nil { // TLS 1.3: tickets and refusals reach the client with the first bytes
			_, err = s.Write([]byte("x"))
		}
		if err != nil {
			accepted.Close()
		}
		done <- err
	}()
	if clientErr = c.HandshakeContext(t.Context()); clientErr == nil {
		_, clientErr = io.ReadFull(c, make([]byte, 1))
	}
	if clientErr != nil {
		dialed.Close()
	}
	return s, c, <-done, clientErr
}

func load(t *testing.T, cfg certs.Config) *certs.Set {
	t.Helper()
	s, err := certs.Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// shop is an authority and a folder for what it issues.
type shop struct {
	*certstest.Authority
	dir, ca string
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{Authority: certstest.NewAuthority(t, "Test CA"), dir: t.TempDir()}
	s.ca = s.Write(t, s.dir)
	return s
}

func (s *shop) pair(t *testing.T, name string, o certstest.Options) certs.Pair {
	t.Helper()
	c, k := s.Issue(t, o).Write(t, s.dir, name)
	return certs.Pair{Certificate: c, Key: k}
}

func TestCertificateIsChosenByName(t *testing.T) {
	s := newShop(t)
	st := certs.NewStore(load(t, certs.Config{Pairs: []certs.Pair{
		s.pair(t, "a", certstest.Options{DNS: []string{"a.example.com"}}),
		s.pair(t, "b", certstest.Options{DNS: []string{"b.example.com", "*.b.example.com"}, IPs: []string{"192.0.2.2"}}),
	}}), nil)
	for name, want := range map[string]string{
		"a.example.com": "a.example.com", "b.example.com": "b.example.com", "B.Example.COM": "b.example.com",
		"phone.b.example.com": "b.example.com", "other.example.com": "a.example.com", "": "a.example.com", "192.0.2.2": "a.example.com",
	} {
		_, c, err1, err2 := shake(t, st.TLS(), &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if got := c.ConnectionState().PeerCertificates[0].DNSNames[0]; got != want {
			t.Errorf("who asks for %q is shown the certificate of %s, want %s", name, got, want)
		}
		other, err := st.Certificate(name)
		if err != nil || name != "192.0.2.2" && other.Leaf.DNSNames[0] != want {
			t.Errorf("Certificate(%q): %v, %v", name, other.Leaf.DNSNames, err)
		}
	}
}

// TestPut replaces a certificate: connections that are open go on, new ones are shown the
// new one, and sessions are resumed across.
func TestPut(t *testing.T) {
	s := newShop(t)
	set := func(name string) *certs.Set {
		return load(t, certs.Config{Pairs: []certs.Pair{s.pair(t, name, certstest.Options{DNS: []string{"sip.example.com", name}})}})
	}
	st := certs.NewStore(set("old"), nil)
	client := &tls.Config{ServerName: "sip.example.com", RootCAs: s.Pool(), ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	server, open, err1, err2 := shake(t, st.TLS(), client)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	st.Put(set("new"))
	if _, err := server.Write([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(open, make([]byte, len("still here"))); err != nil {
		t.Fatalf("the connection that was open: %v", err)
	}
	_, again, err1, err2 := shake(t, st.TLS(), client)
	if err1 != nil || err2 != nil || !again.ConnectionState().DidResume {
		t.Errorf("not resumed: %v %v", err1, err2)
	}
	_, fresh, err1, err2 := shake(t, st.TLS(), &tls.Config{ServerName: "sip.example.com", RootCAs: s.Pool()})
	if err1 != nil || err2 != nil || fresh.ConnectionState().PeerCertificates[0].DNSNames[1] != "new" {
		t.Errorf("the new certificate is not shown: %v %v", err1, err2)
	}
}

// TestRecords: a message is one record, so one segment and one system call, as netio wants it.
func TestRecords(t *testing.T) {
	s := newShop(t)
	st := certs.NewStore(load(t, certs.Config{Pairs: []certs.Pair{s.pair(t, "a", certstest.Options{DNS: []string{"sip.example.com"}})}}), nil)
	listener := st.TLS().Clone()
	listener.DynamicRecordSizingDisabled = true
	server, c, err1, err2 := shake(t, listener, &tls.Config{ServerName: "sip.example.com", RootCAs: s.Pool()})
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	const size = 4000
	if _, err := server.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1<<14)); n != size || err != nil { // of one record
		t.Errorf("the first record has %d of %d bytes, %v", n, size, err)
	}
}

func TestMinVersion(t *testing.T) {
	s := newShop(t)
	pair := s.pair(t, "a", certstest.Options{DNS: []string{"a"}})
	for _, c := range []struct {
		floor, client uint16
		ok            bool
	}{
		{0, tls.VersionTLS11, false}, {0, tls.VersionTLS12, true}, {0, tls.VersionTLS13, true},
		{tls.VersionTLS13, tls.VersionTLS12, false}, {tls.VersionTLS13, tls.VersionTLS13, true},
	} {
		st := certs.NewStore(load(t, certs.Config{Pairs: []certs.Pair{pair}, MinVersion: c.floor}), nil)
		_, _, err, _ := shake(t, st.TLS(), &tls.Config{InsecureSkipVerify: true, MinVersion: c.client, MaxVersion: c.client})
		if (err == nil) != c.ok {
			t.Errorf("floor %x, client %x: %v", c.floor, c.client, err)
		}
		if err == nil {
			continue
		}
		if text, blame := certs.Explain(err); blame || !strings.Contains(text, "older versions of TLS") {
			t.Errorf("Explain(%v): %q, %v", err, text, blame)
		}
	}
}

func TestClientCertificates(t *testing.T) {
	s, foreign := newShop(t), certstest.NewAuthority(t, "Foreign CA")
	pair := s.pair(t, "server", certstest.Options{DNS: []string{"a"}})
	carrier := s.Issue(t, certstest.Options{DNS: []string{"Carrier.example.com"}})
	factory := foreign.Issue(t, certstest.Options{DNS: []string{"carrier.example.com"}})
	late := s.Issue(t, certstest.Options{DNS: []string{"carrier.example.com"}, From: -2 * time.Hour, Until: -time.Hour})
	for _, c := range []struct {
		name  string
		auth  certs.ClientAuth
		shown *certstest.Issued
		who   string // verified identity
		fails string // what is said
	}{
		{"not asked", certs.NoClientAuth, carrier, "", ""},
		{"asked, none", certs.RequestClientAuth, nil, "", ""},
		{"asked, trusted", certs.RequestClientAuth, carrier, "carrier.example.com", ""},
		{"asked, the phone maker's", certs.RequestClientAuth, factory, "", ""},
		{"asked, expired", certs.RequestClientAuth, late, "", ""},
		{"required, none", certs.RequireClientAuth, nil, "", "shows no certificate"},
		{"required, trusted", certs.RequireClientAuth, carrier, "carrier.example.com", ""},
		{"required, foreign", certs.RequireClientAuth, factory, "", "authority that is not trusted here (CN=Foreign CA)"},
		{"required, expired", certs.RequireClientAuth, late, "", "is out of date"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := certs.Config{Pairs: []certs.Pair{pair}, ClientAuth: c.auth, ClientCA: s.ca}
			set := load(t, cfg)
			st := certs.NewStore(set, nil)
			client := &tls.Config{ServerName: "a", InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if c.shown == nil {
					return new(tls.Certificate), nil
				}
				return &c.shown.TLS, nil
			}}
			client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			for _, resumed := range []bool{false, true} {
				conn, _, err, _ := shake(t, st.TLS(), client)
				if c.fails != "" {
					if text, blame := certs.Explain(err); err == nil || blame || !strings.Contains(text, c.fails) {
						t.Fatalf("%v is explained as %q, blame %v; want %q", err, text, blame, c.fails)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				state := conn.ConnectionState()
				if state.DidResume != (resumed && c.shown != late) { // crypto/tls resumes none that has expired
					t.Errorf("resumed %v, want %v", state.DidResume, resumed)
				}
				if got := strings.Join(set.Verified(&state), " "); got != c.who {
					t.Errorf("verified as %q, want %q", got, c.who)
				}
				if set.VerifiedAs(&state, []string{"x.example.com", "carrier.Example.com"}) != (c.who != "") || set.VerifiedAs(&state, []string{"example.com"}) {
					t.Errorf("%q: VerifiedAs is wrong", c.who)
				}
			}
			if c.who == "" {
				return
			}
			// Once the authority is not trusted any more, a session that is resumed is not either.
			cfg.ClientCA = foreign.Write(t, s.dir)
			set = load(t, cfg)
			st.Put(set)
			conn, _, err, _ := shake(t, st.TLS(), client)
			if state := conn.ConnectionState(); err == nil && len(set.Verified(&state)) > 0 {
				t.Error("a resumed session is trusted by an authority that is not in force")
			}
			if c.auth == certs.RequireClientAuth && err == nil {
				t.Error("a resumed session came in without a certificate that is trusted")
			}
		})
	}
}

func TestNoCertificateYet(t *testing.T) {
	st := certs.NewStore(load(t, certs.Config{}), nil)
	if _, err := st.Certificate(""); !errors.Is(err, certs.ErrNoCertificate) {
		t.Error(err)
	}
	_, _, err, _ := shake(t, st.TLS(), &tls.Config{InsecureSkipVerify: true})
	if text, blame := certs.Explain(err); err == nil || blame || !strings.Contains(text, "no certificate yet") {
		t.Errorf("%v: %q, %v", err, text, blame)
	}
}

func TestLoadComplains(t *testing.T) {
	s := newShop(t)
	a, b := s.pair(t, "a", certstest.Options{}), s.pair(t, "b", certstest.Options{})
	file := func(name, text string) string {
		p := filepath.Join(s.dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	garbage := file("garbage", "no PEM at all\n")
	half := file("half", "-----BEGIN CERTIFICATE-----\nMIIB")
	broken := file("broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	locked := file("locked", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	oldLocked := file("old-locked", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n")
	missing := filepath.Join(s.dir, "missing")
	for _, c := range []struct {
		pair  certs.Pair
		field string
		text  string
	}{
		{certs.Pair{Certificate: missing, Key: a.Key}, "certificates[0].certificate", "there is no file"},
		{certs.Pair{Certificate: a.Certificate, Key: missing}, "certificates[0].key", "there is no file"},
		{certs.Pair{Certificate: s.dir, Key: a.Key}, "certificates[0].certificate", "is a directory"},
		{certs.Pair{Certificate: garbage, Key: a.Key}, "certificates[0].certificate", "no certificate in PEM form"},
		{certs.Pair{Certificate: half, Key: a.Key}, "certificates[0].certificate", "no certificate in PEM form"},
		{certs.Pair{Certificate: broken, Key: a.Key}, "certificates[0].certificate", "cannot be used"},
		{certs.Pair{Certificate: a.Key, Key: a.Certificate}, "certificates[0].certificate", "no certificate in PEM form"},
		{certs.Pair{Certificate: a.Certificate, Key: garbage}, "certificates[0].key", "no private key"},
		{certs.Pair{Certificate: a.Certificate, Key: locked}, "certificates[0].key", "locked with a passphrase"},
		{certs.Pair{Certificate: a.Certificate, Key: oldLocked}, "certificates[0].key", "locked with a passphrase"},
		{certs.Pair{Certificate: a.Certificate, Key: b.Key}, "certificates[0].key", "is not the key of"},
	} {
		_, err := certs.Load(certs.Config{Pairs: []certs.Pair{c.pair}})
		var f *certs.FileError
		if !errors.As(err, &f) || f.Field != c.field || !strings.Contains(f.Text, c.text) {
			t.Errorf("%+v: %v, want %s: … %s", c.pair, err, c.field, c.text)
		}
	}
	_, err := certs.Load(certs.Config{
		Pairs:      []certs.Pair{a, {Certificate: missing, Key: garbage}, {Certificate: a.Certificate, Key: b.Key}},
		ClientAuth: certs.RequestClientAuth, ClientCA: garbage,
	})
	for _, want := range []string{"tls.certificates[1].certificate: ", "tls.certificates[2].key: ", "tls.client_ca: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}

func TestInfo(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	const d = 24 * time.Hour
	for _, c := range []struct {
		from, until time.Duration
		failed      string
		days        int
		want        string
	}{
		{-d, 364 * d, "", 364, ""},
		{-300 * d, 14 * d, "", 14, ""},
		{-300 * d, 14*d - 1, "", 13, "expires on 2026-12-06"},
		{-80 * d, 10 * d, "no route", 10, "could not be renewed: no route"},
		{-4 * d, 2 * d, "", 2, ""}, // one of six days, which is renewed at the last moment
		{-5*d - 1, d - 1, "", 0, "expires on 2026-11-23"},
		{-30 * d, 0, "", 0, "has expired on 2026-11-22 12:00 UTC"},
		{-30 * d, -1, "", -1, "has expired"},
		{-30 * d, -d - 1, "", -2, "has expired"},
		{1, 300 * d, "", 300, "is valid only from 2026-11-22"},
	} {
		i := certs.Info{NotBefore: now.Add(c.from), NotAfter: now.Add(c.until), Failed: c.failed}
		if got := i.Days(now); got != c.days {
			t.Errorf("%+v: %d days, want %d", c, got, c.days)
		}
		if got := i.Warning(now); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q", c, got)
		}
	}
	if got := (certs.Info{Failed: "no route"}).Warning(now); !strings.Contains(got, "could not be obtained yet: no route") {
		t.Error(got)
	}
	s := newShop(t)
	set := load(t, certs.Config{Pairs: []certs.Pair{s.pair(t, "a", certstest.Options{
		DNS: []string{"a.example.com"}, URIs: []string{"sip:example.com"}, IPs: []string{"192.0.2.1"},
	})}})
	infos := certs.NewStore(set, nil).Infos()
	if len(infos) != 1 || infos[0].Source != "certificates[0]" || strings.Join(infos[0].Names, " ") != "sip:example.com a.example.com 192.0.2.1" {
		t.Errorf("%+v", infos)
	}
	if !set.Covers("a.example.com") || !set.Covers("192.0.2.1") || set.Covers("b.example.com") {
		t.Error("Covers is wrong")
	}
}

// TestExplainWhatIsNoTLS: what strangers send speaks against them, what goes wrong on the
// way does not.
func TestExplainWhatIsNoTLS(t *testing.T) {
	s := newShop(t)
	st := certs.NewStore(load(t, certs.Config{Pairs: []certs.Pair{s.pair(t, "a", certstest.Options{})}}), nil)
	for _, c := range []struct {
		send  string
		want  string
		blame bool
	}{
		{"OPTIONS sip:x SIP/2.0\r\n\r\n", "no TLS", true},
		{"\x16\x03\x01\x00\x05garbage", "", true},
		{"\x16\x03\x01", "went away", false},
		{"", "went away", false},
	} {
		client, server := net.Pipe()
		go func() {
			client.Write([]byte(c.send))
			go io.Copy(io.Discard, client) // the alert
			client.Close()
		}()
		err := tls.Server(server, st.TLS()).HandshakeContext(t.Context())
		server.Close()
		if text, blame := certs.Explain(err); err == nil || blame != c.blame || !strings.Contains(text, c.want) {
			t.Errorf("%q: %v is explained as %q, blame %v", c.send, err, text, blame)
		}
	}
}
