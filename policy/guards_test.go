package policy_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sipward/policy"
	"sipward/policy/ban"
	"sipward/policy/gate"
)

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
		if want := map[policy.ActionKind]int{policy.ActionReject: 488}[kind]; d.Code != want || (d.Would != policy.ReasonNone) != watches {
			t.Errorf("malformed, %v: %+v", kind, d)
		}
		told := len(s.told)
		for range 10_000 {
			if v := s.e.Flooded(netip.MustParseAddrPort("192.0.2.3:5060"), policy.TCP, s.now); watches != (v == gate.Pass) || watches == (v == gate.DropFlood) {
				t.Fatalf("flood, %v: %v", kind, v)
			}
		}
		if banned := s.banned("192.0.2.3") != nil; banned != (kind == policy.ActionBan) {
			t.Errorf("flood, %v: banned %v", kind, banned)
		}
		if watches && (s.e.Would()["flood"] != 1 || len(s.told) != told+1 || s.told[told].Quiet != (kind == policy.ActionWatch)) {
			t.Errorf("flood, %v: would %v, told %+v", kind, s.e.Would(), s.told[told:])
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
		if d.Verdict != policy.Reject || d.Code != 0 {
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
		{"REGISTER", 401, false, false, false}, {"REGISTER", 403, false, false, true}, {"REGISTER", 404, false, false, true},
		{"INVITE", 407, false, false, false}, {"INVITE", 404, false, false, true}, {"INVITE", 604, false, false, true},
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

// A clock that is set back after a ban was refused does not keep bans away until it has
// caught up.
func TestBansAfterClockSetBack(t *testing.T) {
	s := newSim(t, withScanner(simConfig()))
	s.bans.Reload(ban.Config{Threshold: 5, BreakerPerMinute: 1})
	scan := func(src string) {
		s.ask(msg{src: src, tr: policy.TCP, method: "OPTIONS", account: "1@x", scan: sipvicious})
	}
	scan("198.51.100.1:5060")
	scan("198.51.100.2:5060")
	if s.banned("198.51.100.2") != nil {
		t.Fatal("the breaker did not open")
	}
	s.now -= int64(24 * time.Hour)
	s.bans.ResetBreaker()
	scan("198.51.100.2:5060")
	if s.banned("198.51.100.2") == nil {
		t.Error("no ban after the clock was set back")
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
	if v.Charge != "10 failures within 1m" || v.Standing != "stranger" || !v.Proven || len(v.Exhibits) == 0 || len(r.Evidence) > ban.MaxEvidence {
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
