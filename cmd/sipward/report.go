package main

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sipward/admin"
	"sipward/report"
)

func newReport() *cobra.Command {
	var socket, format, output, mail string
	var top int
	var acts bool
	words := map[string]*string{}
	lists := map[string]*[]string{}
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Count what happened, by source, account, reason and time",
		Long: `Count what happened: messages and what became of them, bans, commands and notices, within a
time range, filtered and grouped. Without a range it is the last 24 hours.

Messages are counted per source and minute, so a range is taken in whole minutes. acts are
bans, their ends, notices and commands; --acts lists them one by one, the latest first.

With --mail the running sipward mails the report, by a channel of notify.channels that is of
type smtp: the table as its text, and the HTML page beside it.`,
		Example: `  sipward report --last 24h --by source,reason --top 10
  sipward report --last 7d --by day --format html --output week.html
  sipward report --from 2026-01-05 --to 2026-01-06 --source 192.0.2.0/24 --by account
  sipward report --last 30d --acts --action ban,command
  sipward report --last 7d --by source,reason --mail ops-mail`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			values := url.Values{}
			for name, w := range words {
				if *w != "" {
					values.Set(name, *w)
				}
			}
			for name, l := range lists {
				if len(*l) > 0 {
					values[name] = *l
				}
			}
			if cmd.Flags().Changed("top") {
				values.Set("top", strconv.Itoa(top))
			}
			values.Set("acts", strconv.FormatBool(acts))
			q, err := report.ParseQuery(values, time.Now())
			if err != nil {
				return fmt.Errorf("%w: --%w", errUsage, err)
			}
			if !slices.Contains(report.Formats(), format) {
				return fmt.Errorf("%w: --format: %q is no format; there are %s", errUsage, format, strings.Join(report.Formats(), ", "))
			}
			if cmd.Flags().Changed("mail") {
				if cmd.Flags().Changed("format") || output != "" {
					return fmt.Errorf("%w: --mail goes without --format and --output: a mail has the table and the HTML page", errUsage)
				}
				return mailReport(cmd, socket, &q, mail)
			}
			r, err := admin.NewClient(socket).Report(cmd.Context(), &q)
			if err != nil {
				return err
			}
			var text bytes.Buffer
			if err := r.Render(&text, format); err != nil {
				return err
			}
			if output == "" {
				_, err = text.WriteTo(cmd.OutOrStdout())
				return err
			}
			return os.WriteFile(output, text.Bytes(), 0o640) //nolint:gosec // for the group of the one who asks
		},
	}
	controlFlags(cmd, &socket, nil)
	word := func(name, usage string) {
		words[name] = new(string)
		cmd.Flags().StringVar(words[name], name, "", usage)
	}
	list := func(name, usage string) {
		lists[name] = new([]string)
		cmd.Flags().StringSliceVar(lists[name], name, nil, usage)
	}
	word("last", "the range: a `time` such as 90m, 24h, 7d or 2w until now")
	word("from", "begin of the range: a `time` such as 2026-01-05, \"2026-01-05 18:00\" or RFC 3339")
	word("to", "end of the range, not part of it (a `time`)")
	list("by", "group by `dimensions`: "+strings.Join(report.Dimensions(), ", "))
	list("source", "only these addresses and `prefixes`")
	list("account", "only these `accounts`, with or without @domain")
	list("guard", "only what these `guards` did; command is bans by command")
	list("reason", "only these `reasons`")
	list("method", "only these `methods`, such as REGISTER")
	list("action", "only these `actions`: "+strings.Join(report.Actions(), ", "))
	list("protocol", "only these `protocols`: sip, tftp, dns")
	list("node", "only these `nodes`")
	list("direction", "only from-outside or from-pbx (a `direction`)")
	cmd.Flags().IntVar(&top, "top", report.DefaultTop, "how many groups, the largest first (a `number`)")
	cmd.Flags().BoolVar(&acts, "acts", false, "list bans, their ends, notices and commands one by one")
	cmd.Flags().StringVar(&format, "format", report.FormatTable, "one of `formats`: "+strings.Join(report.Formats(), ", "))
	cmd.Flags().StringVar(&output, "output", "", "write to a `file`")
	cmd.Flags().StringVar(&mail, "mail", "", "mail it by this `channel` instead of printing it")
	return cmd
}

// mailReport has a report mailed and says what came of it.
func mailReport(cmd *cobra.Command, socket string, q *report.Query, channel string) error {
	if channel == "" {
		return fmt.Errorf("%w: --mail needs the name of a channel of notify.channels", errUsage)
	}
	done, err := admin.NewClient(socket).MailReport(cmd.Context(), q, channel)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "Mailed %q: %s has taken it within %s.\n", done.Subject, safe(done.To), done.Took.Round(time.Millisecond))
	return err
}
