package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sipward/admin"
	"sipward/listsync/kernel"
)

func newKernel() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kernel",
		Short: "See, renew or remove what sipward has put into the kernel",
		Long: `See, renew or remove what sipward has put into the kernel: the sets of those who are
banned, allowed and in good standing, and the rules that use them.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		kernelCommand(&cobra.Command{
			Use:   "status",
			Short: "Show what the kernel holds, and whether it follows",
		}, (*admin.Client).Kernel),
		kernelCommand(&cobra.Command{
			Use:   "sync",
			Short: "Make all sets and rules anew, without a moment in which none is in force",
		}, (*admin.Client).SyncKernel),
		newKernelClear(),
	)
	return cmd
}

// kernelCommand completes a command that asks a running sipward and shows how the
// kernel is then.
func kernelCommand(cmd *cobra.Command, ask func(*admin.Client, context.Context) (kernel.Status, error)) *cobra.Command {
	var socket string
	var asJSON bool
	cmd.Args = noArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := ask(admin.NewClient(socket), cmd.Context())
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), s)
		}
		return printKernel(cmd.OutOrStdout(), &s)
	}
	controlFlags(cmd, &socket, &asJSON)
	return cmd
}

// newKernelClear is the one command that works without a running sipward, too.
func newKernelClear() *cobra.Command {
	var offline bool
	var name string
	cmd := kernelCommand(&cobra.Command{
		Use:   "clear",
		Short: "Remove all sets and rules of sipward, which then enforces bans alone",
		Long: `Remove all sets and rules of sipward from the kernel. A running sipward goes on without
them, until sipward kernel sync or its next start.

With --offline no sipward needs to run: it removes what one has left. That takes root.`,
	}, (*admin.Client).ClearKernel)
	online := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !offline {
			err := online(cmd, args)
			if errors.Is(err, admin.ErrUnreachable) {
				err = fmt.Errorf("%w If none runs, use --offline", err)
			}
			return err
		}
		if err := kernel.Remove(kernel.Config{Name: name}); err != nil {
			return err
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "Nothing of sipward is left in the kernel.")
		return err
	}
	cmd.Flags().BoolVar(&offline, "offline", false, "no sipward runs; remove what it has left")
	cmd.Flags().StringVar(&name, "name", kernel.DefaultName, "kernel.name of the sipward that has left it, for --offline")
	return cmd
}

// kernelLine is the mirror in one line.
func kernelLine(s *kernel.Status) string {
	text := string(s.Backend)
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	if s.Backend == kernel.BackendNone {
		return text
	}
	return fmt.Sprintf("%s, dropped %d of banned sources, %d of strangers", text, s.DroppedBans, s.DroppedStrangers)
}

func printKernel(out io.Writer, s *kernel.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "backend\t%s (configured: %s)\n", s.Backend, s.Configured)
	if s.Reason != "" {
		fmt.Fprintf(w, "NOT FOLLOWING\t%s\n", s.Reason)
	}
	fmt.Fprintf(w, "scope\t%s\n", s.Scope)
	limit := "no limit"
	if s.Strangers > 0 {
		limit = fmt.Sprintf("%d packets per second", s.Strangers)
	}
	fmt.Fprintf(w, "strangers\t%s\n", limit)
	for _, x := range s.Sets {
		fmt.Fprintf(w, "set %s\t%s", x.Name, count(x.Entries, "entry", "entries"))
		if x.Over > 0 {
			fmt.Fprintf(w, ", FULL: no room for %d more", x.Over)
		}
		if x.Pending > 0 {
			fmt.Fprintf(w, ", %d on their way", x.Pending)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "dropped\t%d packets of banned sources, %d of strangers\n", s.DroppedBans, s.DroppedStrangers)
	fmt.Fprintf(w, "made anew\t%s", count(int(s.Resyncs), "time", "times"))
	if !s.LastSync.IsZero() {
		fmt.Fprintf(w, ", last %s", clock(s.LastSync))
	}
	fmt.Fprintf(w, "\nrepaired\t%s", count(int(s.Repairs), "time", "times"))
	if !s.LastRepair.IsZero() {
		fmt.Fprintf(w, ", last %s", clock(s.LastRepair))
	}
	fmt.Fprintf(w, "\nfailed\t%s\n", count(int(s.Failures), "time", "times"))
	return w.Flush()
}
