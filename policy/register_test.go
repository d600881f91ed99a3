package policy_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"sipward/policy"
	"sipward/policy/ban"
)

// Each row of the table of design §7: what a failure weighs.
func TestWeights(t *testing.T) {
	const (
		udp, tcp = policy.UDP, policy.TCP
		none     = policy.NonceNone
		issued   = policy.NonceIssued
		foreign  = policy.NonceForeign
		unknown  = policy.NonceUnknown
	)
	for _, tt := range []struct {
		tr               policy.Transport
		method           string
		nonce            policy.Nonce
		a                answer
		proven, unproven int
	}{
		{udp, "REGISTER", none, answer{status: 401}, 0, 0},
		{udp, "REGISTER", none, answer{status: 407}, 0, 0},
		{udp, "REGISTER", issued, answer{status: 401, stale: true}, 0, 0},
		{udp, "REGISTER", unknown, answer{status: 401, stale: true}, 0, 0},
		{udp, "REGISTER", issued, answer{status: 407, other: true}, 0, 0},
		{udp, "REGISTER", unknown, answer{status: 407, other: true}, 0, 0},
		{udp, "INVITE", issued, answer{status: 401, other: true}, 0, 0},
		{udp, "REGISTER", issued, answer{status: 401}, 1, 0},
		{udp, "REGISTER", issued, answer{status: 407}, 1, 0},
		{tcp, "REGISTER", issued, answer{status: 401}, 1, 0},
		{udp, "REGISTER", unknown, answer{status: 401}, 0, 1},
		{udp, "REGISTER", foreign, answer{status: 401}, 0, 1},
		{tcp, "REGISTER", unknown, answer{status: 401}, 0, 1},
		{tcp, "REGISTER", foreign, answer{status: 407}, 0, 1},
		{udp, "REGISTER", none, answer{status: 403}, 0, 1},
		{udp, "REGISTER", none, answer{status: 404}, 0, 1},
		{udp, "REGISTER", unknown, answer{status: 403}, 0, 1},
		{tcp, "REGISTER", none, answer{status: 403}, 1, 0},
		{tcp, "REGISTER", none, answer{status: 404}, 1, 0},
		{udp, "REGISTER", issued, answer{status: 403}, 1, 0},
		{udp, "REGISTER", issued, answer{status: 404}, 1, 0},
		{udp, "REGISTER", issued, answer{status: 500}, 0, 0},
		{udp, "REGISTER", issued, answer{status: 503}, 0, 0},
		{udp, "REGISTER", issued, answer{status: 408}, 0, 0},
		{udp, "REGISTER", issued, answer{none: true}, 0, 0},
		{udp, "REGISTER", issued, answer{status: 423}, 0, 0},
		{udp, "REGISTER", issued, answer{status: 200, expires: 60}, 0, 0},
		{udp, "REGISTER", issued, answer{status: 100}, 0, 0},
		{udp, "INVITE", issued, answer{status: 407}, 1, 0},
		{udp, "INVITE", unknown, answer{status: 407}, 0, 1},
		{udp, "INVITE", none, answer{status: 407}, 0, 0},
		{udp, "INVITE", issued, answer{status: 403}, 0, 0},
		{tcp, "INVITE", issued, answer{status: 404}, 0, 0},
		{udp, "INVITE", issued, answer{status: 486}, 0, 0},
		{udp, "INVITE", issued, answer{status: 603}, 0, 0},
		{udp, "SUBSCRIBE", issued, answer{status: 401}, 1, 0},
	} {
		name := fmt.Sprintf("%v %s with nonce %v answered %+v", tt.tr, tt.method, tt.nonce, tt.a)
		s := newSim(t, simConfig())
		s.pbx = func(*msg) answer { return tt.a }
		m := msg{src: "192.0.2.1:5060", tr: tt.tr, method: tt.method, account: "a@x", nonce: tt.nonce}
		if tt.nonce != none {
			m.secret = "wrong"
		}
		m.tx = s.newTx()
		for range 3 { // retransmissions count once
			s.ask(m)
		}
		proven, unproven := 0, 0
		for _, c := range s.e.Explain(netip.MustParseAddr("192.0.2.1"), s.now).Counts {
			switch c.What {
			case "failures":
				proven = c.Count
			case "failures that may be forged":
				unproven = c.Count
			}
		}
		if proven != tt.proven || unproven != tt.unproven {
			t.Errorf("%s weighs %d proven, %d unproven, want %d, %d", name, proven, unproven, tt.proven, tt.unproven)
		}
	}
}

