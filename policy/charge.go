package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sipward/policy/ban"
)

// charge is evidence against a source.
type charge struct {
	reason Reason
	action Action
	block  time.Duration // how long a ban lasts
	proven bool          // the source was not forged
	wide   bool          // if proven it gets a source in good standing banned, too
	count  int           // of what detail says, within period; 0: detail says all
	period time.Duration
	detail string
	name   string // follows detail; apart, so that nothing is put together before it is needed
	// standIn is how long the guard refuses the source by itself if it is not
	// banned, although it should be, or if banning is not the action.
	standIn time.Duration
}

// sentence is what became of a charge.
type sentence struct {
	until int64 // 0: nothing is to be noted
	kind  sentenceKind
}

type sentenceKind uint8

const (
	servedByBan sentenceKind = iota // the source is banned
	servedHere                      // the guard refuses it
	servedMark                      // the guard only watches, and has taken note
)

// forever is the end of what does not end.
const forever = int64(1<<63 - 1)

// lifted says whether a sentence no longer holds, although its time is not over.
func (e *Engine) lifted(v sentence, s *subject) bool {
	return v.kind == servedMark || v.kind == servedByBan && e.bans != nil && !e.bans.Banned(s.addr, s.now)
}

// charging keeps two workers from banning one source at the same time, which
// would be two steps on the ladder.
type charging struct {
	stripes []sync.Mutex
	// refused is until when it is not worth the effort to ask for a ban, for
	// unproven and for proven evidence: the table has just refused one.
	refused [2]atomic.Int64
}

func newCharging() charging { return charging{stripes: make([]sync.Mutex, 64)} }

// pause is how long no ban is asked for after one was refused (ns).
const pause = second / 10

// charge does about a source what the guard's action says: at most a ban, and
// that only for those who may be banned.
func (e *Engine) charge(s *subject, c charge) sentence {
	standIn := sentence{}
	if c.standIn > 0 {
		standIn = sentence{until: s.now + int64(c.standIn), kind: servedHere}
	}
	switch c.action.Kind {
	case ActionNotify, ActionWatch:
		e.wouldAct(s, c.reason, c.action)
		return sentence{until: s.now + int64(c.block), kind: servedMark}
	case ActionDrop, ActionReject:
		return standIn
	}
	if e.regard(s) >= Good && !(c.wide && c.proven && e.regard(s) == Good) {
		e.spare(s, &c)
		return sentence{}
	}
	if !c.proven {
		c.block = s.rules.UnprovenBlockTime
	}
	until := s.now + int64(c.block)
	if e.bans == nil {
		return sentence{until: until, kind: servedHere}
	}
	if left := e.charging.refused[index(c.proven)].Load() - s.now; 0 < left && left <= pause { // more: the clock was set back
		return standIn
	}
	m := &e.charging.stripes[s.source>>8%uint64(len(e.charging.stripes))]
	m.Lock()
	defer m.Unlock()
	if e.bans.Banned(s.addr, s.now) {
		return sentence{until: until}
	}
	r, err := e.bans.Add(ban.Record{
		Prefix: e.keys.prefix(s.addr),
		Kind:   ban.Dynamic, Start: s.now, Until: until,
		Reason: c.reason.String(), Guard: c.reason.String(), Proven: c.proven, Good: e.regard(s) >= Good,
		Origin: "guard", Comment: c.String(), Evidence: e.evidence(s, &c),
	}, s.now)
	switch {
	case err == nil, errors.Is(err, ban.ErrNotStored):
		e.tellBan(s, &c, &r)
		if until = r.Until; until == 0 {
			until = forever
		}
		return sentence{until: until}
	default:
		e.charging.refused[index(c.proven)].Store(s.now + pause)
		e.tellRefused(s, err)
		return standIn
	}
}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}

// raise sets v to at least x.
func raise(v *atomic.Int64, x int64) {
	for {
		old := v.Load()
		if old >= x || v.CompareAndSwap(old, x) {
			return
		}
	}
}

// Lasting writes a duration as in the configuration: "5m", and not "5m0s".
func Lasting(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// String says in a few words what a source is charged with.
func (c *charge) String() string {
	text := c.detail + c.name
	if c.count > 0 {
		text = strconv.Itoa(c.count) + " " + c.detail + " within " + Lasting(c.period)
	}
	if !c.proven {
		text += "; the address may be forged"
	}
	return text
}

func (e *Engine) tellBan(s *subject, c *charge, r *ban.Record) {
	addr := s.addr.String()
	text := "Banned for " + Lasting(c.block) + ": " + c.String() + "."
	if r.Kind == ban.Permanent {
		text = fmt.Sprintf("Banned for ever: %s; it was block %d.", c.String(), r.Blocks)
	} else if c.proven && s.rules.Register.BlockThreshold > 0 {
		text += fmt.Sprintf(" It is block %d; number %d is for ever.", r.Blocks, s.rules.Register.BlockThreshold)
	}
	e.tell(Notice{
		Time: s.now, Kind: NoticeBan, Reason: c.reason, Source: s.addr, Account: string(s.name()), Text: text,
		Commands: []string{"sipward explain " + addr, "sipward unban " + addr},
	})
}

// spare tells that a source in good standing was not banned for what came in its
// name.
func (e *Engine) spare(s *subject, c *charge) {
	if !e.notices.begins(e.keys.join(s.source, uint64(c.reason)<<8|uint64(NoticeSpared)), s.now, 3600*second) {
		return
	}
	addr := s.addr.String()
	e.tell(Notice{
		Time: s.now, Kind: NoticeSpared, Reason: c.reason, Source: s.addr, Account: string(s.name()),
		Text: "A source in good standing would have been banned: " + c.String() +
			". It is not; the messages that offend are dropped.",
		Commands: []string{"sipward explain " + addr, "sipward ban " + addr},
	})
}

// wouldAct takes note of what a guard that only watches would have done: once
// for a source in as long as a ban would have lasted.
func (e *Engine) wouldAct(s *subject, r Reason, a Action) {
	if !e.notices.begins(e.keys.join(s.source, uint64(r)<<8|uint64(NoticeWouldBan)), s.now, int64(s.rules.Register.BlockTime)) {
		return
	}
	e.would.add(r.String())
	e.tell(Notice{
		Time: s.now, Kind: NoticeWouldBan, Reason: r, Source: s.addr, Account: string(s.name()),
		Quiet: a.Kind == ActionWatch,
		Text:  "The " + r.String() + " guard would have acted; it only watches. " + r.Explain(),
		Commands: []string{
			"sipward explain " + s.addr.String(), "sipward ban " + s.addr.String(),
		},
	})
}

func (e *Engine) tellRefused(s *subject, err error) {
	if !e.notices.begins(e.keys.join(uint64(NoticeBreaker), 1), s.now, 60*second) {
		return
	}
	e.tell(Notice{
		Time: s.now, Kind: NoticeBreaker, Source: s.addr,
		Text: "Sources are not banned at present: " + err.Error() +
			". What offends is dropped all the same.",
		Commands: []string{"sipward status"},
	})
}
