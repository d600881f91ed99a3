package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sipward/admin"
	"sipward/policy"
	"sipward/policy/iplist"
)

// Explain implements admin.Backend.
func (e *edge) Explain(address string) (admin.Explanation, error) {
	addr, err := netip.ParseAddr(address)
	if err != nil || addr.Zone() != "" {
		return admin.Explanation{}, refused("%.64q is not an address; write one such as 192.0.2.1 or 2001:db8::1", address)
	}
	addr = addr.Unmap()
	c, l := e.inForce()
	now := time.Now().UnixNano()
	d := policy.FromGate(e.engine.Gate().Standing(addr, now))
	known := e.engine.Explain(addr, now)
	files, limited := e.files.counts(addr, now)
	known.Counts = append(known.Counts, files...)
	if limited {
		known.Undo = append(known.Undo, "sipward unban "+addr.String())
	}
	x := admin.Explanation{
		Address: addr, Source: known.Source,
		Verdict: d.Verdict.String(), Reason: d.Reason.String(), Why: d.Reason.Explain(),
		Standing: known.Standing.String(), StandingWhy: known.Why,
		Blocks:         e.state.bans.Blocks(addr, now),
		BlockThreshold: c.conf.Register.BlockThreshold,
		Undo:           known.Undo,
		DNS:            e.names.mayAsk(c.conf, l.pbx, addr),
	}
	if d.Reason == policy.ReasonPass {
		x.Why = "Nothing is held against it as a whole; its messages are looked at one by one."
	}
	for _, set := range []struct {
		name string
		set  *iplist.Set
	}{{listAllow, l.allow}, {"pbx", l.pbx}, {"trunks", l.trunks}, {listDeny, l.deny}} {
		for _, entry := range covering(set.set, addr) {
			x.Lists = append(x.Lists, admin.ListMatch{List: set.name, Entry: entryOf(entry)})
			if set.name == listDeny && d.Verdict != policy.Pass {
				x.Undo = append(x.Undo, removal(admin.Deny, entry))
			}
		}
	}
	for i, r := range e.state.bans.Covering(host(addr), now) {
		if full, ok := e.state.bans.Lookup(addr, now); ok && i == 0 {
			r = full
		}
		b := admin.BanOf(r)
		b.Evidence = evidenceOf(r.Evidence)
		x.Bans = append(x.Bans, b)
		x.Undo = append(x.Undo, fmt.Sprintf("sipward unban %s", show(r.Prefix)))
	}
	slices.Sort(x.Undo)
	x.Undo = slices.Compact(x.Undo)
	describe(&x, &known)
	return x, nil
}

// describe adds what the engine knows, but the messages that a ban shows already.
func describe(x *admin.Explanation, known *policy.Explanation) {
	for _, c := range known.Counts {
		x.Guards = append(x.Guards, admin.GuardCount{
			Guard: c.Guard, What: c.What, Count: c.Count, Limit: c.Limit,
			Seconds: c.Period.Seconds(), Account: c.Account,
		})
	}
	for _, q := range known.Quarantines {
		x.Quarantines = append(x.Quarantines, quarantineOf(&q))
	}
	shown := map[time.Time]bool{}
	for _, b := range x.Bans {
		if b.Evidence != nil {
			for _, m := range b.Evidence.Messages {
				shown[m.Time] = true
			}
		}
	}
	for _, m := range known.Exhibits {
		if !shown[m.Time] {
			x.Messages = append(x.Messages, admin.Message(m))
		}
	}
}

// evidenceOf reads what was kept with a ban; it may be of another version.
func evidenceOf(text []byte) *admin.Evidence {
	v := &admin.Evidence{}
	if json.Unmarshal(text, v) != nil {
		return nil
	}
	return v
}

// covering returns every entry that covers an address, not only the narrowest.
func covering(set *iplist.Set, addr netip.Addr) []iplist.Entry {
	var all []iplist.Entry
	if !set.Contains(addr) {
		return nil
	}
	for _, entry := range set.Entries() {
		if entry.Prefix.Contains(addr) {
			all = append(all, entry)
		}
	}
	return all
}
