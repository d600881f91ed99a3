package main

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sipward/admin"
	"sipward/policy/iplist"
)

// listed is what list prints for programs; the lists that were not asked for are
// left out.
type listed struct {
	Allow *[]admin.Entry `json:"allow,omitempty"`
	Deny  *[]admin.Entry `json:"deny,omitempty"`
	Bans  *[]admin.Ban   `json:"bans,omitempty"`

	Quarantines *[]admin.Quarantine `json:"quarantines,omitempty"`
}

const (
	listBans        = "bans"
	listQuarantines = "quarantines"
)

// wanted is what list is asked for.
type wanted struct {
	names    []string     // of lists
	about    netip.Prefix // what is on them has an address in common with it; zero: all
	reasons  []string     // of bans; none: all
	accounts []string     // in quarantine; none: all
}

// read takes the command line: the name of a list and a prefix, both or one or none. What is
// asked for by --reason or --account has only one list.
func (q *wanted) read(args []string) (err error) {
	all := []string{listAllow, listDeny, listBans, listQuarantines}
	if q.names = all; len(args) > 0 && slices.Contains(all, args[0]) {
		q.names, args = args[:1], args[1:]
	}
	if len(args) > 1 {
		return fmt.Errorf("%w: %q is too much; list takes the name of a list and one address or prefix, or one of the two, or none", errUsage, args[1])
	}
	if len(args) == 1 {
		if q.about, err = iplist.ParsePrefix(args[0]); err != nil {
			return fmt.Errorf("%w: %w; the lists are %s", errUsage, err, strings.Join(all, ", "))
		}
	}
	for _, only := range []struct {
		flag, list string
		set        bool
	}{{"reason", listBans, len(q.reasons) > 0}, {"account", listQuarantines, len(q.accounts) > 0}} {
		if !only.set {
			continue
		}
		if !slices.Contains(q.names, only.list) {
			return fmt.Errorf("%w: --%s is for %s; the list %s has none", errUsage, only.flag, only.list, q.names[0])
		}
		q.names = []string{only.list}
	}
	return nil
}

func newList() *cobra.Command {
	var socket string
	var asJSON bool
	var q wanted
	cmd := &cobra.Command{
		Use:   "list [allow|deny|bans|quarantines] [ADDRESS]",
		Short: "Show who is always let in, never let in, and banned",
		Long: `Show the allow list, the deny list, the bans and the quarantines of a running sipward,
or one of them. Each entry of a list says where it comes from: config is the
configuration, FILE:LINE a list file, command the commands allow and deny. A quarantine
shuts out one account from one source, which goes on.

With an address or prefix, only what covers it or is in it is shown. What is banned is a
source, not an account; which accounts a ban is for, sipward explain shows.`,
		Example: `  sipward list bans 198.51.100.0/24
  sipward list bans --reason scanner,honey
  sipward list --account 1001`,
		ValidArgs: []string{listAllow, listDeny, listBans, listQuarantines},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := q.read(args); err != nil {
				return err
			}
			var l listed
			for _, name := range q.names {
				if err := l.fetch(cmd, admin.NewClient(socket), name, &q); err != nil {
					return err
				}
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), l)
			}
			return l.print(cmd.OutOrStdout(), time.Now())
		},
	}
	controlFlags(cmd, &socket, &asJSON)
	cmd.Flags().StringSliceVar(&q.reasons, "reason", nil, "only bans for these `reasons`")
	cmd.Flags().StringSliceVar(&q.accounts, "account", nil, "only quarantines of these `accounts`, with or without @domain")
	return cmd
}

func (l *listed) fetch(cmd *cobra.Command, c *admin.Client, name string, q *wanted) error {
	switch name {
	case listBans:
		bans, err := c.Bans(cmd.Context(), admin.BanQuery{Prefix: q.about, Reasons: q.reasons})
		l.Bans = &bans
		return err
	case listQuarantines:
		all, err := c.Quarantines(cmd.Context())
		all = slices.DeleteFunc(all, func(x admin.Quarantine) bool { return !q.fits(x.Source) || !q.asksFor(x.Account) })
		l.Quarantines = &all
		return err
	}
	entries, err := c.Entries(cmd.Context(), admin.List(name))
	entries = slices.DeleteFunc(entries, func(x admin.Entry) bool { return !q.fits(x.Prefix) })
	if name == listAllow {
		l.Allow = &entries
	} else {
		l.Deny = &entries
	}
	return err
}

func (q *wanted) fits(p netip.Prefix) bool { return !q.about.IsValid() || q.about.Overlaps(p) }

// asksFor says whether an account is asked for.
func (q *wanted) asksFor(account string) bool {
	user, _, _ := strings.Cut(account, "@")
	return len(q.accounts) == 0 || slices.ContainsFunc(q.accounts, func(a string) bool { return strings.EqualFold(a, account) || strings.EqualFold(a, user) })
}

func (l *listed) print(out io.Writer, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if l.Allow != nil {
		printEntries(w, "allow list", *l.Allow)
	}
	if l.Deny != nil {
		printEntries(w, "deny list", *l.Deny)
	}
	if l.Bans != nil {
		printBans(w, *l.Bans, now)
	}
	if l.Quarantines != nil {
		printQuarantines(w, *l.Quarantines, now)
	}
	return w.Flush()
}

func printEntries(w io.Writer, title string, entries []admin.Entry) {
	fmt.Fprintf(w, "%s: %s\n", title, count(len(entries), "entry", "entries"))
	for _, x := range entries {
		comment := safe(x.Comment)
		if !x.Created.IsZero() {
			comment = clock(x.Created) + "  " + comment
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", show(x.Prefix), safe(x.Origin), comment)
	}
}

func printBans(w io.Writer, bans []admin.Ban, now time.Time) {
	fmt.Fprintf(w, "bans: %s\n", count(len(bans), "source", "sources"))
	for _, b := range bans {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", show(b.Prefix), kind(&b), why(&b), since(&b), until(&b, now))
	}
}

func printQuarantines(w io.Writer, all []admin.Quarantine, now time.Time) {
	fmt.Fprintf(w, "quarantines: %s\n", count(len(all), "account", "accounts"))
	for _, q := range all {
		fmt.Fprintf(w, "  %s\tfrom %s\tsince %s\tuntil %s (%s)\n", safe(q.Account), show(q.Source), clock(q.Since), clock(q.Until), left(q.Until, now))
	}
}

// kind says how a ban ends, and on what ground it stands.
func kind(b *admin.Ban) string {
	if !b.Proven {
		return b.Kind + ", unproven"
	}
	return b.Kind
}

// why says what a ban is for.
func why(b *admin.Ban) string {
	text := b.Guard
	if b.Comment != "" {
		text += ": " + safe(b.Comment)
	}
	return text
}

func since(b *admin.Ban) string { return "since " + clock(b.Start) }

func until(b *admin.Ban, now time.Time) string {
	if b.Until.IsZero() {
		return "for ever"
	}
	return fmt.Sprintf("until %s (%s)", clock(b.Until), left(b.Until, now))
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}

func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }
