package dns_test

import (
	"bytes"
	"testing"

	mdns "github.com/miekg/dns"

	"sipward/dns"
)

// FuzzAnswer gives a reply to a question the whole way. Whatever it is: what leaves is within
// its cap, can be read, answers the question, and has no record that was not asked for.
func FuzzAnswer(f *testing.F) {
	ask := func(name string, qtype, edns uint16) []byte {
		b, err := question(name, qtype, edns).Pack()
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	replyTo := func(ask []byte, records ...string) []byte {
		var q mdns.Msg
		if err := q.Unpack(ask); err != nil {
			f.Fatal(err)
		}
		m := new(mdns.Msg)
		m.SetReply(&q)
		m.Compress = true
		for _, text := range owned(&q, records) {
			rr, err := mdns.NewRR(text)
			if err != nil {
				f.Fatal(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	a, aaaa := ask("www.example.com.", mdns.TypeA, 1232), ask("www.example.com.", mdns.TypeAAAA, 0)
	srv := ask("_sip._udp.example.com.", mdns.TypeSRV, 4096)
	for _, s := range []struct{ ask, reply []byte }{
		{a, replyTo(a, "@ 60 IN A 192.0.2.1")},
		{a, replyTo(a, many(184, mdns.TypeA)...)},
		{aaaa, replyTo(aaaa, many(100, mdns.TypeAAAA)...)},
		{a, replyTo(a, chainOf(5, 20)...)},
		{a, replyTo(a, chainOf(20, 60)...)},
		{srv, replyTo(srv, "@ 60 IN SRV 1 2 5060 a.example.com.", "a.example.com. 60 IN A 192.0.2.1")},
		{a, nil}, {nil, nil},
	} {
		for p := range uint8(3) {
			f.Add(s.ask, s.reply, p)
		}
	}
	f.Fuzz(func(t *testing.T, ask, reply []byte, p uint8) {
		protection := dns.Protection(p % 3)
		reply = bytes.Clone(reply)
		udp, tcp := dns.Answer(ask, reply, protection)
		if udp == nil {
			return
		}
		var q mdns.Msg
		if err := q.Unpack(ask); err != nil {
			return // such as an option of EDNS that miekg/dns reads and we do not
		}
		most, mostTCP := 512, 16384
		if o := q.IsEdns0(); o != nil {
			most = min(max(512, int(o.UDPSize())), 1232)
		}
		want := q.Question[0]
		if protection != dns.Off && (want.Qtype == mdns.TypeA || want.Qtype == mdns.TypeAAAA) {
			most, mostTCP = min(most, 1024), 1024
		}
		for _, one := range []struct {
			wire []byte
			most int
		}{{udp, most}, {tcp, mostTCP}} {
			if len(one.wire) > one.most {
				t.Fatalf("%d bytes, at most %d are allowed", len(one.wire), one.most)
			}
			var m mdns.Msg
			if err := m.Unpack(one.wire); err != nil {
				t.Fatalf("cannot be read: %v", err)
			}
			if !m.Response || m.Id != q.Id || len(m.Question) != 1 || m.Question[0] != want {
				t.Fatalf("does not answer %v: %v", want, &m)
			}
			held(t, &m, want)
		}
	})
}

// held wants only what was asked for, on the way from its name.
func held(t *testing.T, m *mdns.Msg, q mdns.Question) {
	owner := mdns.CanonicalName(q.Name)
	for _, rr := range m.Answer {
		h := rr.Header()
		if mdns.CanonicalName(h.Name) != owner || h.Class != mdns.ClassINET {
			t.Fatalf("%v is not on the way from %s", rr, q.Name)
		}
		switch c, alias := rr.(*mdns.CNAME); {
		case h.Rrtype == q.Qtype:
		case alias:
			owner = mdns.CanonicalName(c.Target)
		default:
			t.Fatalf("%v was not asked for", rr)
		}
	}
	if len(m.Ns) > 1 || len(m.Ns) == 1 && m.Ns[0].Header().Rrtype != mdns.TypeSOA {
		t.Fatalf("authority %v", m.Ns)
	}
	for _, rr := range m.Extra {
		if rr.Header().Rrtype != mdns.TypeOPT {
			t.Fatalf("additional %v", rr)
		}
	}
}
