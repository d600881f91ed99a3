package policy

import (
	"net/netip"
	"slices"
	"time"

	"sipward/policy/ban"
)

// Explanation is what the engine knows of a source. Lists and bans are told by
// those who hold them.
type Explanation struct {
	Source      netip.Prefix
	Standing    Standing
	Why         string // what the source owes its standing to
	Counts      []Count
	Quarantines []ban.Quarantine // those in force
	Exhibits    []Exhibit        // the latest messages that counted against it, oldest first
	Undo        []string         // commands that undo what is in force
}

// Count is what a guard has counted of a source.
type Count struct {
	Guard   string
	What    string // in the plural: "failures"
	Count   int
	Limit   int           // 0: none
	Period  time.Duration // how long a thing counts; 0: as long as it lasts
	Account string        // set when it is the count of one account
}

// Explain returns what is known of a source. It changes nothing.
func (e *Engine) Explain(addr netip.Addr, now int64) Explanation {
	s := e.subjectOf(addr, now)
	x := Explanation{Source: e.keys.prefix(addr), Standing: e.regard(&s), Exhibits: e.exhibitsOf(s.source)}
	x.Why = e.whyStanding(&s)
	for _, q := range e.Quarantines(now) {
		if q.Source == x.Source {
			x.Quarantines = append(x.Quarantines, q)
		}
	}
	x.Counts = e.counts(&s, x.Exhibits)
	if len(x.Quarantines) > 0 {
		x.Undo = append(x.Undo, "sipward unban "+addr.String())
	}
	return x
}

func (e *Engine) whyStanding(s *subject) string {
	switch e.regard(s) {
	case Allowed:
		return "It is on the allow list, or one of the PBXes: nothing is counted."
	case Trunk:
		return "It is one of the trunks."
	case Stranger:
		return "It holds no binding and no call that a PBX accepted."
	}
	b := e.known.sources.lock(s.source)
	defer b.mu.Unlock()
	g := b.find(s.source)
	if g == nil {
		return ""
	}
	until := func(end int64) string { return " until " + time.Unix(0, end).UTC().Format(time.RFC3339) }
	switch {
	case g.bindings > 0 && g.bindingsEnd > s.now:
		return "It holds " + count(int(g.bindings), "binding") + until(g.bindingsEnd) + "."
	case g.dialogs > 0 && g.dialogsEnd > s.now:
		return "It takes part in " + count(int(g.dialogs), "call") + "."
	}
	return "It was registered before sipward was restarted; that counts" + until(g.recalled) + "."
}

// counts returns what the guards have counted of a source. Its accounts are
// those of the exhibits.
func (e *Engine) counts(s *subject, shown []Exhibit) []Count {
	r := s.rules
	var all []Count
	add := func(guard Reason, what string, n, limit int, period time.Duration, account string) {
		if n > 0 {
			all = append(all, Count{guard.String(), what, n, limit, period, account})
		}
	}
	tries := func(t *table[tries], key uint64, what, account string) {
		b := t.lock(key)
		defer b.mu.Unlock()
		if v := b.find(key); v != nil {
			copied := *v
			failed, pending := copied.count(s.now, r.monit)
			add(ReasonRegister, what, failed, r.Register.HitCount, r.Register.MonitPeriod, account)
			add(ReasonGuessesInFlight, "requests with credentials without an answer", pending, r.Register.HitCount, 0, account)
		}
	}
	tries(e.guesses.proven, s.source, "failures", "")
	tries(e.guesses.unproven, s.source, "failures that may be forged", "")
	var told []string
	for _, x := range shown {
		if x.Account == "" || slices.Contains(told, x.Account) {
			continue
		}
		told = append(told, x.Account)
		of := subject{source: s.source, claimed: []byte(x.Account)}
		tries(e.guesses.pairs, of.pair(&e.keys), "failures", x.Account)
	}
	proven, unproven := e.probes.count(s.source, s.now, int64(r.Enumeration.Period))
	add(ReasonEnumeration, "accounts without success", proven, r.Enumeration.Accounts, r.Enumeration.Period, "")
	add(ReasonEnumeration, "accounts without success that may be forged", unproven, r.Enumeration.Accounts, r.Enumeration.Period, "")
	add(ReasonInviteLimit, "calls being set up", e.setups.count(s.source, s.now), r.Invite.RateLimit, 0, "")
	add(ReasonDNSLimit, "questions over the limit", int(e.asking.over.Count(s.addr, s.now, time.Minute)), 0, time.Minute, "")
	for class, what := range [...]string{"refused messages that may be forged", "refused messages and handshakes"} {
		n := e.malformed[class].Count(s.addr, s.now, r.Malformed.Period)
		add(ReasonMalformed, what, int(n), r.Malformed.Threshold, r.Malformed.Period, "")
	}
	return all
}

// count returns how many accounts a source has tried without success.
func (p *probes) count(source uint64, now, period int64) (proven, unproven int) {
	b := p.few.lock(source)
	defer b.mu.Unlock()
	v := b.find(source)
	if v == nil || now-v.last > period {
		return 0, 0
	}
	slots, unlock := p.slots(v, source, now)
	n := countProbes(slots, now, period)
	if unlock != nil {
		unlock.Unlock()
	}
	return n.all[1], n.all[0]
}

// count returns how many calls a source is setting up.
func (t *setups) count(source uint64, now int64) int {
	b := t.calls.lock(source)
	defer b.mu.Unlock()
	c := b.find(source)
	if c == nil {
		return 0
	}
	copied := *c
	copied.turn(now)
	return copied.sum()
}

// Forgive forgets what is held against a source and lifts its quarantines, which
// it returns the number of. Lifting a ban is the ban table's business; who lifts
// one calls Forgive, too, or the counts would soon lead to the next.
func (e *Engine) Forgive(addr netip.Addr) (quarantines int) {
	source := e.keys.source(addr)
	drop(e.guesses.proven, source)
	drop(e.guesses.unproven, source)
	drop(e.probes.few, source)
	drop(e.probes.many, source)
	for _, q := range e.quarantines.Take(e.keys.prefix(addr)) {
		drop(e.guesses.pairs, e.quarantineKey(&q))
		quarantines++
	}
	return quarantines
}

func drop[V any](t *table[V], key uint64) {
	b := t.lock(key)
	defer b.mu.Unlock()
	b.drop(key)
}

// tickParts is in how many calls of Tick the table of sources in good standing is
// looked through.
const tickParts = 32

// Tick does what no message does: it ends known-places modes and counts down the
// sources in good standing. It is to be called about once a second; no verdict
// depends on it.
func (e *Engine) Tick(now int64) {
	e.leavePlaces(now)
	e.quarantines.Purge(now)
	e.known.sweep(int(e.ticks.Add(1)%tickParts), tickParts, now)
}

// DigestLeak takes note of a phone that answered the PBX with a challenge.
func (e *Engine) DigestLeak(addr netip.Addr, now int64) {
	if !e.notices.begins(e.keys.join(e.keys.source(addr), uint64(NoticeDigestLeak)), now, 3600*second) {
		return
	}
	e.tell(Notice{
		Time: now, Kind: NoticeDigestLeak, Reason: ReasonDigestLeak, Source: addr,
		Text: "A phone answered a request of the PBX with a challenge for its password. A PBX that is configured to answer " +
			"gives away what a password can be computed from; the challenge was dropped. If it is a carrier, put it on the list of trunks.",
		Commands: []string{"sipward explain " + addr.String(), "sipward ban " + addr.String()},
	})
}
