package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sipward/admin/logtest"
	"sipward/e2e/phone"
	"sipward/proxy/certs/certstest"
)

// tlsPBX answers every request with 200, over TLS at an address of its own.
func tlsPBX(t *testing.T, shown *certstest.Issued) (port int) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.3:0", &tls.Config{Certificates: []tls.Certificate{shown.TLS}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerAll(c)
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// answerAll ends with its connection.
func answerAll(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		answer, err := accepted(in)
		if err != nil {
			return
		}
		io.WriteString(c, answer)
	}
}

// accepted reads a request without a body and returns its 200.
func accepted(r *bufio.Reader) (string, error) {
	in := textproto.NewReader(r)
	if _, err := in.ReadLine(); err != nil {
		return "", err
	}
	h, err := in.ReadMIMEHeader()
	if err != nil {
		return "", err
	}
	out := "SIP/2.0 200 OK\r\n"
	for _, via := range h.Values("Via") {
		out += "Via: " + via + "\r\n"
	}
	return fmt.Sprintf("%sFrom: %s\r\nTo: %s;tag=1\r\nCall-ID: %s\r\nCSeq: %s\r\nContent-Length: 0\r\n\r\n",
		out, h.Get("From"), h.Get("To"), h.Get("Call-Id"), h.Get("Cseq")), nil
}

// udpPBX answers every request with 200, over UDP at the same address.
func udpPBX(t *testing.T) (port int) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.3:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { c.Close(); <-done })
	go func() {
		defer close(done)
		for b := make([]byte, 65536); ; {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if answer, err := accepted(bufio.NewReader(bytes.NewReader(b[:n]))); err == nil {
				c.WriteTo([]byte(answer), from)
			}
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).Port
}

// tlsPhone is a connection of a phone.
type tlsPhone struct {
	*tls.Conn
	in  *textproto.Reader
	seq int
}

func dialTLS(t *testing.T, addr string, cfg *tls.Config) (*tlsPhone, error) {
	t.Helper()
	c, err := tls.Dial("tcp", addr, cfg)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return &tlsPhone{Conn: c, in: textproto.NewReader(bufio.NewReader(c))}, nil
}

// options sends a request and returns the status line of the answer.
func (p *tlsPhone) options(t *testing.T) string {
	t.Helper()
	p.seq++
	fmt.Fprintf(p, "OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/TLS %s;branch=z9hG4bK%p%d;rport\r\nMax-Forwards: 70\r\nFrom: <sip:a@example.com>;tag=1\r\nTo: <sip:example.com>\r\nCall-ID: %p\r\nCSeq: %d OPTIONS\r\nContent-Length: 0\r\n\r\n",
		p.LocalAddr(), p, p.seq, p, p.seq)
	line, err := p.in.ReadLine()
	if err == nil {
		_, err = p.in.ReadMIMEHeader()
	}
	if err != nil {
		t.Fatalf("OPTIONS: %v", err)
	}
	return line
}

const tlsConfiguration = `
listen:
  outside: [udp://127.0.0.1:%[1]d, tls://127.0.0.1:%[1]d]
pbx:
  - address: 127.0.0.3:5060
    transports: [udp, tls]
    tls: {port: %[2]d, ca: %[3]s}
health: {probe: "off"}
control: {socket: %[4]s}
state_dir: %[5]s
tls:
  certificates:
    - certificate: %[5]s/sip.pem
      key: %[5]s/sip.key
`

// tlsSipward writes the configuration of a sipward between phones and a PBX over TLS.
func tlsSipward(t *testing.T, ca *certstest.Authority, pbx *certstest.Issued, more ...string) (r *running, addr string) {
	t.Helper()
	r = prepare(t)
	ca.Issue(t, certstest.Options{DNS: []string{"sip.example.com", "first"}, From: -24 * time.Hour, Until: 2 * time.Hour}).Write(t, r.dir, "sip")
	r.write(fmt.Sprintf(tlsConfiguration, r.port, tlsPBX(t, pbx), ca.Write(t, r.dir), r.socket, r.dir) + noKernel + strings.Join(more, "\n"))
	r.log = new(logtest.Buffer)
	return r, net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port))
}

