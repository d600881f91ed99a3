package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sipward/admin"
)

// listed is what list prints for programs; the lists that were not asked for are
// left out.
type listed struct {
	Allow *[]admin.Entry `json:"allow,omitempty"`
	Deny  *[]admin.Entry `json:"deny,omitempty"`
	Bans  *[]admin.Ban   `json:"bans,omitempty"`
}

const listBans = "bans"

func newList() *cobra.Command {
	var socket string
	var asJSON bool
	names := []string{listAllow, listDeny, listBans}
	cmd := &cobra.Command{
		Use:   "list [allow|deny|bans]",
		Short: "Show who is always let in, never let in, and banned",
		Long: `Show the allow list, the deny list and the bans of a running sipward, or one of
them. Each entry of a list says where it comes from: config is the configuration,
FILE:LINE a list file, command the commands allow and deny.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && !slices.Contains(names, args[0]) {
				return fmt.Errorf("%w: there are the lists allow, deny and bans; name one, or none for all", errUsage)
			}
			return nil
		},
		ValidArgs: names,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = names
			}
			var l listed
			for _, name := range args {
				if err := l.fetch(cmd, admin.NewClient(socket), name); err != nil {
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
	return cmd
}

func (l *listed) fetch(cmd *cobra.Command, c *admin.Client, name string) error {
	if name == listBans {
		bans, err := c.Bans(cmd.Context())
		l.Bans = &bans
		return err
	}
	entries, err := c.Entries(cmd.Context(), admin.List(name))
	if name == listAllow {
		l.Allow = &entries
	} else {
		l.Deny = &entries
	}
	return err
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
