package proxy_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sipward/policy"
	"sipward/proxy/certs/certstest"
	"sipward/proxy/flow"
	"sipward/proxy/upstream"
	"sipward/sip"
	"sipward/sip/siptest"
)

// secureRig is a rig with a phone over TLS whose Contact is sips, and its line to the PBX.
func secureRig(t *testing.T, o rigOptions, own string) (r *rig, phone, pbx *line, alias string) {
	t.Helper()
	o.more = []policy.Transport{policy.TLS}
	r = newRig(t, o)
	phone = dialTLS(r, "127.0.1.1", r.at(flow.Outside, policy.TLS))
	phone.send(siptest.Register(siptest.Options{Transport: "TLS", Via: phone.local(), Contact: own}))
	pbx = acceptPBX(r)
	reg := pbx.receive()
	contact := value(reg, sip.HeaderContact, 0)
	pbx.send(respond(reg, "200 OK", "Contact: "+contact))
	if got := contactURI(value(phone.receive(), sip.HeaderContact, 0)); got != own {
		t.Errorf("the phone sees its Contact as %s", got)
	}
	return r, phone, pbx, contactURI(contact)
}

const secureOwn = "sips:alice@10.0.0.5;ob"

// TestSIPSCall: a PBX that is spoken to over TCP never sees sips, and the phone, whose call it
// is, nothing else.
func TestSIPSCall(t *testing.T) {
	r, phone, pbx, _ := secureRig(t, rigOptions{}, secureOwn)
	edge := r.at(flow.Outside, policy.TLS).String()
	for form, want := range map[string]string{
		"<sips:alice@10.0.0.5;ob>;x=y": "<sip:alice@10.0.0.5;ob;sw-sips>;x=y",
		"<sips:alice@10.0.0.5;ob?h=v>": "<sip:alice@10.0.0.5;ob;sw-sips?h=v>",
		"sips:alice@10.0.0.5;x=y":      "<sip:alice@10.0.0.5;sw-sips>;x=y",
		"<sip:alice@10.0.0.5>":         "<sip:alice@10.0.0.5>",
	} {
		t.Run(form, func(t *testing.T) {
			o := siptest.Options{Transport: "TLS", Via: phone.local(), RequestURI: "sips:bob@example.com", NoContact: true, Headers: []string{"Contact: " + form}, CallID: fmt.Sprint("call-", len(form), "-", len(want))}
			phone.send(siptest.Invite(o))
			invite := pbx.receive()
			if uri(invite) != "sip:bob@example.com" || value(invite, sip.HeaderContact, 0) != want {
				t.Errorf("the PBX is asked for %s, Contact %s, want %s", uri(invite), value(invite, sip.HeaderContact, 0), want)
			}
			rr := values(invite, sip.HeaderRecordRoute)
			if len(rr) != 2 || !strings.HasPrefix(rr[0], "<sip:") || !strings.HasPrefix(rr[1], "<sips:") || !strings.HasSuffix(rr[1], "@"+edge+";lr>") {
				t.Fatalf("Record-Route %q", rr)
			}
			target := fmt.Sprintf("sip:bob@%s;x-pbx", r.pbx.addr)
			pbx.send(respond(invite, "200 OK", "Contact: <"+target+">"))
			ok := phone.receive()
			if got := contactURI(value(ok, sip.HeaderContact, 0)); got != "sips"+strings.TrimPrefix(target, "sip") {
				t.Errorf("the phone sees the Contact %s", got)
			}

			back := contactURI(want)
			pbx.send(fmt.Appendf(nil, "BYE %s SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.3:5060;branch=z9hG4bKbye\r\nMax-Forwards: 70\r\nRoute: %s, %s\r\n"+
				"From: <sip:alice@example.com>;tag=1\r\nTo: <sip:bob@example.com>;tag=uas\r\nCall-ID: c\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n",
				strings.TrimSuffix(back, "?h=v"), rr[0], rr[1]))
			if got, want := uri(phone.receive()), strings.TrimSuffix(contactURI("<"+strings.Trim(strings.TrimSuffix(form, ";x=y"), "<>")+">"), "?h=v"); got != want {
				t.Errorf("the phone is sent BYE %s, want %s", got, want)
			}
			phone.send(fmt.Appendf(nil, "BYE sips:bob@%s;x-pbx SIP/2.0\r\nVia: SIP/2.0/TLS %s;branch=z9hG4bKbye\r\nMax-Forwards: 70\r\nRoute: %s, %s\r\n"+
				"From: <sip:alice@example.com>;tag=1\r\nTo: <sip:bob@example.com>;tag=uas\r\nCall-ID: c\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n",
				r.pbx.addr, phone.local(), rr[1], rr[0]))
			if bye := pbx.receive(); uri(bye) != target || bye.Has(sip.HeaderRoute) {
				t.Errorf("the PBX got\n%s", bye.Buf)
			}
		})
	}
}

