//go:build linux

package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

// TestHostile is about what strangers send, and what peers send that they should not.
func TestHostile(t *testing.T) {
	lab.Need(t, "kamailio")
	if direct {
		t.Skip("Kamailio is not what is attacked here")
	}
	t.Parallel()
	s := &site{Lab: labs.New(t)}
	s.pbx = s.StartKamailio(t, lab.PBX1)
	s.start(t, lab.Config{})
	t.Run("via", s.testForeignVia)
	t.Run("tokens", s.testTokens)
	t.Run("responses", s.testResponses)
	t.Run("inside", s.testInside)
	t.Run("lists", s.testDenied)
}

// reasons sums the counters of those reasons.
func (s *site) reasons(t *testing.T, names ...string) int64 {
	t.Helper()
	var sum int64
	for _, name := range names {
		sum += must[int64](t)(s.sipward.Count("reasons", name))
	}
	return sum
}

// socket opens a UDP socket in a namespace.
func socket(t *testing.T, ns *lab.Namespace, at netip.AddrPort) *net.UDPConn {
	t.Helper()
	c := must[*net.UDPConn](t)(ns.ListenUDP(at))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// stranger is an OPTIONS of somebody who writes what he likes into Via.
func stranger(id, via string) []byte {
	return fmt.Appendf(nil, "OPTIONS sip:sip.example.com SIP/2.0\r\nVia: %s;branch=z9hG4bK-%s\r\nMax-Forwards: 70\r\n"+
		"From: <sip:mallory@example.com>;tag=1\r\nTo: <sip:sip.example.com>\r\nCall-ID: %s\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", via, id, id)
}

// testForeignVia: answers go to where a request came from, never to a host that its sender wrote into Via or maddr
// (RFC 3261 §18.2.2 would have it otherwise, and make sipward a tool against third parties).
func (s *site) testForeignVia(t *testing.T) {
	victim, relay := lab.Phone(71), lab.Phone(72)
	watch := must[*lab.Counter](t)(s.WAN.Count("victims", victim, relay))
	from := netip.AddrPortFrom(lab.Phone(70), 5062)
	c := socket(t, s.WAN, from)
	for i, via := range []string{
		fmt.Sprintf("SIP/2.0/UDP %v:5066;rport", victim),
		fmt.Sprintf("SIP/2.0/UDP %v:5062", victim),
		fmt.Sprintf("SIP/2.0/UDP %v;rport;maddr=%v", from, relay),
		fmt.Sprintf("SIP/2.0/UDP %v:5062;maddr=%v;ttl=1", victim, relay),
		fmt.Sprintf("SIP/2.0/UDP %v:5062;received=%v;rport=5066", victim, relay),
	} {
		id := fmt.Sprint("via-", i)
		lab.Poll(t, patience, "an answer to Via: "+via, func() error {
			if _, err := c.WriteToUDPAddrPort(stranger(id, via), netip.AddrPortFrom(lab.EdgeWAN, 5060)); err != nil {
				return err
			}
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			b := make([]byte, 65536)
			n, err := c.Read(b)
			if err == nil && !bytes.Contains(b[:n], []byte("branch=z9hG4bK-"+id)) {
				err = fmt.Errorf("another came: %q", b[:n])
			}
			return err
		})
	}
	// And what sipward answers itself.
	bad := bytes.Replace(stranger("via-bad", fmt.Sprintf("SIP/2.0/UDP %v:5066;maddr=%v", victim, relay)), []byte("Max-Forwards: 70"), []byte("Max-Forwards: 0"), 1)
	hops := s.reasons(t, "too-many-hops")
	if _, err := c.WriteToUDPAddrPort(bad, netip.AddrPortFrom(lab.EdgeWAN, 5060)); err != nil {
		t.Fatal(err)
	}
	lab.Poll(t, patience, "Max-Forwards: 0 is counted", func() error {
		if s.reasons(t, "too-many-hops") == hops {
			return errors.New("not yet")
		}
		return nil
	})
	if n := must[int](t)(watch.Packets()); n != 0 {
		t.Errorf("%d packets went to the addresses written into Via", n)
	}
}

// tamper changes one character in the middle of the token of a URI, and nothing of its form.
func tamper(t *testing.T, uri string) string {
	t.Helper()
	_, user, ok := strings.Cut(uri, ":")
	user, _, at := strings.Cut(user, "@")
	if !ok || !at || len(user) < 16 {
		t.Fatalf("no token in %q", uri)
	}
	i := strings.Index(uri, user) + len(user) - 9
	c := byte('A')
	if uri[i] == c {
		c = 'B'
	}
	return uri[:i] + string(c) + uri[i+1:]
}

// forgery is an attempt on the phone of 1002, which a call connects with that of 1001.
type forgery struct {
	*site
	caller, callee *phone.Phone
	alias          string       // the contact that the PBX has for 1002
	reached        *lab.Counter // what arrives for that phone
}

// send sends a request outside any dialog.
func (f *forgery) send(t *testing.T, r *phone.Request, c *net.UDPConn, at netip.AddrPort) {
	t.Helper()
	f.sendTo(t, r, "<sip:1002@sip.example.com>", c, at)
}

// sendTo sends a request with made-up dialog identifiers, and that To.
func (f *forgery) sendTo(t *testing.T, r *phone.Request, to string, c *net.UDPConn, at netip.AddrPort) {
	t.Helper()
	r.Set("Max-Forwards", "70")
	r.Set("From", "<sip:mallory@example.com>;tag=1")
	r.Set("To", to)
	r.Set("Call-ID", fmt.Sprint("token-", time.Now().UnixNano()))
	r.Set("CSeq", "1 "+r.Method)
	via := fmt.Sprintf("SIP/2.0/UDP %v;rport;branch=z9hG4bK-%d", c.LocalAddr(), time.Now().UnixNano())
	if _, err := c.WriteToUDPAddrPort(r.Bytes(via), at); err != nil {
		t.Fatal(err)
	}
}

// fails runs an attempt, waits until it is counted under one of those reasons, and sees that nothing has reached the phone.
func (f *forgery) fails(t *testing.T, what string, attempt func(), names ...string) {
	t.Helper()
	counted, packets := f.reasons(t, names...), must[int](t)(f.reached.Packets())
	attempt()
	lab.Poll(t, patience, what+" is counted", func() error {
		if f.reasons(t, names...) == counted {
			return fmt.Errorf("not under %q", names)
		}
		return nil
	})
	if n := must[int](t)(f.reached.Packets()); n != packets {
		t.Errorf("%d packets reached the phone by %s", n-packets, what)
	}
}

// testTokens: what leads to phones cannot be forged, by a stranger or by the PBX, and is of no use to strangers.
func (s *site) testTokens(t *testing.T) {
	f := &forgery{site: s, caller: s.registered(t, udp, "1001", 1), callee: s.registered(t, udp, "1002", 2)}
	out, in := talk(t, f.caller, f.callee)
	f.alias = s.contacts(t, "1002", 1)[0]
	f.reached = must[*lab.Counter](t)(s.WAN.Count("reached", f.callee.Local().Addr()))
	pbx := socket(t, s.PBX, netip.AddrPortFrom(lab.PBX1, 5099))
	f.fails(t, "a forged alias from the PBX", func() {
		f.send(t, &phone.Request{Method: "MESSAGE", URI: tamper(t, f.alias)}, pbx, netip.AddrPortFrom(lab.EdgePBX, 5060))
		answered4xx(t, pbx, 430)
	}, "forged-token")
	f.testStranger(t, phone.AddressURI(out.Dialog().Routes[0]))
	want(t, 200)(out.Bye(within(t, patience)))
	ended(t, in)
	f.testStale(t)
}

// answered4xx reads one answer and compares its status.
func answered4xx(t *testing.T, c *net.UDPConn, status int) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 65536)
	if n := must[int](t)(c.Read(b)); !bytes.HasPrefix(b[:n], fmt.Appendf(nil, "SIP/2.0 %d ", status)) {
		t.Errorf("answered %q, want %d", b[:n], status)
	}
}

