package demo

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sipward/cmd/sipward/internal/demo/view"
	"sipward/policy"
)

func (s *stage) welcome(setup Setup, edge Edge) {
	s.view.Say("sipward demo: a PBX on %s, sipward in front of it on %s (UDP and TCP).", setup.PBX, s.edge)
	s.view.Say("Everything runs in this one process and stays on this machine; Ctrl-C ends it.")
	if edge.Page != "" {
		s.view.Say("\nThe dashboard, by a link that logs in once:\n\n    %s\n", edge.Page)
		s.view.Say("Later, or in a second browser, log in with the token %s\n", edge.Token)
	}
	s.view.Say("The configuration that does it:\n\n%s", indent(setup.YAML()))
}

// invitation tells what to type into a softphone.
func (s *stage) invitation(edge Edge) {
	var b strings.Builder
	if edge.Socket != "" {
		fmt.Fprintf(&b, "\nAsk sipward why, in another terminal:\n\n    export SIPWARD_CONTROL__SOCKET=%s\n", edge.Socket)
		for _, c := range []string{"explain " + addrGuesser.String(), "list bans", "report --by source,reason", "follow", "top"} {
			fmt.Fprintf(&b, "    %s %s\n", edge.Program, c)
		}
	}
	fmt.Fprintf(&b, "\nNow you. In a softphone on this machine, for example:\n\n")
	fmt.Fprintf(&b, "    server, domain   %s   (UDP or TCP, no encryption)\n", s.edge)
	for _, a := range s.accounts[1:] {
		fmt.Fprintf(&b, "    user             %s        password  %s\n", a.User, a.Password)
	}
	fmt.Fprintf(&b, "    call             %s         answers, and you hear yourself\n", echoNumber)
	fmt.Fprintf(&b, "                     %s        rings a second softphone that uses that account\n\n", s.accounts[2].User)
	b.WriteString("What it sends appears below. Ctrl-C ends the demo.\n")
	s.view.Say("%s", b.String())
}

// summary says what became of everybody's messages, in the words of what happened.
func (s *stage) summary(r result) {
	s.view.Say("\n  %-11s %-11s %7s %8s %9s  %s", "from", "", "passed", "dropped", "rejected", "why")
	for _, who := range []struct {
		addr netip.Addr
		name string
	}{{addrGood, "good phone"}, {addrGuesser, "guesser"}, {addrScanner, "scanner"}, {addrBroken, "broken"}, {addrDenied, "denied"}} {
		t := s.view.Tally(who.addr)
		s.view.Say("  %-11s %-11s %7d %8d %9d  %s", who.addr, who.name, t.Passed, t.Dropped, t.Rejected, reasons(t))
	}
	s.view.Say("\n  The good phone registered, called %s, and heard %d of its %d packets come back.", echoNumber, r.heard, r.spoken)
	s.view.Say("  %s", guesserText(r, s.view.Tally(addrGuesser)))
	s.view.Say("  The scanner got %d answers to its %d probes: its User-Agent and its shapes give it away.", r.probeAnswers, r.probes)
	if text := brokenText(r, s.view.Tally(addrBroken)); text != "" {
		s.view.Say("  %s", text)
	}
	s.view.Say("  %s is on the deny list (see the configuration above): it got %d answers to %d requests.", addrDenied, r.deniedAnswers, r.deniedSent)
}

func guesserText(r result, t view.Tally) string {
	if t.Dropped == 0 {
		return fmt.Sprintf("The guesser tried %d passwords; the PBX refused all of them.", r.guesses)
	}
	return fmt.Sprintf("The guesser tried %d passwords; the PBX refused %d, then sipward banned it: not one further message reached the PBX.", r.guesses, r.refused)
}

// brokenText tells what became of the broken device's messages.
func brokenText(r result, t view.Tally) string {
	var parts []string
	if t.Reasons[policy.ReasonMalformed] > 0 {
		parts = append(parts, "The broken device's request with two From headers was refused: two programs could read it differently.")
	}
	if n := t.Reasons[policy.ReasonFlood]; n > 0 {
		parts = append(parts, fmt.Sprintf("Of its burst of %d, the flood limit dropped %d before they were read.", r.burst, n))
	}
	return strings.Join(parts, "\n  ")
}

// reasons lists why messages did not pass, the most frequent first.
func reasons(t view.Tally) string {
	var all []policy.Reason
	for r := range t.Reasons {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b policy.Reason) int { return t.Reasons[b] - t.Reasons[a] })
	var words []string
	for _, r := range all {
		words = append(words, fmt.Sprintf("%s (%d)", r, t.Reasons[r]))
	}
	return strings.Join(words, ", ")
}

func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n    ")
}
