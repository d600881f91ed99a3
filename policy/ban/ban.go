// Package ban holds who is banned, since when, until when and why.
//
// A Table answers the gate's question without a lock, climbs the ladder from
// blocks that end to a permanent one, stops itself when it bans too much at
// once, tells its subscribers of every change, and keeps all of it in a Store,
// so that a restart lifts no ban and forgets no step of the ladder.
//
// Time is Unix time in nanoseconds and is passed in; an end is absolute, so it
// does not move when sipward is down for a while.
//
// The allow list is not this package's business: who asks for a ban looks
// there first.
package ban

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
)

// Kind says who decided on a ban and how it ends.
type Kind uint8

// The kinds.
const (
	Dynamic   Kind = iota // by a guard, for a time
	Permanent             // by a guard or by the ladder, for ever
	Manual                // by a person's command, for a time or for ever
)

var kindNames = [...]string{"dynamic", "permanent", "manual"}

// String returns the kind's stable word.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// MaxEvidence is the most bytes of evidence that are kept with a ban.
const MaxEvidence = 8 << 10

// The shortest prefixes that anyone may ban. A shorter one would take in a
// noticeable share of the internet, so it can only be a slip.
const (
	MinBits4 = 8
	MinBits6 = 16
)

// Record is one ban.
type Record struct {
	Prefix  netip.Prefix // masked by Add; an IPv4-mapped one is unmapped
	Kind    Kind
	Start   int64  // when it began; 0 in Add: now
	Until   int64  // when it ends; 0: never
	Reason  string // the word of a policy.Reason
	Guard   string // "register", "scanner", …, "command"
	Proven  bool   // the evidence came from that address and no other can have sent it; always true of a Manual one
	Good    bool   // the source was in good standing when it was banned: asked by the breaker, not stored
	Blocks  int    // proven dynamic blocks of this prefix within the ladder's memory, this one included; set by Add
	Origin  string // "guard", "command", the name of a node
	Comment string
	// Evidence is JSON for people who ask why: opaque here, without
	// credentials, not changed after it is handed over. Of more than
	// MaxEvidence bytes nothing but their number is kept.
	Evidence []byte
}

// forever is the deadline of what does not end.
const forever = math.MaxInt64

// deadline is Until with "never" as the greatest of all times.
func (r *Record) deadline() int64 {
	if r.Until == 0 {
		return forever
	}
	return r.Until
}

// InForce says whether the ban has not ended at now.
func (r *Record) InForce(now int64) bool { return r.deadline() > now }

// ChangeKind says what happened to a ban.
type ChangeKind uint8

// The kinds of changes.
const (
	Added    ChangeKind = iota // a prefix is banned that was not
	Extended                   // it lasts longer, or rests on better grounds, than before
	Removed                    // it was lifted before its end
	Expired                    // its time is over
)

var changeNames = [...]string{"added", "extended", "removed", "expired"}

// String returns the change's stable word.
func (k ChangeKind) String() string {
	if int(k) < len(changeNames) {
		return changeNames[k]
	}
	return "unknown"
}

// Change is one step of the table's history. Seq rises by one with each.
type Change struct {
	Kind   ChangeKind
	Room   bool   // of Removed: nobody lifted it, it made room for another in a full table
	Record Record // as it is now in force, or as it was when it ended
	Seq    uint64
}

// The errors of Add, Remove and the store.
var (
	// ErrPrefix: the prefix is invalid, or so short that it must be a slip.
	ErrPrefix = errors.New("ban: prefix refused")
	// ErrRecord: the record contradicts itself, such as an end in the past.
	ErrRecord = errors.New("ban: record refused")
	// ErrBreaker: too many automatic bans at once, so no more for now.
	ErrBreaker = errors.New("ban: breaker is open")
	// ErrFull: the table holds as many automatic bans as it may, all of them
	// on better evidence than this one.
	ErrFull = errors.New("ban: table is full")
	// ErrNotStored: what was asked for is in force, but is not on disk.
	ErrNotStored = errors.New("ban: in force, but not stored")
)

// CheckPrefix returns p as the table keeps it, masked and unmapped, or an error
// that says why it cannot be banned.
func CheckPrefix(p netip.Prefix) (netip.Prefix, error) {
	if !p.IsValid() {
		return netip.Prefix{}, fmt.Errorf("%w: %v is not valid", ErrPrefix, p)
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%w: %v reaches beyond the IPv4-mapped addresses; write it as an IPv4 prefix", ErrPrefix, p)
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	family, least := "IPv4", MinBits4
	if p.Addr().Is6() {
		family, least = "IPv6", MinBits6
	}
	if p.Bits() < least {
		return netip.Prefix{}, fmt.Errorf("%w: %v is wider than /%d, the widest %s prefix that can be banned: "+
			"it would shut out a noticeable part of the internet; ban narrower prefixes one by one", ErrPrefix, p, least, family)
	}
	return p.Masked(), nil
}

// check returns r as the table keeps it.
func check(r Record, now int64) (Record, error) {
	var err error
	if r.Prefix, err = CheckPrefix(r.Prefix); err != nil {
		return r, err
	}
	if r.Start == 0 {
		r.Start = now
	}
	if len(r.Evidence) > MaxEvidence {
		r.Evidence = fmt.Appendf(nil, `{"omitted_bytes":%d}`, len(r.Evidence))
	}
	switch {
	case r.Kind > Manual:
		return r, fmt.Errorf("%w: unknown kind %d", ErrRecord, r.Kind)
	case r.Kind == Manual:
		r.Proven = true // a person's word needs no other proof
	case r.Kind == Permanent && !r.Proven:
		return r, fmt.Errorf("%w: unproven evidence never makes a permanent ban", ErrRecord)
	case r.Kind == Permanent:
		r.Until = 0
	case r.Until == 0:
		return r, fmt.Errorf("%w: a dynamic ban needs an end", ErrRecord)
	}
	if !r.InForce(now) {
		return r, fmt.Errorf("%w: its end has passed", ErrRecord)
	}
	return r, nil
}
