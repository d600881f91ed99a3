package main

import (
	"time"

	"sipward/admin"
	"sipward/conf"
	"sipward/policy"
	"sipward/policy/ban"
)

// guardStatus tells what each guard does and has done. Without bans nobody is banned.
func guardStatus(c *conf.Config, reasons, would map[string]uint64, bans *ban.Table) []admin.Guard {
	held := map[string]int{}
	if bans != nil {
		bans.Each(func(r *ban.Record) { held[r.Guard]++ })
	}
	var all []admin.Guard
	for _, g := range []struct {
		name   string
		action conf.Action
	}{
		{"register", c.Register.Action},
		{"enumeration", c.Enumeration.Action},
		{"distinct_sources", c.DistinctSources.Action},
		{"invite", c.Invite.Action},
		{"scanner", c.Scanner.Action},
		{"honey", honeyAction(c.Honey)},
		{"malformed", c.Malformed.Action},
		{"flood", c.Flood.Action},
		{"tftp", tftpAction(c.TFTP)},
		{"dns", dnsAction(c.DNS)},
	} {
		s := admin.Guard{Name: g.name, Action: g.action.String(), Bans: held[g.name]}
		for r := range policy.Reason(policy.NumReasons) {
			if r.Guard() == g.name {
				s.Messages += reasons[r.String()]
				s.Would += would[r.String()]
				if r.String() != g.name {
					s.Bans += held[r.String()]
				}
			}
		}
		all = append(all, s)
	}
	return all
}

// honeyAction is off when there is nothing to touch.
func honeyAction(h conf.Honey) conf.Action {
	if len(h.Accounts)+len(h.Numbers) == 0 {
		return conf.Action{}
	}
	return h.Action
}

// tftpAction is off when there is no TFTP.
func tftpAction(t conf.TFTP) conf.Action {
	if len(t.Listen) == 0 {
		return conf.Action{}
	}
	return t.Action
}

func banCounts(s ban.Stats) admin.BanCounts {
	return admin.BanCounts{
		Dynamic: s.Dynamic, Permanent: s.Permanent, Manual: s.Manual, Unproven: s.Unproven, Recalled: s.Recalled,
		Added: s.Added, Expired: s.Expired, Evicted: s.Evicted, Full: s.Full, Breaker: s.Breaker,
	}
}

func fuses(states []ban.FuseState) []admin.Fuse {
	var all []admin.Fuse
	for _, s := range states {
		all = append(all, admin.Fuse{
			Name: string(s.Fuse), Open: s.Open, Since: unixTime(s.Since),
			Limit: s.Limit, Count: s.Count, Refused: s.Refused,
		})
	}
	return all
}

func storeStatus(h ban.Health) admin.Store {
	return admin.Store{
		Path: h.Path, OK: h.OK(), Error: h.Error, Since: unixTime(h.Since),
		Errors: h.Errors, Pending: h.Pending, BadRows: h.BadRows, SetAside: h.SetAside,
	}
}

// noticesOf returns the latest notices.
func noticesOf(all []policy.Notice) []admin.Notice {
	const latest = 50
	out := []admin.Notice{}
	for _, n := range all[max(len(all)-latest, 0):] {
		shown := admin.Notice{
			Seq: n.Seq, Time: time.Unix(0, n.Time), Kind: n.Kind.String(), Reason: n.Reason.String(),
			Account: n.Account, Quiet: n.Quiet, Text: n.Text, Commands: n.Commands,
		}
		if n.Source.IsValid() {
			shown.Source = n.Source.String()
		}
		out = append(out, shown)
	}
	return out
}

// unixTime is the zero time for 0.
func unixTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}
