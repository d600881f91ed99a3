//go:build linux

package load_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sipward/e2e/bench/bare"
	"sipward/e2e/bench/load"
	"sipward/e2e/bench/mmsg"
	"sipward/e2e/bench/respond"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// untilIdle lets the benchmark's endless loops end by themselves.
var untilIdle = mmsg.Options{ReceiveTimeout: 3_000_000, ReceiveBuffer: 4 << 20}

func start(t *testing.T, run func() error, closer func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- run() }()
	t.Cleanup(func() {
		if err := <-done; err != nil && !errors.Is(err, mmsg.ErrTimeout) {
			t.Error(err)
		}
		if err := closer(); err != nil {
			t.Error(err)
		}
	})
}

func freePort(t *testing.T, addr string) netip.AddrPort {
	t.Helper()
	s, err := mmsg.Listen(netip.MustParseAddrPort(addr+":0"), mmsg.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a, err := s.LocalAddr()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestFlowsThroughBareForwarder(t *testing.T) {
	for _, tc := range []struct {
		flow    load.Flow
		sources int
	}{
		{load.Register, 1},
		{load.Credentials, 500},
		{load.Challenge, 20},
		{load.Call, 1},
		{load.Call, 20},
	} {
		t.Run(string(tc.flow), func(t *testing.T) {
			t.Parallel()
			pbx, err := respond.Listen(netip.MustParseAddrPort("127.0.0.2:0"), untilIdle)
			if err != nil {
				t.Fatal(err)
			}
			start(t, pbx.Run, pbx.Close)
			pbxAddr, err := pbx.LocalAddr()
			if err != nil {
				t.Fatal(err)
			}
			edge := freePort(t, "127.0.0.1")
			fwd, err := bare.Listen(edge, pbxAddr, untilIdle)
			if err != nil {
				t.Fatal(err)
			}
			start(t, fwd.Run, fwd.Close)
			g, err := load.New(load.Config{
				Target: edge, Sources: tc.sources, Rate: 100, Duration: time.Second, Flow: tc.flow,
			}, 7, mmsg.Options{ReceiveBuffer: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			r, err := g.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if r.Sent != 100 || r.Lost != 0 || r.Unexpected != 0 || r.Refused != 0 || r.Answered+r.Late != 100 {
				t.Errorf("not all came through: %+v", r)
			}
			if r.P50 <= 0 || r.Max < r.P99 || r.P99 < r.P50 {
				t.Errorf("latencies out of order: %+v", r)
			}
			if r.Rate < 30 || r.Rate > 105 {
				t.Errorf("rate %.0f, want about 100", r.Rate)
			}
		})
	}
}

// Nothing is counted as answered that was not.
func TestLossIsCounted(t *testing.T) {
	silent, err := mmsg.Listen(netip.MustParseAddrPort("127.0.0.1:0"), mmsg.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	addr, err := silent.LocalAddr()
	if err != nil {
		t.Fatal(err)
	}
	g, err := load.New(load.Config{Target: addr, Sources: 1, Rate: 1000, Duration: 100 * time.Millisecond, Flow: load.Register}, 1, mmsg.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := g.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Sent != 100 || r.Lost != 100 || r.Answered != 0 {
		t.Errorf("got %+v, want 100 lost", r)
	}
}
