//go:build linux

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

// testLoss: a tenth of everything is lost on both links, in both directions, and every phone registers and every call
// completes all the same, because phones and PBX repeat what has not been answered. On the way through sipward and back a
// third of all exchanges fail. A request other than INVITE is sent eleven times (timer F: one in 100,000 fails). An INVITE is
// sent seven times at most (timer B), which would fail once in 2,000; but once one has reached the PBX, which repeats its
// final answer by itself until the ACK, 0.19⁷ is left of that. Kamailio's usual challenge is the exception: it is stateless,
// and repeated for a repeated INVITE only; so here it has to be stateful.
func (s *site) testLoss(t *testing.T, w wire) {
	const calls = 7
	callers := []string{"1001", "1002", "1003", "1004", "1005", "1008", "1009"}
	callees := lab.NAT
	var phones [calls][2]*phone.Phone
	for i := range calls {
		phones[i][0] = s.registered(t, w, callers[i], 1+i)
		phones[i][1] = s.registered(t, w, callees[i%len(callees)], 11+i%len(callees))
		if i >= len(callees) {
			phones[i][1] = phones[i%len(callees)][1]
		}
	}
	if k, ok := s.pbx.(*lab.Kamailio); ok {
		if err := k.SetMood(lab.Stateful, true); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = k.SetMood(lab.Stateful, false) }()
	}
	for _, host := range []*lab.Namespace{s.WAN, s.Edge, s.PBX} {
		stop := must[func()](t)(host.Loss("", 10))
		defer stop()
	}
	for _, p := range phones[:len(callees)] {
		s.answerAll(t, p[1])
	}
	errs := make([]error, calls)
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() { errs[i] = lossyCall(t.Context(), phones[i][0], phones[i][1]) })
	}
	wg.Wait()
	var failed []error
	for i, err := range errs {
		if err != nil {
			failed = append(failed, fmt.Errorf("call %d: %w", i, err))
			t.Log(phones[i][0].Trace())
			t.Log(phones[i][1].Trace())
		}
	}
	if len(failed) > 0 {
		t.Errorf("%d of %d calls failed under loss: %v", len(failed), calls, errors.Join(failed...))
	}
}

// lossyCall registers again, calls, changes the call, and hangs up.
func lossyCall(ctx context.Context, caller, callee *phone.Phone) error {
	ctx, cancel := context.WithTimeout(ctx, 75*time.Second)
	defer cancel()
	check := func(what string, r *phone.Received, err error) error {
		if err == nil && r.Status() != 200 {
			err = errors.New(r.StartLine())
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	r, err := caller.Register(ctx, 300)
	if err := check("REGISTER", r, err); err != nil {
		return err
	}
	c, err := caller.Call(ctx, callee.AoR())
	if err != nil {
		return err
	}
	r, err = c.Answered(ctx)
	if err := check("INVITE", r, err); err != nil {
		return err
	}
	r, err = c.Request(ctx, "INVITE", caller.SDP())
	for err == nil && r.Status() == 491 { // the ACK before it was lost; a phone tries again after a while (RFC 3261 §14.1)
		select {
		case <-time.After(2100 * time.Millisecond):
		case <-ctx.Done():
		}
		r, err = c.Request(ctx, "INVITE", caller.SDP())
	}
	if err := check("re-INVITE", r, err); err != nil {
		return err
	}
	r, err = c.Bye(ctx)
	if err == nil && r.Status() == 481 { // the 200s to the first BYEs were lost, and the call is over all the same (§15.1.1)
		return nil
	}
	return check("BYE", r, err)
}