// TestTLS replaces certificates under connections that are open, and spoils them.
func TestTLS(t *testing.T) {
	ca := certstest.NewAuthority(t, "CA")
	r, addr := tlsSipward(t, ca, ca.Issue(t, certstest.Options{IPs: []string{"127.0.0.3"}}))
	r.begin()
	t.Cleanup(r.end)
	log := r.log.(*logtest.Buffer)
	client := &tls.Config{ServerName: "sip.example.com", RootCAs: ca.Pool()}
	shown := func(want string) {
		t.Helper()
		got := ""
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			p, err := dialTLS(t, addr, client)
			if err != nil {
				t.Fatal(err)
			}
			if got = p.ConnectionState().PeerCertificates[0].DNSNames[1]; got == want {
				return
			}
		}
		t.Fatalf("the certificate is %s, want %s\n%s", got, want, log)
	}

	phone, err := dialTLS(t, addr, client)
	if err != nil {
		t.Fatal(err)
	}
	const ok = "SIP/2.0 200 OK"
	if got := phone.options(t); got != ok {
		t.Fatalf("%s\n%s", got, log)
	}
	shown("first")
	r.cli(0, words("status"), "certificate  tls.certificates[0] (sip.example.com, first)  until ", "0 days left", "WARNING: it expires on")
	if text := r.scrape(); !strings.Contains(text, `sipward_certificate_expiry_timestamp_seconds{certificate="1"} `) {
		t.Error("no metric of the certificate")
	}
	log.Await(t, "The certificate (sip.example.com, first) of tls.certificates[0] expires on ", 30*time.Second)

	second := ca.Issue(t, certstest.Options{DNS: []string{"sip.example.com", "second"}, From: -time.Hour, Until: 24 * 300 * time.Hour})
	_, key := second.Write(t, r.dir, "sip")
	shown("second")
	if got := phone.options(t); got != ok {
		t.Fatal(got)
	}

	// Half of a key: what was in force stays in force, which is said once.
	whole, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	const spoiled = "what was in force stays in force"
	log.Await(t, spoiled, 30*time.Second)
	shown("second")
	r.cli(exitRefused, words("reload"), "sipward.yaml:14:12: tls.certificates[0].key: ", "no private key")
	if err := os.WriteFile(key, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	log.Await(t, "files have changed and are in force", 30*time.Second)
	ca.Issue(t, certstest.Options{DNS: []string{"sip.example.com", "third"}}).Write(t, r.dir, "sip")
	r.cli(0, words("reload")) // without waiting for the files to be noticed
	shown("third")
	if got := phone.options(t); got != ok {
		t.Fatal(got)
	}
	if n := strings.Count(log.String(), spoiled); n != 1 {
		t.Errorf("the spoiled key is told of %d times\n%s", n, log)
	}
}

// TestTransports: each transport that can be configured leads to the PBX.
func TestTransports(t *testing.T) {
	ca := certstest.NewAuthority(t, "CA")
	r, _ := tlsSipward(t, ca, ca.Issue(t, certstest.Options{IPs: []string{"127.0.0.3"}}), "websocket: {origins: ['https://phone.example.com']}")
	ports := map[string]int{"dtls": freePort(t), "ws": freePort(t), "wss": freePort(t)}
	more := ""
	for scheme, port := range ports {
		more += fmt.Sprintf(", %s://127.0.0.1:%d]", scheme, port)
	}
	text := strings.Replace(r.text(), "]", strings.ReplaceAll(more, "]", "")+"]", 1)
	r.write(strings.Replace(text, "127.0.0.3:5060", fmt.Sprint("127.0.0.3:", udpPBX(t)), 1))
	r.begin()
	t.Cleanup(r.end)
	for _, c := range []struct {
		transport phone.Transport
		port      int
		origin    string
		fails     bool
	}{
		{phone.UDP, r.port, "", false},
		{phone.TLS, r.port, "", false},
		{phone.DTLS, ports["dtls"], "", false},
		{phone.WS, ports["ws"], "", false},
		{phone.WSS, ports["wss"], "", false},
		{phone.WSS, ports["wss"], "https://phone.example.com", false},
		{phone.WSS, ports["wss"], "https://evil.example.com", true},
	} {
		p, err := phone.New(phone.Config{
			User: "1001", Domain: "example.com", Transport: c.transport, Origin: c.origin,
			Proxy: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(c.port)),
			TLS:   &tls.Config{ServerName: "sip.example.com", RootCAs: ca.Pool()},
		})
		if c.fails {
			if err == nil {
				p.Close()
				t.Errorf("%s: a page of %s may connect", c.transport, c.origin)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v\n%s", c.transport, err, r.log)
		}
		ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
		got, err := p.Do(ctx, p.NewRequest("OPTIONS", "sip:example.com"))
		stop()
		p.Close()
		if err != nil || got.Status() != 200 {
			t.Errorf("%s: %+v %v\n%s", c.transport, got, err, r.log)
		}
	}
}

