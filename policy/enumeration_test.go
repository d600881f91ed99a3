package policy_test

import (
	"fmt"
	"testing"
	"time"

	"sipward/policy"
)

// scan lets somebody look for accounts, and returns how many answers he got.
func (s *sim) scan(m msg, perSecond float64, n int) (answers int) {
	for i := range n {
		s.after(time.Duration(float64(i)*float64(time.Second)/perSecond), func() {
			m := m
			if m.method == "OPTIONS" {
				m.target = fmt.Sprintf("%d@x", 100+i)
			} else {
				m.account = fmt.Sprintf("%d@x", 100+i)
			}
			s.send(m, func(f fate) {
				if f.status != 0 {
					answers++
				}
			})
		})
	}
	s.run(time.Duration(float64(n) / perSecond * float64(time.Second)))
	return answers
}

func TestEnumeration(t *testing.T) {
	for _, tt := range []struct {
		name        string
		m           msg
		a           answer
		rate        float64
		least, most int // answers; 0: no ban
		proven      bool
	}{
		{"REGISTER, slow", msg{method: "REGISTER"}, answer{status: 401}, 1, 15, 17, false},
		{"REGISTER, fast", msg{method: "REGISTER"}, answer{status: 401}, 500, 115, 115, false},
		{"REGISTER over TCP", msg{method: "REGISTER", tr: policy.TCP}, answer{status: 401}, 1, 15, 17, true},
		{"REGISTER, within the limit", msg{method: "REGISTER"}, answer{status: 401}, 0.2, 0, 0, false},
		{"REGISTER, answered 404", msg{method: "REGISTER", tr: policy.TCP}, answer{status: 404}, 1, 10, 10, true}, // the register guard is first
		{"INVITE", msg{method: "INVITE"}, answer{status: 407}, 1, 15, 17, false},
		{"SUBSCRIBE", msg{method: "SUBSCRIBE"}, answer{status: 401}, 10, 15, 40, false},
		{"MESSAGE answered 404", msg{method: "MESSAGE"}, answer{status: 404}, 1, 15, 17, false},
		{"OPTIONS", msg{method: "OPTIONS", account: "a@x"}, answer{status: 200}, 1, 15, 17, false},
		{"OPTIONS, fast", msg{method: "OPTIONS", account: "a@x"}, answer{status: 404}, 500, 115, 115, false},
		{"OPTIONS when the PBX has trouble", msg{method: "OPTIONS", account: "a@x"}, answer{status: 503}, 1, 0, 0, false},
		{"calls to busy numbers from many callers", msg{method: "INVITE"}, answer{status: 486}, 10, 0, 0, false},
		{"calls that are not answered", msg{method: "INVITE"}, answer{status: 480}, 10, 0, 0, false},
		{"calls that are accepted", msg{method: "INVITE"}, answer{status: 200}, 10, 0, 0, false},
		{"anything when the PBX is down", msg{method: "REGISTER"}, answer{none: true}, 10, 0, 0, false},
	} {
		s := newSim(t, simConfig())
		s.pbx = func(*msg) answer { return tt.a }
		tt.m.src = "192.0.2.1:5060"
		n := int(tt.rate * 55)
		got := s.scan(tt.m, tt.rate, n)
		r := s.banned("192.0.2.1")
		switch {
		case tt.least == 0 && r != nil:
			t.Errorf("%s: banned for %s, %s", tt.name, r.Reason, r.Comment)
		case tt.least > 0 && (r == nil || got < tt.least || got > tt.most):
			t.Errorf("%s: %d answers, want %d to %d; the ban is %+v", tt.name, got, tt.least, tt.most, r)
		case r != nil && r.Proven != tt.proven:
			t.Errorf("%s: proven is %v", tt.name, r.Proven)
		}
	}
}

// Who has a valid account may not look for others, either.
func TestEnumerationInGoodStanding(t *testing.T) {
	s := newSim(t, simConfig())
	s.register("192.0.2.1:5060", "own@x")
	// Phones that are asked for their password are no enumeration.
	s.scan(msg{src: "192.0.2.1:5060", method: "REGISTER"}, 10, 500)
	s.noBans()
	// Nor are failures that may be forged.
	s.scan(msg{src: "192.0.2.1:5060", method: "REGISTER", secret: "wrong", nonce: policy.NonceUnknown}, 10, 500)
	s.noBans()
	s.scan(msg{src: "192.0.2.1:5060", method: "REGISTER", secret: "wrong", nonce: policy.NonceIssued}, 1, 60)
	r := s.banned("192.0.2.1")
	if r == nil || r.Reason != "enumeration" || !r.Proven {
		t.Errorf("the ban is %+v", r)
	}
	// A trunk never.
	s.scan(msg{src: "192.0.2.241:5060", tr: policy.TCP, method: "REGISTER", secret: "wrong", nonce: policy.NonceIssued}, 1, 60)
	if s.banned("192.0.2.241") != nil {
		t.Error("a trunk was banned")
	}
}

