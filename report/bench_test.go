package report_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"sipward/policy"
	"sipward/policy/event"
	"sipward/report"
)

// benched says whether to measure: only on a quiet machine is that worth anything
// (make bench-report).
func benched(t testing.TB) {
	if os.Getenv("REPORT_BENCH") == "" {
		t.Skip("REPORT_BENCH is not set; make bench-report sets it")
	}
}

// million fills a journal with a million rows of 7 days: each minute a hundred of 50,000
// sources, few of which are often there, with accounts, reasons and bans.
func million(t testing.TB) *report.Journal {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := open(t, report.Config{Path: path})
	r := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(r, 1.2, 4, 49_999)
	const minutes, rows = 10_000, 100
	n := 0
	for m := range minutes {
		at := noon.Add(-time.Duration(minutes-m) * time.Minute)
		seen := map[[2]uint64]bool{}
		for len(seen) < rows {
			k := [2]uint64{zipf.Uint64(), r.Uint64N(20)}
			if seen[k] {
				continue
			}
			seen[k] = true
			n++
			a := netip.AddrFrom4([4]byte{198, byte(18 + k[0]>>16), byte(k[0] >> 8), byte(k[0])})
			ev := message(at, a.String(), fmt.Sprintf("user%d@example.com", k[0]%3000+k[1]), policy.Verdict(k[1]%3), policy.Reason(k[1]*2))
			for range r.IntN(4) + 1 {
				j.Count(ev)
			}
		}
		if m%1000 == 999 {
			if err := j.Flush(at); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 10_000 {
		j.Add(report.Act{Time: noon.Add(-time.Duration(i) * time.Minute), Action: report.ActionBan, Guard: "register", Reason: "register",
			Source: netip.MustParsePrefix("198.18.0.1/32")})
	}
	if err := j.Flush(noon.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	j.Tidy(noon)
	t.Logf("%d rows, %d bytes", n, j.Health().Bytes)
	j.Close()
	return open(t, report.Config{Path: path}) // nothing of it in memory
}

// TestMillionRows asks the usual questions of a million rows: each is answered within a
// second.
func TestMillionRows(t *testing.T) {
	benched(t)
	j := million(t)
	for _, text := range []string{
		"last=8d", "last=8d&by=source", "last=8d&by=source,reason&top=10", "last=8d&by=account", "last=8d&by=reason", "last=8d&by=day,guard",
		"last=8d&by=hour", "last=8d&by=action,protocol", "last=8d&source=198.18.0.0/24&by=source", "last=8d&source=198.18.0.1&by=account,reason",
		"last=8d&account=user7&by=source", "last=8d&guard=register&by=source", "last=24h&by=source,reason", "last=8d&acts=true&action=ban&top=100",
	} {
		began := time.Now()
		r := ask(t, j, text)
		took := time.Since(began)
		t.Logf("%8s  %s: %d messages in %d groups", took.Round(time.Millisecond), text, r.Total.Messages, len(r.Groups)+r.OtherGroups)
		if took > time.Second {
			t.Errorf("%s took %v", text, took)
		}
		if r.Total.Messages+r.Total.Acts == 0 {
			t.Errorf("%s finds nothing", text)
		}
	}
}

// TestPacketPathDoesNotWait sends 20,000 events a second for a minute, each of another
// source, to a journal at work, and compares how long Publish takes with a bus that nobody
// listens to.
func TestPacketPathDoesNotWait(t *testing.T) {
	benched(t)
	const rate = 20_000
	publish := func(bus *event.Bus, seconds int) []time.Duration {
		took := make([]time.Duration, 0, rate*seconds)
		began := time.Now()
		for i := range rate * seconds {
			for time.Since(began) < time.Duration(i)*time.Second/rate {
				runtime.Gosched()
			}
			ev := message(time.Now(), netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}).String(), "alice@example.com", policy.Drop, policy.ReasonFlood)
			at := time.Now()
			bus.Publish(ev)
			took = append(took, time.Since(at))
		}
		slices.Sort(took)
		return took
	}
	show := func(what string, took []time.Duration) {
		n := len(took)
		t.Logf("%s: median %v, 99 %% %v, 99.9 %% %v, longest %v", what, took[n/2], took[n*99/100], took[n*999/1000], took[n-1])
	}
	show("nobody listens", publish(new(event.Bus), 5))
	j := open(t, report.Config{})
	bus := run(t, j)
	took := publish(bus, 60)
	show("the journal listens", took)
	within(t, "all counted or lost", 30*time.Second, func() bool { h := j.Health(); return h.Events+h.LostEvents == uint64(len(took)) })
	h := j.Health()
	t.Logf("%d counted, %d of them without their source, %d lost, %d bytes", h.Events, h.Folded, h.LostEvents, h.Bytes)
	if p := took[len(took)*99/100]; p > 20*time.Microsecond {
		t.Errorf("Publish took %v", p)
	}
}

// BenchmarkPublish is what the packet path pays for one message.
func BenchmarkPublish(b *testing.B) {
	for _, listens := range []bool{false, true} {
		b.Run(fmt.Sprintf("journal=%t", listens), func(b *testing.B) {
			bus := new(event.Bus)
			if listens {
				j := open(b, report.Config{})
				bus = run(b, j)
			}
			ev := message(time.Now(), "192.0.2.1", "alice@example.com", policy.Drop, policy.ReasonBan)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				mine := *ev
				for pb.Next() {
					bus.Publish(&mine)
				}
			})
		})
	}
}

// BenchmarkCount is what the journal pays for a message, on a goroutine of its own.
func BenchmarkCount(b *testing.B) {
	for _, sources := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("sources=%d", sources), func(b *testing.B) {
			count := report.CountMinute()
			events := countable(sources)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				count(&events[i%sources])
			}
		})
	}
}

// TestCountAllocs: to count a message of a kind that is known allocates nothing.
func TestCountAllocs(t *testing.T) {
	count, events := report.CountMinute(), countable(100)
	count100 := func() {
		for i := range events {
			count(&events[i])
		}
	}
	count100()
	count100() // both samples are taken
	if n := testing.AllocsPerRun(100, count100); n != 0 {
		t.Errorf("%v allocations for 100 messages", n)
	}
}

// countable are messages of as many sources.
func countable(sources int) []event.Event {
	events := make([]event.Event, sources)
	for i := range events {
		events[i] = *message(noon, netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}).String(), "alice@example.com", policy.Drop, policy.ReasonBan)
	}
	return events
}
