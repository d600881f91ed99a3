package dns_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"sipward/dns"
	"sipward/policy"
)

// many makes records of addresses.
func many(n int, qtype uint16) (records []string) {
	for i := range n {
		if qtype == mdns.TypeAAAA {
			records = append(records, fmt.Sprintf("@ 60 IN AAAA 2001:db8::%x", i+1))
		} else {
			records = append(records, fmt.Sprintf("@ 60 IN A 192.0.%d.%d", 2+i/250, 1+i%250))
		}
	}
	return records
}

// TestSizes: whatever comes from the upstream, what leaves is within its cap, and as much
// of it as fits.
func TestSizes(t *testing.T) {
	for _, n := range []int{1, 20, 29, 60, 61, 64, 75, 160, 184, 1000} {
		for _, qtype := range []uint16{mdns.TypeA, mdns.TypeAAAA} {
			t.Run(fmt.Sprint(n, mdns.Type(qtype)), func(t *testing.T) {
				// All of it over UDP, too: 184 addresses and more are over 2,500 bytes.
				f := start(t, dns.Config{}, newUpstream(t, says(t, many(n, qtype)...)))
				size := 17 + 4 + 12 + n*16
				if qtype == mdns.TypeAAAA {
					size += n * 12
				}
				for _, edns := range []uint16{0, 600, 1232, 4096} {
					q := question("many.example.com.", qtype, edns)
					b, m := f.ask(q, false)
					whole, most := size, 512
					if edns > 0 {
						whole += 11
						most = min(int(edns), 1024)
					}
					if fits := whole <= most; fits == m.Truncated || fits && len(m.Answer) != n || !fits && len(m.Answer) != 0 {
						t.Errorf("%d addresses, %d bytes, EDNS %d: %d addresses in %d bytes, truncated %v", n, whole, edns, len(m.Answer), len(b), m.Truncated)
					}
					b, m = f.ask(q, true)
					if whole <= 1024 && len(m.Answer) != n || whole > 1024 && len(b) < 1024-2*28-11 || m.Truncated || len(m.Answer) == 0 {
						t.Errorf("over TCP %d of %d addresses in %d bytes", len(m.Answer), n, len(b))
					}
				}
			})
		}
	}
}

// TestProtectionOff: the glibc caps are off, and parsing and checking are not.
func TestProtectionOff(t *testing.T) {
	f := start(t, dns.Config{Settings: dns.Settings{Protection: dns.Off}}, newUpstream(t, says(t, many(184, mdns.TypeA)...)))
	c := f.dial(true)
	defer c.Close()
	f.send(c, question("many.example.com.", mdns.TypeA, 0), true)
	if b, m := f.receive(c, nil, true); len(m.Answer) != 184 || len(b) < 2500 {
		t.Errorf("%d addresses", len(m.Answer))
	}
}

// TestTwoAnswersOnOneConnection is the attack of CVE-2015-7547: truncated over UDP, then two
// answers over 1,024 bytes on one connection.
func TestTwoAnswersOnOneConnection(t *testing.T) {
	u := newUpstream(t, func(q *mdns.Msg, tcp bool) [][]byte {
		if !tcp {
			m := reply(t, q)
			m.Truncated = true
			return [][]byte{wire(t, m)}
		}
		return says(t, many(90, q.Question[0].Qtype)...)(q, true)
	})
	f := start(t, dns.Config{}, u)
	a, aaaa := question("evil.example.com.", mdns.TypeA, 0), question("evil.example.com.", mdns.TypeAAAA, 0)
	if _, m := f.ask(a, false); !m.Truncated {
		t.Errorf("not truncated: %v", m)
	}
	c := f.dial(true)
	defer c.Close()
	f.send(c, a, true)
	f.send(c, aaaa, true)
	total := 0
	for range 2 {
		b, m := f.receive(c, nil, true)
		q := a
		if m.Id == aaaa.Id {
			q = aaaa
		}
		if m.Question[0] != q.Question[0] || len(b) > 1024 || len(m.Answer) < 30 {
			t.Errorf("%d bytes, %d addresses", len(b), len(m.Answer))
		}
		total += len(b)
	}
	if total > 2048 {
		t.Errorf("two answers of %d bytes", total)
	}
}

