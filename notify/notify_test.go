package notify_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sipward/notify"
	"sipward/policy"
	"sipward/policy/ban"
)

func addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}) }

// banned is the change that a guard's ban of a source makes.
func banned(a netip.Addr) ban.Change {
	now := time.Now()
	return ban.Change{Kind: ban.Added, Record: ban.Record{
		Prefix: netip.PrefixFrom(a, a.BitLen()), Kind: ban.Dynamic, Start: now.UnixNano(), Until: now.Add(time.Hour).UnixNano(),
		Reason: "register", Guard: "register", Proven: true, Blocks: 2, Origin: "guard", Comment: "10 failures within 60s",
	}}
}

func notice(kind policy.NoticeKind, reason policy.Reason, a netip.Addr) policy.Notice {
	return policy.Notice{Time: time.Now().UnixNano(), Kind: kind, Reason: reason, Source: a, Text: "Something is up."}
}

// inviteNotice is what the engine tells of too many calls.
func inviteNotice(a netip.Addr) policy.Notice {
	x := notice(policy.NoticeInviteLimit, policy.ReasonInviteLimit, a)
	x.Commands = []string{"sipward ban " + a.String(), "set invite.rate_limit above 30 in the configuration, then sipward reload"}
	return x
}

// 100,000 events of one attack are one opening and one closing message with the counts.
func TestOneAttackIsTwoMessages(t *testing.T) {
	r := newReceiver(t, "s3cret")
	n := start(t, t.TempDir(), settings(notify.Channel{Type: notify.Webhook, URL: r.URL, Secret: "s3cret"}))
	a := addr(7)
	began := time.Now()
	n.Change(banned(a))
	r.await(1)
	const each = 50_000
	for range each {
		n.Notice(notice(policy.NoticeSpared, policy.ReasonRegister, a))
		n.Count(a, 1)
	}
	t.Logf("%d events took %v", 2*each, time.Since(began))
	r.await(2)
	time.Sleep(2 * 300 * time.Millisecond) // longer than an attack may be silent: nothing more is due
	all := r.events()
	if len(all) != 2 || all[0].Phase != notify.PhaseBegin || all[1].Phase != notify.PhaseEnd {
		t.Fatalf("got %v: %+v", phases(all), all)
	}
	begin, end := all[0], all[1]
	if begin.Kind != "ban" || begin.Reason != "register" || begin.Source != a.String() || begin.Severity != notify.Warning ||
		!strings.Contains(begin.Text, "10 failures within 60s") || begin.Commands[1] != "sipward unban "+a.String() {
		t.Errorf("opening: %+v", begin)
	}
	lost := n.Status().Lost
	if at := end.Attack; at.Messages != each || at.Bans != 1 || at.Notices+lost != each || at.ID != begin.Attack.ID {
		t.Errorf("closing: %+v, and %d lost", end.Attack, lost)
	}
	if !strings.Contains(end.Text, "50000 messages not let through, 1 ban") {
		t.Error(end.Text)
	}
}

// An attack by thousands is told of a few sources, and then as one.
func TestManySources(t *testing.T) {
	r := newReceiver(t, "")
	n := start(t, t.TempDir(), settings(notify.Channel{Type: notify.Webhook, URL: r.URL}))
	for i := range 3000 {
		n.Change(banned(addr(i)))
	}
	r.await(12)
	time.Sleep(2 * 300 * time.Millisecond)
	all := r.events()
	if len(all) != 12 || phases(all)[notify.PhaseBegin] != 6 || phases(all)[notify.PhaseEnd] != 6 {
		t.Fatalf("%d events: %v", len(all), phases(all))
	}
	for _, ev := range all {
		if ev.Source == "" && ev.Phase == notify.PhaseEnd {
			if at := ev.Attack; ev.Severity != notify.Critical || at.Bans != 2995 || at.Sources != 1000 || !at.More || len(at.Top) != 10 {
				t.Errorf("the attack by many: %s %+v", ev.Severity, at)
			}
			return
		}
	}
	t.Error("no attack by many")
}

