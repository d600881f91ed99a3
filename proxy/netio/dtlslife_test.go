package netio_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/protocol"

	"sipward/proxy/netio"
)

// exchange sends a message and wants it back.
func exchange(t testing.TB, c *dtls.Conn, id string) {
	t.Helper()
	msg := options(id, 10)
	write(t, c, msg)
	if got := answer(t, c); got != msg {
		t.Errorf("answer %q", got)
	}
}

// runEcho runs a DTLS that sends back what it is sent.
func runEcho(t testing.TB, cfg netio.DTLSConfig) (*stream, *netio.DTLS, *tls.Config) {
	t.Helper()
	h := newStream()
	h.onMessage = sendBack
	d, client := runDTLS(t, cfg, h)
	return h, d, client
}

// TestDTLSLoss loses a third of what the client sends in its handshake.
func TestDTLSLoss(t *testing.T) {
	for seed := range uint64(5) {
		_, d, cfg := runEcho(t, netio.DTLSConfig{Conns: netio.TCPConfig{HandshakeTimeout: time.Minute}})
		w := newWire(t, "", d.LocalAddr(0))
		dice := rand.New(rand.NewPCG(seed, 1))
		var lossless atomic.Bool
		w.alter = func(b []byte) []byte {
			if !lossless.Load() && dice.IntN(3) == 0 {
				return nil
			}
			return b
		}
		c := dialDTLS(t, w, cfg, withID)
		lossless.Store(true)
		exchange(t, c, "after the loss")
	}
}

// TestDTLSForgedRecords: what anybody may send in the name of the other side does not
// end an association.
func TestDTLSForgedRecords(t *testing.T) {
	for _, id := range []bool{false, true} {
		h, d, cfg := runEcho(t, netio.DTLSConfig{})
		w := newWire(t, "", d.LocalAddr(0))
		var seen [][]byte // of the client's datagrams
		w.alter = func(b []byte) []byte {
			seen = append(seen, bytes.Clone(b))
			return b
		}
		var more []dtls.ClientOption
		if id {
			more = append(more, withID)
		}
		c := dialDTLS(t, w, cfg, more...)
		exchange(t, c, "before")
		forged := [][]byte{
			{}, {21}, bytes.Repeat([]byte{0}, 100),
			record(21, 0, 2, 40), record(21, 0, 1, 0), record(21, 0, 9), // alerts: failure, close_notify, malformed
			record(21, 1, 2, 40), record(25, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 20),
			record(20, 0, 1), record(20, 0, 2), record(23, 0, 'x'), record(23, 1, make([]byte, 50)...),
			record(22, 0, 1, 2, 3), record(22, 0, 16, 0, 0, 1, 0, 9, 0, 0, 0, 0, 0, 1, 5), record(99, 0, 1), record(24, 0, 1), record(23, 2, 1),
			dtlsHello(1, nil), dtlsHello(1, make([]byte, 16)),
		}
		forged = append(forged, seen...) // its own, once more
		dice := rand.New(rand.NewPCG(1, 2))
		for range 200 {
			b := bytes.Clone(seen[dice.IntN(len(seen))])
			for range 1 + dice.IntN(4) {
				b[dice.IntN(len(b))] = byte(dice.Uint32())
			}
			forged = append(forged, b[:1+dice.IntN(len(b))])
		}
		for _, b := range forged {
			if _, err := w.now.Load().WriteToUDPAddrPort(b, w.to); err != nil {
				t.Fatal(err)
			}
		}
		exchange(t, c, "after")
		select {
		case e := <-h.closed:
			t.Errorf("closed: %v", e.err)
		default:
		}
		if st := d.Stats(); st.Open != 1 || st.Accepted != 1 || st.Messages != 2 {
			t.Errorf("stats %+v", st)
		}
	}
}

// record is one of that type and epoch.
func record(kind, epoch byte, content ...byte) []byte {
	b := append([]byte{kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 1, 0, 0, 0}, content...)
	binary.BigEndian.PutUint16(b[11:], uint16(len(content)))
	return b
}

