package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sipward/admin"
	"sipward/conf"
	"sipward/report"
)

// socketVariable is the environment variable of control.socket, which sipward run heeds, too.
const socketVariable = "SIPWARD_CONTROL__SOCKET"

// controlFlags adds --socket, and --json if the command has something to print.
func controlFlags(cmd *cobra.Command, socket *string, asJSON *bool) {
	where := cmp.Or(os.Getenv(socketVariable), conf.Default().Control.Socket)
	cmd.Flags().StringVar(socket, "socket", where, "control socket of the running sipward, a `path`; also in "+socketVariable)
	if asJSON != nil {
		cmd.Flags().BoolVar(asJSON, "json", false, "print JSON for programs")
	}
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func newStatus() *cobra.Command {
	var socket string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what a running sipward does and has counted",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := admin.NewClient(socket).Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), s)
			}
			return printStatus(forPeople(cmd.OutOrStdout()), &s)
		},
	}
	controlFlags(cmd, &socket, &asJSON)
	return cmd
}

func printStatus(out io.Writer, s *admin.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "sipward\t%s, %s mode, process %d, up %s\n", s.Version, s.Mode, s.PID, time.Since(s.Started).Round(time.Second))
	if s.Config != "" {
		fmt.Fprintf(w, "config\t%s\n", s.Config)
	}
	for _, l := range s.Outside {
		fmt.Fprintf(w, "outside\t%s\n", l)
	}
	for _, l := range s.Inside {
		fmt.Fprintf(w, "inside\t%s\n", l)
	}
	for _, p := range s.PBX {
		state := "up"
		if !p.Up {
			state = "DOWN: " + p.Why
		}
		fmt.Fprintf(w, "pbx\t%s  weight %d  %s\n", p.Address, p.Weight, state)
	}
	for _, c := range s.Certificates {
		fmt.Fprintf(w, "certificate\t%s\n", certificateLine(&c))
	}
	fmt.Fprintf(w, "lists\t%d allowed, %d denied, %d trunks\n", s.Allow, s.Deny, s.Trunks)
	printProtection(w, s)
	for _, u := range s.UDP {
		fmt.Fprintf(w, "udp\t%s  received %d, sent %d, send errors %d, lost in the receive queue %d\n",
			u.Listener, u.Received, u.Sent, u.SendErrors, u.QueueDrops)
	}
	fmt.Fprintf(w, "tcp\topen %d, accepted %d, refused %d, too slow %d, idle %d, framing errors %d\n",
		s.TCP.Open, s.TCP.Accepted, s.TCP.Refused, s.TCP.Slow, s.TCP.Idle, s.TCP.Faults)
	if d := s.DTLS; d != nil {
		fmt.Fprintf(w, "dtls\topen %d, accepted %d, refused %d, failed handshakes %d, idle %d, cookies %d, malformed %d, strays %d, too long %d, lost in a queue %d\n",
			d.Open, d.Accepted, d.Refused, d.Failed, d.Idle, d.Cookies, d.Malformed, d.Strays, d.Oversize, d.Lost)
	}
	if r := &s.Retransmit; r.Used() {
		fmt.Fprintf(w, "retransmit\ttransactions %d (%d bytes), sent again %d by timers and %d for repeats, absorbed %d, timed out %d, refused %d\n",
			r.Transactions, r.Bytes, r.Timers, r.Replays, r.Absorbed, r.TimedOut, r.Refused)
	}
	if f := s.TFTP; f != nil {
		fmt.Fprintf(w, "tftp\t%s to %s: open %d (%d unproven), completed %d, failed %d, cut %d, evicted %d, %s limited\n",
			strings.Join(f.Listen, " "), safe(f.Server), f.Open, f.HalfOpen, f.Completed, f.Failed, f.Cut, f.Evicted, count(f.Limited, "source", "sources"))
	}
	printDNS(w, s.DNS)
	printCounts(w, "messages", s.Reasons)
	printCounts(w, "malformed", s.Faults)
	printCounts(w, "answers", s.Replies)
	const latest = 5
	for _, n := range s.Notices[max(len(s.Notices)-latest, 0):] {
		about := n.Source
		if about == "" {
			about = safe(n.Account)
		}
		fmt.Fprintf(w, "notice\t%s %s: %s\n", clock(n.Time), strings.TrimSpace(n.Kind+" "+about), safe(n.Text))
	}
	return w.Flush()
}

func certificateLine(c *admin.Certificate) string {
	text := safe(c.Source) + " " + ofNames(c.Names)
	if !c.Until.IsZero() {
		text += fmt.Sprintf("  until %s, %s left", clock(c.Until), count(c.DaysLeft, "day", "days"))
	}
	if c.Warning != "" {
		text += "  WARNING: it " + safe(c.Warning)
	}
	return text
}

