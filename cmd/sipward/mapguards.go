package main

import (
	"sipward/conf"
	"sipward/policy"
)

// policyConfig maps the rules of a configuration. A guard that is off has a limit
// of zero.
func policyConfig(c *configuration, workers int) policy.Config {
	g := c.conf
	return policy.Config{
		Allow: c.allow, Deny: c.deny, PBX: c.pbx, Trunks: c.trunks,
		Register: policy.Register{
			HitCount: limit(g.Register.HitCount, g.Register.Action), MonitPeriod: g.Register.MonitPeriod,
			BlockTime: g.Register.BlockTime, BlockThreshold: g.Register.BlockThreshold,
			Action: action(g.Register.Action),
		},
		Invite:  policy.Invite{RateLimit: limit(g.Invite.RateLimit, g.Invite.Action), Action: action(g.Invite.Action)},
		Scanner: policy.Scanner{BlockTime: g.Scanner.BlockTime, Action: action(g.Scanner.Action)},
		Enumeration: policy.Enumeration{
			Accounts: limit(g.Enumeration.Accounts, g.Enumeration.Action), Period: g.Enumeration.Period,
			Action: action(g.Enumeration.Action),
		},
		Honey: honey(g.Honey),
		Malformed: policy.Malformed{
			Threshold: limit(g.Malformed.Count, g.Malformed.Action), Period: g.Malformed.Period,
			Action: action(g.Malformed.Action),
		},
		Flood: policy.Flood{
			Rate: float64(limit(g.Flood.Rate, g.Flood.Action)), Burst: g.Flood.Burst,
			Action: action(g.Flood.Action),
		},
		DistinctSources:   policy.DistinctSources{Count: limit(g.DistinctSources.Count, g.DistinctSources.Action), Window: g.DistinctSources.Window},
		UnprovenBlockTime: g.UnprovenBlockTime,
		Uniform:           g.UniformAnswers,
		Workers:           workers,
		IPv6Bits:          g.IPv6SourcePrefix,
	}
}

// limit is a guard's limit, zero if it is off.
func limit(n int, a conf.Action) int {
	if a.Kind == conf.ActionOff {
		return 0
	}
	return n
}

func honey(h conf.Honey) policy.Honey {
	if h.Action.Kind == conf.ActionOff {
		return policy.Honey{}
	}
	return policy.Honey{Accounts: h.Accounts, Numbers: h.Numbers, Action: action(h.Action)}
}

// action maps what a guard does; of one that is off it does not matter.
func action(a conf.Action) policy.Action {
	switch a.Kind {
	case conf.ActionDrop:
		return policy.Action{Kind: policy.ActionDrop}
	case conf.ActionReject:
		return policy.Action{Kind: policy.ActionReject, Code: a.Code}
	case conf.ActionNotify:
		return policy.Action{Kind: policy.ActionNotify}
	case conf.ActionWatch:
		return policy.Action{Kind: policy.ActionWatch}
	}
	return policy.Action{Kind: policy.ActionBan}
}
