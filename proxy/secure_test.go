package proxy_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"sipward/policy"
	"sipward/proxy"
	"sipward/proxy/flow"
	"sipward/proxy/netio"
	"sipward/proxy/upstream"
	"sipward/sip"
	"sipward/sip/siptest"
)

// buffer is a log that a test may read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestTLSPhone: a phone over TLS and a PBX that knows nothing of it.
func TestTLSPhone(t *testing.T) {
	r := newRig(t, rigOptions{more: []policy.Transport{policy.TLS}})
	edge := r.at(flow.Outside, policy.TLS)
	phone := dialTLS(r, "127.0.1.1", edge)
	own := fmt.Sprintf("sip:alice@%s;transport=tls", phone.local())
	phone.send(siptest.Register(siptest.Options{Transport: "TLS", Via: phone.local(), Contact: own}))
	pair := acceptPBX(r)
	reg := pair.receive()
	if via := value(reg, sip.HeaderVia, 0); !strings.HasPrefix(via, "SIP/2.0/TCP "+r.tcpIn.String()) {
		t.Errorf("Via %s", via)
	}
	alias := contactURI(value(reg, sip.HeaderContact, 0))
	if !strings.HasSuffix(alias, "@"+r.tcpIn.String()+";transport=tcp") {
		t.Errorf("alias %s", alias)
	}
	pair.send(respond(reg, "200 OK", "Contact: <"+alias+">;expires=60"))
	if got := contactURI(value(phone.receive(), sip.HeaderContact, 0)); got != own {
		t.Errorf("the phone sees its Contact as %s", got)
	}

	pbx := dialLine(t, "127.0.0.3", r.tcpIn)
	pbx.send(siptest.Invite(siptest.Options{Transport: "TCP", Via: "127.0.0.3:5060", RequestURI: alias}))
	invite := phone.receive()
	if uri(invite) != own {
		t.Errorf("the phone is called %s", uri(invite))
	}
	if via := value(invite, sip.HeaderVia, 0); !strings.HasPrefix(via, "SIP/2.0/TLS "+edge.String()) {
		t.Errorf("Via %s", via)
	}
	rr := values(invite, sip.HeaderRecordRoute)
	if len(rr) != 2 || !strings.HasSuffix(rr[0], "@"+edge.String()+";transport=tls;lr>") || !strings.HasSuffix(rr[1], "@"+r.tcpIn.String()+";transport=tcp;lr>") {
		t.Errorf("Record-Route %q", rr)
	}
	phone.send(respond(invite, "200 OK", "Contact: <"+own+">"))
	if m := pbx.receive(); m.Status != 200 || m.ViaCount != 1 {
		t.Errorf("the PBX got\n%s", m.Buf)
	}
	phone.conn.Close()
	pair.ended()
}

// TestPBXOverTLS: what came over a stream goes to such a PBX over TLS, and comes back so.
func TestPBXOverTLS(t *testing.T) {
	for _, transport := range []policy.Transport{policy.TCP, policy.TLS} {
		t.Run(transport.String(), func(t *testing.T) {
			r := newRig(t, rigOptions{
				more: []policy.Transport{policy.TLS}, moreInside: []policy.Transport{policy.TLS},
				pbx: upstream.Target{UDP: true, TLS: &tls.Config{ServerName: "pbx.example.com"}},
			})
			inside := r.at(flow.Inside, policy.TLS)
			phone := dialLine(t, "127.0.1.1", r.tcp)
			if transport == policy.TLS {
				phone = dialTLS(r, "127.0.1.1", r.at(flow.Outside, policy.TLS))
			}
			own := fmt.Sprintf("sip:alice@%s;transport=%v", phone.local(), transport)
			phone.send(siptest.Register(siptest.Options{Transport: strings.ToUpper(transport.String()), Via: phone.local(), Contact: own}))
			pair := acceptPBX(r)
			reg := pair.receive()
			if via := value(reg, sip.HeaderVia, 0); !strings.HasPrefix(via, "SIP/2.0/TLS "+inside.String()) {
				t.Errorf("Via %s", via)
			}
			alias := contactURI(value(reg, sip.HeaderContact, 0))
			if !strings.HasSuffix(alias, "@"+inside.String()+";transport=tls") {
				t.Errorf("alias %s", alias)
			}
			pair.send(respond(reg, "200 OK"))
			phone.receive()

			pbx := dialTLS(r, "127.0.0.3", inside)
			for name, l := range map[string]*line{"pair": pair, "own connection": pbx} {
				l.send(siptest.Invite(siptest.Options{Transport: "TLS", Via: "127.0.0.3:5061", RequestURI: alias, CallID: strings.ReplaceAll(name, " ", "-")}))
				invite := phone.receive()
				rr := values(invite, sip.HeaderRecordRoute)
				if uri(invite) != own || len(rr) != 2 || !strings.HasSuffix(rr[1], "@"+inside.String()+";transport=tls;lr>") {
					t.Errorf("%s: the phone got\n%s", name, invite.Buf)
				}
				phone.send(respond(invite, "486 Busy Here"))
				if m := l.receive(); m.Status != 486 {
					t.Errorf("%s: the PBX got\n%s", name, m.Buf)
				}
			}

			// Datagrams still go as datagrams.
			other := newPeer(t, "127.0.1.2")
			other.send(r.outside, siptest.Register(siptest.Options{Via: other.addr.String(), User: "bob"}))
			if m, _ := r.pbx.receive(); m.Method != sip.MethodRegister {
				t.Errorf("the PBX got\n%s", m.Buf)
			}
		})
	}
}

