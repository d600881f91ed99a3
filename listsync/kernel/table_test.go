//go:build linux

package kernel_test

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"sipward/listsync/kernel"
	"sipward/policy/ban"
)

// TestWithBanTable: both sides end a ban at the same time, and lift it at once.
func TestWithBanTable(t *testing.T) {
	each(t, func(t *testing.T, b kernel.Backend) {
		p := newPeer(t, bad4, other4, phone4, bad6)
		sip := listen(t, protected)
		table, err := ban.New(ban.Config{Threshold: 2}, time.Now().UnixNano())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { _ = table.Run(ctx) })
		t.Cleanup(func() { cancel(); wg.Wait() })
		cfg := config(b)
		cfg.Bans = kernel.Bans(table)
		l := start(t, cfg, nil).up()
		probe, err := kernel.NewProbe(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer probe.Close()
		has := func(addr string) bool {
			t.Helper()
			in, err := probe.Has(netip.MustParseAddr(addr))
			if err != nil {
				t.Fatal(err)
			}
			return in
		}
		ban1 := func(addr string, d time.Duration) {
			t.Helper()
			now := time.Now()
			r := ban.Record{Prefix: table.Source(netip.MustParseAddr(addr)), Until: now.Add(d).UnixNano(), Proven: true, Guard: "register"}
			if _, err := table.Add(r, now.UnixNano()); err != nil {
				t.Fatal(err)
			}
		}
		ban1(phone4, time.Second)
		ban1(bad4, time.Hour)
		ban1(bad6, time.Hour)
		l.until("the last ban has come", func() bool { return l.Status().Sets[5].Entries == 1 })
		l.settled()
		p.expect(sip, "banned", []string{other4}, []string{bad4, bad6})
		l.until("the table lets one go", func() bool {
			return !table.Banned(netip.MustParseAddr(phone4), time.Now().UnixNano())
		})
		ended := time.Now()
		l.until("the kernel lets it go", func() bool { return !has(phone4) })
		if d := time.Since(ended); d > 10*time.Second {
			t.Errorf("the kernel let it go %v after the table", d)
		}
		p.expect(sip, "one ban has ended", []string{other4, phone4}, []string{bad4, bad6})
		table.Remove(netip.MustParsePrefix(bad4+"/32"), time.Now().UnixNano())
		l.until("the unban is in the kernel", func() bool { return !has(bad4) })
		ban1(phone4, time.Hour) // the second one is for ever
		l.until("the second ban is in the kernel", func() bool { return has(phone4) })
		if r, _ := table.Lookup(netip.MustParseAddr(phone4), time.Now().UnixNano()); r.Kind != ban.Permanent {
			t.Errorf("the second ban is %v", r.Kind)
		}
		p.expect(sip, "unbanned and banned", []string{bad4, other4}, []string{phone4, bad6})
		l.settled()
		if s := l.Status(); s.Repairs != 0 {
			t.Errorf("status %+v", s)
		}
	})
}
