package policy_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sipward/policy"
	"sipward/policy/ban"
	"sipward/policy/scanner"
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
	if f := s.ask(msg{src: "198.51.100.251:5060", method: "REGISTER", account: "%31%30%30@X"}); f.Reason != policy.ReasonKnownPlaces {
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

func withScanner(cfg policy.Config) policy.Config {
	cfg.Scanner.Set = scanner.Default()
	cfg.Scanner.BlockTime = 2 * time.Hour
	return cfg
}

var sipvicious = &scanner.Message{UserAgent: []byte("friendly-scanner"), Method: []byte("OPTIONS")}

func TestScanner(t *testing.T) {
	for _, tt := range []struct {
		name    string
		src     string
		tr      policy.Transport
		scan    *scanner.Message
		prepare func(s *sim)
		verdict policy.Verdict
		block   time.Duration // 0: no ban
		proven  bool
		told    policy.NoticeKind
	}{
		{"a stranger on UDP", "192.0.2.1:5060", policy.UDP, sipvicious, nil, policy.Drop, 5 * time.Minute, false, policy.NoticeBan},
		{"a stranger on TCP", "192.0.2.1:5060", policy.TCP, sipvicious, nil, policy.Drop, 2 * time.Hour, true, policy.NoticeBan},
		{"a registered source", "192.0.2.1:5060", policy.TCP, sipvicious, func(s *sim) { s.register("192.0.2.1:5060", "1@x") }, policy.Drop, 0, false, policy.NoticeSpared},
		{"a trunk", "192.0.2.241:5060", policy.UDP, sipvicious, nil, policy.Drop, 0, false, policy.NoticeSpared},
		{"an allowed source", "192.0.2.250:5060", policy.UDP, sipvicious, nil, policy.Pass, 0, false, 255},
		{"an innocent name", "192.0.2.1:5060", policy.UDP, &scanner.Message{UserAgent: []byte("Zoiper rv2.8.30")}, nil, policy.Pass, 0, false, 255},
	} {
		s := newSim(t, withScanner(simConfig()))
		if tt.prepare != nil {
			tt.prepare(s)
		}
		f := s.ask(msg{src: tt.src, tr: tt.tr, method: "OPTIONS", account: "a@x", target: "100@x", scan: tt.scan})
		if f.Verdict != tt.verdict || tt.verdict == policy.Drop && (f.Reason != policy.ReasonScanner || f.status != 0) {
			t.Errorf("%s: %+v", tt.name, f)
		}
		addr, _, _ := strings.Cut(tt.src, ":")
		r := s.banned(addr)
		switch {
		case tt.block == 0 && r != nil:
			t.Errorf("%s: banned", tt.name)
		case tt.block > 0 && (r == nil || r.Until-r.Start != int64(tt.block) || r.Proven != tt.proven):
			t.Errorf("%s: the ban is %+v", tt.name, r)
		}
		if tt.told == 255 && len(s.told) > 0 || tt.told != 255 && (len(s.told) != 1 || s.told[0].Kind != tt.told) {
			t.Errorf("%s: told %+v", tt.name, s.told)
		}
	}
}

func TestHoney(t *testing.T) {
	cfg := simConfig()
	cfg.Honey = policy.Honey{Accounts: []string{"Admin", "sip:trap@example.com"}, Numbers: []string{"900123"}}
	for _, tt := range []struct {
		account, target string
		touched         bool
	}{
		{"admin@anything", "", true}, {"%61dmin@x", "", true}, {"admin", "", true}, {"trap@EXAMPLE.com", "", true},
		{"trap@example.org", "", false}, {"administrator@x", "", false},
		{"1@x", "900123@x", true}, {"1@x", "900123", true}, {"1@x", "9001234@x", false}, {"900123@x", "1@x", false},
	} {
		s := newSim(t, cfg)
		f := s.ask(msg{src: "192.0.2.1:5060", tr: policy.TCP, method: "INVITE", account: tt.account, target: tt.target})
		if touched := f.Reason == policy.ReasonHoney && f.Verdict == policy.Drop; touched != tt.touched {
			t.Errorf("%s calls %s: %+v", tt.account, tt.target, f)
		}
		if (s.banned("192.0.2.1") != nil) != tt.touched {
			t.Errorf("%s calls %s: banned is %v", tt.account, tt.target, !tt.touched)
		}
	}
	s := newSim(t, cfg)
	s.register("192.0.2.1:5060", "1@x")
	f := s.ask(msg{src: "192.0.2.1:5060", tr: policy.TCP, method: "INVITE", account: "1@x", target: "900123@x"})
	if s.noBans(); f.Verdict != policy.Drop || s.notices(policy.NoticeSpared) != 1 {
		t.Errorf("in good standing: %+v", f)
	}
}

// Every guard with every action: who is banned, what passes, what is told.
func TestActions(t *testing.T) {
	for _, kind := range []policy.ActionKind{policy.ActionBan, policy.ActionDrop, policy.ActionReject, policy.ActionNotify, policy.ActionWatch} {
		a := policy.Action{Kind: kind, Code: 488}
		cfg := withScanner(simConfig())
		cfg.Register.Action, cfg.Enumeration.Action, cfg.Scanner.Action, cfg.Malformed.Action = a, a, a, a
		cfg.Flood = policy.Flood{Rate: 1000, Burst: 2000, Action: a}
		cfg.Honey = policy.Honey{Numbers: []string{"900"}, Action: a}
		watches := kind == policy.ActionNotify || kind == policy.ActionWatch
		for _, tt := range []struct {
			guard  string
			offend func(s *sim) fate // returns the fate of a message that offends after the limit
			silent bool              // reject is not for this guard
		}{
			{guard: "register", offend: func(s *sim) (f fate) {
				for i := range 30 {
					f = s.ask(msg{src: "192.0.2.1:5060", method: "REGISTER", account: "1@x", secret: fmt.Sprint(i), nonce: policy.NonceIssued})
				}
				return f
			}},
			{guard: "enumeration", offend: func(s *sim) (f fate) {
				s.scan(msg{src: "192.0.2.1:5060", tr: policy.TCP, method: "REGISTER"}, 2, 60)
				return s.ask(msg{src: "192.0.2.1:5060", tr: policy.TCP, method: "REGISTER", account: "x@x"})
			}},
			{guard: "scanner", silent: true, offend: func(s *sim) (f fate) {
				for range 3 {
					f = s.ask(msg{src: "192.0.2.1:5060", tr: policy.TCP, method: "OPTIONS", account: "1@x", target: "1@x", scan: sipvicious})
				}
				return f
			}},
			{guard: "honey", silent: true, offend: func(s *sim) (f fate) {
				for range 3 {
					f = s.ask(msg{src: "192.0.2.1:5060", tr: policy.TCP, method: "INVITE", account: "1@x", target: "900@x"})
				}
				return f
			}},
		} {
			name := fmt.Sprintf("%s, %v", tt.guard, kind)
			s := newSim(t, cfg)
			f := tt.offend(s)
			switch {
			case kind == policy.ActionBan && (s.banned("192.0.2.1") == nil || f.Verdict != policy.Drop):
				t.Errorf("%s: %+v, not banned", name, f)
			case kind != policy.ActionBan && s.banned("192.0.2.1") != nil:
				t.Errorf("%s: banned", name)
			case watches && (f.Verdict != policy.Pass || f.Would.String() != tt.guard || s.e.Would()[tt.guard] != 1):
				t.Errorf("%s: %+v, would %v", name, f, s.e.Would())
			case watches && (len(s.told) != 1 || s.told[0].Kind != policy.NoticeWouldBan || s.told[0].Quiet != (kind == policy.ActionWatch)):
				t.Errorf("%s: told %+v", name, s.told)
			case (kind == policy.ActionDrop || kind == policy.ActionReject && tt.silent) && (f.Verdict != policy.Drop || f.Reason.String() != tt.guard):
				t.Errorf("%s: %+v", name, f)
			case kind == policy.ActionReject && !tt.silent && (f.Verdict != policy.Reject || f.Code != 488 || f.Reason.String() != tt.guard):
				t.Errorf("%s: %+v", name, f)
			}
			if kind == policy.ActionDrop || kind == policy.ActionReject {
				s.run(2 * time.Minute)
				if f := s.register("192.0.2.1:5060", "1@x"); f.status != 200 {
					t.Errorf("%s: two minutes later %+v", name, f)
				}
			}
		}
		s := newSim(t, cfg)
		src := netip.MustParseAddrPort("192.0.2.1:5060")
		var d policy.Decision
		for range 30 {
			d = s.e.Malformed(src, policy.TCP, "bare-cr", s.now)
		}
		banned := s.banned("192.0.2.1") != nil
		if banned != (kind == policy.ActionBan) || (d.Verdict == policy.Drop) != (kind == policy.ActionBan || kind == policy.ActionDrop) {
			t.Errorf("malformed, %v: %+v, banned %v", kind, d, banned)
		}
		for range 10_000 {
			s.e.Flooded(netip.MustParseAddrPort("192.0.2.3:5060"), policy.TCP, s.now)
		}
		if banned := s.banned("192.0.2.3") != nil; banned != (kind == policy.ActionBan) {
			t.Errorf("flood, %v: banned %v", kind, banned)
		}
	}
}

// The allow list beats every rule; a single malformed message is still refused.
func TestAllowListBeatsAll(t *testing.T) {
	cfg := withScanner(simConfig())
	cfg.Honey = policy.Honey{Numbers: []string{"900"}, Accounts: []string{"trap"}}
	cfg.Flood = policy.Flood{Rate: 1, Burst: 1}
	s := newSim(t, cfg)
	const src = "192.0.2.250:5060"
	for i := range 500 {
		for _, m := range []msg{
			{method: "REGISTER", account: "1@x", secret: fmt.Sprint(i), nonce: policy.NonceIssued},
			{method: "REGISTER", account: fmt.Sprintf("%d@x", i), secret: fmt.Sprint(i), nonce: policy.NonceUnknown},
			{method: "REGISTER", account: fmt.Sprintf("%d@x", i)},
			{method: "OPTIONS", account: "1@x", target: fmt.Sprintf("%d@x", i), scan: sipvicious},
			{method: "INVITE", account: "trap@x", target: "900@x"},
		} {
			m.src, m.tr = src, policy.TCP
			if f := s.ask(m); f.Verdict != policy.Pass || f.Reason != policy.ReasonAllowList || f.status == 0 || f.uniform {
				t.Fatalf("%s: %+v", m.method, f)
			}
		}
		d := s.e.Malformed(netip.MustParseAddrPort(src), policy.TCP, "bare-cr", s.now)
		if d.Verdict != policy.Reject || d.Code != 400 {
			t.Fatalf("malformed: %+v", d)
		}
		s.e.Flooded(netip.MustParseAddrPort(src), policy.TCP, s.now)
	}
	s.noBans()
	if len(s.told) != 0 {
		t.Errorf("told %q", s.told[0].Text)
	}
	if x := s.e.Explain(netip.MustParseAddr("192.0.2.250"), s.now); x.Standing != policy.Allowed || len(x.Counts) != 0 || len(x.Exhibits) != 0 {
		t.Errorf("explained as %+v", x)
	}
}

// Answers that would tell a stranger which accounts exist.
func TestUniform(t *testing.T) {
	for _, tt := range []struct {
		method  string
		status  int
		known   bool
		off     bool
		uniform bool
	}{
		{"REGISTER", 401, false, false, true}, {"REGISTER", 403, false, false, true}, {"REGISTER", 404, false, false, true},
		{"INVITE", 407, false, false, true}, {"INVITE", 404, false, false, true}, {"INVITE", 604, false, false, true},
		{"REGISTER", 200, false, false, false}, {"REGISTER", 503, false, false, false}, {"REGISTER", 423, false, false, false},
		{"INVITE", 486, false, false, false}, {"INVITE", 180, false, false, false}, {"OPTIONS", 404, false, false, false},
		{"REGISTER", 404, true, false, false}, {"REGISTER", 404, false, true, false},
	} {
		cfg := simConfig()
		cfg.Uniform = !tt.off
		s := newSim(t, cfg)
		if tt.known {
			s.register("192.0.2.1:5060", "1@x")
		}
		s.pbx = func(*msg) answer { return answer{status: tt.status} }
		if f := s.ask(msg{src: "192.0.2.1:5060", method: tt.method, account: "2@x"}); f.uniform != tt.uniform || f.status != tt.status {
			t.Errorf("%+v: %+v", tt, f)
		}
	}
}

// Whoever is banned gets not one answer more, not even to what is on its way.
func TestNoAnswerAfterTheBan(t *testing.T) {
	s := newSim(t, simConfig())
	s.pbx = func(m *msg) answer { return answer{status: 401, after: time.Second} }
	answers := 0
	for range 50 {
		s.send(msg{src: "192.0.2.1:5060", method: "REGISTER", account: "1@x"}, func(f fate) {
			if f.status != 0 {
				answers++
			}
		})
	}
	_, err := s.bans.Add(ban.Record{Prefix: netip.MustParsePrefix("192.0.2.1/32"), Kind: ban.Manual, Reason: "command", Guard: "command", Origin: "command"}, s.now)
	if err != nil {
		t.Fatal(err)
	}
	s.run(10 * time.Second)
	if answers != 0 {
		t.Errorf("%d answers after the ban", answers)
	}
}

// When bans are refused because there are too many, what offends is dropped all
// the same, and that is told once.
func TestBreaker(t *testing.T) {
	s := newSim(t, withScanner(simConfig()))
	s.bans.Reload(ban.Config{Threshold: 5, BreakerPerMinute: 10})
	for i := range 200 {
		src := fmt.Sprintf("198.51.100.%d:5060", i+1)
		if f := s.ask(msg{src: src, tr: policy.TCP, method: "OPTIONS", account: "1@x", scan: sipvicious}); f.Verdict != policy.Drop {
			t.Fatalf("source %d: %+v", i, f)
		}
	}
	if all, _ := s.bans.Snapshot(); len(all) > 11 || s.notices(policy.NoticeBreaker) != 1 {
		t.Errorf("%d bans, %d notices of the breaker", len(all), s.notices(policy.NoticeBreaker))
	}
	if n := s.guess(policy.UDP, "203.0.113.1:5060", 100, 1000, 10*time.Millisecond); n != hitCount {
		t.Errorf("a guesser gets %d answers while the breaker is open", n)
	}
	if n := s.scan(msg{src: "203.0.113.2:5060", tr: policy.TCP, method: "REGISTER"}, 500, 2000); n > 115 {
		t.Errorf("one who looks for accounts gets %d answers", n)
	}
}

// Without a ban table what would be banned is dropped for as long.
func TestWithoutBanTable(t *testing.T) {
	cfg := simConfig()
	s := newSim(t, cfg)
	cfg.Sources = 4096
	s.e = policy.New(cfg)
	if n := s.guess(policy.UDP, "192.0.2.1:5060", 100, 1000, 0); n != hitCount {
		t.Errorf("%d answers", n)
	}
	if n := s.guess(policy.UDP, "192.0.2.1:5060", 1, 1000, 0); n != 0 {
		t.Errorf("%d answers within the hour", n)
	}
	s.run(time.Hour)
	if n := s.guess(policy.UDP, "192.0.2.1:5060", 100, 1000, 0); n != hitCount {
		t.Errorf("%d answers after the hour", n)
	}
}

// What is kept with a ban tells a person why.
func TestEvidence(t *testing.T) {
	s := newSim(t, simConfig())
	s.guess(policy.UDP, "192.0.2.1:5060", 10, 50, 0)
	r := s.banned("192.0.2.1")
	var v policy.Evidence
	if err := json.Unmarshal(r.Evidence, &v); err != nil {
		t.Fatal(err)
	}
	if v.Charge != "10 failures within 1m0s" || v.Standing != "stranger" || !v.Proven || len(v.Exhibits) == 0 || len(r.Evidence) > ban.MaxEvidence {
		t.Errorf("%+v", v)
	}
	for _, x := range v.Exhibits {
		if x.Method != "REGISTER" || x.Status != 401 || x.Account != "100@x" || x.Nonce != "issued" || !strings.HasPrefix(x.Text, "REGISTER sip:") {
			t.Errorf("exhibit %+v", x)
		}
	}
	s.forge("192.0.2.2", 20, nil)
	if r := s.banned("192.0.2.2"); !strings.Contains(r.Comment, "may be forged") {
		t.Errorf("the comment is %q", r.Comment)
	}
}

// A reload keeps every count, and puts the new limits in force at once.
func TestReloadKeepsCounts(t *testing.T) {
	cfg := simConfig()
	s := newSim(t, cfg)
	one := func() {
		s.ask(msg{src: "192.0.2.1:5060", method: "REGISTER", account: "1@x", secret: fmt.Sprint(s.newTx()), nonce: policy.NonceIssued})
	}
	for range 5 {
		one()
	}
	cfg.Register.HitCount = 6
	s.e.Reload(cfg)
	if one(); s.banned("192.0.2.1") == nil {
		t.Error("five failures before and one after the reload, limit six: not banned")
	}
	s.register("192.0.2.9:5060", "9@x")
	s.e.Reload(cfg)
	if got := s.e.Standing(netip.MustParseAddr("192.0.2.9"), s.now); got != policy.Good {
		t.Errorf("standing after a reload: %v", got)
	}
}

// An IPv6 source is a /64.
func TestIPv6Source(t *testing.T) {
	s := newSim(t, simConfig())
	answers := 0
	for i := range 100 {
		src := fmt.Sprintf("[2001:db8:1:2::%x]:5060", i+1)
		f := s.ask(msg{src: src, method: "REGISTER", account: "1@x", secret: fmt.Sprint(i), nonce: policy.NonceIssued})
		if f.status == 401 {
			answers++
		}
	}
	r := s.banned("2001:db8:1:2:ffff::1")
	if answers != hitCount || r == nil || r.Prefix.String() != "2001:db8:1:2::/64" {
		t.Errorf("%d answers, the ban is %+v", answers, r)
	}
	if s.register("[2001:db8:1:3::1]:5060", "1@x").status != 200 {
		t.Error("the neighbour is banned as well")
	}
}

// Notices are limited, numbered, and none is lost that was told.
func TestNotices(t *testing.T) {
	s := newSim(t, withScanner(simConfig()))
	for i := range 500 {
		src := fmt.Sprintf("198.51.%d.%d:5060", i/200, i%200+1)
		s.ask(msg{src: src, tr: policy.TCP, method: "OPTIONS", account: "1@x", scan: sipvicious})
	}
	kept := s.e.Notices(0)
	if len(s.told) != 60 || len(kept) != 60 {
		t.Errorf("%d told, %d kept", len(s.told), len(kept))
	}
	s.run(time.Minute)
	s.ask(msg{src: "203.0.113.1:5060", tr: policy.TCP, method: "OPTIONS", account: "1@x", scan: sipvicious})
	last := s.e.Notices(60)
	if len(last) != 1 || last[0].Seq != 61 || !strings.Contains(last[0].Text, "440 notices of this kind") {
		t.Errorf("after a minute: %+v", last)
	}
	for range 10 {
		s.run(time.Minute)
		for i := range 60 {
			src := fmt.Sprintf("10.%d.%d.%d:5060", s.now>>30&0xff, s.now>>38&0xff, i)
			s.ask(msg{src: src, tr: policy.TCP, method: "OPTIONS", account: "1@x", scan: sipvicious})
		}
	}
	kept = s.e.Notices(0)
	if len(kept) != 256 || kept[0].Seq != kept[255].Seq-255 {
		t.Errorf("%d kept, from %d to %d", len(kept), kept[0].Seq, kept[len(kept)-1].Seq)
	}
	for _, n := range kept {
		if n.Kind.String() == "unknown" || n.Text == "" || len(n.Commands) == 0 {
			t.Errorf("%+v", n)
		}
	}
	s.e.DigestLeak(netip.MustParseAddr("203.0.113.9"), s.now)
	s.e.DigestLeak(netip.MustParseAddr("203.0.113.9"), s.now)
	if n := s.notices(policy.NoticeDigestLeak); n != 1 {
		t.Errorf("%d notices of one leak", n)
	}
}
