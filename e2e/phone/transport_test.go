package phone_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/dtls/v3"

	"sipward/e2e/phone"
	"sipward/proxy/certs/certstest"
)

// TestTransports registers over each transport with a server that says yes to everything.
func TestTransports(t *testing.T) {
	authority := certstest.NewAuthority(t, "authority")
	cert, pool := authority.Issue(t, certstest.Options{DNS: []string{"sip.example.com"}}).TLS, authority.Pool()
	server := &tls.Config{Certificates: []tls.Certificate{cert}}

	sockets := func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"sip"}, InsecureSkipVerify: true})
		if err != nil {
			return
		}
		for {
			_, b, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), websocket.MessageText, yes(b)) != nil {
				return
			}
		}
	}
	clear := httptest.NewServer(http.HandlerFunc(sockets))
	t.Cleanup(clear.Close)
	secure := httptest.NewUnstartedServer(http.HandlerFunc(sockets))
	secure.TLS = server
	secure.StartTLS()
	t.Cleanup(secure.Close)
	overTLS, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, overTLS, func(c net.Conn, r *bufio.Reader) ([]byte, error) { return phone.ReadMessage(r) })
	overDTLS, err := dtls.ListenWithOptions("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, dtls.WithCertificates(cert))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, overDTLS, func(c net.Conn, _ *bufio.Reader) ([]byte, error) {
		b := make([]byte, 65536)
		n, err := c.Read(b)
		return b[:n], err
	})

	for transport, at := range map[phone.Transport]net.Addr{
		phone.TLS: overTLS.Addr(), phone.WS: clear.Listener.Addr(), phone.WSS: secure.Listener.Addr(), phone.DTLS: overDTLS.Addr(),
	} {
		p, err := phone.New(phone.Config{User: "alice", Domain: "example.com", Transport: transport, Local: netip.MustParseAddrPort("127.0.0.1:0"),
			Proxy: netip.MustParseAddrPort(at.String()), TLS: &tls.Config{RootCAs: pool, ServerName: "sip.example.com"}, Origin: "https://phone.example.com"})
		if err != nil {
			t.Fatal(transport, err)
		}
		t.Cleanup(p.Close)
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		r, err := p.Register(ctx, 300)
		if err != nil || r.Status() != 200 {
			t.Fatalf("%v: %v, %v", transport, r, err)
		}
		via, host := r.Value("Via"), p.Local().String()
		if transport == phone.WS || transport == phone.WSS {
			if _, host, _ = strings.Cut(p.Contact(), "@"); !strings.HasSuffix(host, ".invalid;transport=ws") {
				t.Errorf("contact %q", p.Contact())
			}
			host, _, _ = strings.Cut(host, ";")
		}
		if !strings.HasPrefix(via, fmt.Sprintf("SIP/2.0/%v %s;", transport, host)) {
			t.Errorf("%v: Via %q", transport, via)
		}
	}
}

// serve answers what each connection sends.
func serve(t *testing.T, l net.Listener, receive func(net.Conn, *bufio.Reader) ([]byte, error)) {
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				r := bufio.NewReader(c)
				for {
					b, err := receive(c, r)
					if err != nil {
						return
					}
					if _, err := c.Write(yes(b)); err != nil {
						return
					}
				}
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
}

// yes is a 200 to a request.
func yes(request []byte) []byte {
	_, rest, _ := strings.Cut(string(request), "\r\n")
	return []byte("SIP/2.0 200 OK\r\n" + rest)
}

// TestDTLSLast: what a server says right before it ends the association is read.
func TestDTLSLast(t *testing.T) {
	authority := certstest.NewAuthority(t, "authority")
	cert, pool := authority.Issue(t, certstest.Options{DNS: []string{"sip.example.com"}}).TLS, authority.Pool()
	server, err := dtls.ListenWithOptions("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, dtls.WithCertificates(cert))
	if err != nil {
		t.Fatal(err)
	}
	const messages = 20
	serve(t, server, func(c net.Conn, _ *bufio.Reader) ([]byte, error) {
		b := make([]byte, 65536)
		if _, err := c.Read(b); err != nil {
			return nil, err
		}
		for range messages {
			_, _ = c.Write([]byte("SIP/2.0 200 OK\r\n\r\n"))
		}
		return nil, errors.Join(io.EOF, c.Close())
	})
	for range 20 {
		line, err := phone.Dial(phone.Config{Transport: phone.DTLS, Local: netip.MustParseAddrPort("127.0.0.1:0"),
			Proxy: netip.MustParseAddrPort(server.Addr().String()), TLS: &tls.Config{RootCAs: pool, ServerName: "sip.example.com"}})
		if err != nil {
			t.Fatal(err)
		}
		defer line.Close()
		if err := line.Write([]byte("OPTIONS\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		n := 0
		for ; ; n++ {
			if _, err := line.Read(); err != nil {
				break
			}
			time.Sleep(time.Millisecond) // it is busy when the end comes
		}
		if n != messages {
			t.Fatalf("read %d of %d messages", n, messages)
		}
	}
}
