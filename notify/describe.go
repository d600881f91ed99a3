package notify

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// event writes what is told of an attack in one of its phases.
func (a *attack) event(phase string, now time.Time, cfg *Settings) Event {
	ev := Event{
		ID: a.ID + "-" + phase, Time: now, Phase: phase, Severity: a.Severity, Kind: a.Kind, Reason: a.Reason,
		Account: a.Account, Text: a.Text, Commands: a.Commands, Attack: a.snapshot(),
	}
	if phase == PhaseUpdate {
		ev.ID += "-" + strconv.Itoa(a.Updates)
	}
	if a.Prefix.IsValid() {
		ev.Source = show(a.Prefix)
	}
	ev.Summary = summary(&ev)
	counts := counted(a, ev.Attack)
	switch {
	case a.wide():
		ev.Commands = []string{"sipward list bans", "sipward status"}
		ev.Text = "More than " + count(uint64(cfg.Sources), "source") + " at the same time. The latest one to be told: " + a.Text
		if phase != PhaseBegin {
			ev.Text = counts
		}
	case phase == PhaseUpdate:
		ev.Text = counts + " " + a.Text
	case phase == PhaseEnd && a.Last.Before(now):
		unheard := "; what the kernel drops is not heard. "
		if a.Own {
			unheard = ". "
		}
		ev.Text = "Nothing more was heard of it for " + span(cfg.Quiet) + unheard + counts + " " + a.Text
	case phase == PhaseEnd:
		ev.Text = a.Text + " " + counts
	}
	return ev
}

// counted says how large an attack is.
func counted(of *attack, a *Attack) string {
	text := "From " + clock(a.Began) + " to " + clock(a.Last) + " (" + span(a.Last.Sub(a.Began)) + "): "
	var parts []string
	if !of.Own {
		parts = append(parts, count(a.Messages, "message")+" not let through")
	}
	if a.Sources > 1 {
		more := ""
		if a.More {
			more = "more than "
		}
		parts = append(parts, more+count(uint64(a.Sources), "source"))
	}
	if a.Bans > 0 {
		parts = append(parts, count(a.Bans, "ban"))
	}
	if a.Notices > 0 {
		parts = append(parts, count(a.Notices, "notice"))
	}
	return text + strings.Join(parts, ", ") + "."
}

// summary writes an event's one line. Nothing in it comes from a stranger but his
// address.
func summary(ev *Event) string {
	what := ev.Kind
	if ev.Reason != "" && ev.Reason != ev.Kind {
		what += " (" + ev.Reason + ")"
	}
	who := ev.Source
	switch {
	case who != "":
	case ev.Attack != nil && ev.Account == "" && ev.Attack.Sources > 0:
		who = "many sources"
	case ev.Account != "":
		who = "an account"
	}
	switch ev.Phase {
	case PhaseBegin:
		what += " began"
	case PhaseUpdate:
		what += " goes on"
	case PhaseEnd:
		what += " is over"
	}
	if who == "" {
		return what
	}
	return who + ": " + what
}

func testEvent(now time.Time) Event {
	return Event{
		ID: newID() + "-test", Time: now, Phase: PhaseTest, Severity: Info, Kind: "test",
		Summary: "test of this channel", Text: "This is a test, made by sipward notify test. Nothing has happened.",
	}
}

func count(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.FormatUint(n, 10) + " " + what + "s"
}

// span writes a duration in whole seconds: 1h, 2m30s, 0s.
func span(d time.Duration) string {
	s := d.Round(time.Second).String()
	if d >= time.Minute {
		s = strings.TrimSuffix(s, "m0s") + map[bool]string{true: "m"}[strings.HasSuffix(s, "m0s")]
		if strings.HasSuffix(s, "h0m") {
			s = strings.TrimSuffix(s, "0m")
		}
	}
	return s
}

// safe makes text that may come from a stranger fit for a terminal or a mail: one
// line, and nothing that cannot be seen.
func safe(s string) string {
	if !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return s
	}
	return strings.Trim(strconv.QuoteToGraphic(s), `"`)
}

// plain writes events for people.
func plain(d *delivery) string {
	var b strings.Builder
	if d.Lost > 0 {
		fmt.Fprintf(&b, "%s lost before this one, because too many waited or one waited too long.\n\n", count(d.Lost, "event")+" "+map[bool]string{true: "was", false: "were"}[d.Lost == 1])
	}
	for i := range d.Events {
		if i > 0 {
			b.WriteString("\n----\n\n")
		}
		write(&b, &d.Events[i])
	}
	return b.String()
}

func write(b *strings.Builder, ev *Event) {
	fmt.Fprintf(b, "%s\n\n%s\n\n", safe(ev.Summary), safe(ev.Text))
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, "%-9s %s\n", name, safe(value))
		}
	}
	row("time", clock(ev.Time))
	row("node", ev.Node)
	row("severity", ev.Severity.String())
	row("reason", ev.Reason)
	row("source", ev.Source)
	row("account", ev.Account)
	if a := ev.Attack; a != nil {
		for _, s := range a.Top {
			row("source", s.Source+"  "+count(s.Messages, "message"))
		}
		row("attack", a.ID)
	}
	if len(ev.Commands) > 0 {
		b.WriteString("\nWhat you can do:\n")
		for _, c := range ev.Commands {
			fmt.Fprintf(b, "  %s\n", safe(c))
		}
	}
}
