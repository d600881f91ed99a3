package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/emiago/sipgo/sip"

	"sipward/cmd/sipward/internal/demo/phone"
)

// result is what the actors saw; what sipward did is in the view's tallies.
type result struct {
	spoken, heard             int
	guesses, refused          int
	probes, probeAnswers      int
	burst                     int
	deniedSent, deniedAnswers int
}

// breath is the pause between acts: the view is to be read.
const breath = 300 * time.Millisecond

// actTime bounds an act, so that the round is over within ten seconds whatever happens.
const actTime = 4 * time.Second

// round plays the scripted round.
func (s *stage) round(ctx context.Context) error {
	var r result
	good, err := phone.Listen(phone.Config{
		Local: addrGood, Server: s.edge, User: s.accounts[0].User, Password: s.accounts[0].Password,
	})
	if err != nil {
		return fmt.Errorf("make the good phone: %w", err)
	}
	err = s.perform(ctx, good, &r)
	return errors.Join(err, good.Close())
}

func (s *stage) perform(ctx context.Context, good *phone.Phone, r *result) error {
	for _, act := range []struct {
		title string
		play  func(context.Context) error
	}{
		{"A good phone registers, calls " + echoNumber + ", listens to itself and hangs up.", func(ctx context.Context) error { return goodPhone(ctx, good, r) }},
		{"A guesser tries passwords for " + s.accounts[0].User + ".", func(ctx context.Context) error { return s.guess(ctx, r) }},
		{"A scanner looks around.", func(ctx context.Context) error { return s.scan(ctx, r) }},
		{"A broken device sends something malformed, then far too much.", func(ctx context.Context) error { return s.broken(ctx, r) }},
		{"An address on the deny list tries to call abroad.", func(ctx context.Context) error { return s.denied(ctx, r) }},
		{"The good phone registers again; nothing of that has touched it.", func(ctx context.Context) error { return again(ctx, good) }},
	} {
		s.view.Act(act.title)
		actCtx, cancel := context.WithTimeout(ctx, actTime)
		err := act.play(actCtx)
		cancel()
		if err != nil {
			return err
		}
		if err := pause(ctx, breath); err != nil {
			return err
		}
	}
	s.view.Act("That was the round.")
	s.summary(*r)
	return nil
}

func goodPhone(ctx context.Context, p *phone.Phone, r *result) error {
	if err := register(ctx, p, 5*time.Minute); err != nil {
		return err
	}
	call, err := p.Call(ctx, echoNumber)
	if err != nil {
		return fmt.Errorf("the good phone's call: %w", err)
	}
	r.spoken = 25
	r.heard, err = call.Speak(ctx, r.spoken)
	if err = errors.Join(err, call.HangUp(ctx)); err != nil {
		return fmt.Errorf("the good phone's call: %w", err)
	}
	return nil
}

func register(ctx context.Context, p *phone.Phone, d time.Duration) error {
	res, err := p.Register(ctx, d)
	if err != nil {
		return fmt.Errorf("the good phone: %w", err)
	}
	if res.StatusCode != sip.StatusOK {
		return fmt.Errorf("the good phone was refused with %d %s", res.StatusCode, res.Reason)
	}
	return nil
}

// again: the registration is renewed, and ended, because the user may want the account.
func again(ctx context.Context, p *phone.Phone) error {
	if err := register(ctx, p, 5*time.Minute); err != nil {
		return err
	}
	return register(ctx, p, 0)
}
