package resolve_test

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"sipward/proxy/upstream/resolve"
)

const trunk = `
_sip._udp.trunk.example.com. 3600 IN SRV 10 60 5060 a.example.com.
_sip._udp.trunk.example.com. 3600 IN SRV 10 40 5060 b.example.com.
_sip._udp.trunk.example.com. 3600 IN SRV 10 0 5060 z.example.com.
_sip._udp.trunk.example.com. 3600 IN SRV 20 0 5060 c.example.com.
a.example.com. 3600 IN A 192.0.2.1
b.example.com. 3600 IN A 192.0.2.2
z.example.com. 3600 IN A 192.0.2.9
c.example.com. 3600 IN A 192.0.2.3
c.example.com. 3600 IN AAAA 2001:db8::3
`

var (
	a = netip.MustParseAddrPort("192.0.2.1:5060")
	b = netip.MustParseAddrPort("192.0.2.2:5060")
	z = netip.MustParseAddrPort("192.0.2.9:5060")
	c = netip.MustParseAddrPort("192.0.2.3:5060")
	d = netip.MustParseAddrPort("[2001:db8::3]:5060")
)

// trunkResolver has the trunk in its cache.
func trunkResolver(t *testing.T) (*resolve.Resolver, *clock) {
	t.Helper()
	clk := newClock()
	r := newResolver(clk, startServer(t, trunk))
	if _, err := r.Lookup(t.Context(), "trunk.example.com", 0, resolve.UDP, 1); err != nil {
		t.Fatal(err)
	}
	return r, clk
}

func pick(t *testing.T, r *resolve.Resolver, seed uint64) netip.AddrPort {
	t.Helper()
	target, ok := r.Cached([]byte("trunk.example.com"), 0, resolve.UDP, seed)
	if !ok { // its TTL is over
		if _, err := r.Lookup(t.Context(), "trunk.example.com", 0, resolve.UDP, seed); err != nil {
			t.Fatal(err)
		}
		target, _ = r.Cached([]byte("trunk.example.com"), 0, resolve.UDP, seed)
	}
	return target.Addr
}

// seedFor returns seeds whose first choice is the target.
func seedFor(t *testing.T, r *resolve.Resolver, target netip.AddrPort, n int) (seeds []uint64) {
	t.Helper()
	for seed := uint64(0); len(seeds) < n; seed++ {
		if pick(t, r, seed) == target {
			seeds = append(seeds, seed)
		}
		if seed > 1_000_000 {
			t.Fatalf("%v is never chosen", target)
		}
	}
	return seeds
}

func TestSRVWeights(t *testing.T) {
	r, _ := trunkResolver(t)
	const n = 20_000
	count := map[netip.AddrPort]int{}
	for seed := range uint64(n) {
		got := pick(t, r, seed)
		count[got]++
		if pick(t, r, seed) != got {
			t.Fatal("one transaction goes to two targets")
		}
	}
	if share := float64(count[a]) / n; math.Abs(share-0.6) > 0.02 {
		t.Errorf("weight 60 of 100 has the share %.3f", share)
	}
	if share := float64(count[z]) / n; share > 0.002 {
		t.Errorf("weight 0 has the share %.4f", share)
	}
	if count[c] > 0 {
		t.Error("a target of the second priority is chosen")
	}
}

func TestLookupOrder(t *testing.T) {
	r, clk := trunkResolver(t)
	for seed := range uint64(50) {
		got, err := r.Lookup(t.Context(), "trunk.example.com", 0, resolve.UDP, seed)
		if err != nil || len(got) != 5 {
			t.Fatalf("got %v, %v", texts(got), err)
		}
		if got[0].Addr != pick(t, r, seed) {
			t.Errorf("seed %d: Lookup begins with %v, Cached gives %v", seed, got[0].Addr, pick(t, r, seed))
		}
		if got[3].Addr != c || got[4].Addr != d {
			t.Errorf("seed %d: %v; want the second priority last, IPv4 first", seed, texts(got))
		}
	}
	r.Failed(a, clk.unix())
	r.Failed(c, clk.unix())
	got, _ := r.Lookup(t.Context(), "trunk.example.com", 0, resolve.UDP, 1)
	if got[2].Addr != d || got[3].Addr != a || got[4].Addr != c {
		t.Errorf("those that failed are not last: %v", texts(got))
	}
}

func TestFailedTargetsArePassedOver(t *testing.T) {
	r, clk := trunkResolver(t)
	seeds := seedFor(t, r, a, 3)
	other := seedFor(t, r, b, 1)[0]
	r.Failed(a, clk.unix())
	for _, seed := range seeds {
		if got := pick(t, r, seed); got == a {
			t.Error("the failed target is chosen")
		}
	}
	if pick(t, r, other) != b {
		t.Error("a transaction of another target moved")
	}
	r.Failed(b, clk.unix())
	r.Failed(z, clk.unix())
	if got := pick(t, r, seeds[0]); got != c {
		t.Errorf("with the first priority dead, %v is chosen", got)
	}
	r.Failed(c, clk.unix())
	if got := pick(t, r, seeds[0]); got != d {
		t.Errorf("with IPv4 dead, %v is chosen", got)
	}
	r.Failed(d, clk.unix())
	if got := pick(t, r, seeds[0]); got != a {
		t.Errorf("with all dead, %v is chosen, not the first", got)
	}
	r.Good(a)
	if got := pick(t, r, other); got != a {
		t.Errorf("only %v has answered, and %v is chosen", a, got)
	}
}

