package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"sipward/admin"
	"sipward/conf"
	"sipward/policy/iplist"
)

func newBan() *cobra.Command {
	var socket string
	var asJSON bool
	var q admin.BanRequest
	cmd := &cobra.Command{
		Use:   "ban ADDRESS",
		Short: "Drop whatever an address or prefix sends",
		Long: `Drop whatever an address or prefix sends, for ever or for a time, and close its open
connections. The ban is on disk when the command returns.

An IPv6 address stands for its whole source (a /64 unless ipv6_source_prefix says
otherwise); write ADDRESS/128 for the one address.

What is on the allow list, a trunk or a PBX is not banned without --force, and is let
in even then, as long as it is.`,
		Example: `  sipward ban 192.0.2.7 --for 1h --reason "calls premium numbers"
  sipward ban 2001:db8::/48`,
		Args: oneAddress,
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Address = args[0]
			if q.For != "" {
				if _, err := conf.ParseBlockTime(q.For); err != nil {
					return fmt.Errorf("%w: --for: %w", errUsage, err)
				}
			}
			done, err := admin.NewClient(socket).Ban(cmd.Context(), q)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return printJSON(out, done)
			}
			printNotes(out, done.Notes)
			_, err = fmt.Fprintf(out, "%s is banned %s.\n", show(done.Ban.Prefix), until(&done.Ban, time.Now()))
			return err
		},
	}
	controlFlags(cmd, &socket, &asJSON)
	cmd.Flags().StringVar(&q.For, "for", "", "how long, such as 90m, 1h or 30d; without it, for ever (a `time`)")
	cmd.Flags().StringVar(&q.Reason, "reason", "", "why, for those who ask later (a `text`)")
	cmd.Flags().BoolVar(&q.Force, "force", false, "even if it is on the allow list, a trunk or a PBX")
	return cmd
}

func newUnban() *cobra.Command {
	var socket string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "unban ADDRESS",
		Short: "Lift the ban of an address or prefix",
		Long: `Lift the ban of an address or prefix, whoever made it, forget the earlier bans that
count towards a permanent one and what the guards have counted, and let in the accounts
that were shut out from there. What has been lifted stays so after a restart.

A source that goes on as before is banned again; put it on the allow list to keep it in.`,
		Args: oneAddress,
		RunE: func(cmd *cobra.Command, args []string) error {
			done, err := admin.NewClient(socket).Unban(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return printJSON(out, done)
			}
			for _, b := range done.Removed {
				fmt.Fprintf(out, "%s is no longer banned (%s, %s).\n", show(b.Prefix), kind(&b), why(&b))
			}
			if done.Forgotten > 0 {
				fmt.Fprintf(out, "Forgotten: %s.\n", count(done.Forgotten, "earlier ban", "earlier bans"))
			}
			if done.Quarantines > 0 {
				fmt.Fprintf(out, "No longer shut out from there: %s.\n", count(done.Quarantines, "account", "accounts"))
			}
			printNotes(out, done.Notes)
			return nil
		},
	}
	controlFlags(cmd, &socket, &asJSON)
	return cmd
}

// printNotes prints what a person should know beside the result.
func printNotes(w io.Writer, notes []string) {
	for _, n := range notes {
		fmt.Fprintln(w, "Note:", safe(n))
	}
}

// oneAddress wants one address or prefix.
func oneAddress(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%w: '%s' needs one address or prefix; see '%s --help'", errUsage, cmd.CommandPath(), cmd.CommandPath())
	}
	if _, err := iplist.ParsePrefix(args[0]); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return nil
}

// safe makes text that may come from a stranger fit for a terminal.
func safe(s string) string {
	if !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return s
	}
	return strings.Trim(strconv.QuoteToGraphic(s), `"`)
}
