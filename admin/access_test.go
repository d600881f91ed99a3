package admin_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sipward/admin"
	"sipward/admin/logtest"
)

// site is a running server with a TCP listener on a loopback address.
type site struct {
	*admin.Server
	addr        string
	read, write string // tokens
	acts        chan admin.Act
	log         *logtest.Buffer
}

func token(name string, role admin.Role) (string, admin.Token) {
	text, hash := admin.NewToken()
	return text, admin.Token{Name: name, Role: role, Hash: hash}
}

// newSite starts a server. change, if not nil, adds to its configuration.
func newSite(t *testing.T, b admin.Backend, change func(*admin.Config, *admin.AccessConfig)) *site {
	t.Helper()
	s := &site{acts: make(chan admin.Act, 100), log: new(logtest.Buffer)}
	var access admin.AccessConfig
	for _, k := range []struct {
		role admin.Role
		to   *string
	}{{admin.Read, &s.read}, {admin.Write, &s.write}} {
		text, known := token("the-"+k.role.String()+"-token", k.role)
		*k.to = text
		access.Tokens = append(access.Tokens, known)
	}
	cfg := config(t, b, s.log)
	cfg.TCP = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	cfg.Audit = func(a admin.Act) { s.acts <- a }
	if change != nil {
		change(&cfg, &access)
	}
	var err error
	if cfg.Access, err = admin.NewAccess(access); err != nil {
		t.Fatal(err)
	}
	if s.Server, err = admin.New(cfg); err != nil {
		t.Fatal(err)
	}
	s.addr = s.Addrs()[0].String()
	run(t, s.Server)
	return s
}

// send makes a request with "Name: value" headers.
func (s *site) send(t *testing.T, method, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		if h == "" {
			continue
		}
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
		if name == "Host" {
			req.Host = value
		}
	}
	c := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

func bearer(token string) string { return "Authorization: Bearer " + token }