// TestPBXWithWrongCertificate: nothing is said to such a PBX, and the administrator is told why.
func TestPBXWithWrongCertificate(t *testing.T) {
	var log buffer
	r := newRig(t, rigOptions{
		moreInside: []policy.Transport{policy.TLS}, log: &log,
		pbx: upstream.Target{TLS: &tls.Config{ServerName: "other.example.com"}},
	})
	phone := dialLine(t, "127.0.1.1", r.tcp)
	phone.send(registerTCP(r, phone, "alice"))
	pbx := acceptPBX(r)
	if err := pbx.conn.(*tls.Conn).Handshake(); err == nil {
		t.Error("the handshake went well")
	}
	if m := phone.receive(); m.Status != 503 {
		t.Errorf("the phone got\n%s", m.Buf)
	}
	if got := log.String(); !strings.Contains(got, "certificate is valid for pbx.example.com, not other.example.com") {
		t.Errorf("the log says %s", got)
	}
	// Nor is there a way for what comes as a datagram.
	other := newPeer(t, "127.0.1.2")
	other.send(r.outside, siptest.Register(siptest.Options{Via: other.addr.String(), User: "bob"}))
	if m, _ := other.receive(); m.Status != 503 {
		t.Errorf("the other phone got\n%s", m.Buf)
	}
	r.pbx.silent()
}

// TestBadHandshakes: garbage in place of a handshake is evidence; who does not trust our
// certificate is not to blame.
func TestBadHandshakes(t *testing.T) {
	var log buffer
	r := newRig(t, rigOptions{
		more: []policy.Transport{policy.TLS}, log: &log,
		policy: func(c *policy.Config) { c.Malformed.Threshold = 2 },
	})
	edge := r.at(flow.Outside, policy.TLS)
	stranger := dialTLS(r, "127.0.1.1", edge)
	stranger.conn = tls.Client(stranger.conn.(*tls.Conn).NetConn(), &tls.Config{ServerName: "edge.example.com"})
	if err := stranger.conn.(*tls.Conn).Handshake(); err == nil {
		t.Fatal("the phone trusts anybody")
	}
	r.expectCount(policy.ReasonBadHandshake, 1)
	if got := log.String(); !strings.Contains(got, "handshake failed") || !strings.Contains(got, edge.String()) {
		t.Errorf("the log says %q", got)
	}
	for i, first := range []string{"GET / HTTP/1.1\r\n\r\n", string(siptest.Register(siptest.Options{})), "\x16\x03\x01\x00\x04\x0e\x00\x00\x00"} {
		l := dialLine(t, "127.0.1.1", edge)
		l.send([]byte(first))
		r.expectCount(policy.ReasonBadHandshake, uint64(2+i))
	}
	faults := r.engine.Faults()
	if faults["not-tls"] != 1 || faults["plain-sip"] != 1 || faults["bad-handshake"] != 1 || len(faults) != 3 {
		t.Errorf("counted as %v", faults)
	}
	// That is more than the two that are allowed: what is malformed gets no answer any more.
	l := dialLine(t, "127.0.1.1", r.tcp)
	l.send([]byte(strings.Replace(string(siptest.Register(siptest.Options{Transport: "TCP"})), "CSeq: 1 REGISTER", "CSeq: 1 INVITE", 1)))
	r.expectCount(policy.ReasonMalformed, 1)
	l.send([]byte(strings.Replace(string(registerTCP(r, l, "alice")), "Max-Forwards: 70", "Max-Forwards: 0", 1)))
	if m := l.receive(); m.Status != 483 {
		t.Errorf("the first answer is\n%s", m.Buf)
	}
}

// TestBadDTLSHandshake: anybody can disturb a DTLS handshake in another's name, so that it
// fails is no evidence.
func TestBadDTLSHandshake(t *testing.T) {
	r := newRig(t, rigOptions{more: []policy.Transport{policy.TLS, policy.DTLS}})
	stranger := netip.MustParseAddrPort("127.0.1.1:4000")
	const tls, dtls = 2, 3 // behind TCP on both sides
	r.server.HandshakeFailed(stranger, dtls, errors.New("garbage"))
	if faults := r.engine.Faults(); len(faults) != 0 {
		t.Errorf("over DTLS counted as %v", faults)
	}
	r.expectCount(policy.ReasonBadHandshake, 1)
	r.server.HandshakeFailed(stranger, tls, errors.New("garbage"))
	if faults := r.engine.Faults(); faults["bad-handshake"] != 1 {
		t.Errorf("over TLS counted as %v", faults)
	}
}

// TestListenerChecks: TLS needs a configuration, and nothing else may have one.
func TestListenerChecks(t *testing.T) {
	r := newRig(t, rigOptions{})
	for transport, needs := range map[policy.Transport]bool{policy.TCP: false, policy.TLS: true} {
		l := r.listener(transport, "127.0.0.1")
		if (l.TLS != nil) != needs {
			t.Fatal("the rig makes the wrong listener")
		}
		l.TLS = map[bool]*tls.Config{false: {}, true: nil}[needs]
		if err := proxyWith(r, l); err == nil || !strings.Contains(err.Error(), transport.String()+"://127.0.0.1:0") {
			t.Errorf("%v: %v", transport, err)
		}
	}
	if err := proxyWith(r, proxy.Listener{Transport: policy.TCP, Addr: netip.MustParseAddrPort("127.0.0.1:0"), WebSocket: &netio.WebSocket{}}); err == nil {
		t.Error("TCP takes what is for WebSocket")
	}
	if err := proxyWith(r, r.listener(policy.DTLS, "127.0.0.1")); err == nil {
		t.Error("DTLS goes without certificates")
	}
}
