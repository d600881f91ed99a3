package policy_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"sipward/policy"
	"sipward/policy/gate"
	"sipward/policy/iplist"
)

func TestReasonsAreNamedAndExplained(t *testing.T) {
	kebab := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	seen := map[string]policy.Reason{}
	for i := range policy.NumReasons {
		r := policy.Reason(i)
		name, explain := r.String(), r.Explain()
		if !kebab.MatchString(name) {
			t.Errorf("reason %d has the name %q", i, name)
		}
		if other, ok := seen[name]; ok {
			t.Errorf("reasons %d and %d are both %q", i, other, name)
		}
		seen[name] = r
		if len(explain) < 20 || !strings.HasSuffix(explain, ".") || strings.Contains(explain, "\n") {
			t.Errorf("%s is explained as %q", name, explain)
		}
	}
	beyond := policy.Reason(policy.NumReasons)
	if beyond.String() != "unknown" || beyond.Explain() == "" {
		t.Error("a reason out of range has no words")
	}
	// Words that other parts and people rely on.
	for _, word := range strings.Fields(`pass allow-list deny-list ban flood malformed keepalive not-sip too-many-hops
		loop bad-extension bad-scheme no-upstream foreign-via stale-token forged-token no-route unknown-destination
		connection-cap slow-message queue-full upstream-error register scanner honey enumeration quarantine known-places
		unproven-nonce guesses-in-flight invite-limit digest-leak overload`) {
		if _, ok := seen[word]; !ok {
			t.Errorf("there is no reason %q", word)
		}
	}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		got  fmt.Stringer
		want string
	}{
		{policy.Pass, "pass"}, {policy.Drop, "drop"}, {policy.Reject, "reject"}, {policy.Verdict(9), "unknown"},
		{policy.UDP, "udp"}, {policy.TCP, "tcp"}, {policy.TLS, "tls"}, {policy.WS, "ws"}, {policy.WSS, "wss"},
		{policy.DTLS, "dtls"}, {policy.Transport(99), "unknown"},
	} {
		if tt.got.String() != tt.want {
			t.Errorf("%v, want %v", tt.got, tt.want)
		}
	}
	for _, tt := range []struct {
		transport                   policy.Transport
		reliable, connected, secure bool
	}{
		{policy.UDP, false, false, false}, {policy.TCP, true, true, false}, {policy.TLS, true, true, true},
		{policy.WS, true, true, false}, {policy.WSS, true, true, true}, {policy.DTLS, false, true, true},
	} {
		if tr := tt.transport; tr.Reliable() != tt.reliable || tr.Connected() != tt.connected || tr.Secure() != tt.secure {
			t.Errorf("%v: reliable %v, connected %v, secure %v", tr, tr.Reliable(), tr.Connected(), tr.Secure())
		}
	}
}

func TestFromGateAgrees(t *testing.T) {
	reasons := map[policy.Reason]bool{}
	for v := gate.Pass; v <= gate.DropFlood; v++ {
		d := policy.FromGate(v)
		if (d.Verdict == policy.Pass) != v.Pass() || d.Code != 0 {
			t.Errorf("%v becomes %+v", v, d)
		}
		reasons[d.Reason] = true
	}
	if len(reasons) != int(gate.DropFlood)+1 {
		t.Error("two verdicts of the gate have one reason")
	}
}