// TestDTLSPlainBudget: forged fragments of handshakes are kept up to a bound.
func TestDTLSPlainBudget(t *testing.T) {
	_, d, cfg := runEcho(t, netio.DTLSConfig{})
	w := newWire(t, "", d.LocalAddr(0))
	c := dialDTLS(t, w, cfg)
	exchange(t, c, "before")
	before := d.Stats().Strays
	const n, size = 50, 4000
	for i := range n {
		content := make([]byte, size) // the beginning of a long message that never ends
		copy(content, []byte{16, 1, 0, 0, 0, byte(100 + i), 0, 0, 0, 0, byte((size - 12) >> 8), byte((size - 12) & 255)})
		b := record(22, 0, content...)
		binary.BigEndian.PutUint16(b[8:], uint16(100+i))
		if _, err := w.now.Load().WriteToUDPAddrPort(b, w.to); err != nil {
			t.Fatal(err)
		}
	}
	poll(t, "fragments over the budget", func() bool { return d.Stats().Strays >= before+n-64<<10/size })
	exchange(t, c, "after")
}

// TestDTLSBeginsAnew: who has lost its association begins another from the same
// address and port (RFC 6347 §4.2.8).
func TestDTLSBeginsAnew(t *testing.T) {
	h, d, cfg := runEcho(t, netio.DTLSConfig{Conns: netio.TCPConfig{MaxPerSource: 2}})
	w := newWire(t, "127.0.0.1:0", d.LocalAddr(0))
	exchange(t, dialDTLS(t, w, cfg), "first")
	for range 5 {
		w.Close()
		w = newWire(t, w.local().String(), d.LocalAddr(0))
		exchange(t, dialDTLS(t, w, cfg), "again")
		if e := wait(t, h.closed, "end of the one before"); e.err == nil {
			t.Error("closed without a reason")
		}
		// Its place is free when it has ended.
		poll(t, "one association", func() bool { return d.Stats().Open == 1 })
	}
	if st := d.Stats(); st.Replaced != 5 || st.Accepted != 6 {
		t.Errorf("stats %+v", st)
	}
}

// TestDTLSMoves: with a connection ID an association outlives its address (RFC 9146),
// if the new one is let in. What is decided about it goes by the address that it has proven.
func TestDTLSMoves(t *testing.T) {
	h := newStream()
	h.accept = func(a netip.AddrPort) bool { return a.Addr() != netip.MustParseAddr("127.0.0.66") }
	conns := make(chan *netio.Conn, 10)
	h.onMessage = func(c *netio.Conn, msg []byte) {
		conns <- c
		sendBack(c, msg)
	}
	d, cfg := runDTLS(t, netio.DTLSConfig{}, h)
	w := newWire(t, "127.0.0.1:0", d.LocalAddr(0))
	c := dialDTLS(t, w, cfg, withID)
	exchange(t, c, "here")
	conn := wait(t, conns, "connection")
	before, old := w.local(), w.now.Load()
	w.open(t, "127.0.0.2:0")
	for range 3 { // the first one may still be seen at the old address
		exchange(t, c, "there")
		if again := wait(t, conns, "connection"); again != conn {
			t.Error("another connection")
		}
	}
	if conn.Remote() != before || d.Stats().Moves != 1 {
		t.Errorf("at %v, want %v; %d moves", conn.Remote(), before, d.Stats().Moves)
	}

	// A newcomer at the old address is no reason to end the one that has left it.
	old.Close()
	newcomer := dialDTLS(t, newWire(t, before.String(), d.LocalAddr(0)), cfg)
	exchange(t, newcomer, "newcomer")
	wait(t, conns, "connection of the newcomer")
	exchange(t, c, "still there")
	newcomer.Close()
	wait(t, h.closed, "end of the newcomer")

	w.open(t, "127.0.0.66:0")
	write(t, c, options("refused", 0))
	poll(t, "refusal", func() bool { return d.Stats().RefusedGate > 0 })
	w.open(t, "127.0.0.3:0")
	exchange(t, c, "back")
	if n := d.CloseSource(func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.0.3") }); n != 0 {
		t.Errorf("%d associations closed by an address that is not proven", n)
	}
	if n := d.CloseSource(func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.0.1") }); n != 1 {
		t.Errorf("%d associations closed", n)
	}
	if _, err := c.Read(make([]byte, 100)); !errors.Is(err, io.EOF) {
		t.Errorf("Read: %v, want EOF", err)
	}
}

