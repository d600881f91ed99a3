package upstream_test

import (
	"crypto/tls"
	"fmt"
	"math"
	"net/netip"
	"testing"

	"go.uber.org/goleak"

	"sipward/proxy/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func targets(weights ...int) (out []upstream.Target) {
	for i, w := range weights {
		out = append(out, upstream.Target{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 5060), Weight: w})
	}
	return out
}

func newPool(t testing.TB, cfg upstream.Config) *upstream.Pool {
	t.Helper()
	p, err := upstream.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func account(i int) []byte { return fmt.Appendf(nil, "user%d@example.com", i) }

const accounts = 10_000

// assign maps each account to the index of its PBX, -1 for none.
func assign(p *upstream.Pool) []int {
	index := map[uint16]int{}
	for i, s := range p.State() {
		index[s.ID] = i
	}
	out := make([]int, accounts)
	for i := range out {
		out[i] = -1
		if pbx := p.Pick(account(i)); pbx != nil {
			out[i] = index[pbx.ID()]
		}
	}
	return out
}

func TestSharesFollowWeights(t *testing.T) {
	for _, weights := range [][]int{{1}, {1, 1}, {1, 1, 1, 1}, {1, 3}, {5, 3, 2}, {1, 0}, {2, 1, 0, 0}, {1_000_000, 500_000, 500_000}} {
		p := newPool(t, upstream.Config{PBXes: targets(weights...)})
		count, sum := make([]int, len(weights)), 0
		for _, i := range assign(p) {
			count[i]++
		}
		for _, w := range weights {
			sum += w
		}
		for i, w := range weights {
			got, want := float64(count[i])/accounts, float64(w)/float64(sum)
			if math.Abs(got-want) > 0.03 || w == 0 && count[i] > 0 {
				t.Errorf("weights %v: PBX %d has %.3f of the accounts, want %.3f", weights, i, got, want)
			}
		}
	}
}

func TestAssignmentIsStable(t *testing.T) {
	list := targets(1, 2, 1)
	a := newPool(t, upstream.Config{PBXes: list})
	turned := []upstream.Target{list[2], list[0], list[1]}
	b := newPool(t, upstream.Config{PBXes: turned})
	for i := range accounts {
		if x, y := a.Pick(account(i)), b.Pick(account(i)); x.Addr() != y.Addr() || x.ID() != y.ID() {
			t.Fatalf("account %d is on %v and, listed in another order, on %v", i, x.Addr(), y.Addr())
		}
	}
	// Known values: another version of sipward beside this one must agree.
	for acc, want := range map[string]string{
		"alice@example.com": "10.0.0.2:5060", "bob@example.com": "10.0.0.1:5060", "": "10.0.0.2:5060", "100@192.0.2.1": "10.0.0.1:5060",
	} {
		if got := a.Pick([]byte(acc)).Addr().String(); got != want {
			t.Errorf("%q is on %s, want %s", acc, got, want)
		}
	}
}

func TestReloadMovesNoMoreThanItMust(t *testing.T) {
	p := newPool(t, upstream.Config{PBXes: targets(1, 1, 1)})
	before := assign(p)
	first := p.ByAddr(netip.MustParseAddr("10.0.0.1"))
	if err := p.Reload(upstream.Config{PBXes: targets(1, 1, 1, 1)}); err != nil {
		t.Fatal(err)
	}
	if p.ByAddr(netip.MustParseAddr("10.0.0.1")) != first {
		t.Error("a PBX that stayed is another object")
	}
	moved := 0
	for i, now := range assign(p) {
		if now != before[i] {
			moved++
			if now != 3 {
				t.Fatalf("account %d moved from %d to %d, neither of which changed", i, before[i], now)
			}
		}
	}
	if share := float64(moved) / accounts; math.Abs(share-0.25) > 0.03 {
		t.Errorf("%.3f of the accounts moved to a fourth PBX, want 0.25", share)
	}
	if err := p.Reload(upstream.Config{}); err == nil || p.Len() != 4 {
		t.Errorf("a reload without PBXes: %v, %d PBXes", err, p.Len())
	}
}

func TestConfigErrors(t *testing.T) {
	a := netip.MustParseAddrPort("10.0.0.1:5060")
	for name, list := range map[string][]upstream.Target{
		"none":         nil,
		"twice":        {{Address: a}, {Address: a}},
		"negative":     {{Address: a, Weight: -1}},
		"too heavy":    {{Address: a, Weight: 1_000_001}},
		"no port":      {{Address: netip.MustParseAddrPort("10.0.0.1:0")}},
		"no address":   {{}},
		"all adresses": {{Address: netip.MustParseAddrPort("0.0.0.0:5060")}},
		"one port":     {{Address: a, TCP: true, TLS: &tls.Config{}, TLSPort: 5060}},
	} {
		if _, err := upstream.New(upstream.Config{PBXes: list}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestLookups(t *testing.T) {
	list := targets(1, 1)
	list = append(list, upstream.Target{Address: netip.MustParseAddrPort("10.0.0.1:5080"), Weight: 1},
		upstream.Target{Address: netip.MustParseAddrPort("[2001:db8::1]:5060"), Weight: 1})
	p := newPool(t, upstream.Config{PBXes: list})
	ids := map[uint16]bool{}
	for _, target := range list {
		pbx := p.ByAddrPort(target.Address)
		if pbx == nil || pbx.Addr() != target.Address || p.ByID(pbx.ID()) != pbx || p.IDOf(target.Address) != pbx.ID() {
			t.Errorf("%v is not found", target.Address)
			continue
		}
		if pbx.ID() == 0 || ids[pbx.ID()] {
			t.Errorf("%v has the ID %d", target.Address, pbx.ID())
		}
		ids[pbx.ID()] = true
	}
	host := netip.MustParseAddr("10.0.0.1")
	if p.ByAddr(host).Addr().Port() != 5060 || !p.Has(host) || p.Len() != 4 {
		t.Error("the first PBX of an address is not found by it")
	}
	if got := p.IDOf(netip.MustParseAddrPort("10.0.0.2:40000")); got != p.ByAddrPort(list[1].Address).ID() {
		t.Errorf("a PBX's other port has the ID %d", got)
	}
	stranger := netip.MustParseAddrPort("192.0.2.1:5060")
	if p.Has(stranger.Addr()) || p.IDOf(stranger) != 0 || p.ByAddr(stranger.Addr()) != nil || p.ByAddrPort(stranger) != nil || p.ByID(0) != nil {
		t.Error("a stranger is taken for a PBX")
	}
}

// With many PBXes some hashes of 16 bits are equal; the IDs are not.
func TestIDsAreUnique(t *testing.T) {
	var list []upstream.Target
	for i := range 2000 {
		list = append(list, upstream.Target{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 5060)})
	}
	p := newPool(t, upstream.Config{PBXes: list})
	seen := map[uint16]bool{0: true}
	for _, s := range p.State() {
		if seen[s.ID] {
			t.Fatalf("ID %d is used twice or zero", s.ID)
		}
		seen[s.ID] = true
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	p := newPool(t, upstream.Config{PBXes: targets(1, 1, 1, 0)})
	acc, addr := account(1), targets(1)[0].Address
	if n := testing.AllocsPerRun(100, func() { p.Pick(acc); p.PickStream(acc); p.IDOf(addr) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPick(b *testing.B) {
	for _, weights := range [][]int{{1}, {1, 1}, {1, 1, 1, 1}, {4, 3, 2, 1}} {
		b.Run(fmt.Sprint(weights), func(b *testing.B) {
			p := newPool(b, upstream.Config{PBXes: targets(weights...)})
			var accs [256][]byte
			for i := range accs {
				accs[i] = account(i)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p.Pick(accs[i&255])
			}
		})
	}
}

func BenchmarkIDOf(b *testing.B) {
	p := newPool(b, upstream.Config{PBXes: targets(1, 1, 1, 1)})
	a := netip.MustParseAddrPort("10.0.0.3:5060")
	for b.Loop() {
		p.IDOf(a)
	}
}
