package proxy_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"sipward/policy"
	"sipward/sip"
	"sipward/sip/siptest"
)

// A line is one connection of a phone or the PBX, over TCP or TLS.
type line struct {
	tb   testing.TB
	conn net.Conn
	buf  []byte
	f    sip.Framer
}

func dialLine(tb testing.TB, from string, to netip.AddrPort) *line {
	tb.Helper()
	c, err := net.DialTCP("tcp", &net.TCPAddr{IP: net.ParseIP(from)}, net.TCPAddrFromAddrPort(to))
	if err != nil {
		tb.Fatal(err)
	}
	return newLine(tb, c)
}

func newLine(tb testing.TB, c net.Conn) *line {
	tb.Cleanup(func() { c.Close() })
	return &line{tb: tb, conn: c, f: sip.Framer{MaxHeader: 16 << 10, MaxMessage: 64 << 10}}
}

// acceptPBX waits for sipward's next connection to the PBX.
func acceptPBX(r *rig) *line {
	r.tb.Helper()
	r.pbxTCP.SetDeadline(time.Now().Add(patience))
	c, err := r.pbxTCP.AcceptTCP()
	if err != nil {
		r.tb.Fatalf("sipward does not connect to the PBX: %v", err)
	}
	if r.options.pbx.TLS != nil {
		return newLine(r.tb, tls.Server(c, r.certificate("pbx.example.com")))
	}
	return newLine(r.tb, c)
}

// dialTLS connects a phone to one of sipward's listeners for TLS.
func dialTLS(r *rig, from string, to netip.AddrPort) *line {
	r.tb.Helper()
	l := dialLine(r.tb, from, to)
	l.conn = tls.Client(l.conn, &tls.Config{RootCAs: r.authority.Pool(), ServerName: "edge.example.com"})
	return l
}

func (l *line) local() string  { return l.conn.LocalAddr().String() }
func (l *line) remote() string { return l.conn.RemoteAddr().String() }

func (l *line) send(b []byte) {
	l.tb.Helper()
	if _, err := l.conn.Write(b); err != nil {
		l.tb.Fatal(err)
	}
}

func (l *line) receive() *sip.Message {
	l.tb.Helper()
	for {
		kind, n, fault := l.f.Next(l.buf)
		if fault != 0 {
			l.tb.Fatalf("framing: %v", fault)
		}
		if kind != sip.NeedMore {
			b := l.buf[:n]
			l.buf = l.buf[n:]
			if kind == sip.FrameMessage {
				return scan(l.tb, append([]byte(nil), b...))
			}
			continue
		}
		chunk := make([]byte, 4096)
		l.conn.SetReadDeadline(time.Now().Add(patience))
		n, err := l.conn.Read(chunk)
		if err != nil {
			l.tb.Fatalf("%s receives nothing: %v", l.local(), err)
		}
		l.buf = append(l.buf, chunk[:n]...)
	}
}

// ended waits for the other side to close.
func (l *line) ended() {
	l.tb.Helper()
	l.conn.SetReadDeadline(time.Now().Add(patience))
	if n, err := l.conn.Read(make([]byte, 4096)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		l.tb.Fatalf("%s is still open (%d bytes, %v)", l.local(), n, err)
	} else if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		l.tb.Fatal(err)
	}
}

func registerTCP(r *rig, phone *line, user string) []byte {
	return siptest.Register(siptest.Options{Transport: "TCP", Via: phone.local(), User: user, Contact: fmt.Sprintf("sip:%s@%s;transport=tcp", user, phone.local())})
}

// TestPaired: each phone's connection has one of its own to the PBX, opened with its
// first request and closed together with it, from either side.
func TestPaired(t *testing.T) {
	r := newRig(t, rigOptions{})
	a, b := dialLine(t, "127.0.1.1", r.tcp), dialLine(t, "127.0.1.1", r.tcp)
	a.send(registerTCP(r, a, "alice"))
	pa := acceptPBX(r)
	reg := pa.receive()
	if got := contactURI(value(reg, sip.HeaderContact, 0)); !strings.HasSuffix(got, "@"+r.tcpIn.String()+";transport=tcp") {
		t.Errorf("alias %s", got)
	}
	pa.send(respond(reg, "200 OK"))
	if m := a.receive(); m.Status != 200 {
		t.Errorf("answered %d", m.Status)
	}
	b.send(registerTCP(r, b, "bob"))
	pb := acceptPBX(r)
	pb.receive()
	a.send(registerTCP(r, a, "alice"))
	pa.receive() // on the same connection

	a.conn.Close()
	pa.ended()
	pb.conn.Close()
	b.ended()
}

