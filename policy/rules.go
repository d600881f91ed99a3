package policy

import (
	"strings"
	"time"

	"sipward/policy/gate"
)

// rules is a Config in the form that decisions are made by, with every default
// filled in. It is not changed after it is made.
type rules struct {
	Config
	monit    int64 // Register.MonitPeriod in ns
	accounts map[string]struct{}
	numbers  map[string]struct{}
}

func compile(cfg Config) *rules {
	orElse(&cfg.Register.MonitPeriod, time.Minute)
	orElse(&cfg.Register.BlockTime, time.Hour)
	orElse(&cfg.Scanner.BlockTime, cfg.Register.BlockTime)
	orElse(&cfg.Enumeration.Period, time.Minute)
	orElse(&cfg.Malformed.Period, time.Minute)
	orElse(&cfg.DistinctSources.Window, 10*time.Minute)
	orElse(&cfg.UnprovenBlockTime, 5*time.Minute)
	orElse(&cfg.Flood.Burst, 1)
	if a := &cfg.Invite.Action; a.Kind == ActionBan || a.Kind == ActionReject && a.Code == 0 {
		*a = Action{Kind: ActionReject, Code: 503}
	}
	return &rules{
		Config:   cfg,
		monit:    int64(cfg.Register.MonitPeriod),
		accounts: words(cfg.Honey.Accounts),
		numbers:  words(cfg.Honey.Numbers),
	}
}

func orElse[T time.Duration | int](v *T, byDefault T) {
	if *v <= 0 {
		*v = byDefault
	}
}

// words makes a set in the spelling that appendAccount gives.
func words(list []string) map[string]struct{} {
	set := make(map[string]struct{}, len(list))
	for _, w := range list {
		if w = strings.TrimPrefix(strings.TrimPrefix(w, "sip:"), "sips:"); w != "" {
			set[string(appendAccount(nil, []byte(w)))] = struct{}{}
		}
	}
	return set
}

func gateRules(cfg *Config) gate.Rules {
	return gate.Rules{
		Allow:      cfg.Allow,
		PBX:        cfg.PBX,
		Trusted:    cfg.Trunks,
		Deny:       cfg.Deny,
		FloodRate:  cfg.Flood.Rate,
		FloodBurst: cfg.Flood.Burst,
		GoodFactor: cfg.Flood.GoodFactor,
	}
}

// watches says whether an action lets pass what offends.
func (a Action) watches() bool { return a.Kind == ActionNotify || a.Kind == ActionWatch }

// decide returns what an action makes of a message that offends. retryAfter is
// in seconds, for those that are answered.
func (a Action) decide(r Reason, retryAfter int) Decision {
	switch a.Kind {
	case ActionNotify, ActionWatch:
		return Decision{Verdict: Pass, Would: r}
	case ActionReject:
		code := a.Code
		if code == 0 {
			code = 403
		}
		return Decision{Verdict: Reject, Reason: r, Code: code, RetryAfter: retryAfter}
	}
	return Decision{Verdict: Drop, Reason: r}
}