// guess lets an attacker guess at a rate, and returns how many answers to a
// guess he got.
func (s *sim) guess(tr policy.Transport, src string, perSecond float64, n int, latency time.Duration) (answers int) {
	registrar := s.pbx
	s.pbx = func(m *msg) answer {
		a := registrar(m)
		a.after = latency
		return a
	}
	defer func() { s.pbx = registrar }()
	for i := range n {
		s.after(time.Duration(float64(i)*float64(time.Second)/perSecond), func() {
			m := msg{src: src, tr: tr, method: "REGISTER", account: "100@x", secret: fmt.Sprint("guess ", i), nonce: policy.NonceIssued}
			s.send(m, func(f fate) {
				if f.status == 401 {
					answers++
				}
			})
		})
	}
	s.run(time.Duration(float64(n)/perSecond*float64(time.Second)) + 10*time.Second)
	return answers
}

func TestGuesserGetsExactlyHitCountAnswers(t *testing.T) {
	for _, tr := range []policy.Transport{policy.UDP, policy.TCP} {
		for _, rate := range []float64{1, 10, 500} {
			for _, latency := range []time.Duration{0, 20 * time.Millisecond, time.Second, 3 * time.Second} {
				s := newSim(t, simConfig())
				src := "192.0.2.1:5060"
				got := s.guess(tr, src, rate, int(rate)*60, latency)
				if reached := s.guesses[netip.MustParseAddr("192.0.2.1")]; got != hitCount || reached != hitCount {
					t.Errorf("%v, %v/s, %v: %d answers, %d guesses reached the PBX, want %d", tr, rate, latency, got, reached, hitCount)
				}
				if r := s.banned("192.0.2.1"); r == nil || !r.Proven || r.Reason != "register" || r.Blocks != 1 {
					t.Errorf("%v, %v/s, %v: the ban is %+v", tr, rate, latency, r)
				}
				if n := s.notices(policy.NoticeBan); n != 1 {
					t.Errorf("%d notices of the ban", n)
				}
			}
		}
	}
}

// Who goes on after each block is shut out for ever after the fifth.
func TestLadder(t *testing.T) {
	s := newSim(t, simConfig())
	addr := netip.MustParseAddr("192.0.2.1")
	for block := 1; block <= 5; block++ {
		if n := s.guess(policy.UDP, "192.0.2.1:5060", 10, 100, 0); n != hitCount {
			t.Fatalf("round %d: %d answers", block, n)
		}
		r := s.banned("192.0.2.1")
		if r == nil || r.Blocks != block || (r.Kind == ban.Permanent) != (block == 5) {
			t.Fatalf("round %d: the ban is %+v", block, r)
		}
		s.run(time.Hour + time.Second)
	}
	if n := s.guess(policy.UDP, "192.0.2.1:5060", 10, 100, 0); n != 0 || s.guesses[addr] != 5*hitCount {
		t.Errorf("%d answers after the last round, %d guesses in all", n, s.guesses[addr])
	}
}

// A short block is over when it is over, even within the monitoring period.
func TestBlockShorterThanThePeriod(t *testing.T) {
	cfg := simConfig()
	cfg.Register.BlockTime = 5 * time.Second
	s := newSim(t, cfg)
	s.e.Gate()
	for range 3 {
		if n := s.guess(policy.UDP, "192.0.2.1:5060", 100, 100, 0); n != hitCount {
			t.Fatalf("%d answers", n)
		}
	}
}

// After an unban the source may try again, from the start.
func TestUnbanned(t *testing.T) {
	for _, forgive := range []bool{true, false} {
		s := newSim(t, simConfig())
		s.guess(policy.UDP, "192.0.2.1:5060", 100, 100, 0)
		addr := netip.MustParseAddr("192.0.2.1")
		if _, err := s.bans.Remove(netip.PrefixFrom(addr, 32), s.now); err != nil {
			t.Fatal(err)
		}
		if forgive {
			s.e.Forgive(addr)
		}
		if n := s.guess(policy.UDP, "192.0.2.1:5060", 100, 100, 0); n != hitCount {
			t.Errorf("forgiven %v: %d answers after the ban was lifted", forgive, n)
		}
	}
}

