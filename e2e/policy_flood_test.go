//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

// attempts is how often the registered phones try something during a flood.
const attempts = 80

// full asks for floods as strong as the machine can make them: for a machine that does nothing else.
var full = os.Getenv("E2E_FULL") != ""

// TestPolicyFlood: five registered phones register again and call while strangers flood sipward with requests that are well
// formed. Each of their attempts succeeds in time. It does not run beside the other tests.
func TestPolicyFlood(t *testing.T) {
	s := attacked(t, "log: {level: info}\n")
	phones := s.crowd(t)
	// Kamailio with pike and a ban list, on the machine that all run on: 19, 43 and 28 of 80.
	t.Run("forged", func(t *testing.T) {
		s.testUnderFlood(t, phones, 20_000, forgedSource, s.template("REGISTER", "Yealink SIP-T46S 66.86.0.15"))
	})
	scanner, repeated := 60_000, 60_000
	if full {
		scanner, repeated = 300_000, 100_000
	}
	from := func(n int) func(int) netip.AddrPort {
		return func(int) netip.AddrPort { return netip.AddrPortFrom(lab.Phone(n), 5060) }
	}
	t.Run("friendly-scanner", func(t *testing.T) {
		s.testUnderFlood(t, phones, scanner, from(70), s.template("OPTIONS", "friendly-scanner"))
	})
	t.Run("repeated", func(t *testing.T) {
		b := bytes.ReplaceAll(s.template("OPTIONS", "Yealink SIP-T46S 66.86.0.15"), []byte(idMark), []byte("1"))
		s.testUnderFlood(t, phones, repeated, from(71), b)
	})
}

// idMark stands in a template where each message has an id of its own.
const idMark = "0123456789abcdef"

// template is a request whose ids are to be filled in.
func (s *site) template(method, agent string) []byte {
	b, _ := letter(method, "sip:"+s.pbx.Domain(), "1001", s.pbx.Domain(), netip.MustParseAddrPort("10.0.0.1:5060"), phone.UDP, idMark)
	return bytes.ReplaceAll(b, []byte("Yealink SIP-T46S 66.86.0.15"), []byte(agent))
}

// flood sends until ctx ends, and gives how many it has sent. Each message has ids of its own.
func flood(ctx context.Context, f *lab.Forger, rate int, to netip.AddrPort, from func(int) netip.AddrPort, b []byte) (n int, err error) {
	rng := rand.New(rand.NewPCG(1, uint64(rate)))
	var at []int
	for i := range b {
		if bytes.HasPrefix(b[i:], []byte(idMark)) {
			at = append(at, i)
		}
	}
	begun := time.Now()
	for ; ctx.Err() == nil; n++ {
		if n%100 == 0 {
			time.Sleep(time.Until(begun.Add(time.Duration(n) * time.Second / time.Duration(rate)))) // this paces
		}
		var id [len(idMark)]byte
		hex.Encode(id[:], binary.BigEndian.AppendUint64(nil, rng.Uint64()))
		for _, i := range at {
			copy(b[i:], id[:])
		}
		if err := f.Queue(from(n), to, b); err != nil {
			return n, fmt.Errorf("send flood: %w", err)
		}
	}
	return n, f.Flush()
}

// limit is how long an attempt may take. A phone that has to repeat a message needs longer.
const limit = 500 * time.Millisecond

// testUnderFlood wants each of the phones' attempts to succeed in time. Where the machine itself, and not sipward, has
// stood still meanwhile, it is tried once more.
func (s *site) testUnderFlood(t *testing.T, phones []*phone.Phone, rate int, from func(int) netip.AddrPort, b []byte) {
	for again := false; ; again = true {
		ok, machine := s.underFlood(t, phones, rate, from, b)
		if ok == attempts {
			return
		}
		status := must[string](t)(s.sipward.CLI("status"))
		if again || machine.slowest < stall {
			t.Fatalf("%d of %d attempts succeeded\n%s", ok, attempts, status)
		}
		t.Logf("once more: the machine stood still, for %v\n%s", machine.slowest, status)
	}
}