func printDNS(w io.Writer, d *admin.DNS) {
	if d == nil {
		return
	}
	fmt.Fprintf(w, "dns\t%s, protection %s: %d from the cache, %d asked for, %d out of date, %d failed; %s, %d bytes; in flight %d, connections %d\n",
		strings.Join(d.Listen, " "), d.Protection, d.Hits, d.Misses, d.Stale, d.Failures, count(d.Entries, "answer", "answers"), d.Bytes, d.InFlight, d.Connections)
	for _, u := range d.Upstreams {
		state := "up"
		if !u.Up {
			state = "DOWN since " + clock(u.Since) + ": " + safe(u.Why)
		}
		fmt.Fprintf(w, "dns upstream\t%s  asked %d, failed %d, forged replies %d  %s\n", u.Address, u.Asked, u.Failed, u.Foreign, state)
	}
}

func printProtection(w io.Writer, s *admin.Status) {
	b := &s.Bans
	fmt.Fprintf(w, "bans\t%d for a time (%d of them unproven), %d for ever, %d by command; %s in good standing\n",
		b.Dynamic, b.Unproven, b.Permanent, b.Manual, count(b.GoodSources, "source", "sources"))
	if b.Quarantines > 0 {
		fmt.Fprintf(w, "quarantine\t%s shut out from sources in good standing\n", count(b.Quarantines, "account", "accounts"))
	}
	for _, g := range s.Guards {
		text := fmt.Sprintf("%s  messages stopped %d, bans in force %d", g.Action, g.Messages, g.Bans)
		if g.Would > 0 {
			text += fmt.Sprintf(", would have acted %s", count(int(g.Would), "time", "times"))
		}
		fmt.Fprintf(w, "guard\t%s: %s\n", g.Name, text)
	}
	for _, f := range s.Breaker {
		if f.Open {
			fmt.Fprintf(w, "BREAKER\tautomatic bans (%s) have stopped since %s: more than %d within a minute\n", f.Name, clock(f.Since), f.Limit)
		}
	}
	fmt.Fprintf(w, "kernel\t%s\n", kernelLine(&s.Kernel))
	for i := range s.Notify.Channels {
		fmt.Fprintf(w, "notify\t%s\n", notifyLine(&s.Notify.Channels[i]))
	}
	for i := range s.Reports {
		fmt.Fprintf(w, "report\t%s\n", scheduleLine(&s.Reports[i]))
	}
	for _, a := range s.KnownPlaces {
		fmt.Fprintf(w, "attacked\t%s is let in only from where it has registered before\n", safe(a))
	}
	switch st := &s.Store; {
	case !st.OK:
		fmt.Fprintf(w, "STORE\t%s cannot be used since %s, %d changes wait: %s\n", st.Path, clock(st.Since), st.Pending, safe(st.Error))
	case st.SetAside != "":
		fmt.Fprintf(w, "store\t%s was damaged; the old one is %s\n", st.Path, st.SetAside)
	default:
		fmt.Fprintf(w, "store\t%s\n", st.Path)
	}
	printJournal(w, s.Journal)
}

// scheduleLine is a scheduled report in one line.
func scheduleLine(r *report.ScheduleStatus) string {
	text := fmt.Sprintf("%s %s by %s: next %s, ", r.Every, r.At, r.Channel, clock(r.Next))
	if r.Last.IsZero() {
		text += "none mailed yet"
	} else {
		text += "last mailed " + clock(r.Last)
	}
	if r.GivenUp > 0 {
		text += fmt.Sprintf(", GIVEN UP %d", r.GivenUp)
	}
	if r.Error != "" {
		text += ", FAILING: " + safe(r.Error)
	}
	if !r.Again.IsZero() {
		text += fmt.Sprintf(" (that of %s is tried again %s)", clock(r.Due), clock(r.Again))
	}
	return text
}

func printJournal(w io.Writer, j *admin.Journal) {
	if j == nil {
		return
	}
	if !j.OK {
		fmt.Fprintf(w, "JOURNAL\t%s cannot be used since %s, %d records wait: %s\n", j.Path, clock(j.Since), j.Waiting, safe(j.Error))
	}
	fmt.Fprintf(w, "journal\t%s  messages counted %d, lost %d\n", j.Path, j.Events, j.LostEvents)
	if j.SetAside != "" {
		fmt.Fprintf(w, "journal\twas damaged; the old one is %s\n", j.SetAside)
	}
}

func printCounts(w io.Writer, title string, counts map[string]uint64) {
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(w, "%s\t%s %d\n", title, name, counts[name])
	}
}

func newReload() *cobra.Command {
	var socket string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have a running sipward read its configuration again",
		Long: `Have a running sipward read its configuration and its lists again, as SIGHUP does.
When something in them is wrong, the command says what and sipward goes on as it was.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := admin.NewClient(socket).Reload(cmd.Context())
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				return printJSON(out, r)
			}
			for _, c := range r.Changed {
				fmt.Fprintln(out, "changed:", c)
			}
			for _, c := range r.Restart {
				fmt.Fprintln(out, "changes at the next restart:", c)
			}
			for _, w := range r.Warnings {
				fmt.Fprintln(out, "WARNING:", safe(w))
			}
			_, err = fmt.Fprintln(out, "Reloaded.")
			return err
		},
	}
	controlFlags(cmd, &socket, &asJSON)
	return cmd
}
