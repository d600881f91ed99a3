package dns_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"sipward/dns"
)

func texts(m *mdns.Msg) (all []string) {
	for _, rr := range m.Answer {
		all = append(all, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	return all
}

// TestLegitimate: what a PBX asks for comes as it should, over both transports, again from
// the cache, and in the spelling of the question.
func TestLegitimate(t *testing.T) {
	long := `@ 60 IN TXT`
	for i := range 14 {
		long += fmt.Sprintf(" %q", strings.Repeat(string(rune('a'+i)), 250))
	}
	tests := []struct {
		name    string
		qtype   uint16
		records []string
		tc      bool
	}{
		{"a.example.com.", mdns.TypeA, []string{"@ 60 IN A 192.0.2.1", "@ 60 IN A 192.0.2.2"}, false},
		{"a.example.com.", mdns.TypeAAAA, []string{"@ 60 IN AAAA 2001:db8::1"}, false},
		{"w.example.com.", mdns.TypeA, []string{"@ 60 IN CNAME b.example.net.", "b.example.net. 60 IN CNAME c.example.org.", "c.example.org. 60 IN A 192.0.2.3"}, false},
		{"_sip._udp.example.com.", mdns.TypeSRV, []string{"@ 60 IN SRV 10 20 5060 p1.example.com.", "@ 60 IN SRV 20 0 5070 p2.example.com."}, false},
		{"example.com.", mdns.TypeNAPTR, []string{`@ 60 IN NAPTR 10 10 "s" "SIP+D2U" "" _sip._udp.example.com.`}, false},
		{"example.com.", mdns.TypeTXT, []string{long}, true},
		{"1.2.0.192.in-addr.arpa.", mdns.TypePTR, []string{"@ 60 IN PTR a.example.com."}, false},
		{"example.com.", mdns.TypeMX, []string{"@ 60 IN MX 10 mail.example.com."}, false},
		{"example.com.", 65280, []string{`@ 60 IN TYPE65280 \# 4 0a000001`}, false},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.name, mdns.Type(tt.qtype)), func(t *testing.T) {
			u := newUpstream(t, func(q *mdns.Msg, tcp bool) [][]byte {
				m := reply(t, q, owned(q, tt.records)...)
				if tt.tc && !tcp {
					m.Answer, m.Truncated = nil, true
				}
				return [][]byte{wire(t, m)}
			})
			f := start(t, dns.Config{}, u)
			spelt := strings.ToUpper(tt.name[:1]) + tt.name[1:]
			q := question(spelt, tt.qtype, 1232)
			want := lower(texts(reply(t, q, owned(q, tt.records)...)))
			for _, tcp := range []bool{false, true, false, true} {
				_, m := f.ask(q, tcp)
				if tt.tc && !tcp {
					if !m.Truncated || len(m.Answer) > 0 {
						t.Errorf("not cut off: %v", m)
					}
					continue
				}
				// A name that ends like the question's is compressed with it, and so spelt like it.
				if got := lower(texts(m)); !slices.Equal(got, want) {
					t.Errorf("got  %q\nwant %q", got, want)
				}
			}
			if n, _ := u.count(); n > 2 {
				t.Errorf("the upstream was asked %d times", n)
			}
		})
	}
}

func lower(texts []string) []string {
	for i, s := range texts {
		texts[i] = strings.ToLower(s)
	}
	return texts
}

func TestNegative(t *testing.T) {
	u := newUpstream(t, func(q *mdns.Msg, _ bool) [][]byte {
		m := reply(t, q)
		if strings.HasPrefix(strings.ToLower(q.Question[0].Name), "nx") {
			m.Rcode = mdns.RcodeNameError
		}
		soa, _ := mdns.NewRR("example.com. 900 IN SOA ns.example.com. host.example.com. 1 2 3 4 300")
		foreign, _ := mdns.NewRR("example.net. 900 IN NS ns.attacker.example.")
		m.Ns = []mdns.RR{foreign, soa}
		return [][]byte{wire(t, m)}
	})
	f := start(t, dns.Config{}, u)
	for _, tt := range []struct {
		name  string
		rcode int
	}{{"nx.example.com.", mdns.RcodeNameError}, {"empty.example.com.", mdns.RcodeSuccess}} {
		for range 3 {
			_, m := f.ask(question(tt.name, mdns.TypeA, 0), false)
			if m.Rcode != tt.rcode || len(m.Answer) != 0 || len(m.Ns) != 1 || m.Ns[0].Header().Ttl != 300 {
				t.Errorf("%s: %v", tt.name, m)
			}
		}
	}
	if n, _ := u.count(); n != 2 {
		t.Errorf("the upstream was asked %d times", n)
	}
}

