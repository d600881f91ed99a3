package gate_test

import (
	"net/netip"
	"testing"
	"time"

	"sipward/policy/gate"
	"sipward/policy/iplist"
	"sipward/policy/rate"
)

func set(prefixes ...string) *iplist.Set {
	var entries []iplist.Entry
	for _, s := range prefixes {
		p, err := iplist.ParsePrefix(s)
		if err != nil {
			panic(err)
		}
		entries = append(entries, iplist.Entry{Prefix: p})
	}
	return iplist.New(entries)
}

type banSet map[netip.Addr]int64

func (b banSet) Banned(a netip.Addr, now int64) bool { return now < b[a] }

func TestOrder(t *testing.T) {
	// 192.0.2.0/28 is on every list; each range after it on one list fewer.
	bans := banSet{}
	for _, s := range []string{"192.0.2.1", "192.0.2.17", "192.0.2.33", "192.0.2.49", "192.0.2.65"} {
		bans[netip.MustParseAddr(s)] = 1000
	}
	g := gate.New(gate.Config{
		Bans: bans,
		Rules: gate.Rules{
			Allow:   set("192.0.2.0/28", "2001:db8:a::/64"),
			PBX:     set("192.0.2.0/27", "2001:db8:b::1"),
			Trusted: set("192.0.2.0/26", "2001:db8:c::/48"),
			Deny:    set("192.0.2.0/26", "2001:db8::/32"),
		},
		Table: rate.Config{Sources: 100},
	})
	tests := []struct {
		addr string
		now  int64
		want gate.Verdict
	}{
		{"192.0.2.1", 1, gate.PassAllowed},
		{"192.0.2.17", 1, gate.PassPBX},
		{"192.0.2.33", 1, gate.PassTrusted},
		{"192.0.2.65", 1, gate.DropBan},
		{"192.0.2.65", 1000, gate.Pass},
		{"198.51.100.1", 1, gate.Pass},
		{"2001:db8:a::77", 1, gate.PassAllowed},
		{"2001:db8:b::1", 1, gate.PassPBX},
		{"2001:db8:b::2", 1, gate.DropDeny},
		{"2001:db8:c:d::1", 1, gate.PassTrusted},
		{"2001:db9::1", 1, gate.Pass},
	}
	for _, tt := range tests {
		a := netip.MustParseAddr(tt.addr)
		if got := g.Check(a, tt.now); got != tt.want {
			t.Errorf("Check(%s, %d) = %v, want %v", tt.addr, tt.now, got, tt.want)
		}
		if got := g.Standing(a, tt.now); got != tt.want {
			t.Errorf("Standing(%s, %d) = %v, want %v", tt.addr, tt.now, got, tt.want)
		}
	}
}

// passed sends n packets at once and says how many pass.
func passed(g *gate.Gate, addr string, n int) (count int) {
	a := netip.MustParseAddr(addr)
	for range n {
		if g.Check(a, int64(time.Hour)).Pass() {
			count++
		}
	}
	return count
}

func TestFlood(t *testing.T) {
	rules := gate.Rules{
		Allow:      set("192.0.2.1"),
		PBX:        set("192.0.2.2"),
		Trusted:    set("192.0.2.3"),
		FloodRate:  100,
		FloodBurst: 400,
	}
	g := gate.New(gate.Config{Rules: rules, Table: rate.Config{Sources: 100}})
	for _, tt := range []struct {
		name, addr string
		want       int
	}{
		{"allowed source", "192.0.2.1", 10_000},
		{"PBX", "192.0.2.2", 10_000},
		{"trunk: ten times", "192.0.2.3", 4000},
		{"stranger", "192.0.2.4", 400},
		{"stranger on IPv6", "2001:db8::1", 400},
		{"the same /64", "2001:db8::2", 0},
		{"the next /64", "2001:db8:0:1::2", 400},
	} {
		if got := passed(g, tt.addr, 10_000); got != tt.want {
			t.Errorf("%s: %d of 10000 pass, want %d", tt.name, got, tt.want)
		}
	}

	rules.Allow = set("192.0.2.4")
	g.Swap(rules)
	if got := passed(g, "192.0.2.4", 10); got != 10 {
		t.Errorf("after it was put on the allow list, %d of 10 pass", got)
	}
	if got := passed(g, "192.0.2.3", 10); got != 0 {
		t.Errorf("the swap forgot who is over the limit: %d of 10 pass", got)
	}
	rules.FloodRate = 0
	g.Swap(rules)
	if got := passed(g, "192.0.2.3", 10); got != 10 {
		t.Errorf("without a flood limit %d of 10 pass", got)
	}
}

type goodUntil map[netip.Addr]int64

func (g goodUntil) Good(a netip.Addr, now int64) bool { return now < g[a] }

// TestFloodOfGood: a source that a PBX has accepted has ten times the limit, and
// the one of strangers as soon as its standing ends.
func TestFloodOfGood(t *testing.T) {
	office := netip.MustParseAddr("198.51.100.7")
	g := gate.New(gate.Config{
		Rules: gate.Rules{FloodRate: 100, FloodBurst: 400},
		Good:  goodUntil{office: int64(3 * time.Hour)},
		Table: rate.Config{Sources: 100},
	})
	pass := func(addr netip.Addr, begin, d time.Duration) (n int) {
		for i := range 100_000 {
			if g.Check(addr, int64(begin)+int64(i)*int64(d)/100_000) == gate.Pass {
				n++
			}
		}
		return n
	}
	for _, tt := range []struct {
		name  string
		addr  netip.Addr
		begin time.Duration
		want  int
	}{
		{"good", office, time.Hour, 14_000},
		{"stranger", netip.MustParseAddr("198.51.100.8"), time.Hour, 1_400},
		{"good no longer", office, 4 * time.Hour, 1_400},
	} {
		if got := pass(tt.addr, tt.begin, 10*time.Second); got < tt.want-tt.want/100 || got > tt.want+1 {
			t.Errorf("%s: %d of 100000 within 10 s pass, want %d", tt.name, got, tt.want)
		}
	}
}

func TestVerdictNames(t *testing.T) {
	seen := map[string]bool{}
	for v := gate.Pass; v <= gate.DropFlood; v++ {
		if s := v.String(); s == "" || s == "unknown" || seen[s] {
			t.Errorf("verdict %d has the name %q", v, s)
		}
		seen[v.String()] = true
		if v.Pass() == (v.String()[:4] == "drop") {
			t.Errorf("%v: Pass is %v", v, v.Pass())
		}
	}
	if gate.Verdict(200).String() != "unknown" {
		t.Error("a verdict out of range has a name")
	}
}