// testStranger: a stranger who has learned such a URI can do with it what he can without: his request goes to the PBX, which
// asks him who he is. One that he has made up or altered is refused, and counted.
func (f *forgery) testStranger(t *testing.T, route string) {
	mallory := socket(t, f.WAN, netip.AddrPortFrom(lab.Phone(70), 0))
	to := netip.AddrPortFrom(lab.EdgeWAN, 5060)
	via := func(route string) []phone.Header { return []phone.Header{{Name: "Route", Value: "<" + route + ">"}} }
	f.fails(t, "a learned alias", func() {
		f.send(t, &phone.Request{Method: "MESSAGE", URI: f.alias}, mallory, to)
		answered4xx(t, mallory, 407)
	}, "pass")
	seen := map[string]int{"ACK": 0, "BYE": 0, "MESSAGE": 0}
	for method := range seen {
		seen[method] = must[int](t)(f.pbx.(*lab.Kamailio).Seen(method))
	}
	for what, r := range map[string]*phone.Request{
		"an altered alias":  {Method: "MESSAGE", URI: tamper(t, f.alias)},
		"an altered route":  {Method: "MESSAGE", URI: f.callee.Contact(), Headers: via(tamper(t, route))},
		"a made-up route":   {Method: "BYE", URI: f.callee.Contact(), Headers: via("sip:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA@198.51.100.1;lr")},
		"a route in an ACK": {Method: "ACK", URI: f.callee.Contact(), Headers: via(tamper(t, route))}, // which nobody answers
	} {
		f.fails(t, what, func() {
			f.send(t, r, mallory, to)
			if r.Method != "ACK" {
				answered4xx(t, mallory, 430)
			}
		}, "forged-token")
	}
	dialog := &phone.Request{Method: "BYE", URI: f.callee.Contact(), Headers: via(tamper(t, route))}
	f.fails(t, "an altered route in a dialog", func() {
		f.sendTo(t, dialog, "<sip:1002@sip.example.com>;tag=guessed", mallory, to)
		answered4xx(t, mallory, 481)
	}, "forged-token")
	for method, n := range seen {
		if now := must[int](t)(f.pbx.(*lab.Kamailio).Seen(method)); now != n {
			t.Errorf("the PBX saw a refused %s", method)
		}
	}
}

