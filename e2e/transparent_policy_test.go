//go:build linux

package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
	"sipward/listsync/kernel"
)

// TestTransparentGuess: as many guesses reach the PBX as in proxy mode, and are answered; then the guesser is banned.
func TestTransparentGuess(t *testing.T) {
	if direct {
		t.Skip("it is sipward that is attacked here")
	}
	placements(t, func(t *testing.T, placement string) {
		lab.Need(t, "kamailio")
		s := &site{Lab: labs.New(t)}
		s.pbx = s.StartKamailio(t, lab.PBX1)
		s.start(t, lab.Config{Placement: placement, Extra: "register: {hit_count: 10, block_time: 1h, block_threshold: 3}\n"})
		for i, w := range []wire{udp, tcp} {
			for j, rate := range []int{10, 500} {
				t.Run(fmt.Sprintf("%v-%d", w, rate), func(t *testing.T) { s.testGuess(t, w, rate, lab.Phone(40+2*i+j)) })
			}
		}
		s.registered(t, udp, "1001", 1)
	})
}

// TestTransparentKernel: in the kernel, the ban comes before everything else.
func TestTransparentKernel(t *testing.T) {
	placements(t, func(t *testing.T, placement string) {
		s := transparent(t, placement, "kernel: {backend: nftables}\n")
		from := lab.Phone(40)
		a := s.attacker(t, udp, from)
		a.guessAt(a.challenge(t, "1001"), "1001", 500, 2*hits+5)
		if b := s.isBanned(t, from); b.Guard != "register" || !b.Proven {
			t.Errorf("the ban is %+v", b)
		}
		lab.Poll(t, patience, "the kernel drops what the banned source sends", func() error {
			b, _ := a.letter("REGISTER", "sip:"+s.pbx.Domain(), "1001")
			if err := a.write(b); err != nil {
				return err
			}
			out, err := s.sipward.CLI("kernel", "status", "--json")
			if err != nil {
				return err
			}
			var k kernel.Status
			if err := json.Unmarshal([]byte(out), &k); err != nil {
				return err
			}
			if k.DroppedBans == 0 {
				return fmt.Errorf("the status is %s", out)
			}
			return nil
		})
		read := s.reasons(t, "ban")
		for range 50 {
			b, _ := a.letter("REGISTER", "sip:"+s.pbx.Domain(), "1001")
			if err := a.write(b); err != nil {
				t.Fatal(err)
			}
		}
		s.registered(t, udp, "1001", 1) // was sent later
		if n := s.reasons(t, "ban"); n != read {
			t.Errorf("%d messages of the banned source came as far as sipward", n-read)
		}
	})
}

// TestTransparentTrunk: a carrier that Asterisk knows by its address calls, and is called, over UDP and over a connection that
// Asterisk opens.
func TestTransparentTrunk(t *testing.T) {
	placements(t, func(t *testing.T, placement string) {
		s := transparent(t, placement, "")
		carrier := s.phoneWith(t, udp, phone.Config{User: "carrier", Domain: s.pbx.Domain(), Local: netip.AddrPortFrom(lab.Peer, 5070)}, 0)
		office := s.registered(t, udp, "1001", 1)

		out, in := talk(t, carrier, office)
		want(t, 200)(out.Bye(within(t, patience)))
		ended(t, in)

		out = must[*phone.Call](t)(office.Call(within(t, 4*patience), "sip:212345@"+s.pbx.Domain()))
		in = must[*phone.Call](t)(carrier.Incoming(within(t, patience)))
		if from := in.Invite.Source; from != s.proxy(false) {
			t.Errorf("the carrier's call came from %v, want the PBX itself", from)
		}
		in.Ring()
		if err := in.Answer(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		want(t, 200)(out.Answered(within(t, patience)))
		want(t, 200)(in.Bye(within(t, patience)))
		ended(t, out)

		stranger := s.phoneWith(t, udp, phone.Config{User: "carrier", Password: "none", Domain: s.pbx.Domain(), Local: netip.AddrPortFrom(lab.Phone(64), 5070)}, 0)
		if r := must[*phone.Received](t)(stranger.Once(within(t, patience), stranger.NewInvite(office.AoR()))); r.Status() != 401 {
			t.Errorf("a stranger's call was answered %q", r.StartLine())
		}
		s.testDialOut(t, office)
	})
}

// testDialOut: the carrier is a listener that refuses the call.
func (s *site) testDialOut(t *testing.T, office *phone.Phone) {
	l := must[*net.TCPListener](t)(s.WAN.ListenTCP(netip.AddrPortFrom(lab.Peer, 5060)))
	defer l.Close()
	_ = l.SetDeadline(time.Now().Add(2 * patience))
	passed := s.reasons(t, "pass")
	refused := make(chan error, 1)
	go func() { refused <- refuseOne(l) }()
	out := must[*phone.Call](t)(office.Call(within(t, 4*patience), "sip:354321@"+s.pbx.Domain()))
	want(t, 486)(out.Answered(within(t, 2*patience)))
	if err := <-refused; err != nil {
		t.Error(err)
	}
	// The INVITE to and from Asterisk, the answers, the ACKs.
	if n := s.reasons(t, "pass") - passed; n < 8 {
		t.Errorf("sipward has passed %d messages on", n)
	}
}

// refuseOne answers the first INVITE of the first connection with 486.
func refuseOne(l *net.TCPListener) error {
	c, err := l.AcceptTCP()
	if err != nil {
		return fmt.Errorf("the carrier is not called: %w", err)
	}
	defer c.Close()
	if from := netip.MustParseAddrPort(c.RemoteAddr().String()); from.Addr() != lab.PBX1 {
		return fmt.Errorf("called from %v, not by the PBX", from)
	}
	r := bufio.NewReader(c)
	for {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		msg, err := phone.ReadMessage(r)
		if err != nil {
			return fmt.Errorf("read what Asterisk sends: %w", err)
		}
		switch text := string(msg); {
		case strings.HasPrefix(text, "ACK "):
			return nil
		case strings.HasPrefix(text, "INVITE "):
			answer := "SIP/2.0 486 Busy Here\r\n"
			for _, line := range strings.Split(text, "\r\n") {
				switch name, _, _ := strings.Cut(line, ":"); name {
				case "Via", "From", "Call-ID", "CSeq":
					answer += line + "\r\n"
				case "To":
					answer += line + ";tag=busy\r\n"
				}
			}
			if _, err := c.Write([]byte(answer + "Content-Length: 0\r\n\r\n")); err != nil {
				return fmt.Errorf("answer Asterisk: %w", err)
			}
		}
	}
}

// ruleset puts rules of the administrator's into force.
func ruleset(t *testing.T, ns *lab.Namespace, text string) {
	t.Helper()
	cmd := ns.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make the firewall: %v: %s", err, out)
	}
}