func TestCounters(t *testing.T) {
	if size := unsafe.Sizeof(policy.Shard{}); size%128 != 0 {
		t.Errorf("a shard has %d bytes: workers share a cache line", size)
	}
	c := policy.NewCounters(3)
	var wg sync.WaitGroup
	for w := range 7 {
		wg.Go(func() {
			for range 100 {
				c.Shard(w).Add(policy.ClassOf(w%2 == 0, uint8(w), policy.Drop), policy.ReasonFlood)
			}
			c.Shard(w).Add(0, policy.Reason(255))
			c.Shard(w).Add(255, policy.ReasonPass)
		})
	}
	wg.Wait()
	c.Shard(-1).Add(0, policy.ReasonPass)
	sums := c.Snapshot()
	if sums[policy.ReasonFlood] != 700 || sums[policy.ReasonPass] != 1 {
		t.Errorf("flood %d, pass %d; want 700, 1", sums[policy.ReasonFlood], sums[policy.ReasonPass])
	}
	policy.NewCounters(0).Shard(5).Add(0, policy.ReasonPass)
	classes := 0
	c.Each(func(k policy.Class, r policy.Reason, n uint64) {
		if r == policy.ReasonFlood {
			_, method, v, sip := k.Parts()
			if !sip || v != policy.Drop || n != 100 || method > 6 {
				t.Errorf("class %d has %d", k, n)
			}
			classes++
		}
	})
	if classes != 7 {
		t.Errorf("%d classes, want 7", classes)
	}
}

// TestClasses: each class is that of one kind of message.
func TestClasses(t *testing.T) {
	seen := map[policy.Class]bool{0: true}
	for _, fromPBX := range []bool{false, true} {
		for method := range uint8(policy.NoMethod + 1) {
			for v := policy.Pass; v <= policy.Hold; v++ {
				k := policy.ClassOf(fromPBX, method, v)
				p, m, w, sip := k.Parts()
				if seen[k] || int(k) >= policy.NumClasses || p != fromPBX || m != method || w != v || !sip {
					t.Errorf("%v %d %v is class %d, which is %v %d %v", fromPBX, method, v, k, p, m, w)
				}
				seen[k] = true
			}
		}
	}
	if len(seen) != policy.NumClasses {
		t.Errorf("%d classes, want %d", len(seen), policy.NumClasses)
	}
	if _, _, _, sip := policy.Class(0).Parts(); sip {
		t.Error("class 0 is of SIP")
	}
}

func hosts(addrs ...string) *iplist.Set {
	var entries []iplist.Entry
	for _, a := range addrs {
		p, err := iplist.ParsePrefix(a)
		if err != nil {
			panic(err)
		}
		entries = append(entries, iplist.Entry{Prefix: p})
	}
	return iplist.New(entries)
}

