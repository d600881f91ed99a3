package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"sipward/cmd/sipward/internal/demo/phone"
	"sipward/policy"
	"sipward/policy/event"
	"sipward/proxy"
)

// eventsPerSecond is what the journal has to bear.
const eventsPerSecond = 20_000

// TestJournalUnderLoad: while 20,000 events a second, each of another source, go into the
// journal's queue, a phone that registers through sipward is answered as fast as without
// them, and each event is counted or its loss is. With E2E_FULL=1 it goes on for a minute,
// and the times are held to limits that only a quiet machine keeps.
func TestJournalUnderLoad(t *testing.T) {
	full := os.Getenv("E2E_FULL") == "1"
	turns, span := 2, time.Second
	if full {
		turns, span = 6, 10*time.Second // a minute with, a minute without, by turns
	}
	r := office(t, "flood: {rate: 100000, burst: 100000}")
	c, err := loadConfiguration(r.config)
	if err != nil {
		t.Fatal(err)
	}
	bus := new(event.Bus)
	e, err := newEdge(c, slog.New(slog.DiscardHandler), bus)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	p, err := phone.Listen(phone.Config{Local: netip.MustParseAddr("127.0.0.2"), Server: r.outside(), User: "1001", Password: "right"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	registers(t, p, time.Now().Add(200*time.Millisecond)) // what is done once is done

	var without, with trips
	published := uint64(0)
	for range turns {
		without.add(t, e, p, span)
		load := make(chan uint64, 1)
		until := time.Now().Add(span)
		go func() { load <- publishUntil(bus, published, until) }()
		with.add(t, e, p, span)
		published = <-load
	}
	h := e.journal.Health()
	for end := time.Now().Add(30 * time.Second); h.Events+h.LostEvents < published || h.LostEvents != bus.Lost(); h = e.journal.Health() {
		if time.Now().After(end) {
			t.Fatalf("of %d events and the phone's, %d were counted and %d lost; the bus has lost %d", published, h.Events, h.LostEvents, bus.Lost())
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("%d events published; with the phone's %d were counted, %d of them without their source, and %d lost", published, h.Events, h.Folded, h.LostEvents)
	t.Logf("without: %s", &without)
	t.Logf("with:    %s", &with)
	if want := uint64(float64(turns) * span.Seconds() * eventsPerSecond); full && published < want*98/100 {
		t.Errorf("%d events were published, want %d", published, want)
	}
	// Of the figures of a second on a busy machine only those can be wrong that are far off.
	p50, p99 := 5*without.at(50)+5*time.Millisecond, 5*without.at(99)+50*time.Millisecond
	if full {
		p50, p99 = without.at(50)*5/4+20*time.Microsecond, without.at(99)*3/2+500*time.Microsecond
	}
	if with.at(50) > p50 || with.at(99) > p99 {
		t.Errorf("the round trips take longer: median %v (limit %v), 99 %% %v (limit %v)", with.at(50), p50, with.at(99), p99)
	}
}

// publishUntil publishes events at their rate, each of another source, the first with the
// number n. It returns the number of the next.
func publishUntil(bus *event.Bus, n uint64, until time.Time) uint64 {
	ev := event.Event{Verdict: policy.Drop, Reason: policy.ReasonFlood, Method: "REGISTER"}
	ev.Account.SetString("1001@example.com")
	began, first := time.Now(), n
	for now := began; now.Before(until); now = time.Now() {
		for due := first + uint64(now.Sub(began).Seconds()*eventsPerSecond); n < due; n++ {
			ev.Time = now.UnixNano()
			ev.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 5060)
			bus.Publish(&ev)
		}
		time.Sleep(time.Millisecond)
	}
	return n
}

// registers has a phone register again and again, and returns how long each took, which is
// two round trips: a challenge and the answer.
func registers(t *testing.T, p *phone.Phone, until time.Time) (took []time.Duration) {
	t.Helper()
	for time.Now().Before(until) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		began := time.Now()
		res, err := p.Register(ctx, time.Minute)
		took = append(took, time.Since(began))
		cancel()
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("the phone is not registered: %v, %v", res, err)
		}
	}
	return took
}

// trips are how long a phone's registrations took, and what sipward itself has measured.
type trips struct {
	took    []time.Duration // sorted
	latency proxy.Latency
}

func (x *trips) add(t *testing.T, e *edge, p *phone.Phone, span time.Duration) {
	t.Helper()
	before := e.server.Stats().UDPLatency
	x.took = append(x.took, registers(t, p, time.Now().Add(span))...)
	slices.Sort(x.took)
	after := e.server.Stats().UDPLatency
	if x.latency.Counts == nil {
		x.latency = proxy.Latency{Bounds: after.Bounds, Counts: make([]uint64, len(after.Counts))}
	}
	for i := range after.Counts {
		x.latency.Counts[i] += after.Counts[i] - before.Counts[i]
	}
	x.latency.Sum += after.Sum - before.Sum
}

// at is a percentile of the round trips.
func (x *trips) at(percent int) time.Duration { return x.took[(len(x.took)-1)*percent/100] }

func (x *trips) String() string {
	n := uint64(0)
	for _, c := range x.latency.Counts {
		n += c
	}
	bound := func(percent uint64) string {
		sum := uint64(0)
		for i, c := range x.latency.Counts {
			if sum += c; i < len(x.latency.Bounds) && sum*100 >= n*percent {
				return "≤ " + x.latency.Bounds[i].String()
			}
		}
		return "more than " + x.latency.Bounds[len(x.latency.Bounds)-1].String()
	}
	return fmt.Sprintf("%d registrations, median %v, 99 %% %v, longest %v; of %d messages timed in sipward median %s, 99 %% %s, mean %v",
		len(x.took), x.at(50), x.at(99), x.took[len(x.took)-1], n, bound(50), bound(99), x.latency.Sum/time.Duration(max(n, 1)))
}
