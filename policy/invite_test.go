package policy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sipward/policy"
)

// Sixty calls at once with a limit of thirty.
func TestInviteLimit(t *testing.T) {
	for _, tt := range []struct {
		src    string
		passed int
	}{{"192.0.2.1:5060", 30}, {"192.0.2.241:5060", 60}, {"192.0.2.250:5060", 60}} {
		s := newSim(t, simConfig())
		s.pbx = func(*msg) answer { return answer{status: 200, after: 10 * time.Second} }
		passed, refused, retry := 0, 0, 0
		var txs []uint64
		for range 60 {
			m := msg{src: tt.src, method: "INVITE", account: "1@x", tx: s.newTx()}
			txs = append(txs, m.tx)
			f := fate{}
			s.send(m, func(got fate) { f = got })
			s.run(time.Millisecond)
			switch {
			case f.Verdict == policy.Pass:
				passed++
			case f.Reason == policy.ReasonInviteLimit && f.Code == 503 && f.RetryAfter > 0:
				refused++
			}
		}
		for _, tx := range txs { // retransmissions: the same fate, and no count
			s.send(msg{src: tt.src, method: "INVITE", account: "1@x", tx: tx}, func(f fate) {
				if f.Reason == policy.ReasonInviteLimit {
					retry++
				}
			})
		}
		if passed != tt.passed || refused != 60-tt.passed || retry != refused {
			t.Errorf("%s: %d passed, %d refused, %d of the repeated ones", tt.src, passed, refused, retry)
		}
		s.noBans()
		want := 0
		if tt.passed < 60 {
			want = 1
		}
		if n := s.notices(policy.NoticeInviteLimit); n != want {
			t.Errorf("%s: %d notices", tt.src, n)
		}
		if want == 1 {
			c := s.told[0].Commands
			if !slices.Contains(c, "sipward ban 192.0.2.1") || !strings.Contains(strings.Join(c, "\n"), "invite.rate_limit") {
				t.Errorf("the notice offers %q", c)
			}
		}
		s.run(time.Minute)
		if f := s.ask(msg{src: tt.src, method: "INVITE", account: "1@x"}); f.Verdict != policy.Pass {
			t.Errorf("when they are answered: %+v", f)
		}
	}
}

// Calls inside a dialog, and calls that were given up, do not count.
func TestInviteLimitCountsCallsBeingSetUp(t *testing.T) {
	cfg := simConfig()
	cfg.Invite.RateLimit = 2
	s := newSim(t, cfg)
	status := 487
	s.pbx = func(*msg) answer { return answer{status: status} }
	for range 10 {
		if f := s.ask(msg{src: "192.0.2.1:5060", method: "INVITE", account: "1@x"}); f.Verdict != policy.Pass {
			t.Fatalf("%+v", f)
		}
	}
	s.pbx = func(*msg) answer { return answer{none: true} }
	for range 10 {
		if f := s.ask(msg{src: "192.0.2.1:5060", method: "INVITE", inside: true, account: "1@x"}); f.Verdict != policy.Pass {
			t.Fatalf("inside a dialog: %+v", f)
		}
	}
	for i := range 3 {
		if f := s.ask(msg{src: "192.0.2.1:5060", method: "INVITE", account: "1@x"}); (f.Verdict != policy.Pass) != (i == 2) {
			t.Fatalf("call %d: %+v", i, f)
		}
	}
	s.run(193 * time.Second) // timer C
	if f := s.ask(msg{src: "192.0.2.1:5060", method: "INVITE", account: "1@x"}); f.Verdict != policy.Pass {
		t.Errorf("after three minutes: %+v", f)
	}
}

// The limit holds when the clock was set back: what was counted before is forgotten, and
// nothing of what comes after.
func TestInviteLimitAfterClockSetBack(t *testing.T) {
	s := newSim(t, simConfig())
	s.pbx = func(*msg) answer { return answer{none: true} }
	invite := func(n int) (passed int) {
		for range n {
			if f := s.ask(msg{src: "192.0.2.1:5060", method: "INVITE", account: "1@x", tx: s.newTx()}); f.Verdict == policy.Pass {
				passed++
			}
		}
		return passed
	}
	if n := invite(60); n != 30 {
		t.Fatalf("%d passed", n)
	}
	s.now -= int64(24 * time.Hour)
	if n := invite(60); n != 30 {
		t.Errorf("a day back %d of 60 passed, want 30", n)
	}
}
