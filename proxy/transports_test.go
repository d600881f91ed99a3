package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/dtls/v3"

	"sipward/policy"
	"sipward/proxy/flow"
	"sipward/sip"
	"sipward/sip/siptest"
)

// A handset is a phone whose messages come one by one, over WebSocket or DTLS.
type handset struct {
	tb    testing.TB
	read  func(context.Context) ([]byte, error)
	write func([]byte) error
	close func()
}

func (p *handset) send(b []byte) {
	p.tb.Helper()
	if err := p.write(b); err != nil {
		p.tb.Fatal(err)
	}
}

func (p *handset) receive() *sip.Message {
	p.tb.Helper()
	ctx, cancel := context.WithTimeout(p.tb.Context(), patience)
	defer cancel()
	b, err := p.read(ctx)
	if err != nil {
		p.tb.Fatalf("the phone receives nothing: %v", err)
	}
	return scan(p.tb, b)
}

// dialHandset connects over WS, WSS or DTLS.
func dialHandset(r *rig, transport policy.Transport) *handset {
	r.tb.Helper()
	ctx, cancel := context.WithTimeout(r.tb.Context(), patience)
	defer cancel()
	to := r.at(flow.Outside, transport)
	if transport == policy.DTLS {
		return dialDTLS(ctx, r, to)
	}
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.1.1")}}
	client := &http.Transport{DialContext: from.DialContext, TLSClientConfig: &tls.Config{RootCAs: r.authority.Pool(), ServerName: "edge.example.com"}}
	c, _, err := websocket.Dial(ctx, transport.String()+"://"+to.String(), &websocket.DialOptions{
		Subprotocols: []string{"sip"}, HTTPClient: &http.Client{Transport: client},
	})
	if err != nil {
		r.tb.Fatal(err)
	}
	r.tb.Cleanup(func() { c.CloseNow() })
	return &handset{
		tb: r.tb,
		read: func(ctx context.Context) ([]byte, error) {
			_, b, err := c.Read(ctx)
			return b, err
		},
		write: func(b []byte) error { return c.Write(context.Background(), websocket.MessageText, b) },
		close: func() { c.CloseNow() },
	}
}

func dialDTLS(ctx context.Context, r *rig, to netip.AddrPort) *handset {
	r.tb.Helper()
	c, err := dtls.DialWithOptions("udp", net.UDPAddrFromAddrPort(to),
		dtls.WithRootCAs(r.authority.Pool()), dtls.WithServerName("edge.example.com"))
	if err != nil {
		r.tb.Fatal(err)
	}
	if err := c.HandshakeContext(ctx); err != nil {
		r.tb.Fatal(err)
	}
	r.tb.Cleanup(func() { c.Close() })
	return &handset{
		tb: r.tb,
		read: func(ctx context.Context) ([]byte, error) {
			end, _ := ctx.Deadline()
			c.SetReadDeadline(end)
			b := make([]byte, 65535)
			n, err := c.Read(b)
			return b[:n], err
		},
		write: func(b []byte) error { _, err := c.Write(b); return err },
		close: func() { c.Close() },
	}
}