func TestMalformed(t *testing.T) {
	cfg := policy.Config{Malformed: policy.Malformed{Threshold: 3}, Sources: 100}
	e := policy.New(cfg)
	bad, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	answer := policy.Decision{Verdict: policy.Reject, Reason: policy.ReasonMalformed}
	silence := policy.Decision{Verdict: policy.Drop, Reason: policy.ReasonMalformed}
	now := int64(time.Hour)
	check := func(what string, src netip.Addr, want policy.Decision) {
		t.Helper()
		if got := e.Malformed(netip.AddrPortFrom(src, 5060), policy.UDP, "bare-cr", now); got != want {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	for range 3 {
		check("up to the threshold", bad, answer)
	}
	check("after it", bad, silence)
	check("another source", other, answer)

	e.Reload(cfg)
	check("after a reload", bad, silence)
	if d := e.Decide(&policy.Request{Source: netip.AddrPortFrom(bad, 5060), Method: []byte("INVITE")}, now); d.Verdict != policy.Pass {
		t.Errorf("a good message of the same source: %+v", d)
	}
	now += int64(59 * time.Second)
	check("in the same minute", bad, silence)
	now += int64(time.Second)
	check("in the next one", bad, answer)

	cfg.Malformed.Threshold = 0
	e.Reload(cfg)
	for range 10 {
		check("without a threshold", bad, answer)
	}
	if n := e.Faults()["bare-cr"]; n != 18 {
		t.Errorf("%d faults counted, want 18", n)
	}
}

// TestBadHandshakes: they count as refused messages over a connection do, beside datagrams,
// whose source may be forged.
func TestBadHandshakes(t *testing.T) {
	e := policy.New(policy.Config{Malformed: policy.Malformed{Threshold: 3}, Sources: 100})
	src, now := netip.MustParseAddrPort("192.0.2.1:40000"), int64(time.Hour)
	for range 4 {
		e.BadHandshake(src, policy.TLS, "not-tls", now)
	}
	for transport, want := range map[policy.Transport]policy.Verdict{policy.UDP: policy.Reject, policy.TCP: policy.Drop} {
		if d := e.Malformed(src, transport, "bare-cr", now); d.Verdict != want || d.Reason != policy.ReasonMalformed {
			t.Errorf("a message over %v: %+v, want %v", transport, d, want)
		}
	}
	if n := e.Faults()["not-tls"]; n != 4 {
		t.Errorf("%d counted, want 4", n)
	}
	if got := policy.ReasonBadHandshake.Guard(); got != "malformed" {
		t.Errorf("the guard is %q", got)
	}
}

func TestTallyIsCapped(t *testing.T) {
	e := policy.New(policy.Config{Sources: 100})
	src := netip.MustParseAddr("192.0.2.1")
	for i := range 1000 {
		e.Malformed(netip.AddrPortFrom(src, 5060), policy.UDP, fmt.Sprint("word-", i), 0)
	}
	faults, sum := e.Faults(), uint64(0)
	for _, n := range faults {
		sum += n
	}
	if len(faults) != 64 || sum != 1000 || faults["other"] != 1000-63 {
		t.Errorf("%d words, %d in all, %d other", len(faults), sum, faults["other"])
	}
}

func TestDecideAndReload(t *testing.T) {
	cfg := policy.Config{
		Allow: hosts("192.0.2.1"), Deny: hosts("192.0.2.2"), PBX: hosts("192.0.2.3"), Trunks: hosts("192.0.2.4"),
		Flood: policy.Flood{Rate: 100, Burst: 400}, Sources: 100,
	}
	e := policy.New(cfg)
	decide := func(addr string) policy.Decision {
		a := netip.MustParseAddr(addr)
		v := e.Gate().Check(a, 1)
		if !v.Pass() {
			return policy.FromGate(v)
		}
		return e.Decide(&policy.Request{Source: netip.AddrPortFrom(a, 5060), Gate: v, Method: []byte("OPTIONS")}, 1)
	}
	for _, tt := range []struct {
		addr string
		want policy.Reason
	}{
		{"192.0.2.1", policy.ReasonAllowList}, {"192.0.2.2", policy.ReasonDenyList}, {"192.0.2.3", policy.ReasonPBX},
		{"192.0.2.4", policy.ReasonTrunk}, {"192.0.2.5", policy.ReasonPass},
	} {
		if d := decide(tt.addr); d.Reason != tt.want {
			t.Errorf("%s: %v, want %v", tt.addr, d.Reason, tt.want)
		}
	}
	cfg.Deny = hosts("192.0.2.5")
	e.Reload(cfg)
	if d := decide("192.0.2.5"); d.Reason != policy.ReasonDenyList {
		t.Errorf("after the reload: %v", d.Reason)
	}
	if d := e.Decide(&policy.Request{FromPBX: true}, 1); d.Reason != policy.ReasonPBX || d.Verdict != policy.Pass {
		t.Errorf("from a PBX: %+v", d)
	}
}

func TestReplies(t *testing.T) {
	c := policy.NewCounters(2)
	for i, status := range []int{100, 200, 202, 401, 403, 503, 600, 0, 700, -1} {
		c.Shard(i).Reply(status)
	}
	got := c.Replies()
	want := map[string]uint64{"1xx": 1, "2xx": 2, "4xx": 2, "5xx": 1, "6xx": 1}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("replies %v, want %v", got, want)
	}
}

func BenchmarkCountParallel(b *testing.B) {
	c := policy.NewCounters(8)
	var worker atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		s := c.Shard(int(worker.Add(1)))
		for pb.Next() {
			s.Add(0, policy.ReasonPass)
		}
	})
}
