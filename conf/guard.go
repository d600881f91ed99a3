package conf

import (
	"strconv"
	"time"
)

// ActionKind is what a guard does when its limit is exceeded.
type ActionKind uint8

// The kinds of actions.
const (
	ActionOff    ActionKind = iota // the guard does not look
	ActionBan                      // the source is banned
	ActionDrop                     // its offending messages are dropped without an answer
	ActionReject                   // they are answered with Action.Code
	ActionNotify                   // nothing, but what would have happened is recorded and the administrator told
	ActionWatch                    // nothing, but what would have happened is recorded
	// ActionKnownPlaces lets an account be used from the places only that it has
	// registered from before; of DistinctSources alone.
	ActionKnownPlaces
)

func (k ActionKind) String() string {
	return [...]string{"off", "ban", "drop", "reject", "notify", "watch", "known-places"}[k]
}

// Action is what a guard does, and with which status if it answers. It is
// comparable; the zero Action is off.
type Action struct {
	Kind ActionKind
	// Code is 400 to 699 for ActionReject, and else zero.
	Code int
}

func (a Action) String() string {
	if a.Kind == ActionReject {
		return a.Kind.String() + " " + strconv.Itoa(a.Code)
	}
	return a.Kind.String()
}

// Register watches for guessed passwords.
type Register struct {
	// HitCount is how many failures of a source within MonitPeriod are too many.
	HitCount    int
	MonitPeriod time.Duration
	// BlockTime is how long a ban lasts, whichever guard it comes from.
	BlockTime time.Duration
	// BlockThreshold is how many bans of a source make the last one permanent.
	// Zero: none ever is.
	BlockThreshold int
	Action         Action
}

// Invite limits the INVITEs of a source that have no final response yet.
type Invite struct {
	// RateLimit is how many there may be at a time.
	RateLimit int
	// Action is never ActionBan.
	Action Action
}

// Scanner knows the marks of attack tools.
type Scanner struct {
	// Action is never ActionReject: a scanner gets no answer.
	Action Action
	// BlockTime is how long the ban of a scanner lasts. Never zero: without the
	// key in the file it is that of Register.
	BlockTime time.Duration
	// Signatures names files with signatures beside the built-in ones. They are
	// neither opened nor checked here.
	Signatures []string
	// Disable holds the names of signatures that are not used.
	Disable []string
}

// Enumeration watches for those who look for accounts.
type Enumeration struct {
	// Accounts is how many accounts a source may try without success within
	// Period.
	Accounts int
	Period   time.Duration
	Action   Action
}

// Honey holds what does not exist, so that only an attacker asks for it. Both
// lists empty: there is nothing to touch.
type Honey struct {
	// Accounts are user names, with or without @domain.
	Accounts []string
	// Numbers are what is called.
	Numbers []string
	// Action is never ActionReject: who touches honey gets no answer.
	Action Action
}

// Malformed limits the refused messages of one source.
type Malformed struct {
	// Count is how many refused messages within Period are too many.
	Count  int
	Period time.Duration
	Action Action
}

// Flood limits the messages of one source before they are parsed.
type Flood struct {
	// Rate is messages per second, above zero.
	Rate int
	// Burst is how many messages may come at once, above zero.
	Burst int
	// Action is never ActionReject: what is not parsed cannot be answered.
	Action Action
}

// DistinctSources protects one account from guessers in many places.
type DistinctSources struct {
	// Count is how many sources may fail for one account within Window.
	Count  int
	Window time.Duration
	// Action is ActionKnownPlaces or ActionOff.
	Action Action
}

// Breaker stops automatic bans when so many of them are likelier a mistake than
// an attack.
type Breaker struct {
	// BansPerMinute is how many sources may be banned within a minute. Zero: no
	// limit.
	BansPerMinute int
	// GoodShare is how large a part of the sources in good standing may be
	// banned within a minute. Zero: no limit.
	GoodShare Percent
}

// Percent is a share in hundredths.
type Percent int

func (p Percent) String() string { return strconv.Itoa(int(p)) + "%" }

// Overload keeps strangers from crowding out the phones.
type Overload struct {
	// Strangers is how many messages per second all sources without good
	// standing may send together. Zero: as many as sipward keeps up with.
	Strangers int
	// KernelStrangers is how many packets per second of theirs the kernel lets
	// through to the ports. Zero: all.
	KernelStrangers KernelLimit
}