// TestTrunkCertificates: who shows the certificate of a trunk is one.
func TestTrunkCertificates(t *testing.T) {
	ca := certstest.NewAuthority(t, "CA")
	r, addr := tlsSipward(t, ca, ca.Issue(t, certstest.Options{IPs: []string{"127.0.0.3"}}))
	carriers := certstest.NewAuthority(t, "Carriers")
	r.write(strings.Replace(r.text(), "\ntls:\n", fmt.Sprintf("\ntls:\n  client_auth: request\n  client_ca: %s\n  trunks: [carrier.example.com]\n", carriers.Write(t, r.dir)), 1))
	r.begin()
	t.Cleanup(r.end)
	for _, c := range []struct {
		shown *certstest.Issued
		trunk bool
	}{
		{carriers.Issue(t, certstest.Options{DNS: []string{"other.example.com"}}), false},
		{ca.Issue(t, certstest.Options{DNS: []string{"carrier.example.com"}}), false},
		{carriers.Issue(t, certstest.Options{URIs: []string{"sip:carrier.example.com"}}), true},
	} {
		p, err := dialTLS(t, addr, &tls.Config{ServerName: "sip.example.com", RootCAs: ca.Pool(), Certificates: []tls.Certificate{c.shown.TLS}})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.options(t); got != "SIP/2.0 200 OK" {
			t.Fatalf("%s\n%s", got, r.log)
		}
		if out := r.cli(0, words("status")); strings.Contains(out, "1 source in good standing") != c.trunk {
			t.Errorf("trunk %v in\n%s", !c.trunk, out)
		}
	}
}

// TestACME obtains the certificates of a listener, which answers the authority itself: by a
// reload in place of one from a file, and then one more.
func TestACME(t *testing.T) {
	ca := certstest.NewAuthority(t, "CA")
	r, addr := tlsSipward(t, ca, ca.Issue(t, certstest.Options{IPs: []string{"127.0.0.3"}}))
	pebble := certstest.StartPebble(t, netip.MustParseAddrPort(addr), 90*24*time.Hour)
	own, _, _ := strings.Cut(r.text(), "\ntls:\n")
	r.begin()
	t.Cleanup(r.end)
	r.write(own + "\n" + noKernel + fmt.Sprintf(`
tls:
  acme:
    domains: [sip.example.com]
    agree: true
    directory: %s
    ca_file: %s
    challenge: tls-alpn-01
    port: %d
`, pebble.Directory, pebble.CA, r.port))
	reload := func(name string) *tlsPhone {
		t.Helper()
		if out := r.cli(0, words("reload"), "changed: tls.acme.domains: "); strings.Contains(out, "restart") {
			t.Error(out)
		}
		for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
			p, err := dialTLS(t, addr, &tls.Config{ServerName: name, RootCAs: pebble.Roots})
			if err == nil {
				if got := p.options(t); got != "SIP/2.0 200 OK" {
					t.Errorf("%s\n%s", got, r.log)
				}
				r.cli(0, words("status"), "certificate  tls.acme ("+name+")  until ", "89 days left")
				return p
			}
			if time.Now().After(end) {
				t.Fatalf("%v\n%s", err, r.log)
			}
		}
	}
	phone := reload("sip.example.com")
	r.write(strings.Replace(r.text(), "[sip.example.com]", "[sip.example.com, voice.example.com]", 1))
	reload("voice.example.com")
	if got := phone.options(t); got != "SIP/2.0 200 OK" {
		t.Errorf("on the connection of before: %s", got)
	}
	before := r.text()
	r.write(strings.Replace(before, "ca_file: ", "ca_file: /nowhere", 1))
	r.cli(exitRefused, words("reload"), "not reloaded", "tls.acme.ca_file: there is no file /nowhere")
	r.write(before)
	if out := r.cli(0, words("reload")); strings.Contains(out, "changed") {
		t.Error("what was refused was in force:", out)
	}
}