// TestCallOverPair: the PBX calls a phone back over the pair, over a connection of
// its own, and without a token at all.
func TestCallOverPair(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone := dialLine(t, "127.0.1.1", r.tcp)
	phone.send(registerTCP(r, phone, "alice"))
	pair := acceptPBX(r)
	alias := contactURI(value(pair.receive(), sip.HeaderContact, 0))
	own := dialLine(t, "127.0.0.3", r.tcpIn)

	for name, tc := range map[string]struct {
		line *line
		uri  string
		want string
	}{
		"pair":           {pair, alias, fmt.Sprintf("sip:alice@%s;transport=tcp", phone.local())},
		"own connection": {own, alias, fmt.Sprintf("sip:alice@%s;transport=tcp", phone.local())},
		"no token":       {pair, "sip:alice@" + pair.remote(), "sip:alice@" + pair.remote()},
	} {
		t.Run(name, func(t *testing.T) {
			tc.line.send(siptest.Invite(siptest.Options{Transport: "TCP", Via: "127.0.0.3:5060", RequestURI: tc.uri, CallID: strings.ReplaceAll(name, " ", "-")}))
			invite := phone.receive()
			if uri(invite) != tc.want {
				t.Errorf("the phone is called %s, want %s", uri(invite), tc.want)
			}
			if !strings.HasPrefix(value(invite, sip.HeaderVia, 0), "SIP/2.0/TCP "+r.tcp.String()) {
				t.Errorf("Via %s", value(invite, sip.HeaderVia, 0))
			}
			phone.send(respond(invite, "486 Busy Here"))
			if m := tc.line.receive(); m.Status != 486 || m.ViaCount != 1 {
				t.Errorf("the PBX got\n%s", m.Buf)
			}
		})
	}
}

// TestRestartInMidCallTCP: when sipward and the phone have both come back, the PBX's
// BYE finds the phone's new connection: by its account.
func TestRestartInMidCallTCP(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone := dialLine(t, "127.0.1.1", r.tcp)
	phone.send(siptest.Invite(siptest.Options{Transport: "TCP", Via: phone.local()}))
	rr := values(acceptPBX(r).receive(), sip.HeaderRecordRoute)
	r = r.restart()
	bye := fmt.Appendf(nil, "BYE sip:alice@10.0.0.5 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.3;branch=z9hG4bKb\r\nMax-Forwards: 70\r\nRoute: %s, %s\r\n"+
		"From: <sip:a@x>;tag=1\r\nTo: <sip:b@x>;tag=2\r\nCall-ID: c\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n", rr[0], rr[1])

	pbx := dialLine(t, "127.0.0.3", r.tcpIn)
	pbx.send(bye)
	if m := pbx.receive(); m.Status != 430 {
		t.Errorf("before the phone is back: %d, want 430 (RFC 5626 §11.3.2)", m.Status)
	}
	stranger := dialLine(t, "127.0.1.2", r.tcp) // claims the same account from elsewhere
	stranger.send(registerTCP(r, stranger, "alice"))
	acceptPBX(r).receive()
	again := dialLine(t, "127.0.1.1", r.tcp)
	again.send(registerTCP(r, again, "alice"))
	acceptPBX(r).receive()
	pbx.send(bye)
	if m := again.receive(); m.Method != sip.MethodBye {
		t.Errorf("the phone got\n%s", m.Buf)
	}
}

