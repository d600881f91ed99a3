//go:build linux

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

// TestUDPOnly: a PBX that speaks UDP alone behind phones on TCP. First all that a phone does, then again while a tenth of
// what PBX and sipward send to each other is lost, in both directions: sipward repeats for the phones, which do not.
func TestUDPOnly(t *testing.T) {
	for name, start := range map[string]func(*site, *testing.T){
		"asterisk": func(s *site, t *testing.T) { s.pbx = s.StartAsterisk(t) },
		"kamailio": func(s *site, t *testing.T) { s.pbx = s.StartKamailio(t, lab.PBX1) },
	} {
		t.Run(name, func(t *testing.T) {
			lab.Need(t, name)
			if direct {
				t.Skip("without sipward nothing goes from TCP to UDP")
			}
			t.Parallel()
			s := &site{Lab: labs.New(t)}
			start(s, t)
			s.start(t, lab.Config{UDPOnly: true})
			for _, part := range []struct {
				name string
				run  func(*testing.T, wire)
			}{
				{"register", s.testRegister}, {"call", s.testCall}, {"callee-hangs-up", s.testCalleeHangsUp},
				{"cancel", s.testCancel}, {"busy", s.testBusy}, {"no-answer", s.testNoAnswer}, {"options", s.testOptions},
				{"message", s.testMessage}, {"subscribe", s.testSubscribe}, {"refer", s.testRefer}, {"big", s.testBig},
				{"mixed", func(t *testing.T, _ wire) { s.testMixed(t) }}, {"restart", s.testRestart},
			} {
				t.Run(part.name, func(t *testing.T) { part.run(t, tcp) })
			}
			t.Run("loss", s.testUDPOnlyLoss)
			s.onlyUDP(t)
		})
	}
}

// onlyUDP fails if sipward has connected to the PBX.
func (s *site) onlyUDP(t *testing.T) {
	t.Helper()
	out, err := s.PBX.Command("ss", "-Htan", "state", "all").Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), lab.EdgePBX.String()) {
		t.Errorf("there are connections between sipward and the PBX:\n%s", out)
	}
}

// testMixed: calls between a phone on TCP and one on UDP, both ways.
func (s *site) testMixed(t *testing.T) {
	a, b := s.registered(t, tcp, "1001", 1), s.registered(t, udp, "1002", 2)
	for _, way := range [][2]*phone.Phone{{a, b}, {b, a}} {
		out, in := talk(t, way[0], way[1])
		want(t, 200)(out.Request(within(t, patience), "INVITE", way[0].SDP()))
		want(t, 200)(in.Request(within(t, patience), "INVITE", way[1].SDP()))
		want(t, 200)(in.Bye(within(t, patience)))
		ended(t, out)
	}
}