// testStale: with another key all tokens of before are stale. A call that is up can be ended, by the phone at once. The PBX's
// contact for a phone leads nowhere until the phone registers again, and the PBX is told.
func (f *forgery) testStale(t *testing.T) {
	out, in := talk(t, f.caller, f.callee)
	f.sipward.Stop(patience)
	f.sipward.ForgetKey(t)
	f.sipward.Restart(t)
	want(t, 200)(out.Bye(within(t, patience)))
	ended(t, in)
	f.fails(t, "a stale alias", func() {
		lost := must[*phone.Call](t)(f.caller.Call(within(t, 2*patience), f.callee.AoR()))
		if r := must[*phone.Received](t)(lost.Answered(within(t, patience))); r.Status() < 400 {
			t.Errorf("a call over a stale contact was answered %q", r.StartLine())
		}
	}, "forged-token")
	want(t, 200)(f.callee.Do(within(t, patience), f.callee.Registration(0, "*")))
	want(t, 200)(f.callee.Register(within(t, patience), 300))
	out, in = talk(t, f.caller, f.callee)
	want(t, 200)(out.Bye(within(t, patience)))
	ended(t, in)
}

// testResponses: a response whose top Via sipward did not make goes nowhere.
func (s *site) testResponses(t *testing.T) {
	victim := lab.Phone(73)
	watch := must[*lab.Counter](t)(s.WAN.Count("answers", victim))
	response := func(via string) []byte {
		return fmt.Appendf(nil, "SIP/2.0 200 OK\r\nVia: %s\r\nVia: SIP/2.0/UDP %v:5060;rport=5060;received=%[2]v;branch=z9hG4bK-v\r\n"+
			"From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>;tag=2\r\nCall-ID: response\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n", via, victim)
	}
	pbx, mallory := socket(t, s.PBX, netip.AddrPortFrom(lab.PBX1, 5099)), socket(t, s.WAN, netip.AddrPortFrom(lab.Phone(70), 0))
	inside, outside := netip.AddrPortFrom(lab.EdgePBX, 5060), netip.AddrPortFrom(lab.EdgeWAN, 5060)
	for _, c := range []struct {
		what, via string
		from      *net.UDPConn
		to        netip.AddrPort
		reason    string
	}{
		{"a foreign Via from the PBX", "SIP/2.0/UDP 192.0.2.200:5060;branch=z9hG4bK-x", pbx, inside, "foreign-via"},
		{"a foreign Via from a stranger", "SIP/2.0/UDP 192.0.2.200:5060;branch=z9hG4bK-x", mallory, outside, "foreign-via"},
		{"our Via, but no token, from the PBX", "SIP/2.0/UDP 203.0.113.1:5060;branch=z9hG4bK-x", pbx, inside, "foreign-via"},
		{"our Via, but a made-up token, from the PBX", "SIP/2.0/UDP 203.0.113.1:5060;branch=z9hG4bKabcdefghijklmnop;sw=EAASVsYzZGeQ0Q8YFjrcMmJfaHryIltf_cIGSA", pbx, inside, "forged-token"},
		{"our Via, but a made-up token, from a stranger", "SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bKabcdefghijklmnop;sw=MAISVssAcQKmyRqItSxT6WJfaHpxyZjjHNFNFw", mallory, outside, "forged-token"},
	} {
		before := s.reasons(t, c.reason)
		if _, err := c.from.WriteToUDPAddrPort(response(c.via), c.to); err != nil {
			t.Fatal(err)
		}
		lab.Poll(t, patience, c.what+" is counted", func() error {
			if s.reasons(t, c.reason) == before {
				return errors.New("not yet")
			}
			return nil
		})
	}
	if n := must[int](t)(watch.Packets()); n != 0 {
		t.Errorf("%d packets went where made-up responses pointed", n)
	}
}

