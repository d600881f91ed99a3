package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sipward/admin"
	"sipward/notify"
)

func newNotify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "notify",
		Short: "See or try the ways in which administrators are told of attacks",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newNotifyTest(), newNotifyStatus())
	return cmd
}

func newNotifyTest() *cobra.Command {
	var socket string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test NAME",
		Short: "Send a test by a channel at once, and say what came of it",
		Long: `Send a test by a channel of notify.channels at once, past what waits there and past its
limit, and say whether the other side has taken it.`,
		Example: "  sipward notify test ops-mail",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%w: '%s' needs the name of a channel; see '%s --help'", errUsage, cmd.CommandPath(), cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			done, err := admin.NewClient(socket).TestNotification(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return printJSON(out, done)
			}
			_, err = fmt.Fprintf(out, "%s (%s) works: %s has taken it within %s.\n", done.Channel, done.Type, safe(done.To), done.Took.Round(time.Millisecond))
			return err
		},
	}
	controlFlags(cmd, &socket, &asJSON)
	return cmd
}

func newNotifyStatus() *cobra.Command {
	var socket string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what each channel has sent, what waits, and what does not work",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := admin.NewClient(socket).Notifications(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), s)
			}
			return printNotify(cmd.OutOrStdout(), &s)
		},
	}
	controlFlags(cmd, &socket, &asJSON)
	return cmd
}

func printNotify(out io.Writer, s *notify.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "attacks\t%d go on\n", s.Attacks)
	if s.Lost > 0 {
		fmt.Fprintf(w, "LOST\t%s, because too many came at once\n", count(int(s.Lost), "notice", "notices"))
	}
	if len(s.Channels) == 0 {
		fmt.Fprintln(w, "channels\tnone: nobody is told; write them under notify.channels")
	}
	for i := range s.Channels {
		c := &s.Channels[i]
		fmt.Fprintf(w, "%s\t%s to %s\n", c.Name, c.Type, safe(c.To))
		fmt.Fprintf(w, "\tdelivered %d, waiting %d, failed attempts %d\n", c.Delivered, c.Waiting, c.Failures)
		if lost := c.Full + c.Expired + c.Refused; lost > 0 {
			fmt.Fprintf(w, "\tLOST %d: no room %d, waited too long %d, refused %d\n", lost, c.Full, c.Expired, c.Refused)
		}
		if !c.Last.IsZero() {
			fmt.Fprintf(w, "\tlast delivered %s\n", clock(c.Last))
		}
		if c.Waiting > 0 {
			fmt.Fprintf(w, "\tthe oldest waits since %s\n", clock(c.Oldest))
		}
		printTroubles(w, c)
	}
	return w.Flush()
}

func printTroubles(w io.Writer, c *notify.ChannelStatus) {
	if c.Error != "" {
		fmt.Fprintf(w, "\tFAILING since %s: %s\n", clock(c.Since), safe(c.Error))
		if !c.Next.IsZero() {
			fmt.Fprintf(w, "\ttried again %s\n", clock(c.Next))
		}
	}
	if c.StoreError != "" {
		fmt.Fprintf(w, "\tNOT ON DISK: %s\n", safe(c.StoreError))
	}
}

// notifyLine is a channel in one line.
func notifyLine(c *notify.ChannelStatus) string {
	text := fmt.Sprintf("%s (%s): delivered %d, waiting %d", c.Name, c.Type, c.Delivered, c.Waiting)
	if lost := c.Full + c.Expired + c.Refused; lost > 0 {
		text += fmt.Sprintf(", LOST %d", lost)
	}
	if c.Error != "" {
		text += fmt.Sprintf(", FAILING since %s: %s", clock(c.Since), safe(c.Error))
	}
	return text
}
