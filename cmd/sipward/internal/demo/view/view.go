// Package view shows the events of the packet path as plain text, one line each, while
// they happen: what passes, what is dropped and why. Repetitions are gathered, so that a
// flood is a line or two and not a thousand.
package view

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"time"

	"sipward/policy"
	"sipward/policy/event"
)

const (
	// verbose is how many of the same are shown before the rest is only counted.
	verbose = 4
	// quiet is how long the same must not have come to be shown in full again.
	quiet = time.Second
	// maxKinds bounds what is remembered; beyond it the view forgets and shows in full again.
	maxKinds = 1000
)

// kind is what makes two events the same to a reader.
type kind struct {
	source    netip.Addr
	direction event.Direction
	verdict   policy.Verdict
	reason    policy.Reason
	method    string
	status    uint16
}

type run struct {
	shown, hidden int
	last          time.Time
	line          event.Event // the latest hidden one
}

// Tally counts what became of the messages of one source.
type Tally struct {
	Passed, Dropped, Rejected int
	Reasons                   map[policy.Reason]int // of those that did not pass
}

// View writes to one writer. Say may be called from any goroutine.
type View struct {
	names map[netip.Addr]string
	begin time.Time

	mu      sync.Mutex
	out     io.Writer
	runs    map[kind]*run
	tallies map[netip.Addr]*Tally
}

// New makes a view. names says who is behind the addresses that are known.
func New(out io.Writer, names map[netip.Addr]string) *View {
	return &View{names: names, begin: time.Now(), out: out, runs: make(map[kind]*run), tallies: make(map[netip.Addr]*Tally)}
}

// Run shows what comes until ctx ends.
func (v *View) Run(ctx context.Context, sub *event.Subscription) error {
	tick := time.NewTicker(quiet / 2)
	defer tick.Stop()
	var lost uint64
	for {
		select {
		case ev := <-sub.C():
			v.Event(&ev)
		case <-tick.C:
			v.flush(false)
			if n := sub.Lost(); n > lost {
				v.Say("        (%d events were too many to show)", n-lost)
				lost = n
			}
		case <-ctx.Done():
			v.flush(true)
			return nil
		}
	}
}

// Say writes a line of its own among the events.
func (v *View) Say(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, _ = fmt.Fprintf(v.out, format+"\n", args...) // a view that nobody can read is no error
}

// Act writes a headline. What was gathered before it is told first, and what comes after it is
// shown in full again.
func (v *View) Act(title string) {
	v.flush(true)
	v.mu.Lock()
	clear(v.runs)
	v.mu.Unlock()
	v.Say("\n-- %s", title)
}

// Tally returns the counts of a source so far.
func (v *View) Tally(source netip.Addr) Tally {
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.tallies[source]
	if t == nil {
		return Tally{}
	}
	c := *t
	c.Reasons = make(map[policy.Reason]int, len(t.Reasons))
	for r, n := range t.Reasons {
		c.Reasons[r] = n
	}
	return c
}

// Event shows and counts one event. ev is the view's to change.
func (v *View) Event(ev *event.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.count(ev)
	if unread(ev.Reason) {
		ev.Method, ev.Status, ev.Account = "", 0, event.Text64{}
	}
	k := kind{ev.Source.Addr(), ev.Direction, ev.Verdict, ev.Reason, ev.Method, ev.Status}
	r := v.runs[k]
	if r == nil {
		if len(v.runs) >= maxKinds {
			clear(v.runs)
		}
		r = new(run)
		v.runs[k] = r
	}
	now := time.Now()
	if now.Sub(r.last) > quiet {
		v.settle(r)
		r.shown = 0
	}
	r.last = now
	if r.shown < verbose {
		r.shown++
		v.write(ev, "")
		return
	}
	r.hidden++
	r.line = *ev
}

// unread: the message was dropped for its source alone, before anybody looked into it.
func unread(r policy.Reason) bool {
	switch r {
	case policy.ReasonDenyList, policy.ReasonBan, policy.ReasonFlood, policy.ReasonConnectionCap:
		return true
	}
	return false
}

// count keeps the tallies of sources with a name; strangers could be any number.
func (v *View) count(ev *event.Event) {
	a := ev.Source.Addr()
	if _, known := v.names[a]; !known {
		return
	}
	t := v.tallies[a]
	if t == nil {
		t = &Tally{Reasons: make(map[policy.Reason]int)}
		v.tallies[a] = t
	}
	switch ev.Verdict {
	case policy.Pass:
		t.Passed++
		return
	case policy.Drop:
		t.Dropped++
	case policy.Reject:
		t.Rejected++
	}
	t.Reasons[ev.Reason]++
}

// flush writes how many were hidden, of those runs that have ended.
func (v *View) flush(all bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for k, r := range v.runs {
		if all || time.Since(r.last) > quiet/2 {
			v.settle(r)
		}
		if time.Since(r.last) > 10*quiet {
			delete(v.runs, k)
		}
	}
}

func (v *View) settle(r *run) {
	if r.hidden > 0 {
		v.write(&r.line, fmt.Sprintf("  and %d more of these", r.hidden))
		r.hidden = 0
	}
}

// write formats one line:
//
//	0.12s  pass    REGISTER    127.0.0.2 good phone      1001@127.0.0.1
//	0.13s  pass    ← 401       127.0.0.10 PBX
//	3.01s  DROP    (unread)    127.0.0.4 scanner         flood
func (v *View) write(ev *event.Event, more string) {
	verdict := [...]string{policy.Pass: "pass", policy.Drop: "DROP", policy.Reject: "REFUSE"}[ev.Verdict]
	what := ev.Method
	if ev.Status != 0 {
		what = fmt.Sprintf("← %d", ev.Status)
	}
	if what == "" {
		what = "(unread)"
	}
	who := ev.Source.Addr().String() + " " + v.names[ev.Source.Addr()]
	why := clean(ev.Account.String())
	if ev.Verdict != policy.Pass {
		why = ev.Reason.String()
		if d := clean(ev.Detail.String()); d != "" {
			why += " (" + d + ")"
		}
	}
	at := time.Since(v.begin).Seconds()
	line := fmt.Sprintf("%6.2fs  %-6s  %-10s  %-26s  %s%s", at, verdict, what, who, why, more)
	_, _ = fmt.Fprintln(v.out, strings.TrimRight(line, " "))
}

// clean makes a stranger's text harmless on a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