// TestAccessOverTCP: who may do what, and that nothing is done for anybody else.
func TestAccessOverTCP(t *testing.T) {
	b := &backend{}
	s := newSite(t, b, func(_ *admin.Config, a *admin.AccessConfig) { a.Hosts = []string{"edge1.example.com"} })
	const ban = `{"address":"192.0.2.1"}`
	stranger, _ := token("x", admin.Write)
	for _, c := range []struct {
		method, path, body string
		headers            []string
		status             int
		answer             string
	}{
		{"GET", "/v1/status", "", nil, 401, "needs a token"},
		{"POST", "/v1/ban", ban, nil, 401, "needs a token"},
		{"GET", "/v1/events", "", nil, 401, "needs a token"},
		{"POST", "/v1/session", "", nil, 401, "needs a token"},
		{"GET", "/v1/status", "", []string{bearer(stranger)}, 401, "not known"},
		{"GET", "/v1/status", "", []string{"Authorization: Basic " + s.read}, 401, "not known"},
		{"GET", "/v1/status", "", []string{bearer("")}, 401, "not known"},
		{"GET", "/v1/status", "", []string{bearer(s.read)}, 200, `"pid":7`},
		{"POST", "/v1/ban", ban, []string{bearer(s.read)}, 403, "role write"},
		{"DELETE", "/v1/ban?address=192.0.2.1", "", []string{bearer(s.read)}, 403, "role write"},
		{"POST", "/v1/reload", "", []string{bearer(s.read)}, 403, "role write"},
		{"POST", "/v1/ban", ban, []string{bearer(s.write), "Origin: http://evil.example"}, 403, "evil.example"},
		{"GET", "/v1/status", "", []string{bearer(s.read), "Origin: http://evil.example"}, 403, "evil.example"},
		{"GET", "/v1/status", "", []string{bearer(s.read), "Origin: null"}, 403, "null"},
		{"POST", "/v1/ban", ban, []string{bearer(s.write), "Sec-Fetch-Site: cross-site"}, 403, "another site"},
		{"POST", "/v1/ban", ban, []string{bearer(s.write), "Sec-Fetch-Site: same-site"}, 403, "another site"},
		{"GET", "/v1/status", "", []string{bearer(s.read), "Host: rebound.example"}, 421, "control.hosts"},
		{"GET", "/v1/status", "", []string{bearer(s.read), "Host: edge1.example.com:8060"}, 200, `"pid":7`},
		{"GET", "/v1/status", "", []string{bearer(s.read), "Host: localhost:1"}, 200, `"pid":7`},
		{"POST", "/v1/ban", `{"reason":"` + strings.Repeat("x", 70<<10) + `"}`, []string{bearer(s.write)}, 413, "larger than 65536 bytes"},
		{"GET", "/v2", "", []string{bearer(s.read)}, 404, "/v2"},
	} {
		res, answer := s.send(t, c.method, c.path, c.body, c.headers...)
		if res.StatusCode != c.status || !strings.Contains(answer, c.answer) || res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s %q: %s %s, want %d and %q", c.method, c.path, c.headers, res.Status, answer, c.status, c.answer)
		}
		if (res.Header.Get("WWW-Authenticate") != "") != (c.status == 401) {
			t.Errorf("%s %s: WWW-Authenticate: %s", c.method, c.path, res.Header.Get("WWW-Authenticate"))
		}
		if strings.Contains(answer+s.log.String(), stranger) {
			t.Fatalf("a token is shown:\n%s\n%s", answer, s.log)
		}
	}
	if b.last() != "" {
		t.Errorf("the backend was asked to %s", b.last())
	}
	if res, answer := s.send(t, "POST", "/v1/ban", ban, bearer(s.write), "Origin: http://"+s.addr); res.StatusCode != 200 || b.last() != "ban 192.0.2.1 " {
		t.Errorf("the write token: %s %s", res.Status, answer)
	}
	if by := b.by; by.Token != "the-write-token" || by.Source != netip.MustParseAddr("127.0.0.1") || by.Peer != nil {
		t.Errorf("asked by %+v", by)
	}
	for _, want := range []string{`the body is larger`, ""} { // of all of the above, these came as far as being tried
		if a := <-s.acts; a.Command != "ban" || a.By.Token != "the-write-token" || (a.Err != nil) != (want != "") {
			t.Errorf("audited %+v", a)
		}
	}
	if len(s.acts) > 0 {
		t.Errorf("audited, too: %+v", <-s.acts)
	}
}

// TestTooManyWrongTokens: after ten of them the source is refused, with the right one, too;
// another source is not.
func TestTooManyWrongTokens(t *testing.T) {
	s := newSite(t, &backend{}, func(c *admin.Config, _ *admin.AccessConfig) {
		c.TCP = append(c.TCP, netip.MustParseAddrPort("[::1]:0"))
	})
	for i := range 10 {
		if res, answer := s.send(t, "GET", "/v1/status", "", bearer(fmt.Sprint("wrong", i))); res.StatusCode != 401 {
			t.Fatalf("wrong token %d: %s %s", i, res.Status, answer)
		}
	}
	for _, token := range []string{"wrong", s.read} {
		res, answer := s.send(t, "GET", "/v1/status", "", bearer(token))
		if res.StatusCode != 429 || res.Header.Get("Retry-After") == "" {
			t.Errorf("after them: %s %s", res.Status, answer)
		}
	}
	other := *s
	other.addr = s.Addrs()[1].String()
	if res, answer := other.send(t, "GET", "/v1/status", "", bearer(s.read)); res.StatusCode != 200 {
		t.Errorf("from another source: %s %s", res.Status, answer)
	}
	if n := strings.Count(s.log.String(), "too many wrong tokens"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, s.log)
	}
}

