package ban_test

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"sipward/policy/ban"
)

// TestManyAgainstMap lets bans come and go until the sources have been copied
// several times.
func TestManyAgainstMap(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	table := newTable(t, ban.Config{})
	world := make([]netip.Addr, 4000)
	for i := range world {
		world[i] = addr4(r)
		if i%2 == 0 {
			world[i] = addr6(r)
		}
	}
	want := make(map[netip.Prefix]bool)
	for range 25_000 {
		a := world[r.IntN(len(world))]
		p := table.Source(a)
		if r.IntN(3) == 0 {
			m, err := table.Remove(p, start)
			if err != nil || m.Removed != want[p] {
				t.Fatalf("Remove(%v): %+v, %v", p, m, err)
			}
			delete(want, p)
			continue
		}
		mustAdd(t, table, dynamic(a, start+hour), start)
		want[p] = true
	}
	for _, a := range world {
		if got := table.Banned(a, start); got != want[table.Source(a)] {
			t.Errorf("Banned(%v) = %v", a, got)
		}
	}
	if all, _ := table.Snapshot(); len(all) != len(want) {
		t.Errorf("%d bans, want %d", len(all), len(want))
	}
}

// TestReadersDuringChanges holds that a ban is seen at every instant, and
// nobody else's, while others come and go around it.
func TestReadersDuringChanges(t *testing.T) {
	table := newTable(t, ban.Config{MaxEntries: 5000})
	steady := []netip.Prefix{pfx("192.0.2.1/32"), pfx("2001:db8::/64"), pfx("198.51.100.0/24"), pfx("2001:db8:1::/48")}
	for _, p := range steady {
		mustAdd(t, table, command(p.String(), 0), start)
	}
	innocent := []netip.Addr{adr("203.0.113.1"), adr("3fff::1"), adr("203.0.113.200")}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, p := range steady {
					if !table.Banned(p.Addr(), start) {
						t.Errorf("%v was not banned for a moment", p)
						return
					}
				}
				for _, a := range innocent {
					if table.Banned(a, start) {
						t.Errorf("%v was banned for a moment", a)
						return
					}
				}
			}
		})
	}
	r := rand.New(rand.NewPCG(9, 9))
	for i := range 10_000 {
		a := addr6(r)
		if i%2 == 0 {
			a = netip.AddrFrom4([4]byte{10, byte(r.IntN(256)), byte(r.IntN(256)), byte(i)})
		}
		mustAdd(t, table, dynamic(a, start+hour), start)
		if i%50 == 0 {
			p := netip.PrefixFrom(a, 20)
			mustAdd(t, table, ban.Record{Prefix: p, Kind: ban.Manual}, start)
			if _, err := table.Remove(p, start); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(stop)
	wg.Wait()
}
