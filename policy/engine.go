package policy

import (
	"net/netip"
	"sync/atomic"

	"sipward/policy/ban"
	"sipward/policy/gate"
	"sipward/policy/rate"
)

// Engine decides. It is safe for use by any number of goroutines. Its memory
// is fixed when it is made.
//
// What one message means is seen when its answer comes: so Decide judges a
// request by what has been observed so far and limits how many guesses may be
// on their way at once, and Observe counts.
type Engine struct {
	rules    atomic.Pointer[rules]
	gate     *gate.Gate
	bans     Bans
	places   *ban.Places
	notify   func(Notice)
	keys     keys
	counters *Counters

	known     known // who is in good standing
	guesses   guesses
	probes    probes
	marks     marks
	setups    setups
	accounts  accounts
	malformed [2]*rate.Counter // of unproven, proven sources
	flooded   *rate.Counter    // messages over the flood limit
	asking    asking
	exhibits  *table[exhibits]
	charging  charging
	notices   notices
	ticks     atomic.Uint32

	quarantines *ban.Quarantines

	faults tally
	would  tally
}

// New makes an engine with all its memory.
func New(cfg Config) *Engine {
	var bans gate.Bans
	if cfg.Bans != nil {
		bans = cfg.Bans
	}
	n := cfg.Sources
	if n <= 0 {
		n = DefaultSources
	}
	counters := rate.Config{Sources: n, IPv6Bits: cfg.IPv6Bits}
	e := &Engine{
		bans:      cfg.Bans,
		places:    cfg.Places,
		notify:    cfg.Notify,
		keys:      newKeys(cfg.IPv6Bits),
		counters:  NewCounters(cfg.Workers),
		guesses:   newGuesses(n),
		probes:    newProbes(n),
		setups:    newSetups(n),
		accounts:  newAccounts(n / 4),
		malformed: [2]*rate.Counter{rate.NewCounter(counters), rate.NewCounter(counters)},
		flooded:   rate.NewCounter(counters),
		asking:    newAsking(cfg.IPv6Bits),
		exhibits:  newExhibits(n / 128),
		charging:  newCharging(),
		notices:   notices{episodes: newTable(4096, func(until *int64, _ int64) int64 { return *until })},
	}
	e.known = newKnown(n, &e.keys, cfg.Standing)
	if e.quarantines = cfg.Quarantines; e.quarantines == nil {
		e.quarantines, _ = ban.NewQuarantines(nil, 0) // without a store it cannot fail
	}
	e.gate = gate.New(gate.Config{Rules: gateRules(&cfg), Bans: bans, Good: standings{e}, Table: rate.Config{Sources: cfg.Sources, IPv6Bits: cfg.IPv6Bits}})
	e.rules.Store(compile(cfg))
	return e
}

// DefaultSources is the number of sources that the tables remember unless told
// otherwise. They take 64 MiB then.
const DefaultSources = 1 << 16

// Reload puts other rules in force; every count goes on from where it is.
func (e *Engine) Reload(cfg Config) {
	e.gate.Swap(gateRules(&cfg))
	e.rules.Store(compile(cfg))
}

// LooksAtTargets says whether Request.Target is needed of every request, and not of an
// OPTIONS alone.
func (e *Engine) LooksAtTargets() bool { return len(e.rules.Load().numbers) > 0 }

// Gate returns the gate that stands before parsing.
func (e *Engine) Gate() *gate.Gate { return e.gate }

// Counters returns the counters of messages by reason. The engine itself
// counts nothing there: a later step may still change a message's fate, so who
// ends it counts it.
func (e *Engine) Counters() *Counters { return e.counters }

// Count counts a message of a worker with its final reason.
func (e *Engine) Count(worker int, r Reason) { e.counters.Shard(worker).Add(0, r) }

// Faults returns how many messages were refused, by fault.
func (e *Engine) Faults() map[string]uint64 { return e.faults.snapshot() }

// Would returns how often a guard that only watches would have acted, by the
// reason's word: each source once in as long as its ban would have lasted.
func (e *Engine) Would() map[string]uint64 { return e.would.snapshot() }

// subject is who a message is charged to. How he is regarded and the key of his
// account are found out when somebody asks: about most requests nobody does.
type subject struct {
	addr   netip.Addr
	source uint64 // key of the source
	now    int64
	rules  *rules

	gate     gate.Verdict // what the gate says of the source
	standing Standing     // see Engine.regard
	regarded bool

	claimed []byte // the account as the message has it
	account uint64 // see key
	// The account in the spelling that counts. It stands in here, or it would
	// have to be allocated.
	spelled [maxAccount]byte
	length  int
	named   bool
}