// One account is attacked from two hundred sources while its owner keeps
// registering.
func TestManySourcesOneAccount(t *testing.T) {
	s := newSim(t, simConfig())
	const owner = "203.0.113.5:5060"
	if s.register(owner, "100@x").status != 200 {
		t.Fatal("the owner cannot register")
	}
	reached, refused, kept := 0, 0, 0
	for i := range 200 {
		src := fmt.Sprintf("198.51.100.%d:5060", i+1)
		s.ask(msg{src: src, method: "REGISTER", account: "100@x"})
		f := s.ask(msg{src: src, method: "REGISTER", account: "100@x", secret: fmt.Sprint(i), nonce: policy.NonceIssued})
		switch {
		case f.status == 401:
			reached++
		case f.Reason == policy.ReasonKnownPlaces && f.Code == 503 && f.RetryAfter == 60:
			refused++
		}
		if i%5 == 0 && s.register(owner, "100@x").status == 200 {
			kept++
		}
		s.run(time.Second)
	}
	if reached != 21 || refused != 179 || kept != 40 {
		t.Errorf("%d wrong passwords reached the PBX, %d were refused, the owner registered %d of 40 times", reached, refused, kept)
	}
	s.noBans()
	if n := s.notices(policy.NoticeKnownPlaces); n != 1 || len(s.e.KnownPlaces()) != 1 {
		t.Errorf("%d notices, in the mode are %v", n, s.e.KnownPlaces())
	}
	// Another account is not concerned.
	if s.register("198.51.100.250:5060", "200@x").status != 200 {
		t.Error("another account is refused")
	}
	// A spelling that a registrar takes for the same is the same.
	if f := s.ask(msg{src: "198.51.100.251:5060", method: "REGISTER", account: "%31%30%30@X", secret: "1", nonce: policy.NonceIssued}); f.Reason != policy.ReasonKnownPlaces {
		t.Errorf("written otherwise: %+v", f)
	}
	// The owner is on the road; he has to wait until it has been calm for a while.
	const road = "203.0.113.77:5060"
	if f := s.register(road, "100@x"); f.Reason != policy.ReasonKnownPlaces {
		t.Errorf("from a new place: %+v", f)
	}
	for range 10 {
		s.run(time.Minute)
		s.register(road, "100@x")
		s.register(owner, "100@x")
	}
	if f := s.register(road, "100@x"); f.status != 200 {
		t.Errorf("from a new place when it is calm: %+v", f)
	}
	s.run(time.Second)
	if s.notices(policy.NoticeCalm) != 1 || len(s.e.KnownPlaces()) != 0 {
		t.Errorf("%d notices of the end, in the mode are %v", s.notices(policy.NoticeCalm), s.e.KnownPlaces())
	}
}

// Once an attack has been real, requests in the names of others do not prolong it: the owner is let in from a new place when
// it has been calm for as long as the configuration says.
func TestForgedDoNotProlongKnownPlaces(t *testing.T) {
	s := newSim(t, simConfig())
	guess := func(i int) fate {
		src := fmt.Sprintf("198.51.100.%d:5060", i%250+1)
		s.ask(msg{src: src, method: "REGISTER", account: "100@x"})
		return s.ask(msg{src: src, method: "REGISTER", account: "100@x", secret: fmt.Sprint(i), nonce: policy.NonceIssued})
	}
	// As long as the attack goes on, not one guess more is answered, however long that is.
	reached := 0
	for i := range 1800 {
		if guess(i).status == 401 {
			reached++
		}
		s.run(time.Second)
	}
	if reached != 21 {
		t.Errorf("%d guesses reached the PBX within half an hour", reached)
	}
	const road = "203.0.113.77:5060"
	if f := s.register(road, "100@x"); f.Reason != policy.ReasonKnownPlaces {
		t.Fatalf("from a new place: %+v", f)
	}
	for i := range 630 {
		src := fmt.Sprintf("198.51.%d.%d:5060", 101+i%100, i%250+1)
		s.ask(msg{src: src, method: "REGISTER", account: "100@x"})
		s.ask(msg{src: src, method: "INVITE", account: "100@x"})
		s.ask(msg{src: src, method: "INVITE", account: "100@x", inside: true, proven: true})
		for _, nonce := range []policy.Nonce{policy.NonceUnknown, policy.NonceForeign} {
			if f := s.ask(msg{src: src, method: "REGISTER", account: "100@x", secret: "made up", nonce: nonce}); i < 550 && f.status == 401 {
				t.Fatalf("after %d s a guess is answered: %+v", i, f)
			}
		}
		s.run(time.Second)
	}
	if f := s.register(road, "100@x"); f.status != 200 {
		t.Errorf("from a new place when all that comes is forged: %+v", f)
	}
}

