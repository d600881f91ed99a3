package policy

import "strconv"

// setups counts the calls that each source sets up: INVITEs without a final
// response. One of them ends with that response, of which the 487 after a CANCEL
// is one, and is forgotten after three minutes (timer C, RFC 3261 §16.6 step 11).
//
// Memory: 33 bytes for an INVITE and 57 for a source. When a bucket of INVITEs
// is full, one that has ended makes room; if there is none, the oldest of a
// stranger, and it no longer counts for its source.
type setups struct {
	invites *table[invite]
	calls   *table[calls]
}

type setupState uint8

const (
	setupRinging setupState = iota
	setupEnded
	setupRefused
)

type invite struct {
	source uint64
	at     int64 // when it came, ns
	state  setupState
	known  bool // its source is in good standing
}

// The calls of a source are counted by the time that they began, so that the
// count is right even when the INVITE itself was forgotten.
const (
	callSlice  = 12 * second
	callSlices = 16 // the time that a call is remembered is between 15 and 16 slices
)

type calls struct {
	n       [callSlices]uint16
	slice   int64 // the latest
	refused int64 // when one was refused last
}

func newSetups(sources int) setups {
	return setups{
		invites: newTable(sources, func(v *invite, _ int64) int64 {
			switch {
			case v.state != setupRinging:
				return v.at
			case v.known:
				return v.at + 2*3600*second
			}
			return v.at + 3600*second
		}),
		calls: newTable(sources/2, func(c *calls, _ int64) int64 { return c.slice }),
	}
}

// turn forgets the slices that are over.
func (c *calls) turn(now int64) {
	s := now / callSlice
	switch d := s - c.slice; {
	case d < -1 || d >= callSlices: // below: the clock was set back
		c.n, c.slice = [callSlices]uint16{}, s
	case d > 0:
		for ; d > 0; d-- {
			c.n[(s-d+1)%callSlices] = 0
		}
		c.slice = s
	}
}

func (c *calls) sum() (n int) {
	for _, v := range c.n {
		n += int(v)
	}
	return n
}

// repeatTime is how long a client may repeat an INVITE (64 × T1, RFC 3261
// §17.1.1.2).
const repeatTime = 32 * second

// lasts says whether what is known of an INVITE still holds.
func (v *invite) lasts(now int64) bool {
	if v.state == setupRinging {
		return now/callSlice-v.at/callSlice < callSlices
	}
	return now-v.at < repeatTime
}

// limitInvites refuses calls beyond those that a source may set up at a time. It
// never bans: a call centre that has grown is no attacker.
func (e *Engine) limitInvites(s *subject, r *Request) Decision {
	rule := &s.rules.Invite
	if rule.RateLimit <= 0 || r.InDialog || string(r.Method) != "INVITE" || e.regard(s) >= Trunk {
		return Decision{}
	}
	key := e.keys.join(s.source, r.Transaction)
	b := e.setups.invites.lock(key)
	v := b.find(key)
	if v != nil && v.lasts(s.now) {
		refused := v.state == setupRefused
		b.mu.Unlock()
		if refused {
			return rule.Action.decide(ReasonInviteLimit, 5)
		}
		return Decision{}
	}
	ok, first := e.setups.begin(s.source, s.now, rule.RateLimit)
	v, old, lost := e.setups.invites.replace(b, key, s.now)
	*v = invite{source: s.source, at: s.now, known: e.regard(s) >= Good}
	if !ok {
		v.state = setupRefused
	}
	b.mu.Unlock()
	if lost && old.state == setupRinging {
		e.setups.release(old.source, old.at, s.now)
	}
	if ok {
		return Decision{}
	}
	if first {
		e.tellInvites(s)
	}
	return rule.Action.decide(ReasonInviteLimit, 5)
}

// begin counts a call of a source if it is within the limit. first says that
// none was refused for a minute.
func (t *setups) begin(source uint64, now int64, limit int) (ok, first bool) {
	b := t.calls.lock(source)
	defer b.mu.Unlock()
	c := t.calls.claim(b, source, now)
	c.turn(now)
	if c.sum() < limit {
		c.n[now/callSlice%callSlices]++
		return true, false
	}
	first = c.refused == 0 || now-c.refused > 60*second
	c.refused = now
	return false, first
}

// end takes note of an INVITE's final response.
func (t *setups) end(key uint64, now int64) {
	b := t.invites.lock(key)
	v := b.find(key)
	if v == nil || v.state != setupRinging || !v.lasts(now) {
		b.mu.Unlock()
		return
	}
	source, began := v.source, v.at
	v.state, v.at = setupEnded, now
	b.mu.Unlock()
	t.release(source, began, now)
}

// release takes a call that began at some time from its source's count.
func (t *setups) release(source uint64, began, now int64) {
	b := t.calls.lock(source)
	defer b.mu.Unlock()
	c := b.find(source)
	if c == nil {
		return
	}
	c.turn(now)
	s := began / callSlice
	if s <= c.slice-callSlices || s > c.slice {
		return
	}
	if n := &c.n[s%callSlices]; *n > 0 {
		*n--
	}
}

func (e *Engine) tellInvites(s *subject) {
	rule := &s.rules.Invite
	addr := s.addr.String()
	text := "The source is setting up more than " + count(rule.RateLimit, "call") + " at the same time. "
	switch {
	case rule.Action.watches():
		e.wouldAct(s, ReasonInviteLimit, rule.Action)
		return
	case rule.Action.Kind == ActionDrop:
		text += "Those beyond the limit are dropped; it is not banned."
	default:
		text += "Those beyond the limit are answered " + strconv.Itoa(rule.Action.Code) + "; it is not banned."
	}
	e.tell(Notice{
		Time: s.now, Kind: NoticeInviteLimit, Reason: ReasonInviteLimit, Source: s.addr, Text: text,
		Commands: []string{
			"sipward ban " + addr,
			"sipward allow " + addr,
			"set invite.rate_limit above " + strconv.Itoa(rule.RateLimit) + " in the configuration, then sipward reload",
		},
	})
}
