package event_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"go.uber.org/goleak"

	"sipward/policy"
	"sipward/policy/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBusDeliversInOrder(t *testing.T) {
	var b event.Bus
	if b.Active() {
		t.Error("a bus that nobody listens to is active")
	}
	b.Publish(&event.Event{})
	one, two := b.Subscribe(10), b.Subscribe(10)
	defer one.Close()
	if !b.Active() {
		t.Error("not active with subscribers")
	}
	for i := range 3 {
		b.Publish(&event.Event{Time: int64(i)})
	}
	two.Close()
	two.Close()
	b.Publish(&event.Event{Time: 3})
	for i := range int64(4) {
		if ev := <-one.C(); ev.Time != i {
			t.Errorf("event %d came where %d was due", ev.Time, i)
		}
	}
	if n := len(two.C()); n != 3 {
		t.Errorf("the closed subscription holds %d events, want 3", n)
	}
	one.Close()
	if b.Active() {
		t.Error("active after all are closed")
	}
}

func TestBusLosesAndCounts(t *testing.T) {
	var b event.Bus
	slow, fast := b.Subscribe(2), b.Subscribe(100)
	defer slow.Close()
	defer fast.Close()
	for i := range 10 {
		b.Publish(&event.Event{Time: int64(i)})
	}
	if slow.Lost() != 8 || fast.Lost() != 0 || b.Lost() != 8 {
		t.Errorf("lost: slow %d, fast %d, bus %d; want 8, 0, 8", slow.Lost(), fast.Lost(), b.Lost())
	}
}

func TestBusConcurrently(t *testing.T) {
	var b event.Bus
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 1000 {
				b.Publish(&event.Event{Time: int64(i)})
			}
		})
		wg.Go(func() {
			for range 100 {
				s := b.Subscribe(1)
				select {
				case <-s.C():
				default:
				}
				s.Close()
			}
		})
	}
	wg.Wait()
	if b.Active() {
		t.Error("a subscription was lost track of")
	}
}

func TestText(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 127, 128, 300} {
		long := strings.Repeat("x", n)
		var a event.Text64
		var b event.Text128
		a.Set([]byte(long))
		b.SetString(long)
		if got, want := a.String(), long[:min(n, 63)]; got != want || string(a.Bytes()) != want {
			t.Errorf("Text64 of %d bytes holds %d", n, len(got))
		}
		if got, want := b.String(), long[:min(n, 127)]; got != want || string(b.Bytes()) != want {
			t.Errorf("Text128 of %d bytes holds %d", n, len(got))
		}
	}
}

// An event keeps nothing of the buffer that it was filled from.
func TestEventIsAValue(t *testing.T) {
	buf := []byte("alice@example.com")
	var ev event.Event
	ev.Account.Set(buf)
	copy(buf, "mallory")
	if ev.Account.String() != "alice@example.com" {
		t.Error("the event changed with the buffer")
	}
	t.Logf("an event has %d bytes", unsafe.Sizeof(ev))
	if s := fmt.Sprint(event.SIP, event.TFTP, event.DNS, event.Protocol(9)); s != "sip tftp dns unknown" {
		t.Errorf("protocols are %q", s)
	}
	if s := fmt.Sprint(event.FromPBX, event.FromOutside); s != "from-pbx from-outside" {
		t.Errorf("directions are %q", s)
	}
}

func TestPublishDoesNotAllocate(t *testing.T) {
	var b event.Bus
	s := b.Subscribe(16)
	defer s.Close()
	ev := event.Event{Reason: policy.ReasonFlood, Method: "REGISTER"}
	if n := testing.AllocsPerRun(100, func() { b.Publish(&ev) }); n != 0 {
		t.Errorf("Publish allocates %v times", n)
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, full := range []bool{false, true} {
		b.Run(fmt.Sprintf("full=%v", full), func(b *testing.B) {
			var bus event.Bus
			s := bus.Subscribe(1)
			defer s.Close()
			ev := event.Event{Reason: policy.ReasonFlood, Method: "REGISTER"}
			b.ReportAllocs()
			for b.Loop() {
				bus.Publish(&ev)
				if !full {
					<-s.C()
				}
			}
		})
	}
}