// testInside: who is not a PBX has nothing to say on the inside, even if he can reach it.
func (s *site) testInside(t *testing.T) {
	other := socket(t, s.PBX, netip.AddrPortFrom(lab.PBX2, 5099)) // on the PBX's network, but none of the configured
	watch := must[*lab.Counter](t)(s.WAN.Count("relayed", lab.Phone(74)))
	before := s.reasons(t, "not-pbx", "no-route")
	req := bytes.Replace(stranger("inside", "SIP/2.0/UDP 203.0.113.3:5099"), []byte("sip:sip.example.com SIP"), fmt.Appendf(nil, "sip:x@%v SIP", lab.Phone(74)), 1)
	if _, err := other.WriteToUDPAddrPort(req, netip.AddrPortFrom(lab.EdgePBX, 5060)); err != nil {
		t.Fatal(err)
	}
	lab.Poll(t, patience, "a stranger on the inside is counted", func() error {
		if s.reasons(t, "not-pbx", "no-route") == before {
			return fmt.Errorf("not yet: %s", must[string](t)(s.sipward.CLI("status")))
		}
		return nil
	})
	if n := must[int](t)(watch.Packets()); n != 0 {
		t.Errorf("%d packets were relayed for him", n)
	}
}

// testDenied: the deny list is read again on SIGHUP, and whoever is on it gets no answer.
func (s *site) testDenied(t *testing.T) {
	p := s.phone(t, udp, "1003", 75)
	want(t, 401)(p.Once(within(t, patience), p.Registration(300, "<"+p.Contact()+">")))
	s.sipward.Edit(t, "lists: {}", fmt.Sprintf("lists: {deny: [%q]}", p.Local().Addr()))
	before := s.reasons(t, "deny-list")
	if err := s.sipward.Reload(); err != nil {
		t.Fatal(err)
	}
	lab.Poll(t, patience, "the phone is denied", func() error {
		if err := p.Send(stranger("denied", fmt.Sprintf("SIP/2.0/UDP %v", p.Local()))); err != nil {
			return err
		}
		if s.reasons(t, "deny-list") == before {
			return errors.New("not yet")
		}
		return nil
	})
	ok := s.phone(t, udp, "1003", 76)
	want(t, 401)(ok.Once(within(t, patience), ok.Registration(300, "<"+ok.Contact()+">")))
}
