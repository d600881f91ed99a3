package main

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sipward/admin"
	"sipward/policy/ban"
)

// Bans implements admin.Backend.
func (e *edge) Bans(q admin.BanQuery) (admin.BanPage, error) {
	return banPage(e.state.bans, &q, time.Now().UnixNano()), nil
}

// Quarantines implements admin.Backend.
func (e *edge) Quarantines() ([]admin.Quarantine, error) {
	all := []admin.Quarantine{}
	for _, q := range e.engine.Quarantines(time.Now().UnixNano()) {
		all = append(all, quarantineOf(&q))
	}
	return all, nil
}

func quarantineOf(q *ban.Quarantine) admin.Quarantine {
	return admin.Quarantine{Source: q.Source, Account: q.Account, Since: time.Unix(0, q.Since), Until: time.Unix(0, q.Until)}
}

// banPage looks at all bans and keeps those of the page, so that what it sorts and copies is
// as large as the page, and not as the table.
func banPage(bans *ban.Table, q *admin.BanQuery, now int64) admin.BanPage {
	matches := matcher(q.Match)
	fits := func(r *ban.Record) bool {
		return (!q.Prefix.IsValid() || q.Prefix.Overlaps(r.Prefix)) && (len(q.Reasons) == 0 || slices.Contains(q.Reasons, r.Reason)) && matches(r)
	}
	order := banOrder
	if q.Latest {
		order = func(a, b *ban.Record) int { return banOrder(b, a) }
	}
	after := &ban.Record{Start: q.After.Start, Prefix: q.After.Prefix}
	page, more := admin.BanPage{Bans: []admin.Ban{}}, false
	var kept []*ban.Record
	full := false // kept[q.Limit-1] is the last one of the page as far as is known
	bans.Each(func(r *ban.Record) {
		if !r.InForce(now) || !fits(r) {
			return
		}
		page.Total++
		if !q.After.IsZero() && order(r, after) <= 0 {
			return
		}
		if full && order(r, kept[q.Limit-1]) > 0 {
			more = true
			return
		}
		if kept = append(kept, r); q.Limit > 0 && len(kept) >= 2*q.Limit {
			slices.SortFunc(kept, order)
			kept, full, more = kept[:q.Limit], true, true
		}
	})
	slices.SortFunc(kept, order)
	if q.Limit > 0 && len(kept) > q.Limit {
		kept, more = kept[:q.Limit], true
	}
	for _, r := range kept {
		page.Bans = append(page.Bans, admin.BanOf(*r))
	}
	if more {
		last := kept[len(kept)-1]
		page.Next = admin.BanCursor{Start: last.Start, Prefix: last.Prefix}.String()
	}
	return page
}

// banOrder puts the latest last.
func banOrder(a, b *ban.Record) int {
	return cmp.Or(cmp.Compare(a.Start, b.Start), a.Prefix.Addr().Compare(b.Prefix.Addr()), a.Prefix.Bits()-b.Prefix.Bits())
}

// matcher says which bans a text is about.
func matcher(text string) func(*ban.Record) bool {
	text = strings.ToLower(strings.TrimSpace(text))
	if text == "" {
		return func(*ban.Record) bool { return true }
	}
	addr, err := netip.ParseAddr(text)
	isAddr := err == nil
	return func(r *ban.Record) bool {
		if isAddr && r.Prefix.Contains(addr.Unmap().WithZone("")) {
			return true
		}
		for _, s := range []string{r.Prefix.String(), r.Kind.String(), r.Reason, r.Guard, r.Comment} {
			if strings.Contains(strings.ToLower(s), text) {
				return true
			}
		}
		return false
	}
}
