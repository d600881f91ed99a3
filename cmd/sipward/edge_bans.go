package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"sipward/admin"
	"sipward/conf"
	"sipward/policy"
	"sipward/policy/ban"
	"sipward/policy/iplist"
)

// refused makes a refusal that says what to do.
func refused(format string, args ...any) error {
	return &admin.Refusal{Reason: fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &admin.Refusal{Status: http.StatusNotFound, Reason: fmt.Sprintf(format, args...)}
}

// show writes a prefix as people do: a single address without its length.
func show(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// prefixOf reads an address or prefix.
func prefixOf(text string) (netip.Prefix, error) {
	p, err := iplist.ParsePrefix(strings.TrimSpace(text))
	if err != nil {
		return p, refused("%v", err)
	}
	return p, nil
}

// sourceOf reads an address or prefix for a ban: an IPv6 address stands for the
// whole source, because whoever has one address of it has all.
func (e *edge) sourceOf(text string) (netip.Prefix, error) {
	p, err := prefixOf(text)
	if err == nil && !strings.Contains(text, "/") {
		p = e.state.bans.Source(p.Addr())
	}
	return p, err
}

// maxComment is the longest reason or comment in bytes.
const maxComment = 500

func checkComment(name, text string) error {
	if len(text) > maxComment || strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return refused("the %s must be one line of at most %d bytes that can be printed", name, maxComment)
	}
	return nil
}

func loopback() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

// checkTarget says why a prefix must not be shut out. With force only what would
// harm sipward itself counts; the notes then say what stays let in.
func (e *edge) checkTarget(p netip.Prefix, l lists, force bool) (notes []string, err error) {
	if _, err := ban.CheckPrefix(p); err != nil {
		return nil, refused("%s", strings.TrimPrefix(err.Error(), "ban: prefix refused: "))
	}
	for _, own := range loopback() {
		if p.Overlaps(own) {
			return nil, refused("%s is what this machine talks to itself with, so it is not shut out", show(p))
		}
	}
	for _, k := range l.known() {
		for _, entry := range k.set.Entries() {
			if !entry.Prefix.Overlaps(p) {
				continue
			}
			why := fmt.Sprintf("%s is %s (%s) and is let in all the same", show(entry.Prefix), k.what, entry.Origin)
			if !force {
				return nil, refused("%s; take it off there first, or use --force", why)
			}
			notes = append(notes, why)
		}
	}
	return append(notes, e.goodNotes(p)...), nil
}

// goodNotes tells a person who of those in good standing a prefix shuts out.
func (e *edge) goodNotes(p netip.Prefix) []string {
	now := time.Now().UnixNano()
	if p == e.state.bans.Source(p.Addr()) {
		if e.engine.Standing(p.Addr(), now) != policy.Good {
			return nil
		}
		return []string{"It is in good standing, and is shut out all the same. " + e.engine.Explain(p.Addr(), now).Why}
	}
	switch n := e.engine.GoodSourcesIn(p, now); n {
	case 0:
		return nil
	case 1:
		return []string{"One source in good standing is in it, and is shut out all the same"}
	default:
		return []string{fmt.Sprintf("%d sources in good standing are in it, and are shut out all the same", n)}
	}
}

// Ban implements admin.Backend.
func (e *edge) Ban(q admin.BanRequest, by admin.Caller) (admin.Banned, error) {
	p, err := e.sourceOf(q.Address)
	if err != nil {
		return admin.Banned{}, err
	}
	if err := checkComment("reason", q.Reason); err != nil {
		return admin.Banned{}, err
	}
	now := time.Now()
	r := ban.Record{
		Prefix: p, Kind: ban.Manual, Start: now.UnixNano(), Reason: policy.ReasonBan.String(),
		Guard: originCommand, Origin: originCommand, Comment: q.Reason,
	}
	if q.For != "" {
		d, err := conf.ParseBlockTime(q.For)
		if err != nil {
			return admin.Banned{}, refused("for: %v", err)
		}
		r.Until = now.Add(d).UnixNano()
	}
	_, l := e.inForce()
	notes, err := e.checkTarget(p, l, q.Force)
	if err != nil {
		return admin.Banned{}, err
	}
	if r.Evidence, err = json.Marshal(admin.Evidence{By: by.String()}); err != nil {
		return admin.Banned{}, err
	}
	in, err := e.state.bans.Add(r, now.UnixNano())
	if err != nil {
		return admin.Banned{}, e.unstored(err)
	}
	if in.Kind != ban.Manual || in.Until != r.Until {
		notes = append(notes, fmt.Sprintf("It was banned already, and for longer; to shorten that, lift it first: sipward unban %s", show(p)))
	}
	return admin.Banned{Ban: admin.BanOf(in), Notes: notes}, nil
}

// unstored explains that a change is in force, but would not survive a restart.
func (e *edge) unstored(err error) error {
	if errors.Is(err, ban.ErrNotStored) {
		h := e.state.store.Health()
		return fmt.Errorf("in force now, but a restart forgets it unless %s can be written before (%s)", h.Path, h.Error)
	}
	return refused("%v", err)
}

// Unban implements admin.Backend.
func (e *edge) Unban(address string) (admin.Unbanned, error) {
	exact, err := prefixOf(address)
	if err != nil {
		return admin.Unbanned{}, err
	}
	prefixes := []netip.Prefix{exact}
	if source := e.state.bans.Source(exact.Addr()); source != exact && !strings.Contains(address, "/") {
		prefixes = append(prefixes, source)
	}
	now := time.Now().UnixNano()
	done := admin.Unbanned{Removed: []admin.Ban{}}
	inside, limited := 0, false
	for _, p := range prefixes {
		m, err := e.state.bans.Remove(p, now)
		if err != nil {
			return done, e.unstored(err)
		}
		if m.Removed {
			done.Removed = append(done.Removed, admin.BanOf(m.Record))
		}
		done.Forgotten += m.Forgotten
		inside += m.Inside
		if p == e.state.bans.Source(p.Addr()) {
			done.Quarantines += e.engine.Forgive(p.Addr()) // or what was counted would soon ban it again
			limited = e.files.forgive(p.Addr(), now) || limited
		}
	}
	still := e.stillOut(exact, now)
	if len(done.Removed) == 0 && done.Forgotten == 0 && done.Quarantines == 0 && !limited {
		if len(still) == 0 {
			still = []string{fmt.Sprintf("sipward explain %s shows what is known of it", exact.Addr())}
		}
		return done, notFound("%s is not banned; %s", show(prefixes[len(prefixes)-1]), strings.Join(still, "; "))
	}
	done.Notes = still
	if limited {
		done.Notes = append(done.Notes, "it may ask for files by TFTP again as often as others")
	}
	if inside > 0 {
		done.Notes = append(done.Notes, fmt.Sprintf("bans inside %s: %d stay in force; sipward list bans shows them", show(exact), inside))
	}
	return done, nil
}

// stillOut says what else shuts out the whole of p, and how to lift it.
func (e *edge) stillOut(p netip.Prefix, now int64) []string {
	var notes []string
	for _, r := range e.state.bans.Covering(p, now) {
		notes = append(notes, fmt.Sprintf("%s is banned, and %s is in it: sipward unban %s", show(r.Prefix), show(p), show(r.Prefix)))
	}
	_, l := e.inForce()
	if entry, ok := l.deny.Lookup(p.Addr()); ok {
		notes = append(notes, fmt.Sprintf("%s is on the deny list (%s): %s", show(entry.Prefix), entry.Origin, removal(admin.Deny, entry)))
	}
	return notes
}

// removal says how an entry is taken off its list.
func removal(list admin.List, entry iplist.Entry) string {
	switch entry.Origin {
	case originCommand:
		return fmt.Sprintf("sipward %s --remove %s", list, show(entry.Prefix))
	case originConfig:
		return fmt.Sprintf("remove it from lists.%s in the configuration, then sipward reload", list)
	}
	return "remove that line; sipward takes note of it"
}