// What has an end of its own is over then, and not before.
func TestAttackThatIsEnded(t *testing.T) {
	r := newReceiver(t, "")
	n := start(t, t.TempDir(), settings(notify.Channel{Type: notify.Webhook, URL: r.URL}))
	begin := policy.Notice{Time: time.Now().UnixNano(), Kind: policy.NoticeKnownPlaces, Reason: policy.ReasonKnownPlaces, Account: "alice@example.com", Text: "Attacked."}
	n.Notice(begin)
	n.Notice(inviteNotice(addr(1)))
	all := r.await(3) // two openings and the closing of the second
	if p := phases(all); p[notify.PhaseEnd] != 1 {
		t.Fatalf("%v", p)
	}
	begin.Kind, begin.Time, begin.Text = policy.NoticeCalm, time.Now().UnixNano(), "Calm."
	n.Notice(begin)
	last := r.await(4)[3]
	if last.Phase != notify.PhaseEnd || last.Account != "alice@example.com" || !strings.HasPrefix(last.Text, "Calm.") {
		t.Errorf("%+v", last)
	}
}

// What sipward says of itself is no attack by anybody: it goes on until the end is told,
// and the latest words count.
func TestOfItself(t *testing.T) {
	r := newReceiver(t, "")
	n := start(t, t.TempDir(), settings(notify.Channel{Type: notify.Webhook, URL: r.URL}))
	tell := func(kind policy.NoticeKind, text string, quiet bool) {
		n.Notice(policy.Notice{Time: time.Now().UnixNano(), Kind: kind, Text: text, Quiet: quiet, Commands: []string{"sipward kernel status"}})
	}
	tell(policy.NoticeKernelUp, "Up.", true) // at the start: of no concern
	tell(policy.NoticeKernelDown, "Down: this.", false)
	tell(policy.NoticeKernelFull, "Full.", false)
	begun := r.await(2)
	if ev := begun[0]; ev.Phase != notify.PhaseBegin || ev.Kind != "kernel-down" || ev.Summary != "kernel-down began" || ev.Text != "Down: this." ||
		ev.Severity != notify.Warning || ev.Source+ev.Account+ev.Reason != "" || len(ev.Commands) != 1 {
		t.Errorf("%+v", ev)
	}
	if ev := begun[1]; ev.Kind != "kernel-full" || ev.Attack.ID == begun[0].Attack.ID {
		t.Errorf("%+v", ev)
	}
	tell(policy.NoticeKernelRepaired, "Repaired.", false) // it has no end of its own, so it ends when nothing more is heard
	if p := phases(r.await(4)); p[notify.PhaseEnd] != 1 || p[notify.PhaseBegin] != 3 {
		t.Fatalf("%v", p)
	}
	tell(policy.NoticeKernelDown, "Down: that.", false)
	tell(policy.NoticeKernelUp, "Up.", true)
	tell(policy.NoticeKernelRoom, "Room.", true)
	ends := map[string]notify.Event{}
	for _, ev := range r.await(6) {
		if ev.Phase == notify.PhaseEnd {
			ends[ev.Kind] = ev
		}
	}
	for kind, want := range map[string]string{"kernel-down": "Up. From ", "kernel-full": "Room. From ", "kernel-repaired": "Nothing more was heard of it for "} {
		if ev := ends[kind]; !strings.HasPrefix(ev.Text, want) || strings.Contains(ev.Text, "message") || strings.Contains(ev.Text, "kernel drops") {
			t.Errorf("the end of %s: %+v", kind, ev)
		}
	}
	if a := ends["kernel-down"].Attack; a.Notices != 3 || a.ID != begun[0].Attack.ID {
		t.Errorf("%+v", a)
	}
}

func TestRepeat(t *testing.T) {
	r := newReceiver(t, "")
	s := settings(notify.Channel{Type: notify.Webhook, URL: r.URL})
	s.Repeat = 400 * time.Millisecond
	n := start(t, t.TempDir(), s)
	n.Notice(inviteNotice(addr(1)))
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		n.Count(addr(1), 1) // it goes on
	}
	poll(t, func() error {
		if p := phases(r.events()); p[notify.PhaseBegin] != 1 || p[notify.PhaseUpdate] < 2 || p[notify.PhaseEnd] != 1 {
			return fmt.Errorf("%v", p)
		}
		return nil
	})
}

