//go:build linux

package e2e_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

// TestPolicyIPv6: whoever guesses is banned by his /64, and by no more; over a link-local address, too.
func TestPolicyIPv6(t *testing.T) {
	t.Parallel()
	s := attacked(t, "register: {hit_count: 10}\n")
	// Both stand behind the wan, in networks of their own.
	guilty, innocent := "2001:db8:9:1:", "2001:db8:9:2:"
	for _, a := range []string{guilty + ":1", guilty + ":2", innocent + ":1"} {
		if err := s.WAN.Run("ip", "-6", "addr", "add", a+"/128", "dev", "lo", "nodad"); err != nil {
			t.Fatal(err)
		}
	}
	for i, w := range []wire{{v6: true}, {v6: true, over: phone.TCP}} {
		t.Run(w.String(), func(t *testing.T) {
			if i > 0 {
				s.unban(t, guilty+":1")
			}
			s.testGuess(t, w, 10, netip.MustParseAddr(guilty+":1"))
			if b := s.banOf(t, netip.MustParseAddr(guilty+":2")); b == nil || b.Prefix != guilty+":/64" {
				t.Errorf("the ban of the /64 is %+v", b)
			}
			if w.over.Connected() {
				s.refused(t, netip.MustParseAddr(guilty+":2"))
			} else {
				s.stays(t, s.attacker(t, w, netip.MustParseAddr(guilty+":2")), s.seen(t, "REGISTER"))
			}
			s.attacker(t, w, netip.MustParseAddr(innocent+":1")).challenge(t, "1002")
		})
	}
	for _, w := range []wire{{v6: true}, {v6: true, over: phone.TCP}} {
		t.Run("link-local-"+w.String(), func(t *testing.T) { s.testLinkLocal(t, w) })
	}
}

// testLinkLocal: the zone of a link-local address is the way of the answer, and no part of what lists and bans know.
func (s *site) testLinkLocal(t *testing.T, w wire) {
	const port = 5062
	if !w.over.Connected() {
		for _, transport := range []string{"udp", "tcp"} {
			s.sipward.Edit(t, fmt.Sprintf(`"%s://[2001:db8:1::1]:5060"`, transport), fmt.Sprintf(`"%s://[::]:%d"`, transport, port))
		}
		s.sipward.Crash(t)
	}
	at, _ := linkLocal(t, s.Edge, "wan0")
	from, zone := linkLocal(t, s.WAN, "eth0")
	a := s.attackerTo(t, w, from.WithZone(zone), netip.AddrPortFrom(at.WithZone(zone), port))
	before := s.seen(t, "REGISTER")
	ch := a.challenge(t, "1001") // the answer has found its way
	ids := a.guessAt(ch, "1001", 10, 2*hits)
	if b := s.isBanned(t, from); b.Prefix != "fe80::/64" || b.Guard != "register" || !b.Proven {
		t.Errorf("the ban is %+v", b)
	}
	if w.over.Connected() {
		a.isClosed(t)
		s.refusedAt(t, tcp6, from.WithZone(zone), netip.AddrPortFrom(at.WithZone(zone), port))
	}
	a.gotExactly(t, ids, hits)
	if n := s.seen(t, "REGISTER") - before; n != hits+1 {
		t.Errorf("%d REGISTERs have reached the PBX, want %d", n, hits+1)
	}
	if text := s.explain(t, from); !strings.Contains(text, "1001@") {
		t.Errorf("explain does not show what he has done:\n%s", text)
	}
	s.unban(t, from.String())
	if w.over.Connected() {
		return
	}
	if _, err := s.sipward.CLI("deny", from.String()); err != nil {
		t.Fatal(err)
	}
	denied := s.reasons(t, "deny-list")
	b, _ := a.letter("REGISTER", "sip:"+s.pbx.Domain(), "1001")
	if err := a.write(b); err != nil {
		t.Fatal(err)
	}
	s.counted(t, denied, 1, "deny-list")
	if _, err := s.sipward.CLI("unban", from.String()); err != nil {
		t.Logf("unban: %v", err)
	}
	if _, err := s.sipward.CLI("deny", "--remove", from.String()); err != nil {
		t.Fatal(err)
	}
}

func (s *site) unban(t *testing.T, address string) {
	t.Helper()
	if _, err := s.sipward.CLI("unban", address); err != nil {
		t.Fatal(err)
	}
}

// linkLocal gives the link-local address of an interface, and the zone in which that host writes such addresses.
func linkLocal(t *testing.T, ns *lab.Namespace, name string) (a netip.Addr, zone string) {
	t.Helper()
	lab.Poll(t, patience, "a link-local address of "+name, func() error {
		return ns.Do(func() error {
			i, err := net.InterfaceByName(name)
			if err != nil {
				return err
			}
			all, err := i.Addrs()
			if err != nil {
				return err
			}
			for _, x := range all {
				if p, err := netip.ParsePrefix(x.String()); err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
					a, zone = p.Addr().WithZone(""), fmt.Sprint(i.Index)
					return nil
				}
			}
			return fmt.Errorf("it has %v", all)
		})
	})
	return a, zone
}