// TestHandsets: phones over WebSocket and DTLS, whose messages need no Content-Length and
// whose contacts lead nowhere, register, are called and call.
func TestHandsets(t *testing.T) {
	for transport, as := range map[policy.Transport][2]string{
		policy.WS: {"WS", "ws"}, policy.WSS: {"WSS", "ws"}, policy.DTLS: {"DTLS-UDP", "dtls-udp"},
	} {
		t.Run(transport.String(), func(t *testing.T) {
			r := newRig(t, rigOptions{more: []policy.Transport{transport}})
			edge := r.at(flow.Outside, transport)
			phone := dialHandset(r, transport)
			const via, own = "a1b2c3.invalid", "sip:alice@a1b2c3.invalid;transport=ws"
			phone.send(siptest.Register(siptest.Options{Transport: as[0], Via: via, Contact: own, NoLength: true}))

			// What came over a stream goes on over one, with its length; a datagram as it came.
			var pbx interface {
				send([]byte)
				receive() *sip.Message
			}
			inside, name, param := r.inside, "UDP", ""
			if transport.Reliable() {
				pbx, inside, name, param = acceptPBX(r), r.tcpIn, "TCP", ";transport=tcp"
			} else {
				pbx = &datagrams{r.pbx, r.inside}
			}
			reg := pbx.receive()
			if got := value(reg, sip.HeaderVia, 0); !strings.HasPrefix(got, "SIP/2.0/"+name+" "+inside.String()) {
				t.Errorf("Via %s", got)
			}
			alias := contactURI(value(reg, sip.HeaderContact, 0))
			if !strings.HasSuffix(alias, "@"+inside.String()+param) {
				t.Errorf("alias %s", alias)
			}
			seen := as[0] // by the PBX, which need not know DTLS
			if transport == policy.DTLS {
				seen = "UDP"
			}
			if got := value(reg, sip.HeaderVia, 1); !strings.HasPrefix(got, "SIP/2.0/"+seen+" "+via) || !strings.Contains(got, ";received=127.0.") {
				t.Errorf("the phone's Via: %s", got)
			}
			pbx.send(respond(reg, "200 OK", "Contact: <"+alias+">;expires=60"))
			done := phone.receive()
			if got := contactURI(value(done, sip.HeaderContact, 0)); got != own {
				t.Errorf("the phone sees its Contact as %s", got)
			}
			if got := value(done, sip.HeaderVia, 0); !strings.HasPrefix(got, "SIP/2.0/"+as[0]+" "+via) || strings.Contains(got, "sw-dtls") || done.ViaCount != 1 {
				t.Errorf("the phone sees its Via as %s", got)
			}

			pbx.send(siptest.Invite(siptest.Options{Transport: name, Via: "127.0.0.3:5060", RequestURI: alias}))
			invite := phone.receive()
			if uri(invite) != own {
				t.Errorf("the phone is called %s", uri(invite))
			}
			if got := value(invite, sip.HeaderVia, 0); !strings.HasPrefix(got, "SIP/2.0/"+as[0]+" "+edge.String()) {
				t.Errorf("Via %s", got)
			}
			rr := values(invite, sip.HeaderRecordRoute)
			if len(rr) != 2 || !strings.HasSuffix(rr[0], "@"+edge.String()+";transport="+as[1]+";lr>") || !strings.HasSuffix(rr[1], "@"+inside.String()+param+";lr>") {
				t.Errorf("Record-Route %q", rr)
			}
			const answer = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n"
			ok := strings.Replace(string(respond(invite, "200 OK", "Content-Type: application/sdp")), "Content-Length: 0\r\n", "", 1) + answer
			phone.send([]byte(ok))
			m := pbx.receive()
			if m.Status != 200 || string(m.Body.Of(m.Buf)) != answer {
				t.Errorf("the PBX got\n%s", m.Buf)
			}
			if want := map[bool]int{true: len(answer), false: -1}[transport.Reliable()]; m.ContentLength != want {
				t.Errorf("Content-Length %d, want %d", m.ContentLength, want)
			}

			// The PBX hangs up, then the phone calls.
			pbx.send(fmt.Appendf(nil, "BYE %s SIP/2.0\r\nVia: SIP/2.0/%s 127.0.0.3:5060;branch=z9hG4bKbye\r\nMax-Forwards: 70\r\nRoute: %s, %s\r\n"+
				"From: <sip:alice@example.com>;tag=1\r\nTo: <sip:bob@example.com>;tag=uas\r\nCall-ID: c\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n", own, name, rr[1], rr[0]))
			if bye := phone.receive(); bye.Method != sip.MethodBye || bye.Has(sip.HeaderRoute) {
				t.Errorf("the phone got\n%s", bye.Buf)
			}
			phone.send(siptest.Invite(siptest.Options{Transport: as[0], Via: via, Contact: own, NoLength: true, Body: answer}))
			if m := pbx.receive(); m.Method != sip.MethodInvite || string(m.Body.Of(m.Buf)) != answer {
				t.Errorf("the PBX got\n%s", m.Buf)
			}
			if st := r.server.Stats(); st.TCP.Open+st.DTLS.Open != map[bool]int{true: 2, false: 1}[transport.Reliable()] {
				t.Errorf("%d streams and %d associations are open", st.TCP.Open, st.DTLS.Open)
			}
			if n := r.server.CloseSource(netip.MustParsePrefix("127.0.0.1/32")); transport == policy.DTLS && n != 1 {
				t.Errorf("%d associations were cut off", n)
			}
			phone.close()
		})
	}
}

// datagrams is the PBX's socket as a line to sipward.
type datagrams struct {
	*peer
	to netip.AddrPort
}

func (d *datagrams) send(b []byte) { d.tb.Helper(); d.peer.send(d.to, b) }

func (d *datagrams) receive() *sip.Message {
	d.tb.Helper()
	m, _ := d.peer.receive()
	return m
}