func TestOneTransactionTriesAgain(t *testing.T) {
	r, clk := trunkResolver(t)
	seeds := seedFor(t, r, a, 3)
	r.Failed(a, clk.unix())
	r.Failed(a, clk.unix()) // of the same moment: no worse than one
	clk.advance(29 * time.Second)
	if pick(t, r, seeds[0]) == a {
		t.Error("tried before its time")
	}
	clk.advance(time.Second)
	for range 2 {
		if pick(t, r, seeds[0]) != a {
			t.Error("not tried again, or given up by the one that tries")
		}
	}
	if pick(t, r, seeds[1]) == a {
		t.Error("two try at the same time")
	}
	r.Good(a)
	for _, seed := range seeds {
		if pick(t, r, seed) != a {
			t.Error("it has answered and is not used")
		}
	}

	// It fails again and again: it is tried ever more seldom, up to a limit.
	pause := 30 * time.Second
	for range 6 {
		r.Failed(a, clk.unix())
		clk.advance(pause - time.Second)
		if pick(t, r, seeds[0]) == a {
			t.Fatalf("tried before %v", pause)
		}
		clk.advance(time.Second)
		if pick(t, r, seeds[0]) != a {
			t.Fatalf("not tried after %v", pause)
		}
		pause = min(2*pause, 5*time.Minute)
	}
}

// The transmissions of an INVITE (RFC 3261 §17.1.1.2) to a target that is silent.
func TestSilenceIsFailure(t *testing.T) {
	r, clk := trunkResolver(t)
	seed := seedFor(t, r, a, 1)[0]
	for i, wait := range []time.Duration{0, 500, 1000} {
		clk.advance(wait * time.Millisecond)
		if got := pick(t, r, seed); got != a {
			t.Fatalf("transmission %d goes to %v", i, got)
		}
		r.Sent(a, clk.unix())
	}
	clk.advance(2 * time.Second)
	if got := pick(t, r, seed); got == a {
		t.Error("after 3.5 s of silence the next transmission goes there again")
	}
	clk.advance(30 * time.Second)
	if got := pick(t, r, seed); got != a {
		t.Error("not tried again after its time")
	}
}

func TestWaiting(t *testing.T) {
	r, clk := trunkResolver(t)
	begun := clk.unix()
	if !r.Sent(a, begun) || r.Sent(a, begun) || !r.Sent(b, begun) {
		t.Error("only the first request to a target is the first")
	}
	clk.advance(300 * time.Millisecond)
	if !r.Waiting(a, begun) || r.Waiting(a, clk.unix()) || r.Waiting(c, begun) {
		t.Error("what was sent first waits for an answer, and nothing else")
	}
	r.Good(a)
	r.Failed(b, clk.unix())
	if r.Waiting(a, begun) || r.Waiting(b, begun) {
		t.Error("still waiting for who has answered, or failed")
	}
	if r.Sent(a, clk.unix()); r.Waiting(a, begun) || !r.Waiting(a, clk.unix()) {
		t.Error("the next request was taken for the first")
	}
}

func TestWhatIsNotSilence(t *testing.T) {
	r, clk := trunkResolver(t)
	seed := seedFor(t, r, a, 1)[0]
	// Answers come.
	for range 20 {
		r.Sent(a, clk.unix())
		clk.advance(time.Second)
		r.Good(a)
	}
	// Single requests that have no answer, far apart, as an ACK counted in error.
	for range 20 {
		r.Sent(a, clk.unix())
		clk.advance(time.Minute)
		if pick(t, r, seed) != a {
			t.Fatal("taken for dead")
		}
	}
}

func TestTrialThatIsGivenUp(t *testing.T) {
	r, clk := trunkResolver(t)
	seeds := seedFor(t, r, a, 2)
	r.Failed(a, clk.unix())
	clk.advance(30 * time.Second)
	if pick(t, r, seeds[0]) != a {
		t.Fatal("not tried")
	}
	clk.advance(7 * time.Second) // and nothing was sent, nor failed
	if pick(t, r, seeds[1]) != a {
		t.Error("nobody else may try it")
	}
}

func TestMemoryIsCapped(t *testing.T) {
	r, clk := trunkResolver(t)
	for i := range 20_000 {
		ap := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 5060)
		r.Sent(ap, clk.unix())
		if i%2 == 0 {
			r.Failed(ap, clk.unix())
		}
	}
	if n := r.MemorySize(); n > 2048 {
		t.Errorf("%d targets are remembered", n)
	}
}