// TestForgedReplies: what is wrong is passed over while the right one is waited for.
func TestForgedReplies(t *testing.T) {
	bad := func(q *mdns.Msg, change func(m *mdns.Msg)) []byte {
		m := reply(t, q, q.Question[0].Name+" 60 IN A 203.0.113.66")
		m.Answer[0].Header().Name = q.Question[0].Name
		change(m)
		return wire(t, m)
	}
	u := newUpstream(t, nil)
	u.change(func(q *mdns.Msg, _ bool) [][]byte {
		right := wire(t, reply(t, q, q.Question[0].Name+" 60 IN A 192.0.2.1"))
		forged := [][]byte{
			bad(q, func(m *mdns.Msg) { m.Id++ }),
			bad(q, func(m *mdns.Msg) { m.Question[0].Name = "other.example.com." }),
			bad(q, func(m *mdns.Msg) { m.Question[0].Qtype = mdns.TypeAAAA }),
			bad(q, func(m *mdns.Msg) { m.Question[0].Qclass = mdns.ClassCHAOS }),
			bad(q, func(m *mdns.Msg) { m.Question = nil }),
			bad(q, func(m *mdns.Msg) { m.Response = false }),
			bad(q, func(m *mdns.Msg) { m.Opcode = mdns.OpcodeNotify }),
			right[:11], right[:5], {},
		}
		return append(forged, right)
	})
	f := start(t, dns.Config{}, u)
	if _, m := f.ask(question("www.example.com.", mdns.TypeA, 0), false); len(m.Answer) != 1 || !strings.Contains(m.Answer[0].String(), "192.0.2.1") {
		t.Errorf("got %v", m)
	}
	if n := f.reasons()["dns-forged"]; n != 10 {
		t.Errorf("%d forged replies counted", n)
	}
	if st := f.Stats(); st.Upstreams[0].Foreign != 10 {
		t.Errorf("stats %+v", st.Upstreams)
	}
	told := f.engine.Notices(0)
	if len(told) != 1 || told[0].Kind != policy.NoticeDNS || told[0].Reason != policy.ReasonDNSForged {
		t.Errorf("notices %+v", told)
	}
}

// TestSpoofedSource: a reply that is right but for where it comes from is never seen.
func TestSpoofedSource(t *testing.T) {
	other, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	u := newUpstream(t, says(t, "@ 60 IN A 192.0.2.1"))
	u.mu.Lock()
	u.before = func(q *mdns.Msg, from netip.AddrPort) {
		other.WriteToUDPAddrPort(says(t, "@ 60 IN A 203.0.113.66")(q, false)[0], from)
	}
	u.mu.Unlock()
	f := start(t, dns.Config{}, u)
	if _, m := f.ask(question("www.example.com.", mdns.TypeA, 0), false); len(m.Answer) != 1 || !strings.Contains(m.Answer[0].String(), "192.0.2.1") {
		t.Errorf("got %v", m)
	}
}

// TestSpelling: a reply that does not repeat the random case of the question may be a
// forger's, so it is asked for over TCP, where nobody can forge it.
func TestSpelling(t *testing.T) {
	u := newUpstream(t, func(q *mdns.Msg, tcp bool) [][]byte {
		m := reply(t, q, "www.sipward.example.com. 60 IN A 192.0.2.1")
		if !tcp {
			m = reply(t, q, "www.sipward.example.com. 60 IN A 203.0.113.66")
		}
		m.Question[0].Name = strings.ToLower(q.Question[0].Name)
		return [][]byte{wire(t, m)}
	})
	f := start(t, dns.Config{}, u)
	_, m := f.ask(question("www.sipward.example.com.", mdns.TypeA, 0), false)
	if _, tcp := u.count(); tcp != 1 || len(m.Answer) != 1 || !strings.Contains(m.Answer[0].String(), "192.0.2.1") {
		t.Errorf("%d times over TCP: %v", tcp, m)
	}
}

// chainOf makes n aliases, and an address at their end.
func chainOf(n, length int) []string {
	name := func(i int) string {
		return fmt.Sprintf("%s.h%d.example.net.", strings.Repeat(string(rune('a'+i%26)), length), i)
	}
	var all []string
	owner := "@"
	for i := range n {
		all = append(all, owner+" 60 IN CNAME "+name(i))
		owner = name(i)
	}
	return append(all, owner+" 60 IN A 192.0.2.1")
}

