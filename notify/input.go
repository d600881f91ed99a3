package notify

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"sipward/policy"
	"sipward/policy/ban"
)

// occurrence is one thing that happened, from wherever it was heard of.
type occurrence struct {
	time     time.Time // when it was heard of, with a monotonic reading
	topic    string    // what an attack is told apart by, beside its source: a reason, or else a kind
	kind     string
	reason   string
	severity Severity
	source   netip.Prefix // invalid: of an account
	addr     netip.Addr   // the source's one address, before it is known how long its prefix is
	account  string
	text     string
	commands []string
	ban      bool
	once     bool // it is no part of an attack
	own      bool // it is of sipward itself, not of a source or an account
	holds    bool // the attack goes on until something ends it
	ends     bool
}

// severityOf says how bad a notice is.
func severityOf(k policy.NoticeKind, quiet bool) Severity {
	switch {
	case quiet:
		return Info
	case k == policy.NoticeKnownPlaces, k == policy.NoticeBreaker, k == policy.NoticeDigestLeak:
		return Critical
	}
	return Warning
}

func ofNotice(x *policy.Notice, now time.Time) occurrence {
	o := occurrence{
		time: now, kind: x.Kind.String(), reason: x.Reason.String(),
		severity: severityOf(x.Kind, x.Quiet), addr: x.Source, account: x.Account, text: x.Text, commands: x.Commands,
	}
	o.topic = o.reason
	switch x.Kind {
	case policy.NoticeBreaker:
		o.ofItself(x.Kind)
	case policy.NoticeKernelDown, policy.NoticeKernelUp:
		o.ofItself(policy.NoticeKernelDown)
		o.holds, o.ends = x.Kind == policy.NoticeKernelDown, x.Kind == policy.NoticeKernelUp
	case policy.NoticeKernelFull, policy.NoticeKernelRoom:
		o.ofItself(policy.NoticeKernelFull)
		o.holds, o.ends = x.Kind == policy.NoticeKernelFull, x.Kind == policy.NoticeKernelRoom
	case policy.NoticeCertificate, policy.NoticeCertificateFine:
		o.ofItself(policy.NoticeCertificate)
		o.holds, o.ends = x.Kind == policy.NoticeCertificate, x.Kind == policy.NoticeCertificateFine
	case policy.NoticeKernelRepaired:
		o.ofItself(x.Kind)
	case policy.NoticeKnownPlaces, policy.NoticeRequestLimit:
		o.holds = true
	case policy.NoticeCalm, policy.NoticeRequestCalm:
		o.ends = true
	}
	return o
}

// ofItself makes an occurrence one of sipward itself: whose message led to it does not
// matter.
func (o *occurrence) ofItself(topic policy.NoticeKind) {
	o.own, o.topic, o.reason, o.addr, o.account = true, topic.String(), "", netip.Addr{}, ""
}

// byGuard is the origin of bans by the policy.
const byGuard = "guard"

// ofChange tells of a ban: by a guard, as part of an attack, or by anybody else.
func ofChange(c *ban.Change, now time.Time) (o occurrence, ok bool) {
	r := &c.Record
	o = occurrence{time: now, topic: r.Reason, kind: policy.NoticeBan.String(), reason: r.Reason, source: r.Prefix}
	addr := show(r.Prefix)
	switch {
	case c.Kind == ban.Expired, c.Kind == ban.Removed && c.Room, c.Kind == ban.Extended && r.Origin == byGuard && r.Kind == ban.Dynamic && !r.Proven:
		return o, false
	case c.Kind == ban.Removed:
		o.kind, o.once, o.text = "unban", true, "The ban was lifted."
	case r.Origin == byGuard:
		o.severity, o.ban, o.text = Warning, true, banText(r)
		o.commands = []string{"sipward explain " + addr, "sipward unban " + addr}
	default:
		o.once, o.text = true, fmt.Sprintf("Banned %s by %s.", lasting(r), r.Origin)
		if r.Comment != "" {
			o.text = strings.TrimSuffix(o.text, ".") + ": " + r.Comment
		}
		o.commands = []string{"sipward unban " + addr}
	}
	return o, true
}

func lasting(r *ban.Record) string {
	if r.Until == 0 {
		return "for ever"
	}
	return "until " + clock(time.Unix(0, r.Until))
}

func banText(r *ban.Record) string {
	text := "Banned " + lasting(r)
	if r.Comment != "" {
		text += ": " + r.Comment
	}
	text += "."
	if r.Blocks > 1 {
		text += " It is block " + strconv.Itoa(r.Blocks) + "."
	}
	return text
}

// clock writes a time so that it needs no zone to be known.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// show writes a prefix as people do: a single address without its length.
func show(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