// TestSession: a token opens a session; its cookie is good for what the token is good for,
// but not without word from the browser that it is our own page that asks.
func TestSession(t *testing.T) {
	b := &backend{}
	s := newSite(t, b, nil)
	own := "Origin: http://" + s.addr
	res, answer := s.send(t, "POST", "/v1/session", "", bearer(s.write), own)
	if res.StatusCode != 200 || len(res.Cookies()) != 1 {
		t.Fatalf("log in: %s %s %v", res.Status, answer, res.Cookies())
	}
	c := res.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || strings.Contains(c.Value, s.write) {
		t.Errorf("the cookie is %s", c)
	}
	cookie := "Cookie: " + c.Name + "=" + c.Value
	for _, q := range []struct {
		method, path, body string
		headers            []string
		status             int
	}{
		{"GET", "/v1/session", "", []string{cookie}, 200},
		{"POST", "/v1/deny", `{"address":"192.0.2.1"}`, []string{cookie, own}, 200},
		{"POST", "/v1/deny", `{"address":"192.0.2.1"}`, []string{cookie, "Sec-Fetch-Site: same-origin"}, 200},
		{"POST", "/v1/deny", `{"address":"192.0.2.2"}`, []string{cookie}, 401},
		{"POST", "/v1/deny", `{"address":"192.0.2.2"}`, []string{cookie, "Origin: http://evil.example"}, 403},
		{"POST", "/v1/deny", `{"address":"192.0.2.2"}`, []string{cookie, "Sec-Fetch-Site: cross-site"}, 403},
		{"GET", "/v1/status", "", []string{cookie + "x"}, 401},
		{"DELETE", "/v1/session", "", []string{cookie, own}, 200},
		{"GET", "/v1/session", "", []string{cookie}, 401},
	} {
		if res, answer := s.send(t, q.method, q.path, q.body, q.headers...); res.StatusCode != q.status {
			t.Errorf("%s %s %q: %s %s, want %d", q.method, q.path, q.headers, res.Status, answer, q.status)
		}
	}
	if b.last() != "add deny 192.0.2.1" {
		t.Errorf("the backend was asked to %s", b.last())
	}
	res, _ = s.send(t, "POST", "/v1/session", "", bearer(s.read))
	cookie = "Cookie: " + res.Cookies()[0].Name + "=" + res.Cookies()[0].Value
	if res, _ := s.send(t, "POST", "/v1/deny", `{"address":"192.0.2.3"}`, cookie, own); res.StatusCode != 403 {
		t.Errorf("a change in the session of a read token: %s", res.Status)
	}
	fresh, known := token("fresh", admin.Read)
	next, err := admin.NewAccess(admin.AccessConfig{Tokens: []admin.Token{known}})
	if err != nil {
		t.Fatal(err)
	}
	s.SetAccess(next)
	for _, h := range []string{cookie, bearer(s.write)} {
		if res, answer := s.send(t, "GET", "/v1/session", "", h); res.StatusCode != 401 {
			t.Errorf("after its token is gone: %s %s", res.Status, answer)
		}
	}
	if res, answer := s.send(t, "GET", "/v1/session", "", bearer(fresh)); res.StatusCode != 200 || !strings.Contains(answer, `"role":"read"`) {
		t.Errorf("with the new one: %s %s", res.Status, answer)
	}
}

// TestSlowBody: who sends his body, or his header, a byte now and then is cut off, and
// others are served meanwhile.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	s := newSite(t, &backend{}, nil)
	for name, head := range map[string]string{
		"body":   "POST /v1/ban HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + s.write + "\r\nContent-Length: 1000\r\n\r\n{",
		"header": "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			io.WriteString(c, head)
			start := time.Now()
			ended := make(chan struct{})
			go func() { // until it is closed
				defer close(ended)
				io.Copy(io.Discard, c)
			}()
			for {
				select {
				case <-ended:
				case <-time.After(500 * time.Millisecond):
					io.WriteString(c, "x") // fails when it is closed
					if time.Since(start) < 10*time.Second {
						continue
					}
					t.Error("still open after 10 s")
				}
				break
			}
			if res, _ := s.send(t, "GET", "/v1/status", "", bearer(s.read)); res.StatusCode != 200 {
				t.Errorf("somebody else: %s", res.Status)
			}
		})
	}
}