// TestRegisteredElsewhere: after a registration that the PBX accepted, a dialog's token
// finds the account on its new connection from any address; an alias has ended with its
// connection.
func TestRegisteredElsewhere(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone := dialLine(t, "127.0.1.1", r.tcp)
	phone.send(registerTCP(r, phone, "alice"))
	first := acceptPBX(r)
	alias := contactURI(value(first.receive(), sip.HeaderContact, 0))
	phone.send(siptest.Invite(siptest.Options{Transport: "TCP", Via: phone.local()}))
	rr := values(first.receive(), sip.HeaderRecordRoute)
	phone.conn.Close()
	first.ended()
	moved := dialLine(t, "127.0.1.77", r.tcp)
	moved.send(registerTCP(r, moved, "alice"))
	pair := acceptPBX(r)
	pair.send(respond(pair.receive(), "200 OK"))
	moved.receive()
	pair.send(siptest.Invite(siptest.Options{Transport: "TCP", Via: "127.0.0.3:5060", RequestURI: alias}))
	if m := pair.receive(); m.Status != 430 {
		t.Errorf("a call to the old contact: %d, want 430", m.Status)
	}
	pair.send(siptest.Request("BYE", siptest.Options{Transport: "TCP", Via: "127.0.0.3:5060", RequestURI: "sip:alice@10.0.0.5",
		Headers: []string{"Route: " + rr[0], "Route: " + rr[1]}}))
	if m := moved.receive(); m.Method != sip.MethodBye {
		t.Errorf("got\n%s", m.Buf)
	}
}

// TestPBXRefusesTCP: nobody waits for a PBX that is not there.
func TestPBXRefusesTCP(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.pbxTCP.Close()
	phone := dialLine(t, "127.0.1.1", r.tcp)
	phone.send(registerTCP(r, phone, "alice"))
	if m := phone.receive(); m.Status != 503 || !m.Has(sip.HeaderRetryAfter) {
		t.Errorf("got\n%s", m.Buf)
	}
	r.expectCount(policy.ReasonNoUpstream, 1)
}

func TestFramingErrorCloses(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone := dialLine(t, "127.0.1.1", r.tcp)
	phone.send([]byte("INVITE sip:a@b SIP/2.0\r\nContent-Length: -5\r\n\r\n"))
	phone.ended()
	r.expectCount(policy.ReasonMalformed, 1)
}

// TestTrunkTCP: the PBX's call over TCP is dialled to the trunk; a second one uses
// the same connection, and the trunk's own requests on it reach the PBX.
func TestTrunkTCP(t *testing.T) {
	r := newRig(t, rigOptions{trunks: []string{"127.0.2.0/24"}})
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.ParseIP("127.0.2.1")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pbx := dialLine(t, "127.0.0.3", r.tcpIn)
	call := func(id string) {
		pbx.send(siptest.Invite(siptest.Options{Transport: "TCP", Via: "127.0.0.3:5060", CallID: id, RequestURI: fmt.Sprintf("sip:+1555@%s;transport=tcp", l.Addr())}))
	}
	call("one")
	l.SetDeadline(time.Now().Add(patience))
	c, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	trunk := newLine(t, c)
	trunk.send(respond(trunk.receive(), "200 OK"))
	if m := pbx.receive(); m.Status != 200 {
		t.Errorf("the PBX got %d", m.Status)
	}
	call("two")
	trunk.receive()
	trunk.send(siptest.Request("OPTIONS", siptest.Options{Transport: "TCP", Via: l.Addr().String()}))
	pair := acceptPBX(r)
	pair.send(respond(pair.receive(), "200 OK"))
	if m := trunk.receive(); m.Status != 200 {
		t.Errorf("the trunk got %d", m.Status)
	}

	l.Close()
	trunk.conn.Close()
	pair.ended()
	call("three")
	if m := pbx.receive(); m.Status != 503 {
		t.Errorf("the PBX got %d, want 503", m.Status)
	}
}

// TestDrain: what is queued goes out, no new connection is taken, and no connection
// is left.
func TestDrain(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone := dialLine(t, "127.0.1.1", r.tcp)
	phone.send(registerTCP(r, phone, "alice"))
	pair := acceptPBX(r)
	pair.receive()
	go func() { // a well-behaved PBX closes when we do
		io.Copy(io.Discard, pair.conn)
		pair.conn.Close()
	}()
	go func() {
		io.Copy(io.Discard, phone.conn)
		phone.conn.Close()
	}()
	start := time.Now()
	r.server.Drain(t.Context(), time.Minute)
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("draining took %v", d)
	}
	late, err := net.DialTimeout("tcp", r.tcp.String(), time.Second)
	if err == nil {
		newLine(t, late).ended()
	}
}