// testUDPOnlyLoss: everything completes all the same, and no request reaches a phone twice.
func (s *site) testUDPOnlyLoss(t *testing.T) {
	callers, callees := []string{"1001", "1002", "1003", "1004", "1005"}, lab.NAT
	var phones [5][2]*phone.Phone
	for i := range phones {
		phones[i][0] = s.registered(t, tcp, callers[i], 1+i)
		phones[i][1] = s.registered(t, tcp, callees[i], 11+i)
	}
	for host, device := range map[*lab.Namespace]string{s.Edge: "pbx0", s.PBX: "eth0"} {
		stop := must[func()](t)(host.Loss(device, 10))
		defer stop()
	}
	errs := make([]error, len(phones))
	var wg sync.WaitGroup
	for i, p := range phones {
		wg.Go(func() { errs[i] = lossyLife(t.Context(), p[0], p[1]) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("pair %d: %v", i, err)
			t.Log(phones[i][0].Trace())
			t.Log(phones[i][1].Trace())
		}
		for _, p := range phones[i] {
			if n := p.Repeats(); n != 0 {
				t.Errorf("%d requests reached %s twice", n, p.AoR())
			}
		}
	}
	for _, what := range []string{"timers", "absorbed"} {
		if n := must[int64](t)(s.sipward.Count("retransmit", what)); n == 0 {
			t.Errorf("retransmit.%s is 0: nothing was lost", what)
		}
	}
	if n := must[int64](t)(s.sipward.Count("retransmit", "refused")); n != 0 {
		t.Errorf("%d requests were refused", n)
	}
}

// lossyLife is what two phones do with each other in a while.
func lossyLife(ctx context.Context, a, b *phone.Phone) error {
	ctx, cancel := context.WithTimeout(ctx, 150*time.Second)
	defer cancel()
	for i, act := range []func(context.Context, *phone.Phone, *phone.Phone) error{
		callerHangsUp, calleeHangsUp, calleeIsBusy, callerCancels,
	} {
		for _, way := range [][2]*phone.Phone{{a, b}, {b, a}} {
			if r, err := way[0].Register(ctx, 300); err != nil {
				return fmt.Errorf("REGISTER: %w", err)
			} else if r.Status() != 200 {
				return fmt.Errorf("REGISTER: %s", r.StartLine())
			}
			if err := act(ctx, way[0], way[1]); err != nil {
				return fmt.Errorf("act %d: %w", i, err)
			}
		}
	}
	return nil
}

// expect fails on another final answer. Asterisk answers a repeated BYE or CANCEL 481 when its 200 to the first one was
// lost; what was to end has ended all the same (RFC 3261 §15.1.1), as the other end must show.
func expect(what string, status int) func(*phone.Received, error) error {
	return func(r *phone.Received, err error) error {
		if err == nil && r.Status() == 481 && (what == "BYE" || what == "CANCEL") {
			return nil
		}
		if err == nil && r.Status() != status {
			err = errors.New(r.StartLine())
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
}

// lossyRing calls until it rings.
func lossyRing(ctx context.Context, a, b *phone.Phone) (out, in *phone.Call, err error) {
	if out, err = a.Call(ctx, b.AoR()); err != nil {
		return nil, nil, err
	}
	if in, err = b.Incoming(ctx); err != nil {
		return nil, nil, err
	}
	in.Ring()
	return out, in, nil // the 180 may be lost: nobody repeats it (RFC 3261 §13.3.1.1)
}

func lossyTalk(ctx context.Context, a, b *phone.Phone) (out, in *phone.Call, err error) {
	if out, in, err = lossyRing(ctx, a, b); err != nil {
		return nil, nil, err
	}
	if err := in.Answer(ctx); err != nil { // waits for the ACK
		return nil, nil, err
	}
	return out, in, expect("INVITE", 200)(out.Answered(ctx))
}

// hangUp: one end hangs up, the other hears of it.
func hangUp(ctx context.Context, one, other *phone.Call) error {
	if err := expect("BYE", 200)(one.Bye(ctx)); err != nil {
		return err
	}
	return endedWith(ctx, other, "BYE")
}

// endedWith: the call ends, or has ended, with the peer's request.
func endedWith(ctx context.Context, c *phone.Call, method string) error {
	how, err := c.WaitEnd(ctx)
	if err == nil && how != method {
		err = fmt.Errorf("the call ended with %s, not with %s", how, method)
	}
	return err
}

func callerHangsUp(ctx context.Context, a, b *phone.Phone) error {
	out, in, err := lossyTalk(ctx, a, b)
	if err != nil {
		return err
	}
	return hangUp(ctx, out, in)
}

func calleeHangsUp(ctx context.Context, a, b *phone.Phone) error {
	out, in, err := lossyTalk(ctx, a, b)
	if err != nil {
		return err
	}
	return hangUp(ctx, in, out)
}

func calleeIsBusy(ctx context.Context, a, b *phone.Phone) error {
	out, in, err := lossyRing(ctx, a, b)
	if err != nil {
		return err
	}
	in.Reject(486, "Busy Here")
	return expect("INVITE", 486)(out.Answered(ctx))
}

func callerCancels(ctx context.Context, a, b *phone.Phone) error {
	out, in, err := lossyRing(ctx, a, b)
	if err != nil {
		return err
	}
	if err := expect("CANCEL", 200)(out.Cancel(ctx)); err != nil {
		return err
	}
	if err := expect("INVITE", 487)(out.Answered(ctx)); err != nil {
		return err
	}
	return endedWith(ctx, in, "CANCEL")
}
