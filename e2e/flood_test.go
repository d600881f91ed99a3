//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

const (
	forged = 500_000
	// pace is how many of them a second: far more than any phone sends, and less than fills two cores that also run the
	// forger, the PBX and the phones.
	pace = 40_000
	// bound is what sipward may need at most, whatever strangers send: its tables are full after fewer addresses than come.
	bound = 128 << 20
)

// TestFlood sends garbage from half a million forged addresses. It does not run beside the other tests.
func TestFlood(t *testing.T) {
	lab.Need(t, "kamailio")
	if direct {
		t.Skip("Kamailio is not what is attacked here")
	}
	s := &site{Lab: labs.New(t)}
	s.pbx = s.StartKamailio(t, lab.PBX1)
	// The good phone calls without a pause, more often than the default lets one address.
	s.start(t, lab.Config{Extra: "log: {level: info}\nflood: {rate: 2000, burst: 4000}\n"})
	a, b := s.registered(t, udp, "1001", 1), s.registered(t, udp, "1002", 2)
	c := s.registered(t, tcp, "1003", 3)
	idle, _, err := s.sipward.Memory()
	if err != nil {
		t.Fatal(err)
	}
	f := must[*lab.Forger](t)(s.Forger())
	defer f.Close()
	ctx, stop := context.WithCancel(t.Context())
	sent := make(chan error, 1)
	go func() {
		defer stop()
		sent <- garbage(f)
	}()
	calls, slowest := 0, time.Duration(0)
	for ctx.Err() == nil {
		begun := time.Now()
		// (No wait for 180: a provisional response is sent once, and a lost one is lost.)
		out := must[*phone.Call](t)(a.Call(within(t, 4*patience), b.AoR()))
		in := must[*phone.Call](t)(b.Incoming(within(t, 2*patience)))
		if err := in.Answer(within(t, 2*patience)); err != nil {
			t.Fatal(err)
		}
		want(t, 200)(out.Answered(within(t, 2*patience)))
		want(t, 200)(out.Bye(within(t, 2*patience)))
		ended(t, in)
		want(t, 200)(c.Register(within(t, 2*patience), 300))
		calls++
		slowest = max(slowest, time.Since(begun))
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	now, peak, err := s.sipward.Memory()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("memory %d MiB before, %d after, %d at most; %d good calls meanwhile, the slowest in %v",
		idle>>20, now>>20, peak>>20, calls, slowest.Round(time.Millisecond))
	if peak > bound && os.Getenv("E2E_RACE") == "" { // the race detector multiplies memory
		t.Errorf("sipward needed %d MiB, its bound is %d", peak>>20, int64(bound)>>20)
	}
	if calls < 3 {
		t.Errorf("only %d good calls passed during the flood", calls)
	}
	t.Log(must[string](t)(s.sipward.CLI("status")))
}

// garbage sends the flood: noise, halves of messages, requests with faults, whole requests, keep-alives.
func garbage(f *lab.Forger) error {
	rng := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 400)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	whole := stranger("flood", "SIP/2.0/UDP 192.0.2.7:5060;rport")
	kinds := [][]byte{noise, whole[:len(whole)/2], bytes.Replace(whole, []byte("CSeq: 1 OPTIONS"), []byte("CSeq: 1 INVITE"), 1),
		bytes.Replace(whole, []byte("From:"), []byte("From :\x00"), 1), []byte("\r\n\r\n"), {0}, bytes.Replace(whole, []byte("Max-Forwards: 70"), []byte("Max-Forwards: 0"), 1)}
	to := netip.AddrPortFrom(lab.EdgeWAN, 5060)
	begun := time.Now()
	for i := range forged {
		// 10.0.0.0/8, each address once, in an order that is not that of the tables' hashes.
		n := uint32(i) * 2654435761 & 0xffffff
		from := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
		if err := f.Send(netip.AddrPortFrom(from, uint16(1024+i%60000)), to, kinds[i%len(kinds)]); err != nil {
			return fmt.Errorf("send garbage %d: %w", i, err)
		}
		if i%400 == 0 {
			if ahead := time.Duration(i)*time.Second/pace - time.Since(begun); ahead > 0 {
				time.Sleep(ahead) // this paces; it waits for nobody
			}
		}
	}
	return nil
}
