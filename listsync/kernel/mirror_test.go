//go:build linux

package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sipward/listsync/kernel"
)

var backends = []kernel.Backend{kernel.BackendIPSet, kernel.BackendNFTables}

// bans is a Feed under the test's control.
type bans struct {
	mu      sync.Mutex
	entries map[netip.Prefix]int64
	apply   func(kernel.Entry, bool)
	reset   func([]kernel.Entry)
}

func (b *bans) Follow(ctx context.Context, reset func([]kernel.Entry), apply func(kernel.Entry, bool)) error {
	b.mu.Lock()
	reset(b.list())
	b.apply, b.reset = apply, reset
	b.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (b *bans) list() []kernel.Entry {
	var all []kernel.Entry
	for p, until := range b.entries {
		all = append(all, kernel.Entry{Prefix: p, Until: until})
	}
	return all
}

func (b *bans) add(prefix string, d time.Duration) {
	b.put(netip.MustParsePrefix(prefix), d)
}

func (b *bans) put(p netip.Prefix, d time.Duration) {
	var until int64
	if d != 0 {
		until = time.Now().Add(d).UnixNano()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.entries == nil {
		b.entries = make(map[netip.Prefix]int64)
	}
	b.entries[p] = until
	if b.apply != nil {
		b.apply(kernel.Entry{Prefix: p, Until: until}, false)
	}
}

func (b *bans) remove(prefix string) {
	p := netip.MustParsePrefix(prefix)
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.entries, p)
	if b.apply != nil {
		b.apply(kernel.Entry{Prefix: p}, true)
	}
}

// replace makes entries the only ones, as after changes were lost.
func (b *bans) replace(entries map[netip.Prefix]int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = entries
	if b.reset != nil {
		b.reset(b.list())
	}
}

// lab is a running mirror.
type lab struct {
	*kernel.Mirror
	t      testing.TB
	bans   *bans
	stop   func()
	mu     sync.Mutex
	events []kernel.Event
}

func config(b kernel.Backend) kernel.Config {
	return kernel.Config{
		Backend: b, Interval: time.Hour,
		Ports: []kernel.Port{{Protocol: 17, Port: protected}, {Protocol: 6, Port: protected}},
	}
}

type testLog struct{ t testing.TB }

func (w testLog) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// start runs a mirror until the test ends, or stop is called.
func start(t testing.TB, cfg kernel.Config, feed *bans, prepare ...func(*kernel.Mirror)) *lab {
	t.Helper()
	l := &lab{t: t, bans: feed}
	if feed != nil {
		cfg.Bans = feed
	}
	cfg.Notify = func(e kernel.Event) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.events = append(l.events, e)
	}
	cfg.Log = slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	m, err := kernel.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range prepare {
		f(m)
	}
	l.Mirror = m
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error("Run:", err)
		}
	})
	t.Cleanup(func() {
		l.stop()
		if err := kernel.Remove(cfg); err != nil && !errors.Is(err, kernel.ErrPermission) {
			t.Error("Remove:", err)
		}
	})
	return l
}

// up waits until the kernel follows.
func (l *lab) up() *lab {
	l.t.Helper()
	l.until("the kernel follows", func() bool { return l.Status().Reason == "" })
	return l
}

// settled waits until the kernel has been told of everything.
func (l *lab) settled() {
	l.t.Helper()
	l.until("nothing is pending", func() bool {
		for _, s := range l.Status().Sets {
			if s.Pending > 0 {
				return false
			}
		}
		return true
	})
	// What was taken from the pending ones is in the kernel when Run does the
	// next thing.
	if err := l.Check(l.t.Context()); err != nil {
		l.t.Fatal("Check:", err)
	}
}

func (l *lab) until(what string, ok func() bool) {
	l.t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			l.t.Fatalf("not within 30 s: %s; status %+v", what, l.Status())
		}
	}
}