// TestSIPSCalled: a PBX calls the phone by its alias.
func TestSIPSCalled(t *testing.T) {
	r, phone, pbx, alias := secureRig(t, rigOptions{}, secureOwn)
	if !strings.HasPrefix(alias, "sip:") {
		t.Errorf("alias %s", alias)
	}
	pbx.send(siptest.Invite(siptest.Options{Transport: "TCP", Via: "127.0.0.3:5060", RequestURI: alias, Contact: "sip:pbx@127.0.0.3"}))
	invite := phone.receive()
	rr := values(invite, sip.HeaderRecordRoute)
	if uri(invite) != secureOwn || contactURI(value(invite, sip.HeaderContact, 0)) != "sips:pbx@127.0.0.3" ||
		len(rr) != 2 || !strings.HasPrefix(rr[0], "<sips:") || !strings.HasPrefix(rr[1], "<sip:") {
		t.Errorf("the phone got\n%s", invite.Buf)
	}
	phone.send(respond(invite, "200 OK", "Contact: <"+secureOwn+">"))
	if got := contactURI(value(pbx.receive(), sip.HeaderContact, 0)); got != "sip:alice@10.0.0.5;ob;sw-sips" {
		t.Errorf("the PBX sees the Contact %s", got)
	}
	_ = r
}

// TestSIPSPath: with a Path the Contact of a REGISTER is what the PBX calls.
func TestSIPSPath(t *testing.T) {
	_, phone, pbx, contact := secureRig(t, rigOptions{path: true}, secureOwn)
	if contact != "sip:alice@10.0.0.5;ob;sw-sips" {
		t.Errorf("registered as %s", contact)
	}
	pbx.send(siptest.Invite(siptest.Options{Transport: "TCP", Via: "127.0.0.3:5060", RequestURI: contact}))
	if got := uri(phone.receive()); got != secureOwn {
		t.Errorf("the phone is called %s", got)
	}
}

// TestSIPSToPBXOverTLS: nothing is changed where every hop is encrypted.
func TestSIPSToPBXOverTLS(t *testing.T) {
	_, phone, pbx, _ := secureRig(t, rigOptions{
		moreInside: []policy.Transport{policy.TLS}, pbx: upstream.Target{TLS: &tls.Config{ServerName: "pbx.example.com"}},
	}, secureOwn)
	phone.send(siptest.Invite(siptest.Options{Transport: "TLS", Via: phone.local(), RequestURI: "sips:bob@example.com", Contact: secureOwn}))
	invite := pbx.receive()
	if uri(invite) != "sips:bob@example.com" || contactURI(value(invite, sip.HeaderContact, 0)) != secureOwn {
		t.Errorf("the PBX got\n%s", invite.Buf)
	}
	for _, rr := range values(invite, sip.HeaderRecordRoute) {
		if !strings.HasPrefix(rr, "<sips:") || strings.Contains(rr, "transport=") {
			t.Errorf("Record-Route %s", rr)
		}
	}
	pbx.send(respond(invite, "200 OK", "Contact: <sip:bob@127.0.0.3>"))
	if got := contactURI(value(phone.receive(), sip.HeaderContact, 0)); got != "sip:bob@127.0.0.3" {
		t.Errorf("the phone sees the Contact %s", got)
	}
}

// TestSIPSNotAllowed: what a PBX wants encrypted does not leave in the clear.
func TestSIPSNotAllowed(t *testing.T) {
	r := newRig(t, rigOptions{})
	phone := newPeer(t, "127.0.1.1")
	alias := contactURI(value(register(r, phone, "sip:alice@10.0.0.5"), sip.HeaderContact, 0))
	for _, target := range []string{"sips" + strings.TrimPrefix(alias, "sip"), fmt.Sprintf("sips:+1555@%s", phone.addr)} {
		r.pbx.send(r.inside, siptest.Invite(siptest.Options{Via: r.pbx.addr.String(), RequestURI: target}))
		if m, _ := r.pbx.receive(); m.Status != 480 || !strings.Contains(string(m.Buf), "\r\nWarning: 380 sipward \"SIPS Not Allowed\"\r\n") {
			t.Errorf("answered\n%s", m.Buf)
		}
	}
	r.expectCount(policy.ReasonBadScheme, 2)
	phone.silent()
}