func TestDTLSCaps(t *testing.T) {
	h, d, cfg := runEcho(t, netio.DTLSConfig{Conns: netio.TCPConfig{MaxConns: 4, MaxPerSource: 2}})
	shut := func(from string) {
		t.Helper()
		before := d.Stats()
		c := dtlsClient(t, newWire(t, from, d.LocalAddr(0)), cfg)
		go func() { _ = c.Handshake() }()
		poll(t, "refusal", func() bool {
			st := d.Stats()
			return st.RefusedSource+st.RefusedTotal > before.RefusedSource+before.RefusedTotal
		})
		c.Close()
	}
	var all []*dtls.Conn
	for _, from := range []string{"127.0.0.1:0", "127.0.0.1:0", "127.0.0.2:0", "127.0.0.2:0"} {
		c := dialDTLS(t, newWire(t, from, d.LocalAddr(0)), cfg)
		exchange(t, c, "in")
		all = append(all, c)
		if len(all) == 2 {
			shut("127.0.0.1:0")
		}
	}
	shut("127.0.0.3:0")
	if st := d.Stats(); st.RefusedSource == 0 || st.RefusedTotal == 0 || st.Open != 4 {
		t.Errorf("stats %+v", st)
	}
	all[0].Close()
	wait(t, h.closed, "Closed")
	poll(t, "room", func() bool { return d.Stats().Open == 3 })
	exchange(t, dialDTLS(t, newWire(t, "127.0.0.3:0", d.LocalAddr(0)), cfg), "in the room")
}

// halfOpen begins a handshake, and says no more once its address is proven.
func halfOpen(t *testing.T, from string, to netip.AddrPort, cfg *tls.Config) {
	t.Helper()
	w := newWire(t, from, to)
	hellos := 0
	w.alter = func(b []byte) []byte {
		if hellos++; hellos > 2 {
			return nil
		}
		return b
	}
	c := dtlsClient(t, w, cfg, dtls.WithFlightInterval(time.Minute))
	go func() { _ = c.Handshake() }()
}

// TestDTLSHalfOpen leaves handshakes where their address is proven.
func TestDTLSHalfOpen(t *testing.T) {
	h, d, cfg := runEcho(t, netio.DTLSConfig{Conns: netio.TCPConfig{MaxHandshakes: 3, MaxHandshakesPerSource: 2, HandshakeTimeout: time.Second}})
	half := func(from string) { halfOpen(t, from, d.LocalAddr(0), cfg) }
	for _, from := range []string{"127.0.0.1:0", "127.0.0.1:0"} {
		before := d.Stats().Accepted
		half(from)
		poll(t, "association", func() bool { return d.Stats().Accepted == before+1 })
	}
	half("127.0.0.1:0")
	poll(t, "refusal", func() bool { return d.Stats().RefusedHandshake == 1 })
	half("127.0.0.2:0")
	half("127.0.0.3:0")
	poll(t, "one that gives way", func() bool { return d.Stats().CrowdedOut == 1 })
	exchange(t, dialDTLS(t, newWire(t, "127.0.0.4:0", d.LocalAddr(0)), cfg), "meanwhile")
	for range 2 { // another one has given way to the honest one
		if f := wait(t, h.failed, "failure"); !errors.Is(f.err, netio.ErrHandshakeTimeout) {
			t.Errorf("failed with %v", f.err)
		}
	}
	poll(t, "the honest one alone", func() bool { return d.Stats().Open == 1 })
}

func TestDTLSTimes(t *testing.T) {
	h, d, cfg := runEcho(t, netio.DTLSConfig{Conns: netio.TCPConfig{FirstTimeout: 100 * time.Millisecond, IdleTimeout: 300 * time.Millisecond}})
	silent := dialDTLS(t, newWire(t, "", d.LocalAddr(0)), cfg)
	if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, netio.ErrIdle) {
		t.Errorf("without a message: closed with %v", e.err)
	}
	if _, err := silent.Read(make([]byte, 100)); !errors.Is(err, io.EOF) {
		t.Errorf("Read: %v, want EOF", err)
	}
	c := dialDTLS(t, newWire(t, "", d.LocalAddr(0)), cfg)
	exchange(t, c, "one")
	if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, netio.ErrIdle) {
		t.Errorf("idle: closed with %v", e.err)
	}
}

