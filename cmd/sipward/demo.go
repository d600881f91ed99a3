package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"sipward/admin"
	"sipward/cmd/sipward/internal/demo"
	"sipward/conf"
	"sipward/policy/event"
)

func newDemo() *cobra.Command {
	var noScript bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See sipward work on this machine, with an embedded PBX and nothing else",
		Long: `See sipward work on this machine: an embedded PBX, sipward in front of it, and a live
view of what passes and what is dropped, and why, here and in the dashboard, which the
first link that it prints opens in a browser. A short scripted round shows a good
phone, a password guesser and a scanner; then your own softphone can register and call.

Everything stays on the loopback interface. Ctrl-C ends it.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := os.MkdirTemp("", "sipward-demo-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			// Warnings are about what the demonstration itself shows.
			log := newLogger(cmd.ErrOrStderr(), conf.LogText, slog.LevelError, false)
			return demo.Run(cmd.Context(), demo.Options{
				Out: cmd.OutOrStdout(), Script: !noScript,
				Start: func(s demo.Setup) (demo.Edge, error) { return demoEdge(s, dir, log) },
			})
		},
	}
	cmd.Flags().BoolVar(&noScript, "no-script", false, "do not play the scripted round, only wait for softphones")
	return cmd
}

// demoEdge is the real sipward with the demonstration's configuration; what it has
// to keep it keeps in dir.
func demoEdge(s demo.Setup, dir string, log *slog.Logger) (demo.Edge, error) {
	// The name keeps it from a real sipward's sets, which would be taken for its own remains.
	token, hash := admin.NewToken()
	known := conf.Token{Name: "demo", Role: conf.TokenWrite, Hash: hash}
	socket := filepath.Join(dir, "control.sock")
	text := fmt.Sprintf("%scontrol: {socket: %q, listen: [%q], tokens: [%q]}\nstate_dir: %q\nkernel: {backend: none, name: sipwarddemo}\n",
		s.YAML(), socket, s.Dashboard, known, dir)
	c, err := conf.Parse("demo", []byte(text), nil)
	if err != nil {
		return demo.Edge{}, err
	}
	full := &configuration{conf: c}
	if err := full.loadFiles(); err != nil {
		return demo.Edge{}, err
	}
	events := new(event.Bus)
	e, err := newEdge(full, log, events)
	if err != nil {
		return demo.Edge{}, err
	}
	return demo.Edge{
		Events: events, Run: func(ctx context.Context) error { return e.Run(ctx) },
		Program: os.Args[0], Socket: socket,
		Page: fmt.Sprintf("http://%s%s", s.Dashboard, e.page.Link(token)), Token: token,
	}, nil
}
