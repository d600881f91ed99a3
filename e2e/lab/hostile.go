//go:build linux

package lab

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Hostile is a DNS server in the wan, on lab.DNS, that answers as those who mean harm do: the first label of the name says
// how.
type Hostile struct {
	udp   *net.UDPConn
	other *net.UDPConn // another port, to spoof from
	tcp   *net.TCPListener

	mu   sync.Mutex
	said map[string]bool // everything that it has sent, without the ID
}

// StartHostile starts the server.
func (l *Lab) StartHostile(t *testing.T) *Hostile {
	t.Helper()
	h := &Hostile{said: map[string]bool{}}
	var errs [3]error
	h.udp, errs[0] = l.WAN.ListenUDP(netip.AddrPortFrom(DNS, 53))
	h.other, errs[1] = l.WAN.ListenUDP(netip.AddrPortFrom(DNS, 5353))
	h.tcp, errs[2] = l.WAN.ListenTCP(netip.AddrPortFrom(DNS, 53))
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	var group sync.WaitGroup
	group.Go(h.serveUDP)
	group.Go(func() { h.serveTCP(&group) })
	l.onClose(func() { h.udp.Close(); h.other.Close(); h.tcp.Close(); group.Wait() })
	return h
}

func (h *Hostile) serveUDP() {
	buf := make([]byte, 65536)
	for {
		n, from, err := h.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		var q dns.Msg
		if q.Unpack(buf[:n]) != nil || len(q.Question) != 1 {
			continue
		}
		if how(&q) == "forged" {
			_, _ = h.other.WriteToUDPAddrPort(h.note(pack(answer(&q, "203.0.113.66"))), from)
			for _, m := range forgeries(&q) {
				_, _ = h.udp.WriteToUDPAddrPort(h.note(m), from)
			}
		}
		_, _ = h.udp.WriteToUDPAddrPort(h.note(say(&q, false)), from)
	}
}

func (h *Hostile) serveTCP(group *sync.WaitGroup) {
	for {
		c, err := h.tcp.Accept()
		if err != nil {
			return
		}
		group.Go(func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			for {
				var head [2]byte
				if _, err := io.ReadFull(c, head[:]); err != nil {
					return
				}
				b := make([]byte, binary.BigEndian.Uint16(head[:]))
				if _, err := io.ReadFull(c, b); err != nil {
					return
				}
				var q dns.Msg
				if q.Unpack(b) != nil || len(q.Question) != 1 {
					return
				}
				m := h.note(say(&q, true))
				if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...)); err != nil {
					return
				}
			}
		})
	}
}

// note remembers what is sent.
func (h *Hostile) note(m []byte) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(m) > 12 {
		h.said[string(m[2:])] = true
	}
	return m
}

func how(q *dns.Msg) string {
	label, _, _ := strings.Cut(strings.ToLower(q.Question[0].Name), ".")
	return label
}

// answer answers with addresses.
func answer(q *dns.Msg, addresses ...string) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Compress = true
	name := q.Question[0].Name
	for _, a := range addresses {
		addRecord(m, name, dns.TypeToString[q.Question[0].Qtype]+" "+a)
	}
	return m
}

func addRecord(m *dns.Msg, name, text string) {
	if rr, err := dns.NewRR(name + " 30 IN " + text); err == nil {
		m.Answer = append(m.Answer, rr)
	}
}

// several answers with n addresses of the type that was asked for.
func several(q *dns.Msg, n int) *dns.Msg {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("192.0.2.%d", 1+i)
		if q.Question[0].Qtype == dns.TypeAAAA {
			all[i] = fmt.Sprintf("2001:db8:5::%x", 1+i)
		}
	}
	return answer(q, all...)
}

func pack(m *dns.Msg) []byte {
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

// say is the last of what is said to a question.
func say(q *dns.Msg, tcp bool) []byte {
	v6 := q.Question[0].Qtype == dns.TypeAAAA
	name := q.Question[0].Name
	switch how(q) {
	case "big-udp": // 2,500 bytes, over UDP as well
		return pack(several(q, 155))
	case "tc-then-big":
		if !tcp {
			m := answer(q)
			m.Truncated = true
			return pack(m)
		}
		return pack(several(q, 100))
	case "many":
		return pack(several(q, 184))
	case "big-aaaa":
		if v6 {
			return pack(several(q, 180))
		}
	case "big-a":
		if !v6 {
			return pack(several(q, 180))
		}
	case "long-chain":
		return pack(chain(q, 40, 2))
	case "fat-chain":
		return pack(chain(q, 16, 60))
	case "trailing":
		return append(pack(several(q, 1)), make([]byte, 1500)...)
	case "loop":
		m := pack(several(q, 1))
		at := 12 + len(name) + 1 + 4
		binary.BigEndian.PutUint16(m[at:], 0xc000|uint16(at))
		return m
	case "cut-header":
		return pack(several(q, 1))[:7]
	}
	return pack(several(q, 1))
}

// chain answers with n aliases and an address.
func chain(q *dns.Msg, n, length int) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Compress = true
	owner := q.Question[0].Name
	for i := range n {
		next := fmt.Sprintf("%s.c%d.example.net.", strings.Repeat(string(rune('a'+i%26)), length), i)
		addRecord(m, owner, "CNAME "+next)
		owner = next
	}
	addRecord(m, owner, "A 192.0.2.1")
	return m
}

// forgeries are wrong in one thing each.
func forgeries(q *dns.Msg) (all [][]byte) {
	for _, change := range []func(m *dns.Msg){
		func(m *dns.Msg) { m.Id ^= 1 },
		func(m *dns.Msg) { m.Question[0].Name = "bank.example.com." },
		func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeTXT },
	} {
		m := answer(q, "203.0.113.66")
		change(m)
		all = append(all, pack(m))
	}
	return all
}

// Judge holds every message that a server has sent, as it was captured, to what is true of all of them: within its cap,
// readable, and none that this server has sent. It wants at least so many.
func (h *Hostile) Judge(c *Capture, from netip.AddrPort, least int) error {
	payloads := c.Payloads()
	sizes := map[string]int{} // what clients take over UDP, by their address and ID
	for f, all := range payloads {
		for _, text := range all {
			var q dns.Msg
			if !f.TCP && f.Dst == from && q.Unpack([]byte(text)) == nil {
				size := 512
				if o := q.IsEdns0(); o != nil {
					size = min(max(size, int(o.UDPSize())), 1232)
				}
				sizes[fmt.Sprint(f.Src, q.Id)] = size
			}
		}
	}
	n := 0
	for f, all := range payloads {
		if f.Src != from {
			continue
		}
		for _, text := range all {
			for m := []byte(text); len(m) > 0; n++ {
				one := m
				limit := sizes[fmt.Sprint(f.Dst, binary.BigEndian.Uint16(m))]
				if m = nil; f.TCP {
					size := int(binary.BigEndian.Uint16(one))
					one, m, limit = one[2:2+size], one[2+size:], 1024
				}
				if err := h.judge(one, limit); err != nil {
					return fmt.Errorf("%v: %w", f, err)
				}
			}
		}
	}
	if n < least {
		return fmt.Errorf("%d messages captured, want %d", n, least)
	}
	return nil
}

func (h *Hostile) judge(m []byte, limit int) error {
	if len(m) > limit {
		return fmt.Errorf("a message of %d bytes, at most %d are allowed", len(m), limit)
	}
	var v dns.Msg
	if err := v.Unpack(m); err != nil {
		return fmt.Errorf("a message cannot be read: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.said[string(m[2:])] {
		return fmt.Errorf("a message that the upstream has sent: %v", &v)
	}
	return nil
}