// underFlood counts which of the attempts succeed in time.
func (s *site) underFlood(t *testing.T, phones []*phone.Phone, rate int, from func(int) netip.AddrPort, b []byte) (ok int, m machine) {
	f := must[*lab.Forger](t)(s.Forger())
	defer f.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	begun := time.Now()
	go func() {
		n, err := flood(ctx, f, rate, s.proxy(false), from, b)
		done <- result{n, err}
	}()
	time.Sleep(500 * time.Millisecond) // the flood is at its height before anything is measured
	watched := s.watch(t)
	slowest := time.Duration(0)
	for i := range attempts {
		at := time.Now()
		if err := attempt(t, phones, i, 4*time.Second); err != nil {
			t.Log(err)
		} else if took := time.Since(at); took <= limit {
			ok, slowest = ok+1, max(slowest, took)
		} else {
			t.Logf("attempt %d took %v", i, took)
		}
	}
	m = watched()
	stop()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Logf("%d of %d attempts in time, the slowest of them in %v, during %.0f messages a second; %d echoes without sipward, the slowest in %v",
		ok, attempts, slowest.Round(time.Millisecond), float64(r.n)/time.Since(begun).Seconds(), m.echoes, m.slowest.Round(time.Millisecond))
	return ok, m
}

// machine is the control: what somebody has seen who asks a plain echo on the edge, beside sipward and not through it, over
// the phones' wire, from the phones' process, and who is asked by nobody else.
type machine struct {
	echoes  int
	slowest time.Duration
}

// stall is how long an echo takes only if the machine has given its processors to others: sipward's receive queues hold what
// comes in that time.
const stall = 50 * time.Millisecond

// watch asks the echo every five milliseconds until the function that it gives is called, which says what was seen.
func (s *site) watch(t *testing.T) func() machine {
	t.Helper()
	server := socket(t, s.Edge, netip.AddrPortFrom(lab.EdgeWAN, 0))
	client := socket(t, s.WAN, netip.AddrPortFrom(lab.Phone(72), 0))
	to := netip.MustParseAddrPort(server.LocalAddr().String())
	go func() {
		b := make([]byte, 16)
		for {
			n, from, err := server.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = server.WriteToUDPAddrPort(b[:n], from)
		}
	}()
	stop, done := make(chan struct{}), make(chan machine, 1)
	go func() {
		var m machine
		b := make([]byte, 16)
		for tick := time.NewTicker(5 * time.Millisecond); ; m.echoes++ {
			select {
			case <-stop:
				tick.Stop()
				done <- m
				return
			case <-tick.C:
			}
			at := time.Now()
			_, _ = client.WriteToUDPAddrPort(b, to)
			_ = client.SetReadDeadline(at.Add(limit)) // one that is lost counts as that slow
			_, _ = client.Read(b)
			m.slowest = max(m.slowest, time.Since(at))
		}
	}()
	return func() machine {
		close(stop)
		return <-done
	}
}

// attempt registers a phone again, or lets it call another.
func attempt(t *testing.T, phones []*phone.Phone, i int, within time.Duration) error {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	a, b := phones[i%len(phones)], phones[(i+1)%len(phones)]
	if i%2 == 0 {
		r, err := a.Register(ctx, 300)
		if err == nil && r.Status() != 200 {
			err = fmt.Errorf("attempt %d: %s", i, r.StartLine())
		}
		return err
	}
	out, err := a.Call(ctx, b.AoR())
	if err != nil {
		return err
	}
	in, err := b.Incoming(ctx)
	if err != nil {
		return fmt.Errorf("attempt %d: %w", i, err)
	}
	if err := in.Answer(ctx); err != nil {
		return err
	}
	if r, err := out.Answered(ctx); err != nil || r.Status() != 200 {
		return fmt.Errorf("attempt %d: %v, %w", i, r, err)
	}
	_, err = out.Bye(ctx)
	return err
}
