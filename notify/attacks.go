package notify

import (
	"cmp"
	"crypto/rand"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// attacks holds what goes on at present.
//
// Its size is bounded: of each topic (a reason, or a kind of notice: closed sets)
// there are at most Settings.Sources attacks by one source, as many by account, and
// one by all others together, which knows maxSources sources by name.
type attacks struct {
	cfg      *Settings
	bits     int
	open     map[key]*attack
	bySource map[netip.Prefix][]*attack
	path     string
	dirty    bool
	saved    time.Time
}

// key tells attacks apart. Neither source nor account: one by many sources.
type key struct {
	topic   string
	source  netip.Prefix
	account string
}

// attack is one that goes on. It is stored as JSON. How long ago something was is told by the
// monotonic readings of its times, because the clock may be set.
type attack struct {
	Topic    string
	Prefix   netip.Prefix
	Kind     string
	Reason   string
	Account  string
	Own      bool // of sipward itself
	Severity Severity
	Text     string // of the occurrence that matters most
	Commands []string
	Told     []string // channels that know of it
	Updates  int
	Updated  time.Time // when they were told last
	Sources  map[netip.Prefix]uint64
	Attack
	holds bool // not stored: what would end it does not outlive a restart either
}

// maxSources is how many sources of an attack by many are counted one by one.
const maxSources = 1000

// maxHold is the longest that an attack goes on without being heard of.
const maxHold = 24 * time.Hour

// wide says that it is one by many.
func (a *attack) wide() bool { return !a.Own && !a.Prefix.IsValid() && a.Account == "" }

// telling is an event for a channel.
type telling struct {
	channel string
	event   Event
}

func (s *attacks) settings(cfg *Settings, bits int) { s.cfg, s.bits = cfg, bits }

// prefix returns the source that an address belongs to.
func (s *attacks) prefix(a netip.Addr) netip.Prefix {
	if !a.IsValid() {
		return netip.Prefix{}
	}
	bits := a.BitLen()
	if a.Is6() {
		bits = s.bits
	}
	p, _ := a.Prefix(bits) // bits are in range, conf has seen to it
	return p
}

// take puts an occurrence to its attack and returns what is to be told.
func (s *attacks) take(o occurrence) []telling {
	if o.addr.IsValid() {
		o.source = s.prefix(o.addr)
	}
	if o.once {
		return s.once(&o)
	}
	s.dirty = true
	a := s.find(&o)
	if o.ends {
		if a == nil || a.wide() {
			return nil
		}
		a.Text, a.Last, a.Notices = o.text, o.time, a.Notices+1
		return s.end(a, o.time)
	}
	if a == nil {
		a = s.begin(&o)
	}
	worse := o.severity > a.Severity
	if worse || o.ban || o.own || a.Text == "" {
		a.Kind, a.Reason, a.Text, a.Commands = o.kind, o.reason, o.text, o.commands
	}
	a.Severity = max(a.Severity, o.severity)
	a.Last = o.time
	a.holds = a.holds || o.holds
	if o.ban {
		a.Bans++
	} else {
		a.Notices++
	}
	s.join(a, o.source)
	if a.Account == "" && !a.wide() && !a.Own {
		a.Account = o.account
	}
	return s.tellOf(a, o.time)
}

// once tells of what is no attack.
func (s *attacks) once(o *occurrence) []telling {
	ev := Event{
		ID: newID() + "-once", Time: o.time, Phase: PhaseOnce, Severity: o.severity, Kind: o.kind, Reason: o.reason,
		Text: o.text, Commands: o.commands,
	}
	if o.source.IsValid() {
		ev.Source = show(o.source)
	}
	ev.Summary = summary(&ev)
	var tell []telling
	for _, c := range s.cfg.choose(o.topic, o.kind, o.severity) {
		tell = append(tell, telling{c, ev})
	}
	return tell
}

// find returns the attack that an occurrence belongs to, or nil.
func (s *attacks) find(o *occurrence) *attack {
	k := key{topic: o.topic, source: o.source}
	if !o.source.IsValid() {
		k.account = o.account
	}
	if a := s.open[k]; a != nil {
		return a
	}
	return s.open[key{topic: o.topic}]
}

// begin opens an attack: by this source or account, or, if there are too many of
// those, by many.
func (s *attacks) begin(o *occurrence) *attack {
	k := key{topic: o.topic, source: o.source}
	if !o.source.IsValid() {
		k.account = o.account
	}
	n := 0
	for other := range s.open {
		if other.topic == k.topic && other.source.IsValid() == k.source.IsValid() {
			n++
		}
	}
	if n >= s.cfg.Sources {
		k = key{topic: o.topic}
	}
	a := &attack{Topic: k.topic, Prefix: k.source, Account: k.account, Own: o.own, Sources: map[netip.Prefix]uint64{}}
	a.Attack = Attack{ID: newID(), Began: o.time, Last: o.time}
	a.Updated = o.time
	if a.wide() && o.topic != o.kind {
		a.Severity = Critical // so many at once is no background noise
	}
	s.open[k] = a
	return a
}

func newID() string { return rand.Text()[:16] }

// join notes that a source takes part.
func (s *attacks) join(a *attack, p netip.Prefix) {
	if !p.IsValid() {
		return
	}
	if _, ok := a.Sources[p]; ok {
		return
	}
	if len(a.Sources) >= maxSources {
		a.More = true
		return
	}
	a.Sources[p] = 0
	s.bySource[p] = append(s.bySource[p], a)
}

// tellOf tells the channels that have not been told that an attack has begun.
func (s *attacks) tellOf(a *attack, now time.Time) []telling {
	var tell []telling
	for _, c := range s.cfg.choose(a.Topic, a.Kind, a.Severity) {
		if !slices.Contains(a.Told, c) {
			a.Told = append(a.Told, c)
			tell = append(tell, telling{c, a.event(PhaseBegin, now, s.cfg)})
		}
	}
	return tell
}

// count notes messages of a source.
func (s *attacks) count(source netip.Addr, messages uint64, now time.Time) {
	p := s.prefix(source)
	for _, a := range s.bySource[p] {
		a.Messages += messages
		a.Sources[p] += messages
		a.Last = now
		s.dirty = true
	}
}

// tick ends attacks that nothing has been heard of, and repeats those that go on.
func (s *attacks) tick(now time.Time) []telling {
	var tell []telling
	for _, a := range slices.SortedFunc(maps.Values(s.open), func(a, b *attack) int { return a.Began.Compare(b.Began) }) {
		quiet := s.cfg.Quiet
		if a.holds {
			quiet = max(quiet, maxHold)
		}
		switch {
		case now.Sub(a.Last) >= quiet && !(a.Own && a.holds): // its end will be heard
			tell = append(tell, s.end(a, now)...)
		case s.cfg.Repeat > 0 && now.Sub(a.Updated) >= s.cfg.Repeat:
			a.Updated = now
			a.Updates++
			s.dirty = true
			for _, c := range a.Told {
				tell = append(tell, telling{c, a.event(PhaseUpdate, now, s.cfg)})
			}
		}
	}
	return tell
}

// end forgets an attack and tells those who know of it.
func (s *attacks) end(a *attack, now time.Time) []telling {
	var tell []telling
	for _, c := range a.Told {
		tell = append(tell, telling{c, a.event(PhaseEnd, now, s.cfg)})
	}
	maps.DeleteFunc(s.open, func(_ key, b *attack) bool { return a == b })
	for p := range a.Sources {
		s.bySource[p] = slices.DeleteFunc(s.bySource[p], func(b *attack) bool { return a == b })
		if len(s.bySource[p]) == 0 {
			delete(s.bySource, p)
		}
	}
	s.dirty = true
	return tell
}

// ended takes note that a channel will be told of an attack's end: a crash came before
// that was stored here.
func (s *attacks) ended(id, channel string) {
	for _, a := range s.open {
		if a.ID != id {
			continue
		}
		a.Told = slices.DeleteFunc(a.Told, func(c string) bool { return c == channel })
		if len(a.Told) == 0 {
			s.end(a, a.Last)
		}
	}
}

// top is how many sources of an attack by many are named.
const top = 10

// snapshot returns what is told of an attack.
func (a *attack) snapshot() *Attack {
	v := a.Attack
	v.Sources = len(a.Sources)
	if !a.wide() {
		return &v
	}
	v.Top = nil
	for p, n := range a.Sources {
		v.Top = append(v.Top, Source{show(p), n})
	}
	slices.SortFunc(v.Top, func(a, b Source) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Source, b.Source))
	})
	v.Top = v.Top[:min(len(v.Top), top)]
	return &v
}
