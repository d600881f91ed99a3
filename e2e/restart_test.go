//go:build linux

package e2e_test

import (
	"testing"
	"time"

	"sipward/e2e/phone"
)

// testRestart: sipward is killed in mid-call and started again. It keeps nothing that a call needs, so both calls end as
// if nothing had happened, one by the caller, one by the callee.
func (s *site) testRestart(t *testing.T, w wire) {
	if direct {
		t.Skip("there is no sipward to restart")
	}
	if w.over.Connected() {
		s.testReconnect(t, w)
		return
	}
	a, b := s.pair(t, w)
	c, d := s.registered(t, w, "1003", 3), s.registered(t, w, "1004", 4)
	out1, in1 := talk(t, a, b)
	out2, in2 := talk(t, c, d)
	ringing, atRinging := ring(t, a, d)
	s.sipward.KillHard()
	// Sent while nobody is there: the phone repeats it until somebody is.
	type answer struct {
		r   *phone.Received
		err error
	}
	early := make(chan answer, 1)
	go func() {
		r, err := out1.Bye(within(t, 2*patience))
		early <- answer{r, err}
	}()
	s.sipward.Restart(t)
	first := <-early
	want(t, 200)(first.r, first.err)
	ended(t, in1)
	want(t, 200)(in2.Bye(within(t, patience)))
	ended(t, out2)
	// A call that was ringing is answered through the new process, which has never seen its INVITE.
	if err := atRinging.Answer(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	want(t, 200)(ringing.Answered(within(t, patience)))
	want(t, 200)(ringing.Bye(within(t, patience)))
	ended(t, atRinging)
}

// testReconnect: the phones' connections are gone with sipward. As soon as they have connected again, and registered as
// phones do, their calls can be ended from both sides, though the routes of those calls name connections of the dead.
func (s *site) testReconnect(t *testing.T, w wire) {
	a, b := s.pair(t, w)
	c, d := s.registered(t, w, "1003", 3), s.registered(t, w, "1004", 4)
	out1, in1 := talk(t, a, b)
	out2, in2 := talk(t, c, d)
	s.sipward.KillHard()
	for _, p := range []*phone.Phone{a, b, c, d} {
		if w.over == phone.DTLS {
			continue // nobody tells it; it finds out when nothing is answered
		}
		select {
		case <-p.Lost():
		case <-time.After(patience):
			t.Fatal("a phone's connection outlived sipward")
		}
	}
	s.sipward.Restart(t)
	for _, p := range []*phone.Phone{a, b, c, d} {
		if err := p.Reconnect(); err != nil {
			t.Fatal(err)
		}
		want(t, 200)(p.Register(within(t, patience), 300))
	}
	want(t, 200)(out1.Bye(within(t, patience)))
	ended(t, in1)
	want(t, 200)(in2.Bye(within(t, patience)))
	ended(t, out2)
	// The bindings from before the restart are dead; those who call must find the new ones. (The PBX calls every contact of
	// b; of c and d it calls one, which may be the dead one.)
	out3, in3 := talk(t, a, b)
	if calls, merged := b.Waiting(); calls+merged > 0 {
		t.Errorf("the phone was called %d times more on its old contact, whose connection is gone", calls+merged)
	}
	want(t, 200)(out3.Bye(within(t, patience)))
	ended(t, in3)
	for _, p := range []*phone.Phone{a, b, c, d} {
		want(t, 200)(p.Do(within(t, patience), p.Registration(0, "*")))
	}
}
