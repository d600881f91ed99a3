package ban_test

import (
	"net/netip"
	"testing"
	"time"

	"sipward/policy/ban"
)

func TestPlacesSources(t *testing.T) {
	day := int64(24 * time.Hour)
	now := 100 * day
	p, err := ban.NewPlaces(ban.PlacesConfig{}, now)
	if err != nil {
		t.Fatal(err)
	}
	old, recent := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	p.Add([]byte("alice@example.com"), old, now-10*day)
	p.Add([]byte("bob@example.com"), recent, now-day/2)
	p.Add([]byte("carol@example.com"), recent, now)
	got := map[netip.Addr]int{}
	p.Sources(now-day, func(a netip.Addr) { got[a]++ })
	if len(got) != 1 || got[recent] != 2 {
		t.Errorf("sources of the last day: %v", got)
	}
}