// regard returns the standing of the source: as it was when this was asked first, so
// nothing may change it before.
func (e *Engine) regard(s *subject) Standing {
	if !s.regarded {
		s.standing, s.regarded = e.standing(s.gate, s.source, s.now), true
	}
	return s.standing
}

// name returns the account; it is valid as long as s is.
func (s *subject) name() []byte {
	if !s.named {
		s.length, s.named = len(appendAccount(s.spelled[:0], s.claimed)), true
	}
	return s.spelled[:s.length]
}

// key returns the key of the account.
func (s *subject) key(k *keys) uint64 {
	if s.account == 0 { // which no key is
		s.account = k.account(s.name())
	}
	return s.account
}

// pair is the key of the account at the source.
func (s *subject) pair(k *keys) uint64 { return k.join(s.source, s.key(k)) }

// Decide judges a request that has passed the gate and the parser. It does not
// allocate unless somebody is banned.
func (e *Engine) Decide(r *Request, now int64) Decision {
	if r.FromPBX {
		return Decision{Verdict: Pass, Reason: ReasonPBX}
	}
	pass := FromGate(r.Gate)
	if r.Gate != gate.Pass && r.Gate != gate.PassTrusted {
		return pass // the allow list beats everything
	}
	var s subject // and then one by one: the whole would be built elsewhere and copied
	s.addr, s.now, s.rules, s.gate, s.claimed = r.Source.Addr(), now, e.rules.Load(), r.Gate, r.Account
	s.source = e.keys.source(s.addr)
	d := e.object(&s, r)
	if d.Verdict == Pass {
		d.Reason = pass.Reason
		if r.Dialog != 0 && r.Proven && string(r.Method) == "ACK" {
			e.known.accept(e.keys.join(r.Dialog, 1), s.addr, now)
		}
	}
	return d
}

// object asks the guards one after the other, those first that end it for good.
// A decision to pass may say what a guard that watches would have done.
func (e *Engine) object(s *subject, r *Request) Decision {
	d := e.scan(s, r)
	if d.Verdict != Pass {
		return d
	}
	would := d.Would
	if d = e.touchHoney(s, r); d.Verdict != Pass {
		return d
	}
	would = first(would, d.Would)
	if d = e.quarantined(s, r); d.Verdict != Pass {
		return d
	}
	would = first(would, d.Would)
	if d = e.enumerates(s, r); d.Verdict != Pass {
		return d
	}
	would = first(would, d.Would)
	if d = e.elsewhere(s, r); d.Verdict != Pass {
		return d
	}
	if d = e.guess(s, r); d.Verdict != Pass {
		return d
	}
	would = first(would, d.Would)
	if d = e.limitInvites(s, r); d.Verdict != Pass {
		return d
	}
	return Decision{Would: first(would, d.Would)}
}

func first(a, b Reason) Reason {
	if a != ReasonNone {
		return a
	}
	return b
}

// Observe takes note of a response that is about to go back to a source, and
// says what is to become of the response itself. It does not allocate unless
// somebody is banned.
func (e *Engine) Observe(o *Outcome, now int64) Decision {
	var s subject
	s.addr, s.now, s.rules, s.claimed = o.Source.Addr(), now, e.rules.Load(), o.Account
	v := e.gate.Standing(s.addr, now)
	s.source = e.keys.source(s.addr)
	if o.FromPBX {
		e.observePartner(&s, o)
		return Decision{Verdict: Pass, Reason: ReasonPBX}
	}
	final := o.Status >= 200 || o.NoAnswer
	if final && string(o.Method) == "INVITE" {
		e.setups.end(e.keys.join(s.source, o.Transaction), now)
	}
	if o.Certified && v == gate.Pass {
		v = gate.PassTrusted
	}
	switch v {
	case gate.DropBan, gate.DropDeny:
		return FromGate(v) // banned meanwhile: not one answer more
	case gate.PassAllowed, gate.PassPBX:
		return FromGate(v)
	}
	d := FromGate(v)
	s.gate = v
	if final {
		if o.HasCredentials && !o.InDialog && e.inQuarantine(&s) && !s.rules.Register.Action.watches() {
			return Decision{Verdict: Drop, Reason: ReasonQuarantine} // not one answer more
		}
		e.observeFinal(&s, o)
	} else if o.Status > 100 {
		e.settle(&s, o, true) // a PBX that lets a phone ring has accepted its password
	}
	d.Uniform = s.rules.Uniform && tells(o) && e.regard(&s) == Stranger
	return d
}