// A call that is up goes on wherever it is made from, whatever happens to its account.
func TestKnownPlacesSpareCalls(t *testing.T) {
	s := newSim(t, simConfig())
	for i := range 40 {
		s.ask(msg{src: fmt.Sprintf("198.51.100.%d:5060", i+1), method: "REGISTER", account: "100@x", secret: fmt.Sprint(i), nonce: policy.NonceIssued})
	}
	const road = "203.0.113.77:5060" // it calls and does not register
	for _, method := range []string{"INVITE", "UPDATE", "PRACK", "INFO", "BYE", "ACK"} {
		if f := s.ask(msg{src: road, method: method, account: "100@x", inside: true, proven: true}); f.Verdict != policy.Pass {
			t.Errorf("%s inside a call: %+v", method, f)
		}
		if f := s.ask(msg{src: road, method: method, account: "100@x", inside: true}); f.Verdict != policy.Reject && method != "BYE" && method != "ACK" {
			t.Errorf("%s with a made-up tag: %+v", method, f)
		}
	}
	if f := s.ask(msg{src: road, method: "REGISTER", account: "100@x", secret: "1", nonce: policy.NonceIssued, inside: true, proven: true}); f.Reason != policy.ReasonKnownPlaces {
		t.Errorf("REGISTER with a tag: %+v", f)
	}
}

// A source in good standing that is found enumerating, and is not banned because that is not
// the action, can end and go on with its calls, those of accounts that never registered, too.
func TestEnumerationSparesCalls(t *testing.T) {
	cfg := simConfig()
	cfg.Enumeration.Action = policy.Action{Kind: policy.ActionDrop}
	s := newSim(t, cfg)
	const office = "203.0.113.5:5060"
	if s.register(office, "100@x").status != 200 {
		t.Fatal("the office cannot register")
	}
	s.scan(msg{src: office, tr: policy.TCP, method: "REGISTER", secret: "wrong", nonce: policy.NonceIssued}, 1, 30)
	if f := s.ask(msg{src: office, method: "REGISTER", account: "777@x"}); f.Reason != policy.ReasonEnumeration {
		t.Fatalf("it is not refused: %+v", f)
	}
	for _, method := range []string{"INVITE", "BYE", "ACK"} {
		if f := s.ask(msg{src: office, method: method, account: "888@x", inside: true, proven: true}); f.Verdict != policy.Pass {
			t.Errorf("%s inside a call: %+v", method, f)
		}
	}
}

// Failures that anybody can have forged keep nobody out of his account: its owner may be
// at a new place.
func TestForgedSourcesOneAccount(t *testing.T) {
	s := newSim(t, simConfig())
	honest := s.pbx
	s.pbx = func(m *msg) answer {
		if m.account == "gone@x" {
			return answer{status: 404}
		}
		return honest(m)
	}
	attack := func(tr policy.Transport) {
		for i := range 60 {
			src := fmt.Sprintf("198.51.100.%d:5060", i+1)
			s.ask(msg{src: src, tr: tr, method: "REGISTER", account: "100@x", secret: "made up", nonce: policy.NonceUnknown})
			s.ask(msg{src: src, tr: tr, method: "REGISTER", account: "gone@x"})
		}
	}
	attack(policy.UDP)
	if all := s.e.KnownPlaces(); len(all) != 0 {
		t.Errorf("because of forged sources, in the mode are %v", all)
	}
	if f := s.register("203.0.113.77:5060", "100@x"); f.status != 200 {
		t.Errorf("the owner from a new place: %+v", f)
	}
	// Over connections the sources are real, whatever nonce they make up.
	attack(policy.TCP)
	if all := s.e.KnownPlaces(); len(all) != 2 {
		t.Errorf("because of real sources, in the mode are %v", all)
	}
}

// The owner who mistypes his password at home does not count as an attacker, and
// trunks and allowed sources are let in.
func TestKnownPlacesExemptions(t *testing.T) {
	s := newSim(t, simConfig())
	for i := range 40 {
		src := fmt.Sprintf("198.51.100.%d:5060", i+1)
		s.register(src, "100@x")
		s.ask(msg{src: src, method: "REGISTER", account: "100@x", secret: "typo", nonce: policy.NonceIssued})
	}
	if len(s.e.KnownPlaces()) != 0 {
		// 32 places are remembered of an account, so a few are new again.
		t.Errorf("in the mode: %v", s.e.KnownPlaces())
	}
	for i := range 30 {
		s.ask(msg{src: fmt.Sprintf("203.0.113.%d:5060", i+1), method: "REGISTER", account: "200@x", secret: "typo", nonce: policy.NonceIssued})
	}
	for _, src := range []string{"192.0.2.241:5060", "192.0.2.250:5060"} {
		if f := s.ask(msg{src: src, method: "INVITE", account: "200@x"}); f.Verdict != policy.Pass {
			t.Errorf("%s: %+v", src, f)
		}
	}
	for _, method := range []string{"ACK", "BYE", "CANCEL"} {
		if f := s.ask(msg{src: "203.0.113.99:5060", method: method, account: "200@x", inside: true}); f.Verdict != policy.Pass {
			t.Errorf("%s: %+v", method, f)
		}
	}
}
