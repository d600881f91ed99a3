package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sipward/conf"
	"sipward/listsync/kernel"
	"sipward/policy"
)

func testMirror(t *testing.T) *mirror {
	t.Helper()
	k, err := kernel.New(kernel.Config{}) // which does not run
	if err != nil {
		t.Fatal(err)
	}
	return &mirror{Mirror: k, log: slog.New(slog.DiscardHandler),
		changes: make(chan kernel.Entry, 2), lost: make(chan struct{}, 1), full: make(chan struct{}, 1), limited: make(chan struct{}, 1)}
}

// pending is how many sources in good standing the kernel is to be told of.
func pending(m *mirror) int {
	s := m.Status()
	return s.Sets[2].Pending + s.Sets[3].Pending
}

// Standings that were lost are read anew, and those that waited then do not undo it.
func TestStandingsAreResynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := testMirror(t)
		e := policy.New(policy.Config{Standing: m.standing, Sources: 64})
		now := time.Now()
		for i := range byte(10) {
			e.Recall(netip.AddrFrom4([4]byte{192, 0, 2, i}), now.UnixNano())
		}
		stale := netip.MustParsePrefix("203.0.113.9/32")
		<-m.changes
		m.standing(stale, now.Add(time.Hour).UnixNano()) // it has ended since, which was lost
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.followStandings(ctx, e) }()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := pending(m); n != 10 {
			t.Errorf("the kernel is to be told of %d sources, want 10", n)
		}
		m.standing(netip.MustParsePrefix("2001:db8::/64"), now.Add(time.Hour).UnixNano())
		synctest.Wait()
		if s := m.Status(); s.Sets[3].Pending != 1 {
			t.Errorf("one more, and it is to be told of %d", s.Sets[3].Pending)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestLimitOfStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := testMirror(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 2)
		m.setLimit(conf.Overload{Strangers: 2000, KernelStrangers: conf.KernelLimitAuto})
		go func() { done <- m.limitStrangers(ctx) }()
		expect := func(what string, want int) {
			t.Helper()
			synctest.Wait()
			if got := m.Status().Strangers; got != want {
				t.Errorf("%s: a limit of %d, want %d", what, got, want)
			}
		}
		expect("auto, calm", 0)
		m.queueFull()
		expect("auto, a queue fills", 4000)
		m.setLimit(conf.Overload{KernelStrangers: 700})
		expect("a number", 700)
		m.queueFull()
		expect("a number, and a queue fills", 700)
		m.setLimit(conf.Overload{KernelStrangers: conf.KernelLimitAuto})
		expect("auto again", 0)
		m.queueFull()
		expect("without a limit in user space", 10_000)
		m.setLimit(conf.Overload{})
		expect("off", 0)
		m.queueFull()
		expect("off, and a queue fills", 0)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestKernelPorts: what is listened on for files is guarded in the kernel, too.
func TestKernelPorts(t *testing.T) {
	c, err := conf.Parse("test.yaml", []byte("pbx: [{address: 203.0.113.2}]\ntftp: {listen: [udp://198.51.100.1, udp://198.51.100.2], upstream: 203.0.113.2}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range kernelConfig(c).Ports {
		got = append(got, fmt.Sprintf("%d/%d", p.Protocol, p.Port))
	}
	if want := []string{"17/5060", "6/5060", "17/69"}; !slices.Equal(got, want) {
		t.Errorf("the ports are %v, want %v", got, want)
	}
}
