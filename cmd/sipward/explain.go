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
	"sipward/conf"
)

func newExplain() *cobra.Command {
	var socket string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain ADDRESS",
		Short: "Tell what happens to an address, why, and how to change it",
		Long: `Tell everything that a running sipward knows about an address: whether it is let in and
why, the list entries that it is on and where they come from, its bans with what they
rest on, what the guards have counted, and the commands that let it in again.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if _, err := netip.ParseAddr(args[0]); err == nil {
					return nil
				}
			}
			return fmt.Errorf("%w: '%s' needs one address, such as 192.0.2.10 or 2001:db8::1, and no prefix; 'sipward list' shows the lists and bans", errUsage, cmd.CommandPath())
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			x, err := admin.NewClient(socket).Explain(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), x)
			}
			return printExplanation(forPeople(cmd.OutOrStdout()), &x, time.Now())
		},
	}
	controlFlags(cmd, &socket, &asJSON)
	return cmd
}

func printExplanation(out io.Writer, x *admin.Explanation, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	address := x.Address.String()
	if !x.Source.IsSingleIP() {
		address += ", of the source " + x.Source.String()
	}
	fmt.Fprintf(w, "address\t%s\n", address)
	verdict := "let in"
	if x.Verdict != "pass" {
		verdict = "DROPPED"
	}
	fmt.Fprintf(w, "verdict\t%s (%s): %s\n", verdict, x.Reason, x.Why)
	standing := x.Standing
	if x.StandingWhy != "" {
		standing += ": " + safe(x.StandingWhy)
	}
	fmt.Fprintf(w, "standing\t%s\n", standing)
	if x.DNS != "" {
		fmt.Fprintf(w, "dns\t%s\n", x.DNS)
	}
	for _, m := range x.Lists {
		text := fmt.Sprintf("%s, from %s", show(m.Prefix), safe(m.Origin))
		if m.Comment != "" {
			text += ": " + safe(m.Comment)
		}
		fmt.Fprintf(w, "%s list\t%s\n", m.List, text)
	}
	printCounted(w, x, now)
	for _, b := range x.Bans {
		printBan(w, x, &b, now)
	}
	printMessages(w, "", x.Messages)
	for _, u := range x.Undo {
		fmt.Fprintf(w, "to let it in\t%s\n", safe(u))
	}
	return w.Flush()
}

func printCounted(w io.Writer, x *admin.Explanation, now time.Time) {
	if x.Blocks > 0 && x.BlockThreshold > 0 {
		fmt.Fprintf(w, "ladder\t%s; with %d it is banned for ever\n", count(x.Blocks, "earlier ban counts", "earlier bans count"), x.BlockThreshold)
	}
	for _, g := range x.Guards {
		text := fmt.Sprintf("%d %s", g.Count, g.What)
		if g.Limit > 0 {
			text = fmt.Sprintf("%d of %d %s", g.Count, g.Limit, g.What)
		}
		if g.Seconds > 0 {
			text += " within " + conf.ShowDuration(time.Duration(g.Seconds*float64(time.Second)))
		}
		if g.Account != "" {
			text += ", account " + safe(g.Account)
		}
		fmt.Fprintf(w, "%s\t%s\n", g.Guard, text)
	}
	for _, q := range x.Quarantines {
		fmt.Fprintf(w, "quarantine\taccount %s since %s, until %s (%s); the others from there go on\n", safe(q.Account), clock(q.Since), clock(q.Until), left(q.Until, now))
	}
}

func printBan(w io.Writer, x *admin.Explanation, b *admin.Ban, now time.Time) {
	of := ""
	if b.Prefix != x.Source {
		of = show(b.Prefix) + ", "
	}
	fmt.Fprintf(w, "ban\t%s%s, by %s, %s, %s\n", of, kind(b), why(b), since(b), until(b, now))
	if b.Blocks > 0 {
		fmt.Fprintf(w, "  ladder\tban %d of the last 30 days\n", b.Blocks)
	}
	if v := b.Evidence; v != nil {
		if v.By != "" {
			fmt.Fprintf(w, "  ordered by\t%s\n", safe(v.By))
		}
		printMessages(w, "  ", v.Messages)
	}
}

// printMessages prints messages that counted against a source.
func printMessages(w io.Writer, indent string, messages []admin.Message) {
	for _, m := range messages {
		parts := []string{clock(m.Time), m.Reason, safe(m.Method)}
		if m.Status != 0 {
			parts = append(parts, fmt.Sprint("answered ", m.Status))
		}
		if m.Account != "" {
			parts = append(parts, "account "+safe(m.Account))
		}
		if m.Nonce != "" {
			parts = append(parts, "nonce "+m.Nonce)
		}
		if m.Detail != "" {
			parts = append(parts, safe(m.Detail))
		}
		if !m.Proven {
			parts = append(parts, "unproven")
		}
		fmt.Fprintf(w, "%smessage\t%s\n", indent, strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), ", "))
		printText(w, m.Text)
	}
}

// printText prints the lines of a message.
func printText(w io.Writer, text string) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		fmt.Fprintf(w, "\t| %s\n", safe(strings.TrimRight(line, "\r\n")))
	}
}

func left(t, now time.Time) string {
	return conf.ShowDuration(max(t.Sub(now), 0).Round(time.Second))
}