func TestRulesChooseChannels(t *testing.T) {
	one, two := newReceiver(t, ""), newReceiver(t, "")
	s := settings(notify.Channel{Name: "one", Type: notify.Webhook, URL: one.URL}, notify.Channel{Name: "two", Type: notify.Webhook, URL: two.URL})
	s.Rules = []notify.Rule{
		{Reasons: []string{"scanner"}},
		{Reasons: []string{"breaker", "invite-limit"}, Channels: []string{"one", "two"}},
		{Severity: notify.Warning, Channels: []string{"one"}},
		{Reasons: []string{"ban"}, Channels: []string{"two"}},
	}
	n := start(t, t.TempDir(), s)
	n.Notice(notice(policy.NoticeSpared, policy.ReasonScanner, addr(1)))   // nobody
	n.Notice(notice(policy.NoticeBreaker, policy.ReasonNone, addr(2)))     // both
	n.Notice(notice(policy.NoticeSpared, policy.ReasonRegister, addr(3)))  // one
	quiet := notice(policy.NoticeWouldBan, policy.ReasonRegister, addr(4)) // of a guard that watches: nobody
	quiet.Quiet = true
	n.Notice(quiet)
	manual := banned(addr(5)) // by command: for the record, but a rule asks for it
	manual.Record.Kind, manual.Record.Origin, manual.Record.Reason, manual.Record.Comment = ban.Manual, "command", "ban", "calls premium numbers"
	n.Change(manual)
	manual.Kind = ban.Removed
	n.Change(manual)
	expired := banned(addr(6))
	expired.Kind = ban.Expired
	n.Change(expired)
	kinds := func(r *receiver, n int) string {
		var all []string
		for _, ev := range r.await(n) {
			if ev.Phase != notify.PhaseEnd {
				all = append(all, ev.Kind)
			}
		}
		return strings.Join(all, " ")
	}
	if got := kinds(one, 2); got != "breaker spared" {
		t.Errorf("one was told of %q", got)
	}
	if got := kinds(two, 3); got != "breaker ban unban" {
		t.Errorf("two was told of %q", got)
	}
	for _, ev := range two.events() {
		if ev.Phase == notify.PhaseOnce && ev.Kind == "ban" && !strings.Contains(ev.Text, "by command: calls premium numbers") {
			t.Error(ev.Text)
		}
	}
}

// What gets worse is told to those who want only that.
func TestWorse(t *testing.T) {
	r := newReceiver(t, "")
	s := settings(notify.Channel{Type: notify.Webhook, URL: r.URL})
	s.Rules = []notify.Rule{{Severity: notify.Warning, Channels: []string{"ops"}}}
	n := start(t, t.TempDir(), s)
	x := notice(policy.NoticeWouldBan, policy.ReasonRegister, addr(1))
	x.Quiet = true
	n.Notice(x)
	n.Change(banned(addr(1)))
	if ev := r.await(1)[0]; ev.Kind != "ban" || ev.Attack.Notices != 1 || ev.Attack.Bans != 1 {
		t.Errorf("%+v %+v", ev, ev.Attack)
	}
}

// Few deliveries: what has to wait is put together, and nothing is missing.
func TestLimitPutsTogether(t *testing.T) {
	r := newReceiver(t, "")
	s := settings(notify.Channel{Type: notify.Webhook, URL: r.URL, PerHour: 3600})
	s.Sources, s.Quiet = 1000, time.Hour
	n := start(t, t.TempDir(), s)
	const attacks = 60
	for i := range attacks {
		n.Change(banned(addr(i)))
		r.mu.Lock()
		done := len(r.packets)
		r.mu.Unlock()
		if done < 10 { // one by one as long as the burst lasts
			r.await(i + 1)
		}
	}
	seen := map[string]bool{}
	for _, ev := range r.await(attacks) {
		seen[ev.ID] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(seen) != attacks || len(r.packets) > 15 {
		t.Errorf("%d events in %d deliveries", len(seen), len(r.packets))
	}
}

func TestReload(t *testing.T) {
	one, two := newReceiver(t, ""), newReceiver(t, "")
	one.answer = func(int) (int, http.Header) { return 500, nil }
	n := start(t, t.TempDir(), settings(notify.Channel{Type: notify.Webhook, URL: one.URL}))
	n.Notice(inviteNotice(addr(1)))
	poll(t, func() error {
		if n.channel("ops").Failures == 0 {
			return errNone
		}
		return nil
	})
	if err := n.Reload(settings(notify.Channel{Type: "pigeon"})); err == nil {
		t.Error("a channel of an unknown type was taken")
	}
	if err := n.Reload(settings(notify.Channel{Type: notify.Webhook, URL: two.URL})); err != nil {
		t.Fatal(err)
	}
	if ev := two.await(1)[0]; ev.Kind != "invite-limit" || len(ev.Commands) != 2 || !strings.HasPrefix(ev.Commands[0], "sipward ban ") || !strings.Contains(ev.Commands[1], "invite.rate_limit") {
		t.Errorf("%+v", ev)
	}
}
