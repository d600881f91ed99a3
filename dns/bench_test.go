package dns_test

import (
	"testing"

	mdns "github.com/miekg/dns"

	"sipward/dns"
)

func hit(t testing.TB, f *front) (ask []byte) {
	ask, err := question("www.example.com.", mdns.TypeA, 1232).Pack()
	if err != nil {
		t.Fatal(err)
	}
	return ask
}

// TestHitAllocatesNothing: an answer from the cache costs no memory.
func TestHitAllocatesNothing(t *testing.T) {
	f := start(t, dns.Config{}, newUpstream(t, says(t, "@ 60 IN A 192.0.2.1")))
	f.ask(question("www.example.com.", mdns.TypeA, 1232), false)
	ask, hit := hit(t, f), f.Hitter()
	if n := testing.AllocsPerRun(1000, func() {
		if hit(ask) == nil {
			t.Fatal("no answer")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHit(b *testing.B) {
	f := start(b, dns.Config{}, newUpstream(b, says(b, "@ 3600 IN A 192.0.2.1")))
	f.ask(question("www.example.com.", mdns.TypeA, 1232), false)
	ask, hit := hit(b, f), f.Hitter()
	b.ReportAllocs()
	for b.Loop() {
		hit(ask)
	}
}
