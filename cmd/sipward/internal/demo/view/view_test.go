package view_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sipward/admin/logtest"
	"sipward/cmd/sipward/internal/demo/view"
	"sipward/policy"
	"sipward/policy/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var scanner = netip.MustParseAddrPort("127.0.0.4:5060")

func TestFloodIsGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out logtest.Buffer
		v := view.New(&out, map[netip.Addr]string{scanner.Addr(): "scanner"})
		var bus event.Bus
		sub := bus.Subscribe(2000)
		defer sub.Close()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- v.Run(ctx, sub) }()
		ev := event.Event{Source: scanner, Verdict: policy.Drop, Reason: policy.ReasonFlood, Method: "OPTIONS"}
		for range 1000 {
			bus.Publish(&ev)
		}
		ev.Verdict, ev.Reason = policy.Pass, policy.ReasonPass
		ev.Account.SetString("evil\x1b[2J")
		bus.Publish(&ev)
		time.Sleep(3 * time.Second)
		got := out.String()
		if n := strings.Count(got, "\n"); n != 6 {
			t.Errorf("%d lines, want 4 drops, 1 pass, 1 for the rest:\n%s", n, got)
		}
		for _, want := range []string{"DROP    (unread)    127.0.0.4 scanner", "flood  and 996 more of these", "evil?[2J"} {
			if !strings.Contains(got, want) {
				t.Errorf("%q is missing:\n%s", want, got)
			}
		}
		if ta := v.Tally(scanner.Addr()); ta.Dropped != 1000 || ta.Passed != 1 || ta.Reasons[policy.ReasonFlood] != 1000 {
			t.Errorf("tally %+v", ta)
		}
		v.Act("next")
		v.Event(&ev)
		if !strings.Contains(out.String(), "\n\n-- next\n") {
			t.Errorf("no headline:\n%s", out.String())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestStrangersAreNotRemembered(t *testing.T) {
	var out logtest.Buffer
	v := view.New(&out, nil)
	for i := range 5000 {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		v.Event(&event.Event{Source: netip.AddrPortFrom(a, 1), Verdict: policy.Drop, Reason: policy.ReasonFlood})
		if ta := v.Tally(a); ta.Dropped != 0 {
			t.Fatal("an unknown source is tallied")
		}
	}
}
