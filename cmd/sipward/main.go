// Command sipward is a SIP-aware reverse-proxy firewall in front of unmodified
// PBXes.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"sipward/admin"
)

// Exit codes: 0 done, 1 refused or not found, 2 wrong use, 3 cannot reach sipward.
const (
	exitRefused     = 1
	exitUsage       = 2
	exitUnreachable = 3
)

// errUsage marks errors in how a command was called.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends what does not hear of the first
	code := execute(ctx, newRoot(), os.Args[1:])
	stop()
	os.Exit(code)
}

// execute runs a command line and returns the exit code.
func execute(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(root.ErrOrStderr(), "sipward:", err)
	switch {
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, admin.ErrUnreachable):
		return exitUnreachable
	}
	return exitRefused
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "sipward",
		Short: "SIP-aware reverse-proxy firewall in front of unmodified PBXes",
		Long: `sipward stands in front of one or more PBXes, looks at every SIP request and
response, and forwards what should pass.

To see what it does, on this machine and with nothing else installed:

  sipward demo

To protect a PBX, write a configuration file (its one required key is pbx) and:

  sipward check --config FILE
  sipward run   --config FILE`,
		Args:          knownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w; see '%s --help'", errUsage, err, cmd.CommandPath())
	})
	root.AddCommand(newRun(), newDemo(), newCheck(), newStatus(), newReload(), newVersion(),
		newList(), newBan(), newUnban(), newAllow(), newDeny(), newExplain(), newFollow(), newReport(), newKernel(), newNotify(), newTransparent(), newToken(), newTop())
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}

// knownCommand refuses a first word that is no command.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "see 'sipward --help'"
	if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		hint = fmt.Sprintf("did you mean %q?", s[0])
	}
	return fmt.Errorf("%w: there is no command %q; %s", errUsage, args[0], hint)
}

// noArgs refuses arguments that a command does not take.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: '%s' takes no argument %q; see '%s --help'", errUsage, cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return nil
}
