package main

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sipward/policy/ban"
	"sipward/policy/iplist"
)

// warnings says what is hardly meant in a configuration that can be used, each with the place
// where it is written.
func warnings(c *configuration, now time.Time) []string {
	all := listWarnings(c)
	for _, p := range certificateWarnings(c, now) {
		all = append(all, p.Error())
	}
	return all
}

// warn logs the warnings of a configuration that comes into force, and returns them.
func (e *edge) warn(c *configuration) []string {
	all := warnings(c, time.Now())
	for _, w := range all {
		e.log.Warn(w)
	}
	return all
}

// allowedMay is what whoever is on the allow list may do.
const allowedMay = "is let in whatever it sends, and is never limited or banned"

// listWarnings names the prefixes of lists that exempt who is on them, and that are too wide.
func listWarnings(c *configuration) []string {
	var all []string
	for _, l := range []struct {
		key, may string
		entries  []iplist.Entry
	}{
		{"lists.allow", allowedMay, c.allow.Entries()},
		{"trunks", "is never denied or banned", c.trunks.Entries()},
		{"dns.allow_from", "is answered, also when its questions are forged to attack others", entriesOf(c.conf.DNS.AllowFrom)},
	} {
		for i, x := range l.entries {
			text := tooWide(x.Prefix, l.may)
			switch {
			case text == "":
			case x.Origin == originConfig: // these come first, in their order
				all = append(all, c.conf.Problem(fmt.Sprintf("%s[%d]", l.key, i), text).Error())
			default:
				all = append(all, x.Origin+": "+text)
			}
		}
	}
	return all
}

// tooWide says that a prefix is wider than any that may be banned, outside of what the
// internet does not lead to, and what whoever sends from there may do; empty: it is not.
func tooWide(p netip.Prefix, may string) string {
	least := ban.MinBits4
	if p.Addr().Is6() {
		least = ban.MinBits6
	}
	local := []netip.Prefix{netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10")} // RFC 4193, RFC 4291 §2.5.6
	if p.Bits() >= least || slices.ContainsFunc(local, func(l netip.Prefix) bool { return l.Bits() <= p.Bits() && l.Contains(p.Addr()) }) {
		return ""
	}
	return fmt.Sprintf("%s is wider than /%d: a noticeable part of the internet %s; write the prefixes that you trust", p, least, may)
}