func (l *lab) kinds() []kernel.EventKind {
	l.mu.Lock()
	defer l.mu.Unlock()
	var kinds []kernel.EventKind
	for _, e := range l.events {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// dump shows the kernel's state as the administrator's tools do.
func dump(t testing.TB) string {
	t.Helper()
	return run(t, "ipset", "list") + run(t, "nft", "list", "ruleset") + run(t, "iptables-save") + run(t, "ip6tables-save")
}

// each runs a test with every backend.
func each(t *testing.T, f func(t *testing.T, b kernel.Backend)) {
	for _, b := range backends {
		t.Run(string(b), func(t *testing.T) {
			needKernel(t)
			f(t, b)
			if t.Failed() {
				t.Log(dump(t))
			}
		})
	}
}

func prefixes(all ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range all {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

const (
	bad4, other4, office4, phone4 = "203.0.113.66", "203.0.113.67", "203.0.113.10", "203.0.113.20"
	bad6, same6, other6, phone6   = "2001:db8:2:66::1", "2001:db8:2:66::2", "2001:db8:2:67::1", "2001:db8:2:20::1"
)

func TestBanDropsAndUnbanLetsPass(t *testing.T) {
	each(t, func(t *testing.T, b kernel.Backend) {
		p := newPeer(t, bad4, other4, bad6, same6, other6)
		sip, ssh := listen(t, protected), listen(t, unprotected)
		l := start(t, config(b), &bans{}).up()
		all := []string{bad4, other4, bad6, same6, other6}
		p.expect(sip, "before", all, nil)

		l.bans.add(bad4+"/32", time.Hour)
		l.bans.add("2001:db8:2:66::/64", 0)
		l.settled()
		p.expect(sip, "banned", []string{other4, other6}, []string{bad4, bad6, same6})
		p.expect(ssh, "another port", all, nil)

		l.bans.remove(bad4 + "/32")
		l.bans.remove("2001:db8:2:66::/64")
		l.settled()
		p.expect(sip, "after", all, nil)
		if s := l.Status(); s.Repairs != 0 || s.DroppedBans < 3 || s.Backend != b {
			t.Errorf("status %+v, want no repairs and 3 dropped", s)
		}
	})
}

func TestScopeAll(t *testing.T) {
	each(t, func(t *testing.T, b kernel.Backend) {
		p := newPeer(t, bad4, other4, bad6, other6)
		ssh := listen(t, unprotected)
		cfg := config(b)
		cfg.Scope = kernel.ScopeAll
		l := start(t, cfg, &bans{}).up()
		l.bans.add(bad4+"/32", time.Hour)
		l.bans.add("2001:db8:2:66::/64", time.Hour)
		l.settled()
		p.expect(ssh, "any port", []string{other4, other6}, []string{bad4, bad6})
		l.LimitStrangers(1000)
		l.settled()
		p.expect(ssh, "with a limit", []string{other4, other6}, []string{bad4, bad6})
	})
}

func TestAllowedInsideABannedPrefix(t *testing.T) {
	each(t, func(t *testing.T, b kernel.Backend) {
		p := newPeer(t, bad4, office4, bad6, phone6)
		sip := listen(t, protected)
		l := start(t, config(b), &bans{}, func(m *kernel.Mirror) {
			m.SetLists(prefixes(office4+"/32", "2001:db8:2:20::/64"), prefixes("2001:db8:2::/48"))
		}).up()
		l.bans.add("203.0.113.0/24", time.Hour)
		l.bans.add("203.0.112.0/23", 0) // overlaps
		l.bans.add(office4+"/32", time.Hour)
		l.settled()
		p.expect(sip, "banned", []string{office4, phone6}, []string{bad4, bad6})
		l.bans.remove("203.0.113.0/24")
		l.settled()
		p.expect(sip, "wider ban left", []string{office4, phone6}, []string{bad4, bad6})
		l.SetLists(prefixes("0.0.0.0/0", "::/0"), nil)
		l.settled()
		p.expect(sip, "all allowed", []string{office4, phone6, bad4, bad6}, nil)
		l.SetLists(nil, prefixes(office4+"/32"))
		l.bans.remove("203.0.112.0/23")
		l.bans.remove(office4 + "/32")
		l.settled()
		p.expect(sip, "denied by list", []string{bad4, phone6, bad6}, []string{office4})
	})
}

func TestEntriesEndByThemselves(t *testing.T) {
	each(t, func(t *testing.T, b kernel.Backend) {
		p := newPeer(t, bad4, bad6)
		sip := listen(t, protected)
		l := start(t, config(b), &bans{}).up()
		began := time.Now()
		l.bans.add(bad4+"/32", time.Second)
		l.bans.add("2001:db8:2:66::/64", time.Second)
		l.settled()
		l.stop() // nobody lifts them
		for len(p.arrive(sip, bad4, bad6)) < 2 {
			if time.Since(began) > 30*time.Second {
				t.Fatal("still banned after 30 s")
			}
		}
		if d := time.Since(began); d < 900*time.Millisecond || d > 15*time.Second {
			t.Errorf("a ban of 1 s ended after %v", d)
		}
	})
}

func TestExtendedAndShortened(t *testing.T) {
	each(t, func(t *testing.T, b kernel.Backend) {
		p := newPeer(t, bad4, other4, bad6)
		sip := listen(t, protected)
		l := start(t, config(b), &bans{}).up()
		l.bans.add(bad4+"/32", time.Second)
		l.bans.add(other4+"/32", 0)
		l.bans.add("2001:db8:2:66::/64", time.Hour)
		l.settled()
		l.bans.add(bad4+"/32", time.Hour)
		l.bans.add(other4+"/32", time.Second)
		l.bans.add("2001:db8:2:66::/64", 0)
		l.settled()
		l.until("the shortened one has ended", func() bool { return len(p.arrive(sip, other4)) == 1 })
		p.expect(sip, "extended", nil, []string{bad4, bad6})
	})
}

func TestRestartLeavesNoGap(t *testing.T) {
	each(t, func(t *testing.T, b kernel.Backend) {
		p := newPeer(t, bad4, bad6)
		sip := listen(t, protected)
		feed := &bans{}
		feed.add(bad4+"/32", time.Hour)
		feed.add("2001:db8:2:66::/64", 0)
		feed.add("192.0.2.1/32", time.Hour)
		l := start(t, config(b), feed).up()
		stop := make(chan struct{})
		var sender sync.WaitGroup
		sender.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					p.send(protected, 20, bad4, bad6)
				}
			}
		})
		for i := range 20 {
			l.stop() // leaves everything, as kill -9 does
			feed.mu.Lock()
			feed.apply, feed.reset = nil, nil
			feed.mu.Unlock()
			feed.add(fmt.Sprintf("192.0.2.%d/32", i+2), time.Hour)
			l = start(t, config(b), feed).up()
		}
		close(stop)
		sender.Wait()
		if got := sip.drain(50 * time.Millisecond); len(got) != 0 {
			t.Errorf("datagrams of banned sources came through: %v", got)
		}
		l.settled()
		if s := l.Status(); s.Repairs != 0 || s.Sets[4].Entries != 22 || s.Sets[5].Entries != 1 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestLostChanges(t *testing.T) {
	each(t, func(t *testing.T, b kernel.Backend) {
		p := newPeer(t, bad4, other4, office4)
		sip := listen(t, protected)
		l := start(t, config(b), &bans{}).up()
		l.bans.add(bad4+"/32", time.Hour)
		l.bans.add(other4+"/32", time.Hour)
		l.settled()
		l.bans.replace(map[netip.Prefix]int64{
			netip.MustParsePrefix(other4 + "/32"): 0, netip.MustParsePrefix(office4 + "/32"): 0})
		l.settled()
		p.expect(sip, "after a reset", []string{bad4}, []string{other4, office4})
		if s := l.Status(); s.Repairs != 0 || s.Resyncs != 1 {
			t.Errorf("status %+v, want 1 resync and no repair", s)
		}
	})
}

func TestTrustedLane(t *testing.T) {
	each(t, func(t *testing.T, b kernel.Backend) {
		p := newPeer(t, bad4, other4, phone4, phone6, office4, other6)
		sip, ssh := listen(t, protected), listen(t, unprotected)
		l := start(t, config(b), &bans{}, func(m *kernel.Mirror) {
			m.Good(netip.MustParsePrefix(phone4+"/32"), time.Now().Add(time.Hour).UnixNano())
			m.Good(netip.MustParsePrefix("2001:db8:2:20::/64"), time.Now().Add(time.Hour).UnixNano())
			m.SetLists(prefixes(office4+"/32"), nil)
		}).up()
		const n = 500
		flood := func(what string, l *listener, wantStrangers, slack int) {
			t.Helper()
			port := protected
			if l == ssh {
				port = unprotected
			}
			p.send(port, n, bad4, other4, other6)
			p.send(port, n, phone4, phone6, office4)
			got := l.drain(300 * time.Millisecond)
			addr := netip.MustParseAddr
			for _, a := range []string{phone4, phone6, office4} {
				if got[addr(a)] != n {
					t.Errorf("%s: %d of %d datagrams of %s came", what, got[addr(a)], n, a)
				}
			}
			if s := got[addr(bad4)] + got[addr(other4)] + got[addr(other6)]; s < wantStrangers || s > wantStrangers+slack {
				t.Errorf("%s: %d datagrams of strangers came, want about %d", what, s, wantStrangers)
			}
		}
		p.expect(sip, "at first", []string{bad4, other4, phone4, phone6, office4, other6}, nil)
		flood("off", sip, 3*n, 0)
		l.LimitStrangers(1)
		l.settled()
		l.LimitStrangers(5000)
		l.settled()
		p.send(protected, 400, bad4)
		if got := sip.drain(50 * time.Millisecond)[netip.MustParseAddr(bad4)]; got != 400 {
			t.Errorf("raised: %d datagrams of a stranger came, want 400", got)
		}
		l.LimitStrangers(200)
		l.settled()
		time.Sleep(200 * time.Millisecond) // for the bucket to fill
		flood("on", sip, 20, 300)
		flood("another port", ssh, 3*n, 0)
		l.Good(netip.MustParsePrefix(phone4+"/32"), 1) // its registration has ended
		l.bans.add("2001:db8:2:20::/64", time.Hour)    // a ban beats standing
		l.settled()
		p.send(protected, n, phone4, phone6)
		got := sip.drain(100 * time.Millisecond)
		if x := got[netip.MustParseAddr(phone4)]; x > 300 || x == 0 {
			t.Errorf("%d datagrams of a phone that is no longer registered came", x)
		}
		if x := got[netip.MustParseAddr(phone6)]; x != 0 {
			t.Errorf("%d datagrams of a banned phone came", x)
		}
		l.LimitStrangers(0)
		l.settled()
		p.expect(sip, "off again", []string{bad4, other4, phone4, office4, other6}, []string{phone6})
		if s := l.Status(); s.DroppedStrangers < n || s.DroppedBans < n {
			t.Errorf("status %+v", s)
		}
	})
}

// The limit of strangers is not left behind: nobody would renew the standings.
func TestOnExit(t *testing.T) {
	each(t, func(t *testing.T, b kernel.Backend) {
		p := newPeer(t, bad4, other4)
		sip := listen(t, protected)
		cfg := config(b)
		l := start(t, cfg, &bans{}).up()
		l.bans.add(bad4+"/32", time.Hour)
		l.LimitStrangers(1)
		l.settled()
		l.stop()
		p.expect(sip, "left", []string{other4}, []string{bad4})
		if s := dump(t); strings.Contains(s, "limit") {
			t.Errorf("the limit of strangers is still there:\n%s", s)
		}
		cfg.RemoveOnExit = true
		l = start(t, cfg, l.bans).up()
		l.stop()
		p.expect(sip, "removed", []string{bad4, other4}, nil)
		if s := dump(t); strings.Contains(strings.ToLower(s), "sipward") {
			t.Errorf("something is left:\n%s", s)
		}
	})
}

// What another backend has left would keep bans that nobody lifts.
func TestChangeOfBackend(t *testing.T) {
	needKernel(t)
	p := newPeer(t, bad4, other4)
	sip := listen(t, protected)
	feed := &bans{}
	feed.add(bad4+"/32", 0)
	order := append(slices.Clone(backends), backends...)
	order = append(order, kernel.BackendAuto, kernel.BackendNone)
	for _, b := range order {
		l := start(t, config(b), feed)
		if b == kernel.BackendNone {
			l.until("it is off", func() bool { return l.Status().Reason == "switched off" })
			p.expect(sip, string(b), []string{bad4, other4}, nil)
		} else {
			l.up()
			p.expect(sip, string(b), []string{other4}, []string{bad4})
		}
		l.stop()
		feed.mu.Lock()
		feed.apply = nil
		feed.mu.Unlock()
	}
	if s := dump(t); strings.Contains(strings.ToLower(s), "sipward") {
		t.Errorf("something is left:\n%s", s)
	}
}
