package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sipward/admin"
	"sipward/policy/ban"
	"sipward/policy/iplist"
)

// The lists in the store.
const (
	listAllow = string(admin.Allow)
	listDeny  = string(admin.Deny)
)

func (l lists) of(list admin.List) *iplist.Set {
	if list == admin.Allow {
		return l.allow
	}
	return l.deny
}

// Entries implements admin.Backend.
func (e *edge) Entries(list admin.List) ([]admin.Entry, error) {
	_, l := e.inForce()
	created := map[netip.Prefix]int64{}
	for _, c := range e.state.store.ListEntries(string(list)) {
		created[c.Prefix] = c.Created
	}
	entries := []admin.Entry{}
	for _, x := range l.of(list).Entries() {
		entry := entryOf(x)
		if t := created[x.Prefix]; t != 0 && x.Origin == originCommand {
			entry.Created = time.Unix(0, t)
		}
		entries = append(entries, entry)
	}
	slices.SortStableFunc(entries, func(a, b admin.Entry) int {
		if c := a.Prefix.Addr().Compare(b.Prefix.Addr()); c != 0 {
			return c
		}
		return a.Prefix.Bits() - b.Prefix.Bits()
	})
	return entries, nil
}

func entryOf(x iplist.Entry) admin.Entry {
	return admin.Entry{Prefix: x.Prefix, Origin: x.Origin, Comment: x.Comment}
}

// AddEntry implements admin.Backend.
func (e *edge) AddEntry(list admin.List, q admin.EntryRequest, _ admin.Caller) (admin.EntryChange, error) {
	done, err := e.addEntry(list, q)
	if err == nil && list == admin.Deny {
		e.cutOff(done.Entry.Prefix)
	}
	return done, err
}

func (e *edge) addEntry(list admin.List, q admin.EntryRequest) (admin.EntryChange, error) {
	p, err := prefixOf(q.Address)
	if err != nil {
		return admin.EntryChange{}, err
	}
	if err := checkComment("comment", q.Comment); err != nil {
		return admin.EntryChange{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	notes, err := e.checkEntry(list, p, q.Force)
	if err != nil {
		return admin.EntryChange{}, err
	}
	if q.Comment == "" { // one that it has stays
		for _, x := range withPrefix(e.lists.of(list), p) {
			if x.Origin == originCommand {
				q.Comment = x.Comment
			}
		}
	}
	now := time.Now()
	err = e.state.store.AddListEntry(string(list), ban.ListEntry{Prefix: p, Comment: q.Comment, Created: now.UnixNano()})
	e.apply(e.config) // it is in force even if it could not be stored
	if err != nil {
		return admin.EntryChange{}, e.unstored(err)
	}
	entry := admin.Entry{Prefix: p, Origin: originCommand, Comment: q.Comment, Created: now}
	return admin.EntryChange{Entry: entry, Notes: notes}, nil
}

// checkEntry says why a prefix must not be put on a list, or what a person should
// know about it. The lock is held.
func (e *edge) checkEntry(list admin.List, p netip.Prefix, force bool) ([]string, error) {
	var notes []string
	for _, x := range withPrefix(e.lists.of(list), p) {
		notes = append(notes, fmt.Sprintf("%s was on the %s list already (%s)", show(p), list, x.Origin))
	}
	if list == admin.Deny {
		more, err := e.checkTarget(p, e.lists, force)
		return append(notes, more...), err
	}
	if p.Bits() == 0 {
		return nil, refused("%s", allowsEverybody(p))
	}
	if text := tooWide(p, allowedMay); text != "" {
		notes = append(notes, text)
	}
	if x, ok := e.lists.deny.Lookup(p.Addr()); ok {
		notes = append(notes, fmt.Sprintf("%s stays on the deny list (%s), but the allow list beats it", show(x.Prefix), x.Origin))
	}
	for _, r := range e.state.bans.Covering(p, time.Now().UnixNano()) {
		notes = append(notes, fmt.Sprintf("the ban of %s stays, but the allow list beats it; to lift it for good: sipward unban %s", show(r.Prefix), show(r.Prefix)))
	}
	return notes, nil
}

// withPrefix returns the entries of exactly that prefix.
func withPrefix(set *iplist.Set, p netip.Prefix) []iplist.Entry {
	return slices.DeleteFunc(set.Entries(), func(x iplist.Entry) bool { return x.Prefix != p })
}

// RemoveEntry implements admin.Backend.
func (e *edge) RemoveEntry(list admin.List, address string) (admin.EntryChange, error) {
	p, err := prefixOf(address)
	if err != nil {
		return admin.EntryChange{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	removed := admin.EntryChange{}
	var other []string // entries that a command cannot remove
	for _, x := range e.lists.of(list).Entries() {
		switch {
		case x.Prefix == p && x.Origin == originCommand:
			removed.Entry = entryOf(x)
		case x.Prefix.Bits() <= p.Bits() && x.Prefix.Contains(p.Addr()):
			other = append(other, fmt.Sprintf("%s is on the %s list (%s): %s", show(x.Prefix), list, x.Origin, removal(list, x)))
		}
	}
	if !removed.Entry.Prefix.IsValid() {
		why := fmt.Sprintf("%s was not put on the %s list by command", show(p), list)
		return removed, notFound("%s", strings.Join(append([]string{why}, other...), "; "))
	}
	removed.Notes = other
	_, err = e.state.store.RemoveListEntry(string(list), p)
	e.apply(e.config)
	if err != nil {
		return admin.EntryChange{}, e.unstored(err)
	}
	return removed, nil
}
