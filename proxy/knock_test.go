package proxy_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"

	"sipward/sip/siptest"
)

// nameServer answers any question about a name with the records that it has of it.
func nameServer(t *testing.T, records ...string) string {
	t.Helper()
	zone := map[string][]dns.RR{}
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		zone[rr.Header().Name] = append(zone[rr.Header().Name], rr)
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started, done := make(chan struct{}), make(chan struct{})
	srv := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) },
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg).SetReply(q)
			for _, rr := range zone[q.Question[0].Name] {
				if rr.Header().Rrtype == q.Question[0].Qtype {
					m.Answer = append(m.Answer, rr)
				}
			}
			_ = w.WriteMsg(m)
		})}
	go func() { defer close(done); _ = srv.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = srv.Shutdown(); <-done })
	return conn.LocalAddr().String()
}

// TestTrunkRefuses: the carrier's first host has no SIP server any more. The PBX's second or third transmission reaches the
// next host, long before silence would have told.
func TestTrunkRefuses(t *testing.T) {
	gone, live := newPeer(t, "127.0.2.1"), newPeer(t, "127.0.2.2")
	gone.conn.Close()
	r := newRig(t, rigOptions{nameServer: nameServer(t,
		fmt.Sprintf("_sip._udp.trunk.example.com. 60 IN SRV 10 1 %d gone.example.com.", gone.addr.Port()),
		fmt.Sprintf("_sip._udp.trunk.example.com. 60 IN SRV 20 1 %d live.example.com.", live.addr.Port()),
		"gone.example.com. 60 IN A 127.0.2.1", "live.example.com. 60 IN A 127.0.2.2")})
	invite := siptest.Invite(siptest.Options{Via: r.pbx.addr.String(), NoRPort: true, RequestURI: "sip:+15551234567@trunk.example.com"})
	begun := time.Now()
	buf := make([]byte, 65535)
	for {
		r.pbx.send(r.inside, invite)
		live.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, _, err := live.conn.ReadFromUDPAddrPort(buf); err == nil {
			break
		}
		if time.Since(begun) > 2500*time.Millisecond { // silence takes 3 s to tell
			t.Fatal("the next host got nothing")
		}
	}
	t.Logf("the next host got the INVITE after %v", time.Since(begun).Round(time.Millisecond))
}

// TestTrunkListens: a trunk that is slow to answer, but there, is knocked at once, and keeps its calls.
func TestTrunkListens(t *testing.T) {
	first, second := newPeer(t, "127.0.2.1"), newPeer(t, "127.0.2.2")
	r := newRig(t, rigOptions{nameServer: nameServer(t,
		fmt.Sprintf("_sip._udp.trunk.example.com. 60 IN SRV 10 1 %d a.example.com.", first.addr.Port()),
		fmt.Sprintf("_sip._udp.trunk.example.com. 60 IN SRV 20 1 %d b.example.com.", second.addr.Port()),
		"a.example.com. 60 IN A 127.0.2.1", "b.example.com. 60 IN A 127.0.2.2")})
	invite := siptest.Invite(siptest.Options{Via: r.pbx.addr.String(), NoRPort: true, RequestURI: "sip:+15551234567@trunk.example.com"})
	r.pbx.send(r.inside, invite)
	m, from := first.receive()
	if from != r.outside {
		t.Errorf("the INVITE came from %s", from)
	}
	buf := make([]byte, 65535)
	first.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	n, knocker, err := first.conn.ReadFromUDPAddrPort(buf)
	if err != nil || string(buf[:n]) != "\r\n\r\n" || knocker.Port() == r.outside.Port() {
		t.Fatalf("%v: %q from %s, want a keep-alive from another port", err, buf[:n], knocker)
	}
	r.pbx.send(r.inside, invite)
	if again, _ := first.receive(); uri(again) != uri(m) {
		t.Errorf("got %s", uri(again))
	}
	first.send(r.outside, respond(m, "100 Trying"))
	if m, _ := r.pbx.receive(); m.Status != 100 {
		t.Errorf("the PBX got %d", m.Status)
	}
	second.silent()
	first.silent()
}