// TestTransparentNAT: the edge hides the PBX behind its own address, and has a firewall that knows connections.
func TestTransparentNAT(t *testing.T) {
	lab.Need(t, "asterisk")
	if direct {
		t.Skip("it is sipward that is tested here")
	}
	t.Parallel()
	s := &site{Lab: labs.New(t)}
	s.External = lab.EdgeWAN
	s.pbx = s.StartAsterisk(t)
	ruleset(t, s.Edge, `table ip office {
	chain to_pbx {
		type nat hook prerouting priority dstnat
		iifname wan0 ip daddr 198.51.100.1 meta l4proto { tcp, udp } th dport 5060 dnat to 203.0.113.2
	}
	chain from_pbx {
		type nat hook postrouting priority srcnat
		oifname wan0 ip saddr 203.0.113.0/24 masquerade
	}
	chain to_edge {
		type filter hook input priority filter; policy drop
		ct state invalid drop
		ct state established,related accept
		iifname lo accept
		meta mark 0x5150 accept
	}
	chain from_edge {
		type filter hook output priority filter; policy accept
		ct state invalid drop
	}
	chain through {
		type filter hook forward priority filter; policy accept
		ct state invalid drop
	}
}
`)
	s.start(t, transparentConfig("router", ""))
	s.callsThrough(t, netip.AddrPortFrom(lab.EdgeWAN, 5060))
}

// TestTransparentFirewall: the PBX has a firewall of its own.
func TestTransparentFirewall(t *testing.T) {
	lab.Need(t, "asterisk")
	if direct {
		t.Skip("it is sipward that is tested here")
	}
	t.Parallel()
	s := &site{Lab: labs.New(t)}
	s.pbx = s.StartAsterisk(t)
	ruleset(t, s.PBX, `table inet office {
	chain to_pbx {
		type filter hook input priority filter; policy drop
		ct state invalid drop
		ct state established,related accept
		iifname lo accept
		udp dport 5060 accept
		tcp dport 5060 accept
		ct status dnat accept
		meta l4proto ipv6-icmp accept
	}
	chain from_pbx {
		type filter hook output priority filter; policy accept
		ct state invalid drop
	}
}
`)
	s.start(t, transparentConfig("host", ""))
	s.callsThrough(t, s.proxy(false))
}

// callsThrough makes a call over each transport, with phones that know the PBX by an address.
func (s *site) callsThrough(t *testing.T, pbx netip.AddrPort) {
	t.Helper()
	for _, w := range []wire{udp, tcp} {
		t.Run(w.String(), func(t *testing.T) {
			a := s.phoneWith(t, w, phone.Config{User: "1001", Proxy: pbx}, 1)
			b := s.phoneWith(t, w, phone.Config{User: "1002", Proxy: pbx}, 2)
			register(t, a)
			register(t, b)
			passed := s.reasons(t, "pass")
			out, in := talk(t, a, b)
			if from := in.Invite.Source; from != pbx {
				t.Errorf("the call came from %v", from)
			}
			want(t, 200)(out.Bye(within(t, patience)))
			ended(t, in)
			if n := s.reasons(t, "pass") - passed; n < 10 {
				t.Errorf("sipward has passed %d messages on", n)
			}
		})
	}
}