// TestUniformOverDTLS: the answer that all strangers get alike has the phone's own Via, too,
// whether the PBX keeps Vias on lines of their own or joins them.
func TestUniformOverDTLS(t *testing.T) {
	r := newRig(t, rigOptions{more: []policy.Transport{policy.DTLS}, policy: func(c *policy.Config) { c.Uniform = true }})
	phone := dialHandset(r, policy.DTLS)
	pbx := &datagrams{r.pbx, r.inside}
	answer := func(seq int, status string, join bool, headers ...string) *sip.Message {
		phone.send(siptest.Register(siptest.Options{Transport: "DTLS-UDP", Via: "a1b2c3.invalid", Contact: "sip:alice@a1b2c3.invalid", CSeq: seq}))
		b := respond(pbx.receive(), status, headers...)
		if join {
			first, rest, _ := strings.Cut(string(b), "\r\nVia: SIP/2.0/UDP a1b2c3")
			b = []byte(first + ", SIP/2.0/UDP a1b2c3" + rest)
		}
		pbx.send(b)
		return phone.receive()
	}
	const challenge = `WWW-Authenticate: Digest realm="example.com", nonce="0123456789abcdef0123456789abcdef"`
	for i, m := range []*sip.Message{
		answer(1, "401 Unauthorized", false, challenge),
		answer(2, "401 Unauthorized", true, challenge),
		answer(3, "404 Not Found", false),
		answer(4, "404 Not Found", true),
	} {
		if got := value(m, sip.HeaderVia, 0); m.Status != 401 || m.ViaCount != 1 || !strings.HasPrefix(got, "SIP/2.0/DTLS-UDP a1b2c3.invalid;") || strings.Contains(got, "sw-dtls") {
			t.Errorf("answer %d is\n%s", i+1, m.Buf)
		}
	}
	r.expectCount(policy.ReasonUniform, 2)
}

// TestHandsetLost: a call for a phone whose connection has ended is answered so, whatever the
// transport.
func TestHandsetLost(t *testing.T) {
	for _, transport := range []policy.Transport{policy.WS, policy.DTLS} {
		t.Run(transport.String(), func(t *testing.T) {
			r := newRig(t, rigOptions{more: []policy.Transport{transport}})
			phone := dialHandset(r, transport)
			phone.send(siptest.Register(siptest.Options{Transport: "WS", Via: "a1b2c3.invalid"}))
			var reg *sip.Message
			if transport == policy.DTLS {
				reg, _ = r.pbx.receive()
			} else {
				reg = acceptPBX(r).receive()
			}
			alias := contactURI(value(reg, sip.HeaderContact, 0))
			phone.close()
			for end := time.Now().Add(patience); r.server.Stats().TCP.Open+r.server.Stats().DTLS.Open > 0; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("the connection stays open")
				}
			}
			r.pbx.send(r.inside, siptest.Invite(siptest.Options{Via: r.pbx.addr.String(), RequestURI: alias}))
			if m, _ := r.pbx.receive(); m.Status != 430 {
				t.Errorf("answered\n%s", m.Buf)
			}
		})
	}
}

// TestWebSocketEvidence: what breaks WebSocket is counted against its source, but not
// that somebody looks at another's web page.
func TestWebSocketEvidence(t *testing.T) {
	r := newRig(t, rigOptions{more: []policy.Transport{policy.WS}})
	edge := r.at(flow.Outside, policy.WS)
	upgrade := "GET / HTTP/1.1\r\nHost: edge.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
	for i, request := range []string{
		strings.Replace(upgrade, "Host:", "Origin: https://other.example\r\nHost:", 1),
		strings.Replace(upgrade, "Protocol: sip", "Protocol: chat", 1),
	} {
		dialLine(t, "127.0.1.1", edge).send([]byte(request))
		r.expectCount(policy.ReasonBadHandshake, uint64(1+i))
	}
	ping := "\x89\x80\x00\x00\x00\x00"
	for i, frames := range []string{"\x81\x05hello", strings.Repeat(ping, 100)} {
		l := dialLine(t, "127.0.1.1", edge)
		l.send([]byte(upgrade))
		head := bufio.NewReader(l.conn)
		for line := ""; line != "\r\n"; {
			var err error
			if line, err = head.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		l.send([]byte(frames))
		r.expectCount(policy.ReasonMalformed, uint64(1+i))
	}
	want := map[string]uint64{"bad-upgrade": 1, "websocket-frames": 1, "keep-alive-flood": 1}
	if faults := r.engine.Faults(); !maps.Equal(faults, want) {
		t.Errorf("counted as %v, want %v", faults, want)
	}
}
