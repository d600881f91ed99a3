// Package report remembers what happened and answers questions about it.
//
// A Journal keeps two things in an SQLite database of its own: acts (bans, their ends,
// administrative commands, notices), each by itself, and messages, counted per source
// and minute with a few samples. A Query asks for a time range, filters and groups; its
// answer, a Report, is written as a table, CSV, JSON or a page of HTML.
//
// Nothing here can delay a packet: messages arrive through a bounded queue, and what
// does not fit is lost and counted. The database failing stops nothing: what is to be
// written waits in bounded memory.
package report

import (
	"net/netip"
	"time"

	"sipward/policy"
	"sipward/policy/ban"
)

// Action is what was done: the verdict on a message, or what an Act is.
type Action string

// The actions of acts. Those of messages are the verdicts' words.
const (
	ActionBan     Action = "ban"     // a source is banned
	ActionExtend  Action = "extend"  // a ban lasts longer, or rests on better grounds, than before
	ActionUnban   Action = "unban"   // a ban was lifted before its end
	ActionExpire  Action = "expire"  // a ban's time is over
	ActionEvict   Action = "evict"   // a ban made room for another in a full table
	ActionNotice  Action = "notice"  // the policy told the administrator something
	ActionCommand Action = "command" // a person had something changed
)

// Actions returns all actions, those of messages first.
func Actions() []string {
	var all []string
	for v := policy.Pass; v <= policy.Hold; v++ {
		all = append(all, v.String())
	}
	for _, a := range []Action{ActionBan, ActionExtend, ActionUnban, ActionExpire, ActionEvict, ActionNotice, ActionCommand} {
		all = append(all, string(a))
	}
	return all
}

// Act is something that is remembered by itself. Its texts may come from strangers:
// whoever shows them escapes them.
type Act struct {
	Time    time.Time    `json:"time"`
	Node    string       `json:"node"`
	Action  Action       `json:"action"`
	Source  netip.Prefix `json:"source,omitzero"` // invalid: it is not about one
	Account string       `json:"account,omitempty"`
	Guard   string       `json:"guard,omitempty"`
	Reason  string       `json:"reason,omitempty"` // the word of a policy.Reason
	Until   time.Time    `json:"until,omitzero"`   // of a ban; zero: for ever
	By      string       `json:"by,omitempty"`     // who had it done
	Text    string       `json:"text,omitempty"`   // a sentence, a comment or a command line
	Failed  string       `json:"failed,omitempty"` // why a command did not succeed
}

// actOfChange makes an act of a change of the bans.
func actOfChange(c *ban.Change, now time.Time) Act {
	r := &c.Record
	a := Act{Time: now, Source: r.Prefix, Guard: r.Guard, Reason: r.Reason, By: r.Origin, Text: r.Comment}
	if r.Until != 0 {
		a.Until = time.Unix(0, r.Until)
	}
	switch {
	case c.Kind == ban.Added:
		a.Action, a.Time = ActionBan, time.Unix(0, r.Start)
	case c.Kind == ban.Extended:
		a.Action = ActionExtend
	case c.Kind == ban.Expired:
		a.Action = ActionExpire
	case c.Room:
		a.Action = ActionEvict
	default:
		a.Action = ActionUnban
	}
	return a
}

// actOfNotice makes an act of a notice; false: it is in the journal already, as a ban.
func actOfNotice(n *policy.Notice) (Act, bool) {
	a := Act{
		Time: time.Unix(0, n.Time), Action: ActionNotice, Account: n.Account, Guard: n.Reason.Guard(),
		Reason: n.Reason.String(), Text: n.Kind.String() + ": " + n.Text,
	}
	if n.Source.IsValid() {
		a.Source = netip.PrefixFrom(n.Source, n.Source.BitLen())
	}
	return a, n.Kind != policy.NoticeBan
}
