package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sipward/admin"
)

func newFollow() *cobra.Command {
	var socket string
	var asJSON, stopped bool
	cmd := &cobra.Command{
		Use:   "follow [ADDRESS]",
		Short: "Watch messages and bans as they happen, of everybody or of one address",
		Long: `Watch messages and bans as they happen: what has become of each message, and why. With an
address or a prefix it shows what comes from there, and what PBXes send there: who looks
for the reason why one phone is refused follows its public address while it tries.
What the kernel drops for a banned source never reaches sipward: ask sipward explain first.

When more than about 200 messages come in a second, the rest is counted. Ctrl-C ends it.`,
		Example: `  sipward follow 192.0.2.7
  sipward follow --stopped`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return oneAddress(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			q := admin.EventQuery{Address: strings.Join(args, "")}
			if stopped {
				q.Verdicts = []string{"drop", "reject", "hold"}
			}
			to := followText(cmd.OutOrStdout())
			if asJSON {
				to = followJSON(cmd.OutOrStdout())
			}
			return admin.NewClient(socket).Follow(cmd.Context(), to, q)
		},
	}
	controlFlags(cmd, &socket, nil)
	cmd.Flags().BoolVar(&stopped, "stopped", false, "of the messages only those that did not pass")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line for programs")
	return cmd
}

// followJSON prints what happens for programs: an object with one key, which says what it is.
func followJSON(out io.Writer) admin.Events {
	enc := json.NewEncoder(out)
	put := func(what string, v any) {
		_ = enc.Encode(map[string]any{what: v}) // a reader who has gone ends it with a signal
	}
	return admin.Events{
		Message: func(m admin.Event) { put("message", m) },
		Ban:     func(c admin.BanChange) { put("ban", c) },
		Lost:    func(l admin.Lost) { put("lost", l) },
	}
}

// followText prints what happens for people:
//
//	00:51:53.120  pass    REGISTER      192.0.2.7:5060 udp           1001@example.com
//	00:51:53.122  pass    REGISTER 401  PBX → 192.0.2.7:5060 udp     1001@example.com
//	00:51:54.007  drop    -             192.0.2.7:5060 udp           ban
func followText(out io.Writer) admin.Events {
	colour := colours(out)
	line := func(paint string, t time.Time, format string, args ...any) {
		text := t.Local().Format("15:04:05.000") + "  " + strings.TrimRight(fmt.Sprintf(format, args...), " ")
		if colour && paint != "" {
			text = "\x1b[" + paint + "m" + text + "\x1b[0m"
		}
		fmt.Fprintln(out, text)
	}
	return admin.Events{
		Message: func(m admin.Event) {
			paint := ""
			if m.Verdict != "pass" {
				paint = yellow
			}
			line(paint, m.Time, "%-6s  %-14s  %-38s  %s", m.Verdict, messageName(&m), messageWay(&m), messageWhy(&m))
		},
		Ban: func(c admin.BanChange) {
			line(red, time.Now(), "ban %s: %s, %s, %s", c.Change, show(c.Ban.Prefix), why(&c.Ban), until(&c.Ban, time.Now()))
		},
		Lost: func(l admin.Lost) {
			line("", time.Now(), "%s too many to be looked at", count(int(l.Messages), "message was", "messages were"))
		},
	}
}

func messageName(m *admin.Event) string {
	switch {
	case m.Method == "":
		return "-" // nobody has read it
	case m.Status != 0:
		return fmt.Sprint(safe(m.Method), " ", m.Status)
	}
	return safe(m.Method)
}

func messageWay(m *admin.Event) string {
	from := m.Source
	switch {
	case m.Direction == "from-pbx" && m.Client != "":
		from = "PBX → " + m.Client
	case m.Direction == "from-pbx":
		from = "PBX " + m.Source
	}
	return from + " " + m.Transport
}

// messageWhy is the reason of what did not simply pass, and the account.
func messageWhy(m *admin.Event) string {
	var parts []string
	if m.Reason != "pass" {
		parts = append(parts, m.Reason)
	}
	if m.Detail != "" {
		parts = append(parts, "("+safe(m.Detail)+")")
	}
	return strings.Join(append(parts, safe(m.Account)), " ")
}