// TestTrunkTLS: a trunk is spoken to over TLS where the PBX's URI says so, if its certificate is
// for the host in that URI.
func TestTrunkTLS(t *testing.T) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.ParseIP("127.0.2.1")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := newRig(t, rigOptions{more: []policy.Transport{policy.TLS}, trunks: []string{"127.0.2.0/24"}, trunkTLS: true})
	pbx := dialLine(t, "127.0.0.3", r.tcpIn)
	call := func(uri, id string) {
		pbx.send(siptest.Invite(siptest.Options{Transport: "TCP", Via: "127.0.0.3:5060", CallID: id, RequestURI: uri, Contact: "sip:pbx@127.0.0.3"}))
	}
	accept := func(ip string) *line {
		t.Helper()
		l.SetDeadline(time.Now().Add(patience))
		c, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		cert := r.authority.Issue(t, certstest.Options{IPs: []string{ip}}).TLS
		return newLine(t, tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}}))
	}
	secure, plain := fmt.Sprintf("sips:+1555@%s", l.Addr()), fmt.Sprintf("sip:+1555@%s;transport=tls", l.Addr())
	call(plain, "one")
	wrong := accept("127.0.2.9")
	if err := wrong.conn.(*tls.Conn).Handshake(); err == nil {
		wrong.ended()
	}
	if m := pbx.receive(); m.Status != 503 {
		t.Errorf("a wrong certificate: the PBX got\n%s", m.Buf)
	}
	call(secure, "two")
	trunk := accept("127.0.2.1")
	invite := trunk.receive()
	rr := values(invite, sip.HeaderRecordRoute)
	if uri(invite) != secure || contactURI(value(invite, sip.HeaderContact, 0)) != "sips:pbx@127.0.0.3" || len(rr) != 2 || !strings.HasPrefix(rr[0], "<sips:") ||
		!strings.HasPrefix(value(invite, sip.HeaderVia, 0), "SIP/2.0/TLS "+r.at(flow.Outside, policy.TLS).String()) {
		t.Errorf("the trunk got\n%s", invite.Buf)
	}
	trunk.send(respond(invite, "200 OK"))
	if m := pbx.receive(); m.Status != 200 {
		t.Errorf("the PBX got\n%s", m.Buf)
	}
	own := "sip:pbx@127.0.0.3:5060;line=1"
	pbx.send(siptest.Register(siptest.Options{Transport: "TCP", Via: "127.0.0.3:5060", RequestURI: "sips:" + l.Addr().String(), Contact: own}))
	reg := trunk.receive()
	alias := value(reg, sip.HeaderContact, 0)
	if !strings.HasPrefix(alias, "<sips:pbx~") || !strings.HasSuffix(contactURI(alias), "@"+r.at(flow.Outside, policy.TLS).String()+";line=1") {
		t.Errorf("registered with the trunk as %s", alias)
	}
	trunk.send(respond(reg, "200 OK", "Contact: "+alias))
	if got := contactURI(value(pbx.receive(), sip.HeaderContact, 0)); got != own {
		t.Errorf("the PBX sees its Contact as %s", got)
	}
	call(plain, "three") // over the same connection
	if got := uri(trunk.receive()); got != plain {
		t.Errorf("the trunk is called %s", got)
	}
}

// TestCertifiedTrunk: whoever shows a trunk's certificate is trusted like a trunk, from
// whatever address, and reached over his connection.
func TestCertifiedTrunk(t *testing.T) {
	r := newRig(t, rigOptions{more: []policy.Transport{policy.TLS}, carrier: "carrier.example.net", policy: func(c *policy.Config) {
		c.Invite = policy.Invite{RateLimit: 1}
		c.Malformed = policy.Malformed{Threshold: 1}
	}})
	edge := r.at(flow.Outside, policy.TLS)
	connect := func(from, name string) *line {
		l := dialTLS(r, from, edge)
		cfg := &tls.Config{RootCAs: r.authority.Pool(), ServerName: "edge.example.com"}
		if name != "" {
			cfg.Certificates = []tls.Certificate{r.authority.Issue(t, certstest.Options{DNS: []string{name}}).TLS}
		}
		l.conn = tls.Client(l.conn.(*tls.Conn).NetConn(), cfg)
		return l
	}
	ask := func(l *line, id string) (pbx *line, invite *sip.Message) {
		l.send(siptest.Invite(siptest.Options{Transport: "TLS", Via: l.local(), CallID: id, Contact: "sip:gw@carrier.invalid"}))
		pbx = acceptPBX(r)
		return pbx, pbx.receive()
	}
	trunk, other, nobody := connect("127.0.1.1", "carrier.example.net"), connect("127.0.1.2", "phone.example.net"), connect("127.0.1.3", "")
	pbx, invite := ask(trunk, "a")
	if got := r.engine.Standing(netip.MustParseAddr("127.0.1.1"), time.Now().UnixNano()); got == policy.Stranger {
		t.Error("the trunk is a stranger")
	}
	for _, l := range []*line{other, nobody} {
		ask(l, "b")
		if got := r.engine.Standing(netip.MustParseAddr(strings.Split(l.local(), ":")[0]), time.Now().UnixNano()); got != policy.Stranger {
			t.Errorf("%s is %v", l.local(), got)
		}
	}
	// The dialog's requests go over its connection, wherever its Contact leads.
	rr := values(invite, sip.HeaderRecordRoute)
	pbx.send(fmt.Appendf(nil, "BYE sip:gw@carrier.invalid SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.3:5060;branch=z9hG4bKbye\r\nMax-Forwards: 70\r\nRoute: %s, %s\r\n"+
		"From: <sip:a@x>;tag=1\r\nTo: <sip:b@x>;tag=2\r\nCall-ID: a\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n", rr[0], rr[1]))
	if m := trunk.receive(); m.Method != sip.MethodBye {
		t.Errorf("the trunk got\n%s", m.Buf)
	}
}