func TestDTLSCutOff(t *testing.T) {
	h := newStream()
	h.onMessage = func(c *netio.Conn, msg []byte) {
		c.Pin()
		c.CutOff(netio.ErrSourceClosed)
		sendBack(c, msg)
		c.Unpin()
		if !errors.Is(c.Send(msg), netio.ErrClosed) {
			t.Error("Send after the cut")
		}
	}
	d, cfg := runDTLS(t, netio.DTLSConfig{}, h)
	w, heard := newWire(t, "", d.LocalAddr(0)), make(chan struct{})
	w.before = func(p []byte) {
		if p[0] == byte(protocol.ContentTypeAlert) { // pion/dtls, when it comes, may lose what has not been read yet
			select {
			case <-heard:
			case <-t.Context().Done():
			}
		}
	}
	c := dialDTLS(t, w, cfg)
	exchange(t, c, "last words")
	close(heard)
	if _, err := c.Read(make([]byte, 100)); !errors.Is(err, io.EOF) {
		t.Errorf("Read: %v, want EOF", err)
	}
	if e := wait(t, h.closed, "Closed"); !errors.Is(e.err, netio.ErrSourceClosed) {
		t.Errorf("closed with %v", e.err)
	}
	if st := d.Stats(); st.ClosedSource != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestDTLSCloseAll(t *testing.T) {
	h, d, cfg := runEcho(t, netio.DTLSConfig{})
	c := dialDTLS(t, newWire(t, "", d.LocalAddr(0)), cfg)
	exchange(t, c, "one")
	d.CloseAll()
	if _, err := c.Read(make([]byte, 100)); !errors.Is(err, io.EOF) {
		t.Errorf("Read: %v, want EOF", err)
	}
	if e := wait(t, h.closed, "Closed"); e.err != nil {
		t.Errorf("closed with %v", e.err)
	}
}

// TestDTLSCertificates: by the name that is asked for, and of clients.
func TestDTLSCertificates(t *testing.T) {
	one, onePool := certificate(t, "one.example", time.Now().AddDate(1, 0, 0))
	two, twoPool := certificate(t, "two.example", time.Now().AddDate(1, 0, 0))
	trunk, trunkPool := certificate(t, "trunk.example", time.Now().AddDate(1, 0, 0))
	stranger, _ := certificate(t, "stranger.example", time.Now().AddDate(1, 0, 0))
	inForce := &tls.Config{Certificates: []tls.Certificate{one, two}, ClientAuth: tls.RequireAnyClientCert,
		VerifyConnection: func(st tls.ConnectionState) error {
			_, err := st.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: trunkPool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			return err
		}}
	h := newStream()
	names := make(chan string, 10)
	h.onMessage = func(c *netio.Conn, msg []byte) {
		names <- c.TLS().PeerCertificates[0].DNSNames[0]
		sendBack(c, msg)
	}
	d, _ := runDTLS(t, netio.DTLSConfig{TLS: &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return inForce, nil },
	}}, h)
	for name, pool := range map[string]*x509.CertPool{"one.example": onePool, "two.example": twoPool} {
		c := dialDTLS(t, newWire(t, "", d.LocalAddr(0)), &tls.Config{RootCAs: pool, ServerName: name}, dtls.WithCertificates(trunk))
		exchange(t, c, name)
		if got := wait(t, names, "name"); got != "trunk.example" {
			t.Errorf("the client is %q", got)
		}
	}
	for _, c := range []struct {
		name string
		cfg  *tls.Config
		more []dtls.ClientOption
		want error
	}{
		{"authority that the client does not know", &tls.Config{RootCAs: trunkPool, ServerName: "one.example"}, []dtls.ClientOption{dtls.WithCertificates(trunk)}, netio.ErrRejected},
		{"another name", &tls.Config{RootCAs: onePool, ServerName: "three.example"}, []dtls.ClientOption{dtls.WithCertificates(trunk)}, netio.ErrRejected},
		{"a client that we do not know", &tls.Config{RootCAs: onePool, ServerName: "one.example"}, []dtls.ClientOption{dtls.WithCertificates(stranger)}, nil},
		{"a client without a certificate", &tls.Config{RootCAs: onePool, ServerName: "one.example"}, nil, nil},
	} {
		err := shake(t, dtlsClient(t, newWire(t, "", d.LocalAddr(0)), c.cfg, c.more...))
		f := wait(t, h.failed, "failure: "+c.name)
		if err == nil || f.err == nil || c.want != nil && !errors.Is(f.err, c.want) {
			t.Errorf("%s: the client says %v, we say %v", c.name, err, f.err)
		}
		t.Logf("%s: the client says %q, we say %q", c.name, err, f.err)
	}
}