// tells says whether a response could tell accounts that exist from those that
// do not. A challenge does not: it is what all the others are made to look like.
func tells(o *Outcome) bool {
	if m := string(o.Method); m != "REGISTER" && m != "INVITE" {
		return false
	}
	return refuses(o.Status) && o.Status != 401 && o.Status != 407
}

// refuses says whether a status says that the account, or the one who claims it,
// is not accepted. Others, such as 486, come from those who are called.
func refuses(status int) bool {
	switch status {
	case 401, 403, 404, 407, 410, 604:
		return true
	}
	return false
}

// observeFinal judges a final response to a source that may be judged.
func (e *Engine) observeFinal(s *subject, o *Outcome) {
	switch {
	case o.NoAnswer, o.Status >= 500 && o.Status < 600, o.Status == 408:
		// The PBX, or the way to it, is to blame.
		e.settle(s, o, false)
		e.forgiveProbe(s)
	case o.Status < 300:
		e.succeed(s, o)
	default:
		e.judge(s, o)
	}
	e.probe(s, o)
}

// succeed takes note of a 2xx.
func (e *Engine) succeed(s *subject, o *Outcome) {
	switch string(o.Method) {
	case "REGISTER":
		e.forgiveAccount(s, o)
		key := e.bindingKey(s, o)
		if o.Expires <= 0 {
			e.known.end(key, s.now)
			return
		}
		until := s.now + min(o.Expires, maxBinding/second)*second
		place := e.known.grant(key, grant{source: s.source, until: until, proven: o.proven()}, s.addr, s.now)
		if place && e.places != nil {
			e.places.Add(s.name(), e.keys.prefix(s.addr).Addr(), s.now)
		}
	default:
		e.settle(s, o, true)
		if o.HasCredentials {
			e.forgiveProbe(s)
		}
		e.observeDialog(s, o, o.proven())
	}
}

// observeDialog takes note of the dialogs that begin and end.
func (e *Engine) observeDialog(s *subject, o *Outcome, proven bool) {
	if o.Dialog == 0 {
		return
	}
	switch key := e.keys.join(o.Dialog, 1); string(o.Method) {
	case "INVITE":
		g := grant{source: s.source, until: s.now + maxDialog, kind: grantDialog, proven: proven}
		if !proven {
			g.kind = grantOffer
		}
		e.known.grant(key, g, s.addr, s.now)
	case "BYE":
		e.known.end(key, s.now)
	}
}

// bindingKey tells apart the phones of one account behind one address.
func (e *Engine) bindingKey(s *subject, o *Outcome) uint64 {
	return e.keys.join(s.pair(&e.keys), uint64(o.Source.Port())+1)
}

// proven says whether the request showed that its source is not forged.
func (o *Outcome) proven() bool {
	return o.Proven || o.Transport.Connected() || o.Nonce == NonceIssued
}

// observePartner takes note of what a source answered to a request of a PBX. Who
// answers it has got it, so his address is proven.
func (e *Engine) observePartner(s *subject, o *Outcome) {
	if o.Status/100 != 2 {
		return
	}
	if string(o.Method) == "REGISTER" { // a carrier that the PBX registers with
		until := s.now + carrierTime
		if o.Expires > 0 {
			until = s.now + min(o.Expires, maxBinding/second)*second
		}
		e.known.grant(e.keys.join(s.source, 1), grant{source: s.source, until: until, proven: true}, s.addr, s.now)
		return
	}
	e.observeDialog(s, o, true)
}

// carrierTime is how long it is in good standing whom the PBX has registered with,
// when it is not known for how long that was.
const carrierTime = 3600 * second

// Recall gives a source for an hour the good standing that it had before a
// restart, so that a phone with a stale password does not get the others behind
// its address banned before they have registered anew.
func (e *Engine) Recall(addr netip.Addr, now int64) {
	e.known.recall(addr, now+recallTime, now)
}

const recallTime = 3600 * second

// Vouch gives good standing to a source that has shown a trunk's certificate: for as long as
// nothing has come from it for an hour.
func (e *Engine) Vouch(addr netip.Addr, now int64) {
	source := e.keys.source(addr)
	e.known.grant(e.keys.join(source, 1), grant{source: source, until: now + recallTime, proven: true}, addr, now)
}