// TestSpecialNames: RFC 6761. No upstream hears of them.
func TestSpecialNames(t *testing.T) {
	u := newUpstream(t, says(t, "@ 60 IN A 10.0.0.1"))
	f := start(t, dns.Config{Settings: dns.Settings{PrivateNames: []string{"corp.test"}}}, u)
	for _, tt := range []struct {
		name  string
		qtype uint16
		rcode int
		want  string
	}{
		{"localhost.", mdns.TypeA, 0, "localhost. 3600 IN A 127.0.0.1"},
		{"x.localhost.", mdns.TypeAAAA, 0, "x.localhost. 3600 IN AAAA ::1"},
		{"localhost.", mdns.TypeTXT, 0, ""},
		{"1.0.0.127.in-addr.arpa.", mdns.TypePTR, 0, "1.0.0.127.in-addr.arpa. 3600 IN PTR localhost."},
		{"a.invalid.", mdns.TypeA, 3, ""},
		{"a.test.", mdns.TypeA, 3, ""},
		{"xyz.onion.", mdns.TypeA, 3, ""},
	} {
		_, m := f.ask(question(tt.name, tt.qtype, 0), false)
		if got := strings.Join(texts(m), ";"); m.Rcode != tt.rcode || got != tt.want {
			t.Errorf("%s: %d %q", tt.name, m.Rcode, got)
		}
	}
	if n, _ := u.count(); n != 0 {
		t.Errorf("the upstream was asked %d times", n)
	}
	if _, m := f.ask(question("pbx.corp.test.", mdns.TypeA, 0), false); len(m.Answer) != 1 {
		t.Errorf("a private name below test: %v", m)
	}
}

// TestRefusedQuestions: what no resolver answers for a client.
func TestRefusedQuestions(t *testing.T) {
	f := start(t, dns.Config{}, newUpstream(t, says(t)))
	ask := func(change func(m *mdns.Msg)) *mdns.Msg {
		q := question("example.com.", mdns.TypeA, 0)
		change(q)
		c := f.dial(false)
		defer c.Close()
		f.send(c, q, false)
		_, m := f.receive(c, nil, false)
		return m
	}
	for name, tt := range map[string]struct {
		change func(m *mdns.Msg)
		rcode  int
	}{
		"ANY":    {func(m *mdns.Msg) { m.Question[0].Qtype = mdns.TypeANY }, mdns.RcodeNotImplemented},
		"AXFR":   {func(m *mdns.Msg) { m.Question[0].Qtype = mdns.TypeAXFR }, mdns.RcodeNotImplemented},
		"CHAOS":  {func(m *mdns.Msg) { m.Question[0].Qclass = mdns.ClassCHAOS }, mdns.RcodeRefused},
		"UPDATE": {func(m *mdns.Msg) { m.Opcode = mdns.OpcodeUpdate }, mdns.RcodeNotImplemented},
		"two":    {func(m *mdns.Msg) { m.Question = append(m.Question, m.Question[0]) }, mdns.RcodeFormatError},
		"none":   {func(m *mdns.Msg) { m.Question = nil }, mdns.RcodeFormatError},
		"record": {func(m *mdns.Msg) { m.Answer = reply(t, m, "a. 1 IN A 192.0.2.1").Answer }, mdns.RcodeFormatError},
		"EDNS 1": {func(m *mdns.Msg) { m.SetEdns0(4096, false); m.IsEdns0().SetVersion(1) }, mdns.RcodeBadVers},
	} {
		if m := ask(tt.change); m.Rcode != tt.rcode {
			t.Errorf("%s: %s, want %s", name, mdns.RcodeToString[m.Rcode], mdns.RcodeToString[tt.rcode])
		}
	}
	// A response gets no answer, nor does what is too short; the server goes on.
	c := f.dial(false)
	defer c.Close()
	q := question("example.com.", mdns.TypeA, 0)
	q.Response = true
	f.send(c, q, false)
	c.Write([]byte{1, 2, 3})
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := c.Read(make([]byte, 512)); err == nil {
		t.Errorf("an answer of %d bytes to a response", n)
	}
}
