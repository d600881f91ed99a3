package policy_test

import (
	"strings"
	"testing"
	"time"

	"sipward/policy"
	"sipward/policy/scanner"
)

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