// TestConnectionCaps: one source holds a part of the connections and no more.
func TestConnectionCaps(t *testing.T) {
	s := newSite(t, &backend{}, nil)
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range 70 {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	answered := 0
	for _, c := range open {
		c.SetDeadline(time.Now().Add(4 * time.Second))
		io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if line, err := bufio.NewReader(c).ReadString('\n'); err == nil && strings.Contains(line, "401") {
			answered++
		}
	}
	if answered != 64 {
		t.Errorf("%d of 70 connections were served, want 64", answered)
	}
}

// TestConnectionCapsBySource: whoever has one IPv6 address has its whole /64.
func TestConnectionCapsBySource(t *testing.T) {
	enter := admin.Enter()
	entered := 0
	for i := range 200 {
		if enter(netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 15: byte(i)})) {
			entered++
		}
	}
	if entered != 64 {
		t.Errorf("one source holds %d connections, want 64", entered)
	}
	for _, a := range []string{"2001:db8:0:1::1", "192.0.2.1", "192.0.2.2"} {
		if !enter(netip.MustParseAddr(a)) {
			t.Errorf("%s is kept out", a)
		}
	}
}

// TestTLS: names are those of the certificate, which is replaced while connections go on;
// without one only loopback addresses are listened on.
func TestTLS(t *testing.T) {
	cert, key := certificate(t, "edge1.example.com")
	s := newSite(t, &backend{}, func(_ *admin.Config, a *admin.AccessConfig) { a.Certificate, a.Key = cert, key })
	get := func(host string) (int, string) {
		c := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // what it shows is looked at below
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", s.addr)
			},
		}}
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://"+host+"/v1/status", nil)
		req.Header.Set("Authorization", "Bearer "+s.read)
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode, res.TLS.PeerCertificates[0].DNSNames[0]
	}
	if code, name := get("edge1.example.com"); code != 200 || name != "edge1.example.com" {
		t.Errorf("its name: %d, %s", code, name)
	}
	if code, _ := get("edge2.example.com"); code != 421 {
		t.Errorf("another name: %d", code)
	}
	text, known := token("x", admin.Read)
	s.read = text
	cert, key = certificate(t, "edge2.example.com")
	next, err := admin.NewAccess(admin.AccessConfig{Tokens: []admin.Token{known}, Certificate: cert, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	s.SetAccess(next)
	if code, name := get("edge2.example.com"); code != 200 || name != "edge2.example.com" {
		t.Errorf("its new name: %d, %s", code, name)
	}
	if res, err := http.Get("http://" + s.addr + "/v1/status"); err == nil {
		res.Body.Close()
		if res.StatusCode != 400 {
			t.Errorf("without TLS: %s", res.Status)
		}
	}
	if _, err := admin.NewAccess(admin.AccessConfig{Certificate: cert, Key: cert}); err == nil || !strings.Contains(err.Error(), "control.certificate") {
		t.Errorf("a wrong key gives %v", err)
	}
	cfg := config(t, &backend{}, new(logtest.Buffer))
	cfg.TCP = []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:0")}
	if _, err := admin.New(cfg); err == nil || !strings.Contains(err.Error(), "no control.certificate") {
		t.Errorf("all addresses without TLS give %v", err)
	}
}

func certificate(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, b := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// TestMounts: further parts are behind the same checks, and the API goes first.
func TestMounts(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := admin.CallerOf(r)
		fmt.Fprintf(w, "page for %s", c.Role)
	})
	s := newSite(t, &backend{}, func(c *admin.Config, _ *admin.AccessConfig) {
		c.Mounts = []admin.Mount{{Pattern: "GET /", Handler: page}, {Pattern: "GET /secret/", Need: admin.Read, Handler: page}}
	})
	for _, c := range []struct {
		path, header string
		status       int
		answer       string
	}{
		{"/", "", 200, "page for none"},
		{"/x", bearer(s.read), 200, "page for read"},
		{"/", "Host: rebound.example", 421, ""},
		{"/secret/", "", 401, ""},
		{"/secret/", bearer(s.write), 200, "page for write"},
		{"/v1/status", bearer(s.read), 200, "pid"},
		{"/v1/none", bearer(s.read), 404, "docs/api.md"},
	} {
		res, answer := s.send(t, "GET", c.path, "", c.header)
		if res.StatusCode != c.status || !strings.Contains(answer, c.answer) || res.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %s %s, want %d %q", c.path, res.Status, answer, c.status, c.answer)
		}
	}
}
