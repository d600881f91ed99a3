package netio_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"sipward/proxy/netio"
)

// echoClient is the other end of a connection: it sends a message, and reads as many
// bytes of an answer as wire.
type echoClient struct {
	io.ReadWriter
	send []byte
	wire int
}

func (c echoClient) round(t testing.TB, answer []byte) {
	if _, err := c.Write(c.send); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c.ReadWriter, answer[:c.wire]); err != nil {
		t.Fatal(err)
	}
}

// echoClients are one for each transport, with a message of 600 bytes.
func echoClients(t testing.TB) map[string]echoClient {
	t.Helper()
	server, cfg := edge(t)
	web := &netio.WebSocket{}
	tcp := runStreams(t, netio.TCPConfig{}, echoStream(),
		netio.StreamListener{Addr: addrPort("127.0.0.1:0")},
		netio.StreamListener{Addr: addrPort("127.0.0.1:0"), TLS: server},
		netio.StreamListener{Addr: addrPort("127.0.0.1:0"), WebSocket: web},
		netio.StreamListener{Addr: addrPort("127.0.0.1:0"), WebSocket: web, TLS: server})
	msg := options("x", 400)
	framed := frame(0x82, msg)
	ws := dialRawWeb(t, "", tcp.LocalAddr(2))
	wss := rawWeb{t, dialTLS(t, "", tcp.LocalAddr(3), cfg)}
	write(t, wss, upgradeRequest)
	wss.skipHead()
	for _, c := range []net.Conn{ws, wss} {
		_ = c.SetDeadline(time.Time{})
	}
	return map[string]echoClient{
		"tcp": {dial(t, "", tcp.LocalAddr(0)), []byte(msg), len(msg)},
		"tls": {dialTLS(t, "", tcp.LocalAddr(1), cfg), []byte(msg), len(msg)},
		"ws":  {ws, []byte(framed), len(msg) + 4},
		"wss": {wss, []byte(framed), len(msg) + 4},
	}
}

func BenchmarkStreamRoundTrip(b *testing.B) {
	clients := echoClients(b)
	answer := make([]byte, 4096)
	for _, name := range []string{"tcp", "tls", "ws", "wss"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				clients[name].round(b, answer)
			}
		})
	}
}

// TestLayerAllocs: crypto/tls allocates once for a record that is written, here at
// both ends. Nothing else does.
func TestLayerAllocs(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes pools allocate")
	}
	answer := make([]byte, 4096)
	clients := echoClients(t)
	for name, most := range map[string]float64{"tcp": 0, "tls": 2, "ws": 0, "wss": 2} {
		c := clients[name]
		for range 10 {
			c.round(t, answer)
		}
		n := testing.AllocsPerRun(1000, func() { c.round(t, answer) })
		t.Logf("%s: %v allocations for a message and its answer", name, n)
		if n > most {
			t.Errorf("%s: %v allocations for a message and its answer, want at most %v", name, n, most)
		}
	}
}

// BenchmarkStreamOpen opens connections, up to the first message's answer: TCP's for
// comparison, TLS 1.3 with a certificate of either kind, and with a session ticket.
func BenchmarkStreamOpen(b *testing.B) {
	server, client := edge(b)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{edgeName}, NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	web := &netio.WebSocket{}
	h := echoStream()
	h.closed = make(chan closing, 1_000_000)
	tcp := runStreams(b, netio.TCPConfig{}, h,
		netio.StreamListener{Addr: addrPort("127.0.0.1:0")},
		netio.StreamListener{Addr: addrPort("127.0.0.1:0"), TLS: server},
		netio.StreamListener{Addr: addrPort("127.0.0.1:0"), TLS: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}},
		netio.StreamListener{Addr: addrPort("127.0.0.1:0"), WebSocket: web},
		netio.StreamListener{Addr: addrPort("127.0.0.1:0"), WebSocket: web, TLS: server})
	client.InsecureSkipVerify = true // the client's part is not what is measured
	resuming := client.Clone()
	resuming.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	msg := []byte(options("x", 400))
	framed := []byte(frame(0x82, string(msg)))
	answer := make([]byte, len(msg)+4)
	for _, bb := range []struct {
		name     string
		listener int
		cfg      *tls.Config
		web      bool
	}{
		{"tcp", 0, nil, false},
		{"tls-ecdsa", 1, client, false},
		{"tls-resumed", 1, resuming, false},
		{"tls-rsa2048", 2, client, false},
		{"ws", 3, nil, true},
		{"wss-ecdsa", 4, client, true},
	} {
		b.Run(bb.name, func(b *testing.B) {
			for b.Loop() {
				var c net.Conn
				nc, err := net.Dial("tcp", tcp.LocalAddr(bb.listener).String())
				if err != nil {
					b.Fatal(err)
				}
				if c = nc; bb.cfg != nil {
					c = tls.Client(nc, bb.cfg)
				}
				e := echoClient{c, msg, len(msg)}
				if bb.web {
					write(b, c, upgradeRequest)
					rawWeb{b, c}.skipHead()
					e = echoClient{c, framed, len(msg) + 4}
				}
				e.round(b, answer)
				_ = nc.(*net.TCPConn).SetLinger(0) // no port in TIME_WAIT
				nc.Close()
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "conn/s")
		})
	}
}
