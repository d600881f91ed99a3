//go:build linux

package e2e_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sipward/e2e/lab"
)

// end is a plain UDP socket: here the PBX is no program that would have its own idea of a message.
type end struct {
	*net.UDPConn
	at netip.AddrPort
}

func plainEnd(t *testing.T, ns *lab.Namespace, addr netip.Addr, port uint16) end {
	t.Helper()
	at := netip.AddrPortFrom(addr, port)
	return end{socket(t, ns, at), at}
}

// delivers sends b, and checks what arrives, and from whom it seems to come.
func delivers(t *testing.T, from, to end, b []byte) {
	t.Helper()
	if _, err := from.WriteToUDPAddrPort(b, to.at); err != nil {
		t.Fatal(err)
	}
	got, src := to.receive(t)
	if !bytes.Equal(got, b) {
		t.Fatalf("%d bytes arrived changed, as %d: %.200q", len(b), len(got), got)
	}
	if src != from.at {
		t.Fatalf("it came from %v, not from %v", src, from.at)
	}
}

func (e end) receive(t *testing.T) ([]byte, netip.AddrPort) {
	t.Helper()
	buf := make([]byte, 65536)
	_ = e.SetReadDeadline(time.Now().Add(patience))
	n, src, err := e.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatalf("nothing arrives at %v: %v", e.at, err)
	}
	return buf[:n], netip.AddrPortFrom(src.Addr().Unmap(), src.Port())
}

// silent checks that nothing has arrived, when something that was sent later has.
func (e end) silent(t *testing.T) {
	t.Helper()
	buf := make([]byte, 65536)
	_ = e.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, src, err := e.ReadFromUDPAddrPort(buf); err == nil {
		t.Fatalf("%v got from %v:\n%s", e.at, src, buf[:n])
	}
}

// oddLetter is a request of some size. Its header fields have what sipward would change in proxy mode.
func oddLetter(method string, from, to netip.AddrPort, n, size int) []byte {
	head := fmt.Sprintf("%[1]s sip:x@%[3]v;ob SIP/2.0\r\nv: SIP/2.0/UDP  %[2]v ;rport;branch=z9hG4bK-%[4]d-%[1]s\r\nMax-Forwards:  1\r\n"+
		"f: <sip:a@example.com>;tag=a%[4]d\r\nt: <sip:x@example.com>\r\ni: id-%[4]d@%[2]v\r\nCSeq: %[4]d %[1]s\r\nm: <sip:a@%[2]v>\r\nX-Odd:\t one,\r\n  two\r\n",
		method, from, to, n)
	body := strings.Repeat("x", max(size, 0))
	return []byte(fmt.Sprintf("%sl: %d\r\n\r\n%s", head, len(body), body))
}

// TestTransparentWire is about packets: fragments both ways, the size of them, marks of quality, and answers in the PBX's name.
func TestTransparentWire(t *testing.T) {
	lab.Need(t)
	if direct {
		t.Skip("it is sipward that is tested here")
	}
	placements(t, func(t *testing.T, placement string) {
		s := &site{Lab: labs.New(t)}
		cfg := transparentConfig(placement, "")
		cfg.PBX = append(cfg.PBX, "203.0.113.3:5070")
		s.start(t, cfg)
		var pbxes [2]end
		for i, v6 := range []bool{false, true} {
			name, phoneAt, pbxAt := "v4", lab.Phone(1), lab.PBX1
			if v6 {
				name, phoneAt, pbxAt = "v6", lab.Phone6(1), lab.PBX1v6
			}
			phone := plainEnd(t, s.WAN, phoneAt, 5070)
			pbx := plainEnd(t, s.PBX, pbxAt, 5060)
			pbxes[i] = pbx
			t.Run(name+"-sizes", func(t *testing.T) { s.testSizes(t, placement, phone, pbx) })
			t.Run(name+"-quality", func(t *testing.T) { s.testQuality(t, phone, pbx) })
			t.Run(name+"-answers", func(t *testing.T) { s.testAnswers(t, phone, pbx) })
			t.Run(name+"-media", func(t *testing.T) { s.testMedia(t, phoneAt, pbxAt) })
		}
		if placement == "router" { // a host takes no packet from outside that has its own address
			t.Run("forged", func(t *testing.T) { s.testForgedPBX(t, pbxes[0]) })
		}
		t.Run("reload", func(t *testing.T) { s.testReload(t, placement) })
		t.Run("own-ports", func(t *testing.T) { s.testOwnPorts(t, placement) })
	})
}

