//go:build linux

package e2e_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sipward/e2e/lab"
)

// resolver makes a lab with sipward as the resolver of the PBX host, on 203.0.113.1.
func resolver(t *testing.T, extra string) *site {
	t.Helper()
	lab.Need(t, "dig", "nsd", "getent")
	t.Parallel()
	if direct {
		t.Skip("it is sipward that is tested here")
	}
	s := &site{Lab: labs.New(t)}
	s.start(t, lab.Config{Extra: "dns: {listen: [udp://203.0.113.1, tcp://203.0.113.1], upstreams: [198.51.100.53]" + extra + "}\n"})
	return s
}

// dig asks from the PBX's host and gives what dig printed.
func (s *site) dig(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.PBX.Output(append([]string{"dig", "@203.0.113.1", "+tries=1", "+time=6"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// getent asks as programs on the PBX's host do: through its C library.
func (s *site) getent(t *testing.T, name string) (string, error) {
	t.Helper()
	file := filepath.Join(s.Dir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 203.0.113.1\noptions timeout:5 attempts:1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return s.PBX.Output("unshare", "-m", "sh", "-c", `mount --bind "$1" /etc/resolv.conf && exec getent ahosts "$2"`, "sh", file, name)
}

const zoneRecords = `$ORIGIN example.com.
$TTL 300
@ SOA ns hostmaster 1 3600 600 86400 120
@ NS ns
ns A 198.51.100.53
www A 192.0.2.1
www A 192.0.2.2
www AAAA 2001:db8:5::1
alias CNAME alias2
alias2 CNAME www
sip A 192.0.2.9
_sip._udp SRV 10 60 5060 sip
_sip._udp SRV 20 40 5070 www
@ NAPTR 10 10 "s" "SIP+D2U" "" _sip._udp
@ NAPTR 20 10 "s" "SIPS+D2T" "" _sips._tcp
big TXT %s
`

// TestDNSRealServer: what a PBX looks up, through sipward, of nsd.
func TestDNSRealServer(t *testing.T) {
	s := resolver(t, "")
	var txt []string
	for i := range 14 {
		txt = append(txt, fmt.Sprintf("%q", strings.Repeat(string(rune('a'+i)), 250)))
	}
	nsd := s.StartNSD(t, "example.com", fmt.Sprintf(zoneRecords, strings.Join(txt, " ")))
	for _, tt := range []struct {
		args string
		want []string
	}{
		{"+short www.example.com A", []string{"192.0.2.1", "192.0.2.2"}},
		{"+short WWW.example.com A +noedns", []string{"192.0.2.1", "192.0.2.2"}},
		{"+short www.example.com AAAA +tcp", []string{"2001:db8:5::1"}},
		{"+short alias.example.com A", []string{"alias2.example.com.", "www.example.com.", "192.0.2.1"}},
		{"+short _sip._udp.example.com SRV", []string{"10 60 5060 sip.example.com.", "20 40 5070 www.example.com."}},
		{"+short example.com NAPTR", []string{`10 10 "s" "SIP+D2U" "" _sip._udp.example.com.`, `"SIPS+D2T"`}},
		{"+short big.example.com TXT", []string{strings.Repeat("a", 250), strings.Repeat("n", 250)}}, // dig goes on over TCP by itself
		{"big.example.com TXT +ignore", []string{"flags: qr tc rd ra;", "ANSWER: 0"}},
		{"nothing.example.com A", []string{"status: NXDOMAIN", "SOA"}},
		{"sip.example.com AAAA", []string{"status: NOERROR", "ANSWER: 0", "SOA"}},
		{"+short localhost A", []string{"127.0.0.1"}},
		{"host.invalid A", []string{"status: NXDOMAIN"}},
		{"example.com ANY", []string{"status: NOTIMP"}},
		{"version.bind TXT CH", []string{"status: REFUSED"}},
	} {
		for range 2 { // from the upstream, and from the cache
			out := s.dig(t, strings.Fields(tt.args)...)
			for _, w := range tt.want {
				if !strings.Contains(out, w) {
					t.Errorf("dig %s: no %q in\n%s", tt.args, w, out)
				}
			}
		}
	}
	out, err := s.getent(t, "alias.example.com")
	for _, w := range []string{"192.0.2.1", "192.0.2.2", "2001:db8:5::1"} {
		if err != nil || !strings.Contains(out, w) {
			t.Errorf("getent: %v, no %s in\n%s", err, w, out)
		}
	}
	if out, _ := s.sipward.CLI("status"); !strings.Contains(out, "protection on:") || !strings.Contains(out, "dns upstream  198.51.100.53:53") {
		t.Errorf("status:\n%s", out)
	}
	for address, w := range map[string]string{"203.0.113.2": "may ask", "198.51.100.77": "may not ask (drop)"} {
		if out, _ := s.sipward.CLI("explain", address); !strings.Contains(out, w) {
			t.Errorf("explain %s:\n%s", address, out)
		}
	}
	s.strangers(t)
	s.changes(t, nsd)
}

// strangers may not ask, whichever address they ask.
func (s *site) strangers(t *testing.T) {
	t.Helper()
	if out, err := s.WAN.Output("dig", "@203.0.113.1", "+tries=1", "+time=1", "www.example.com"); err == nil {
		t.Errorf("a stranger is answered:\n%s", out)
	}
	if n, err := s.sipward.Count("reasons", "dns-stranger"); err != nil || n != 1 {
		t.Errorf("%d questions of strangers counted: %v", n, err)
	}
}

// changes: reload, restart, and an upstream that goes and comes back.
func (s *site) changes(t *testing.T, nsd *lab.Process) {
	t.Helper()
	s.sipward.Edit(t, "upstreams:", "stranger_action: reject, dns_protection: strict, upstreams:")
	if out, err := s.sipward.CLI("reload"); err != nil || !strings.Contains(out, "dns.dns_protection: on → strict") {
		t.Errorf("reload: %v\n%s", err, out)
	}
	if out, err := s.WAN.Output("dig", "@203.0.113.1", "+tries=1", "+time=5", "www.example.com"); err != nil || !strings.Contains(out, "status: REFUSED") {
		t.Errorf("a stranger: %v\n%s", err, out)
	}
	nsd.Stop(5 * time.Second)
	began := time.Now()
	if out := s.dig(t, "www.example.com"); !strings.Contains(out, "SERVFAIL") || time.Since(began) > patience {
		t.Errorf("without an upstream, after %v:\n%s", time.Since(began), out)
	}
	if out, _ := s.sipward.CLI("status"); !strings.Contains(out, "DOWN since") {
		t.Errorf("status:\n%s", out)
	}
	s.StartNSD(t, "example.com", fmt.Sprintf(zoneRecords, "short"))
	lab.Poll(t, 20*time.Second, "the upstream is back", func() error {
		if out := s.dig(t, "+short", "www.example.com"); !strings.Contains(out, "192.0.2.1") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	if err := s.sipward.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.sipward.Done():
	case <-time.After(10 * time.Second):
		t.Error("Ctrl-C does not end sipward")
	}
	s.sipward.Restart(t)
	if out := s.dig(t, "+short", "www.example.com"); !strings.Contains(out, "192.0.2.1") {
		t.Errorf("after a restart:\n%s", out)
	}
}

// TestDNSHostileServer: dig and glibc ask for what a server answers that means harm. Every message that leaves sipward is
// captured and held to its cap.
func TestDNSHostileServer(t *testing.T) {
	s := resolver(t, ", timeout: 1s, try_timeout: 300ms")
	h := s.StartHostile(t)
	cap, err := s.PBX.Capture("eth0", 53)
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	defer func() {
		if !stopped {
			cap.Stop()
		}
	}()
	for _, tt := range []struct {
		name     string
		want     []string // of dig for A
		getent   bool     // finds it
		servfail bool
	}{
		{name: "big-udp", want: []string{"192.0.2."}, getent: true},
		{name: "tc-then-big", want: []string{"192.0.2."}, getent: true},
		{name: "many", want: []string{"192.0.2."}, getent: true},
		{name: "big-aaaa", want: []string{"192.0.2.1"}, getent: true},
		{name: "big-a", want: []string{"192.0.2."}, getent: true},
		{name: "forged", want: []string{"192.0.2.1"}, getent: true},
		{name: "long-chain", servfail: true},
		{name: "fat-chain", servfail: true},
		{name: "trailing", want: []string{"192.0.2.1"}, getent: true},
		{name: "loop", servfail: true},
		{name: "cut-header", servfail: true},
	} {
		host := tt.name + ".example.com"
		out := s.dig(t, host, "A")
		if tt.servfail != strings.Contains(out, "SERVFAIL") || strings.Contains(out, "203.0.113.66") {
			t.Errorf("dig %s:\n%s", host, out)
		}
		for _, w := range tt.want {
			if !strings.Contains(out, w) {
				t.Errorf("dig %s: no %s in\n%s", host, w, out)
			}
		}
		s.dig(t, host, "A", "+noedns")
		s.dig(t, host, "AAAA", "+tcp")
		got, err := s.getent(t, host)
		if tt.getent != (err == nil) || strings.Contains(got, "203.0.113.66") {
			t.Errorf("getent %s: %v\n%s", host, err, got)
		}
	}
	lab.Poll(t, 10*time.Second, "all is captured", func() error { return h.Judge(cap, netip.MustParseAddrPort("203.0.113.1:53"), 60) })
	cap.Stop()
	stopped = true
	for _, reason := range []string{"dns-forged", "dns-too-large", "dns-trimmed", "dns-failed"} {
		if n, err := s.sipward.Count("reasons", reason); err != nil || n == 0 {
			t.Errorf("nothing counted as %s: %v", reason, err)
		}
	}
	if out, _ := s.sipward.CLI("status"); !strings.Contains(out, " dns ") || !strings.Contains(out, "forged replies") {
		t.Errorf("status:\n%s", out)
	}
}

// TestDNSRedirect: in transparent mode, a PBX that asks a resolver of its own is answered by sipward, and by that resolver
// again when sipward is gone.
func TestDNSRedirect(t *testing.T) {
	placements(t, func(t *testing.T, placement string) {
		lab.Need(t, "dig", "nsd")
		if direct {
			t.Skip("it is sipward that is tested here")
		}
		s := &site{Lab: labs.New(t)}
		s.StartNSD(t, "example.com", fmt.Sprintf(zoneRecords, "short"))
		listen := "udp://203.0.113.1, tcp://203.0.113.1"
		if placement == "host" {
			listen = "udp://127.0.0.1:5353, tcp://127.0.0.1:5353"
		}
		s.start(t, lab.Config{Placement: placement, Extra: "dns: {listen: [" + listen + "], upstreams: [198.51.100.53], redirect: true}\n"})
		for i, server := range []string{"198.51.100.53", "198.51.100.9", "192.0.2.77"} { // two of them do not even exist
			for _, transport := range []string{"+notcp", "+tcp"} {
				out, err := s.PBX.Output("dig", "@"+server, "+tries=1", "+time=5", transport, "www.example.com")
				if err != nil || !strings.Contains(out, "192.0.2.1") || !strings.Contains(out, "SERVER: "+server+"#53") || strings.Contains(out, "flags: qr aa") {
					t.Errorf("%d %s %s: %v\n%s", i, server, transport, err, out)
				}
			}
		}
		if n, err := s.sipward.Count("dns", "hits"); err != nil || n < 5 {
			t.Errorf("%d answers from the cache: %v", n, err)
		}
		s.sipward.KillHard()
		out, err := s.PBX.Output("dig", "@198.51.100.53", "+tries=1", "+time=5", "www.example.com")
		if err != nil || !strings.Contains(out, "flags: qr aa") {
			t.Errorf("without sipward: %v\n%s", err, out)
		}
	})
}