// TestHostileAnswers: replies that match the question and are wrong inside.
func TestHostileAnswers(t *testing.T) {
	raw := func(change func(b []byte) []byte) speak {
		return func(q *mdns.Msg, tcp bool) [][]byte {
			return [][]byte{change(says(t, "@ 60 IN A 192.0.2.1")(q, tcp)[0])}
		}
	}
	tests := map[string]struct {
		speak  speak
		reason string // empty: answered well
	}{
		"chain of many":    {says(t, chainOf(17, 1)...), "dns-too-large"},
		"chain in bytes":   {says(t, chainOf(16, 60)...), "dns-too-large"},
		"chain that fits":  {says(t, chainOf(16, 1)...), ""},
		"loop of aliases":  {says(t, "@ 60 IN CNAME b.example.com.", "b.example.com. 60 IN CNAME a.example.com.", "a.example.com. 60 IN CNAME b.example.com."), "dns-too-large"},
		"trailing bytes":   {raw(func(b []byte) []byte { return append(b, make([]byte, 300)...) }), ""},
		"pointer to self":  {raw(func(b []byte) []byte { n := len(b) - 16; b[n], b[n+1] = 0xc0|byte(n>>8), byte(n); return b }), "dns-failed"},
		"pointer ahead":    {raw(func(b []byte) []byte { n := len(b) - 16; b[n], b[n+1] = 0xc0, byte(n+4); return b }), "dns-failed"},
		"too many records": {raw(func(b []byte) []byte { b[6], b[7] = 0xff, 0xff; return b }), "dns-failed"},
		"length beyond":    {raw(func(b []byte) []byte { n := len(b) - 6; b[n] = 0xff; return b }), "dns-failed"},
		"cut short":        {raw(func(b []byte) []byte { return b[:len(b)-2] }), "dns-failed"},
		"header alone":     {raw(func(b []byte) []byte { return b[:12] }), "dns-failed"},
		"SERVFAIL":         {raw(func(b []byte) []byte { b[3] |= 2; return b }), "dns-failed"},
		"record not asked": {says(t, "bank.example.com. 60 IN A 203.0.113.66", "@ 60 IN A 192.0.2.1", "@ 60 IN TXT x"), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, dns.Config{Settings: dns.Settings{Timeout: 600 * time.Millisecond}}, newUpstream(t, tt.speak))
			for _, tcp := range []bool{false, true} {
				began := time.Now()
				_, m := f.ask(question("www.example.com.", mdns.TypeA, 1232), tcp)
				if took := time.Since(began); took > 20*time.Second {
					t.Errorf("it took %v", took)
				}
				if tt.reason != "" {
					if m.Rcode != mdns.RcodeServerFailure || len(m.Answer) > 0 {
						t.Errorf("got %v", m)
					}
					continue
				}
				if m.Rcode != 0 || len(m.Answer) == 0 || m.Answer[len(m.Answer)-1].(*mdns.A).A.String() != "192.0.2.1" || strings.Contains(m.String(), "203.0.113.66") {
					t.Errorf("got %v", m)
				}
			}
			if tt.reason != "" && f.reasons()[tt.reason] == 0 {
				t.Errorf("reasons %v", f.reasons())
			}
			if told := f.engine.Notices(0); tt.reason != "" && len(told) == 0 {
				t.Error("nobody is told")
			}
		})
	}
}

func TestStrict(t *testing.T) {
	ask := func(t *testing.T, f *front, qtype uint16) *mdns.Msg {
		_, m := f.ask(question("www.example.com.", qtype, 0), false)
		return m
	}
	strict := dns.Config{Settings: dns.Settings{Protection: dns.Strict, Timeout: time.Second}}
	t.Run("trailing", func(t *testing.T) {
		f := start(t, strict, newUpstream(t, func(q *mdns.Msg, tcp bool) [][]byte {
			return [][]byte{append(says(t, "@ 60 IN A 192.0.2.1")(q, tcp)[0], 0)}
		}))
		if m := ask(t, f, mdns.TypeA); m.Rcode != mdns.RcodeServerFailure || f.reasons()["dns-bad-answer"] != 1 {
			t.Errorf("%v %v", m, f.reasons())
		}
	})
	t.Run("private", func(t *testing.T) {
		u := newUpstream(t, says(t, "@ 60 IN A 10.0.0.1", "@ 60 IN A 127.0.0.1", "@ 60 IN A 192.0.2.1", "@ 60 IN A 169.254.1.1"))
		f := start(t, strict, u)
		if m := ask(t, f, mdns.TypeA); len(m.Answer) != 1 || f.reasons()["dns-private"] != 1 {
			t.Errorf("%v %v", m, f.reasons())
		}
		set := strict.Settings
		set.Upstreams = []dns.Upstream{{Address: u.addr}}
		set.PrivateNames = []string{"Example.com"}
		f.Reload(set)
		if m := ask(t, f, mdns.TypeA); len(m.Answer) != 4 {
			t.Errorf("%v", m)
		}
	})
	t.Run("names", func(t *testing.T) {
		f := start(t, strict, newUpstream(t, says(t, `@ 60 IN CNAME a\;reboot.example.com.`)))
		if m := ask(t, f, mdns.TypeA); m.Rcode != mdns.RcodeServerFailure || f.reasons()["dns-bad-answer"] != 1 {
			t.Errorf("%v %v", m, f.reasons())
		}
	})
}
