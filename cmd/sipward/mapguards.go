package main

import (
	"sipward/conf"
	"sipward/policy"
)

// policyConfig maps the rules of a configuration, with the lists as they are at
// present. A guard that is off has a limit of zero.
func (e *edge) policyConfig(c *configuration) policy.Config {
	g := c.conf
	return policy.Config{
		Allow: e.lists.allow, Deny: e.lists.deny, PBX: e.lists.pbx, Trunks: e.lists.trunks,
		Register: policy.Register{
			HitCount: limit(g.Register.HitCount, g.Register.Action), MonitPeriod: g.Register.MonitPeriod,
			BlockTime: g.Register.BlockTime, BlockThreshold: g.Register.BlockThreshold,
			Action: action(g.Register.Action),
		},
		Invite:  policy.Invite{RateLimit: limit(g.Invite.RateLimit, g.Invite.Action), Action: action(g.Invite.Action)},
		Scanner: scannerConfig(c),
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
		DNS:               dnsGuard(g, e.lists.pbx),
		DistinctSources:   policy.DistinctSources{Count: limit(g.DistinctSources.Count, g.DistinctSources.Action), Window: g.DistinctSources.Window},
		UnprovenBlockTime: g.UnprovenBlockTime,
		Uniform:           g.UniformAnswers,
		Bans:              e.state.bans,
		Places:            e.state.places,
		Quarantines:       e.state.quarantines,
		Notify:            e.hear,
		Standing:          e.mirror.standing,
		Workers:           e.workers + 1,
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

func scannerConfig(c *configuration) policy.Scanner {
	g := c.conf.Scanner
	if g.Action.Kind == conf.ActionOff {
		return policy.Scanner{}
	}
	return policy.Scanner{Set: c.signatures, BlockTime: g.BlockTime, Action: action(g.Action)}
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
