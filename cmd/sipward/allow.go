package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"sipward/admin"
)

func newAllow() *cobra.Command {
	return entryCommand(admin.Allow, &cobra.Command{
		Use:   "allow ADDRESS",
		Short: "Put an address or prefix on the allow list, or take it off",
		Long: `Put an address or prefix on the allow list: it is never limited, denied or banned,
whatever it does. It stays there after a restart. --remove takes it off again.

The allow lists of the configuration and of files stay as they are; sipward list allow
says where an entry comes from.`,
		Example: `  sipward allow 192.0.2.10 --comment "head office"
  sipward allow --remove 192.0.2.10`,
	})
}

func newDeny() *cobra.Command {
	return entryCommand(admin.Deny, &cobra.Command{
		Use:   "deny ADDRESS",
		Short: "Put an address or prefix on the deny list, or take it off",
		Long: `Put an address or prefix on the deny list: whatever it sends is dropped before it is
read. It stays there after a restart. --remove takes it off again.

What is on the allow list, a trunk or a PBX is not put there without --force, and is
let in even then, as long as it is.`,
		Example: `  sipward deny 198.51.100.0/24 --comment "scanners"
  sipward deny --remove 198.51.100.0/24`,
	})
}

// entryCommand completes the command of a list.
func entryCommand(list admin.List, cmd *cobra.Command) *cobra.Command {
	var socket string
	var asJSON, remove bool
	var q admin.EntryRequest
	cmd.Args = oneAddress
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q.Address = args[0]
		if remove && (q.Comment != "" || q.Force) {
			return fmt.Errorf("%w: --remove takes no other flag", errUsage)
		}
		c := admin.NewClient(socket)
		var done admin.EntryChange
		var err error
		if remove {
			done, err = c.RemoveEntry(cmd.Context(), list, q.Address)
		} else {
			done, err = c.AddEntry(cmd.Context(), list, q)
		}
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if asJSON {
			return printJSON(out, done)
		}
		printNotes(out, done.Notes)
		text := "%s is on the %s list.\n"
		if remove {
			text = "%s is taken off the %s list.\n"
		}
		_, err = fmt.Fprintf(out, text, show(done.Entry.Prefix), list)
		return err
	}
	controlFlags(cmd, &socket, &asJSON)
	cmd.Flags().BoolVar(&remove, "remove", false, "take it off the list")
	cmd.Flags().StringVar(&q.Comment, "comment", "", "what it is, for those who read the list later (a `text`)")
	if list == admin.Deny {
		cmd.Flags().BoolVar(&q.Force, "force", false, "even if it is on the allow list, a trunk or a PBX")
	}
	return cmd
}