// testSizes: messages of all sizes pass both ways, and the PBX's packets are not made larger than the PBX makes them: it may
// have learnt of a narrow path.
func (s *site) testSizes(t *testing.T, placement string, phone, pbx end) {
	n := 0
	both := func() {
		for _, size := range []int{0, 1000, 1100, 1150, 1200, 1250, 1300, 1350, 6000, 16000, 60000} {
			n++
			delivers(t, phone, pbx, oddLetter("INVITE", phone.at, pbx.at, n, size))
			delivers(t, pbx, phone, oddLetter("INVITE", pbx.at, phone.at, n, size))
		}
	}
	outside, inside := s.bothSides(t, placement)
	both()
	out, largest := outside.Fragments()
	in, _ := inside.Fragments()
	if out == 0 || in == 0 {
		t.Errorf("%d fragments outside, %d inside: that was no test", out, in)
	}
	if largest > 1500 {
		t.Errorf("a packet of %d bytes", largest)
	}
	via, option := "203.0.113.1", "-4"
	if pbx.at.Addr().Is6() {
		via, option = "2001:db8:2::1", "-6"
	}
	change := func(args ...string) {
		must[string](t)(s.PBX.Output(append([]string{"ip", option, "route", "change", "default", "via", via, "dev", "eth0"}, args...)...))
	}
	change("mtu", "lock", "1320")
	defer change()
	narrow := must[*lab.Capture](t)(s.WAN.Capture("eth0", 5060))
	defer narrow.Stop()
	delivers(t, pbx, phone, oddLetter("INVITE", pbx.at, phone.at, 1000, 6000))
	lab.Poll(t, patience, "the fragments are seen", func() error {
		pieces, largest := narrow.Fragments()
		if pieces == 0 || largest > 1320 {
			return fmt.Errorf("%d fragments, the largest packet has %d bytes", pieces, largest)
		}
		return nil
	})
}