// Slow guesses within the limit are nobody's business; the count is of any
// minute, not of one by the clock.
func TestMonitPeriodSlides(t *testing.T) {
	s := newSim(t, simConfig())
	if s.guess(policy.UDP, "192.0.2.1:5060", 0.14, 200, 0); s.banned("192.0.2.1") != nil {
		t.Error("a guess each seven seconds got a ban")
	}
	s.run(time.Hour)
	one := func() {
		s.ask(msg{src: "192.0.2.2:5060", method: "REGISTER", account: "a@x", secret: fmt.Sprint(s.now), nonce: policy.NonceIssued})
	}
	one()
	s.run(58 * time.Second)
	for range 4 {
		one()
		s.run(100 * time.Millisecond)
	}
	s.run(2 * time.Second)
	for range 5 {
		one()
		s.run(100 * time.Millisecond)
	}
	if s.banned("192.0.2.2") != nil {
		t.Error("nine within a minute got a ban")
	}
	if one(); s.banned("192.0.2.2") == nil {
		t.Error("ten within four seconds got none")
	}
}

// With one password right, an attacker does not get rid of the failures for the
// other accounts.
func TestSuccessClearsOneAccountOnly(t *testing.T) {
	s := newSim(t, simConfig())
	m := msg{src: "192.0.2.1:5060", method: "REGISTER", account: "a@x", nonce: policy.NonceIssued}
	fail := func(account string) {
		m.account, m.secret = account, fmt.Sprint("wrong ", s.newTx())
		s.ask(m)
	}
	for range 5 {
		fail("own@x")
	}
	for range 4 {
		fail("victim@x")
	}
	s.pbx = func(m *msg) answer {
		if m.secret == "right" {
			return answer{status: 200} // it unregisters at once: no standing
		}
		return s.registrar(m)
	}
	s.ask(msg{src: m.src, method: "REGISTER", account: "own@x", secret: "right", nonce: policy.NonceIssued})
	for range 5 {
		fail("victim@x")
	}
	if s.banned("192.0.2.1") != nil {
		t.Error("banned after nine failures that count")
	}
	if fail("victim@x"); s.banned("192.0.2.1") == nil {
		t.Error("not banned after ten")
	}
}

// Guesses that hide behind one transaction are guesses all the same.
func TestOneBranchForAllGuesses(t *testing.T) {
	s := newSim(t, simConfig())
	tx, answers := s.newTx(), 0
	for i := range 100 {
		f := s.ask(msg{src: "192.0.2.1:5060", tr: policy.TCP, method: "REGISTER", account: "a@x", secret: fmt.Sprint(i), nonce: policy.NonceIssued, tx: tx})
		if f.status == 401 {
			answers++
		}
	}
	if answers != hitCount || s.banned("192.0.2.1") == nil {
		t.Errorf("%d answers", answers)
	}
}

// A PBX that is slow or dead punishes nobody.
func TestPBXInTrouble(t *testing.T) {
	for name, a := range map[string]answer{
		"503": {status: 503}, "500": {status: 500}, "408": {status: 408}, "nothing": {none: true}, "503 late": {status: 503, after: 5 * time.Second},
	} {
		s := newSim(t, simConfig())
		s.pbx = func(*msg) answer { return a }
		for phone := range 50 {
			for try := range 20 {
				s.after(time.Duration(try)*4*time.Second+time.Duration(phone)*10*time.Millisecond, func() {
					m := msg{src: "192.0.2.1:5060", method: "REGISTER", account: fmt.Sprintf("%d@x", phone)}
					s.send(m, nil)
					m.secret, m.nonce = "right", policy.NonceIssued
					s.send(m, nil)
				})
			}
		}
		s.run(2 * time.Minute)
		s.noBans()
		if len(s.told) != 0 {
			t.Errorf("%s: told %q", name, s.told[0].Text)
		}
		s.pbx = s.registrar
		if f := s.register("192.0.2.1:5060", "1@x"); f.status != 200 {
			t.Errorf("%s: when the PBX is back, a phone gets %+v", name, f)
		}
	}
}
