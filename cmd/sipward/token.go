package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"sipward/admin"
	"sipward/conf"
)

func newToken() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make tokens for the API over TCP and the dashboard",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTokenNew())
	return cmd
}

func newTokenNew() *cobra.Command {
	var role string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "new --role read|write NAME",
		Short: "Make a token, and the line for control.tokens that lets it in",
		Long: `Make a token, and the line for control.tokens in the configuration that lets it in after
'sipward reload'. The token is shown this once and kept nowhere; the line holds its hash
alone. NAME says in the log and the journal who did what: give each person and each
program a token of its own.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%w: '%s' takes the name of the token and nothing else; see '%s --help'", errUsage, cmd.CommandPath(), cmd.CommandPath())
			}
			token, hash := admin.NewToken()
			t := conf.Token{Name: args[0], Role: conf.TokenRole(role), Hash: hash}
			if err := t.Check(); err != nil {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return printJSON(out, map[string]string{"token": token, "line": t.String()})
			}
			_, err := fmt.Fprintf(out, "token, shown only now:\n\n  %s\n\nfor the configuration:\n\n  control:\n    tokens:\n      - %s\n", token, t)
			return err
		},
	}
	cmd.Flags().StringVar(&role, "role", "", "what it is good for: `read` to see everything, write to change things, too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	return cmd
}