// testQuality: routers shall treat a packet as its sender wants it treated.
func (s *site) testQuality(t *testing.T, phone, pbx end) {
	const tos = 0x60 // CS3, for signalling (RFC 4594 §4.2)
	raw := must[syscall.RawConn](t)(pbx.SyscallConn())
	err := raw.Control(func(fd uintptr) {
		if pbx.at.Addr().Is4() {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TOS, tos)
		} else {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_TCLASS, tos)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	outside := must[*lab.Capture](t)(s.WAN.Capture("eth0", 5060))
	defer outside.Stop()
	delivers(t, pbx, phone, oddLetter("OPTIONS", pbx.at, phone.at, 2000, 0))
	lab.Poll(t, patience, "the class of the packet", func() error {
		if got := outside.TOS(lab.Flow{Src: pbx.at, Dst: phone.at}); got != tos {
			return fmt.Errorf("it is %#x, want %#x", got, tos)
		}
		return nil
	})
	delivers(t, pbx, phone, []byte("\r\n\r\n")) // keeps a NAT's binding
}

// testAnswers: what is refused is answered in the PBX's name, or not at all, and never reaches it.
func (s *site) testAnswers(t *testing.T, phone, pbx end) {
	bad := bytes.Replace(oddLetter("INVITE", phone.at, pbx.at, 3000, 0), []byte("CSeq: 3000 INVITE"), []byte("CSeq: 3000 BYE"), 1)
	if _, err := phone.WriteToUDPAddrPort(bad, pbx.at); err != nil {
		t.Fatal(err)
	}
	answer, src := phone.receive(t)
	if src != pbx.at || !bytes.HasPrefix(answer, []byte("SIP/2.0 400 ")) {
		t.Errorf("from %v: %.100q", src, answer)
	}
	scan := bytes.Replace(oddLetter("OPTIONS", phone.at, pbx.at, 3001, 0), []byte("X-Odd:"), []byte("User-Agent: friendly-scanner\r\nX-Odd:"), 1)
	dropped := s.reasons(t, "scanner")
	if _, err := phone.WriteToUDPAddrPort(scan, pbx.at); err != nil {
		t.Fatal(err)
	}
	s.counted(t, dropped, 1, "scanner")
	must[string](t)(s.sipward.CLI("unban", phone.at.Addr().String()))
	delivers(t, phone, pbx, oddLetter("OPTIONS", phone.at, pbx.at, 3002, 0))
	phone.silent(t)
	pbx.silent(t)
}

// testMedia: what is not SIP passes beside sipward.
func (s *site) testMedia(t *testing.T, phoneAt, pbxAt netip.Addr) {
	phone, pbx := plainEnd(t, s.WAN, phoneAt, 30000), plainEnd(t, s.PBX, pbxAt, 20000)
	received := func() (n int64) {
		st := must[map[string]any](t)(s.sipward.Status())
		for _, u := range st["udp"].([]any) {
			n += int64(u.(map[string]any)["received"].(float64))
		}
		return n
	}
	before := received()
	for i := range 50 {
		rtp := append([]byte{0x80, 0, 0, byte(i), 0, 0, 0, byte(i), 1, 2, 3, 4}, make([]byte, 160)...)
		delivers(t, phone, pbx, rtp)
		delivers(t, pbx, phone, rtp)
	}
	if n := received() - before; n != 0 {
		t.Errorf("sipward has received %d packets of media", n)
	}
}

// testForgedPBX: nobody outside speaks in a PBX's name.
func (s *site) testForgedPBX(t *testing.T, pbx end) {
	f := must[*lab.Forger](t)(s.Forger())
	defer f.Close()
	before := s.reasons(t, "forged-source")
	other := netip.AddrPortFrom(lab.PBX2, 5070)
	if err := f.Send(other, pbx.at, oddLetter("INVITE", other, pbx.at, 4000, 0)); err != nil {
		t.Fatal(err)
	}
	s.counted(t, before, 1, "forged-source")
	pbx.silent(t)
}

// testReload: another PBX is protected without a restart.
func (s *site) testReload(t *testing.T, placement string) {
	phone, pbx := plainEnd(t, s.WAN, lab.Phone(8), 5070), plainEnd(t, s.PBX, lab.PBX2, 5080)
	passed := s.reasons(t, "pass")
	delivers(t, phone, pbx, oddLetter("OPTIONS", phone.at, pbx.at, 6000, 0))
	if n := s.reasons(t, "pass"); n != passed {
		t.Errorf("%d messages for a PBX that is not configured", n-passed)
	}
	s.sipward.Edit(t, `"203.0.113.3:5070"`, `"203.0.113.3:5080"`)
	must[string](t)(s.sipward.CLI("reload"))
	set := must[string](t)(s.host(placement).Output("nft", "list", "set", "inet", "sipward-transparent", "pbx4"))
	if !strings.Contains(set, "203.0.113.3 . 5080") || strings.Contains(set, "5070") || !strings.Contains(set, "203.0.113.2 . 5060") {
		t.Errorf("after the reload\n%s", set)
	}
	delivers(t, phone, pbx, oddLetter("OPTIONS", phone.at, pbx.at, 6001, 0))
	if n := s.reasons(t, "pass"); n != passed+1 {
		t.Errorf("%d messages have passed", n-passed)
	}
}

// testOwnPorts: nobody reaches sipward's own ports but by the rules.
func (s *site) testOwnPorts(t *testing.T, placement string) {
	to := lab.EdgeWAN
	if placement == "host" {
		to = lab.PBX1
	}
	phone := plainEnd(t, s.WAN, lab.Phone(9), 5070)
	for _, port := range []uint16{15060, 15061} {
		at := netip.AddrPortFrom(to, port)
		if _, err := phone.WriteToUDPAddrPort(oddLetter("OPTIONS", phone.at, at, 5000, 0), at); err != nil {
			t.Fatal(err)
		}
		conn, err := s.WAN.DialTCP(netip.AddrPortFrom(lab.Phone(9), 0), at, patience)
		if err != nil {
			continue
		}
		defer conn.Close()
		if _, err := conn.Write(oddLetter("OPTIONS", phone.at, at, 5001, 0)); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if n, err := conn.Read(make([]byte, 1)); err == nil || n > 0 {
			t.Errorf("port %d answers", port)
		}
	}
	phone.silent(t)
}