// TestTLSRefused: what each side is told when a certificate is not trusted.
func TestTLSRefused(t *testing.T) {
	ca, foreign := certstest.NewAuthority(t, "CA"), certstest.NewAuthority(t, "Foreign CA")
	r, addr := tlsSipward(t, ca, foreign.Issue(t, certstest.Options{IPs: []string{"127.0.0.3"}}), "log: {level: debug}")
	r.begin()
	t.Cleanup(r.end)
	log := r.log.(*logtest.Buffer)

	// A phone does not trust ours.
	_, err := dialTLS(t, addr, &tls.Config{ServerName: "sip.example.com", RootCAs: foreign.Pool()})
	if err == nil {
		t.Fatal("a phone trusts a foreign authority")
	}
	log.Await(t, "refuses sipward's certificate", 30*time.Second)

	// Neither do we the PBX's.
	phone, err := dialTLS(t, addr, &tls.Config{ServerName: "sip.example.com", RootCAs: ca.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	if got := phone.options(t); !strings.HasPrefix(got, "SIP/2.0 503 ") {
		t.Errorf("%s\n%s", got, log)
	}
	log.Await(t, "authority that is not trusted here (CN=Foreign CA)", 30*time.Second)

	// Until the authority is added to the file.
	more, err := os.ReadFile(foreign.Write(t, r.dir))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(r.dir, "CA.pem"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := f.Write(more)
	if err := errors.Join(err1, f.Close()); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		got := phone.options(t)
		if got == "SIP/2.0 200 OK" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%s\n%s", got, log)
		}
	}
}

// TestCheckCertificates: what `sipward check` says about the files of certificates.
func TestCheckCertificates(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.NewAuthority(t, "CA")
	ca.Write(t, dir)
	ca.Issue(t, certstest.Options{DNS: []string{"sip.example.com"}, From: -time.Hour, Until: 24 * 300 * time.Hour}).Write(t, dir, "good")
	ca.Issue(t, certstest.Options{DNS: []string{"sip.example.com"}, From: -48 * time.Hour, Until: -24 * time.Hour}).Write(t, dir, "late")
	for _, c := range []struct {
		name, certificate, key, more string
		code                         int
		want                         string
	}{
		{"good", "good.pem", "good.key", "", 0, "tls      certificates[0]: (sip.example.com) until "},
		{"missing", "none.pem", "good.key", "", exitRefused, "c.yaml:5:36: tls.certificates[0].certificate: there is no file " + dir + "/none.pem"},
		{"key of another", "good.pem", "late.key", "", exitRefused, "c.yaml:5:51: tls.certificates[0].key: " + dir + "/late.key is not the key of " + dir + "/good.pem"},
		{"expired", "late.pem", "late.key", "", 0, "WARNING  c.yaml:5:22: tls.certificates[0]: the certificate (sip.example.com) has expired on "},
		{"for another host", "good.pem", "good.key", "listen: {outside: [udp://198.51.100.1, tcp://198.51.100.1, tls://198.51.100.1], advertise: {198.51.100.1: voice.example.com}}", 0,
			"WARNING  c.yaml:2:92: listen.advertise: phones are told that tls://198.51.100.1:5061 is voice.example.com, and no certificate is for that name"},
		{"authorities of clients", "good.pem", "good.key", "", 0, ""},
		{"no authorities of the PBX", "good.pem", "good.key", "", 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.more == "" {
				c.more = "listen: {outside: [udp://198.51.100.1, tcp://198.51.100.1, tls://198.51.100.1]}"
			}
			text := fmt.Sprintf("\n%s\npbx: [{address: 203.0.113.2}]\n\ntls: {certificates: [{certificate: %s, key: %s}]}\n", c.more, c.certificate, c.key)
			switch c.name {
			case "authorities of clients":
				text = strings.Replace(text, "tls: {", "tls: {client_auth: request, client_ca: none.pem, ", 1)
				c.code, c.want = exitRefused, "tls.client_ca: there is no file "
			case "no authorities of the PBX":
				text = strings.Replace(text, "203.0.113.2", "203.0.113.2, transports: [udp, tls], tls: {ca: good.key}", 1)
				c.code, c.want = exitRefused, "c.yaml:3:64: pbx[0].tls.ca: "
			}
			t.Chdir(dir)
			if err := os.WriteFile("c.yaml", []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			code, out := command(t, "check", "--config", "c.yaml")
			if code != c.code || !strings.Contains(out, c.want) {
				t.Errorf("exit code %d, want %d and %q in\n%s", code, c.code, c.want, out)
			}
			if c.name == "good" && strings.Contains(out, "WARNING") {
				t.Error(out)
			}
		})
	}
}
