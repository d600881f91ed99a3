package policy

import (
	"net/netip"
	"time"

	"sipward/policy/ban"
	"sipward/policy/gate"
	"sipward/policy/iplist"
	"sipward/policy/scanner"
)

// Config is what an Engine goes by. A Reload takes a whole new one.
type Config struct {
	Allow  *iplist.Set // beats everything; nil: empty
	Deny   *iplist.Set // nil: empty
	PBX    *iplist.Set // addresses of the PBXes; nil: empty
	Trunks *iplist.Set // carriers' prefixes, always in good standing; nil: empty

	Register        Register
	Invite          Invite
	Scanner         Scanner
	Enumeration     Enumeration
	Honey           Honey
	Malformed       Malformed
	Flood           Flood
	DistinctSources DistinctSources
	DNS             DNS

	// UnprovenBlockTime is how long a stranger is banned on evidence that another
	// may have forged; 0: five minutes.
	UnprovenBlockTime time.Duration
	// Uniform makes Observe ask for answers that do not tell strangers which
	// accounts exist.
	Uniform bool

	// What follows is read by New alone; a Reload does not change it.

	Bans        Bans             // nil: nobody is banned; what would be banned is dropped for as long
	Quarantines *ban.Quarantines // what Resume puts in force after a restart; nil: nothing outlives one
	Places      *ban.Places      // where accounts have registered from; nil: DistinctSources is off
	Notify      func(Notice)     // is told of each episode, beside Notices; must not wait; may be nil
	// Standing is told when a source comes into good standing because of a binding
	// or a dialog, when that will last longer or shorter than was told, and when it
	// has ended: until, Unix time in nanoseconds, is not in the future then. It
	// may be a minute late, and until as much too long. It is called in the order of
	// the changes of a source, from the packet path: it must not wait, nor call the
	// engine. May be nil.
	Standing func(source netip.Prefix, until int64)
	Workers  int // shards of the counters; 0: 1
	Sources  int // sources that each table remembers; 0: each table's own default
	IPv6Bits int // length of the IPv6 prefix that is one source; 0: 64
}

// Bans is the ban table. A *ban.Table is one.
type Bans interface {
	gate.Bans
	// Add asks for a ban and returns the one in force.
	Add(r ban.Record, now int64) (ban.Record, error)
	// Lookup returns the ban of an address.
	Lookup(addr netip.Addr, now int64) (ban.Record, bool)
}

// ActionKind is what a guard does about what it finds.
type ActionKind uint8

// The kinds of actions. Whatever the action, a source in good standing is not
// banned for what one of its phones does, and the allow list beats every guard.
const (
	ActionBan    ActionKind = iota // ban the source, and drop the messages that offend
	ActionDrop                     // drop the messages that offend
	ActionReject                   // answer them with Code
	ActionNotify                   // let them pass, tell the administrator
	ActionWatch                    // let them pass, record what would have happened
)

var actionNames = [...]string{"ban", "drop", "reject", "notify", "watch"}

// String returns the action's name as in the configuration.
func (k ActionKind) String() string {
	if int(k) < len(actionNames) {
		return actionNames[k]
	}
	return "unknown"
}

// Action is what a guard does. The zero Action is ban.
type Action struct {
	Kind ActionKind
	Code int // the status to reject with; 0: 403
}

// Register is the guard against guessed passwords. It judges what the PBX
// answers, to any method.
type Register struct {
	HitCount       int           // failures within MonitPeriod that are one too many; 0: the guard is off
	MonitPeriod    time.Duration // 0: a minute
	BlockTime      time.Duration // how long a ban or a quarantine lasts, of the other guards, too; 0: an hour
	BlockThreshold int           // blocks after which the ladder is at its end, for explanations
	Action         Action
}

// Invite limits the calls that a source sets up at the same time.
type Invite struct {
	RateLimit int    // INVITEs without a final response; 0: the guard is off
	Action    Action // never bans: ActionBan means reject 503
}

// Scanner is the guard against attack tools.
type Scanner struct {
	Set       *scanner.Set  // nil: the guard is off
	BlockTime time.Duration // 0: Register.BlockTime
	Action    Action
}

// Enumeration is the guard against those who look for accounts that exist.
type Enumeration struct {
	Accounts int           // distinct accounts without success within Period that are one too many; 0: the guard is off
	Period   time.Duration // 0: a minute
	Action   Action
}

// Honey names what no honest person uses.
type Honey struct {
	Accounts []string // user or user@domain
	Numbers  []string // user part of the Request-URI
	Action   Action
}

// Malformed is the rule for messages that the scanner refuses.
type Malformed struct {
	Threshold int           // refused messages from a source in a period that are still answered; 0: all are answered
	Period    time.Duration // 0: a minute
	Action    Action
}

// Flood is the limit before parsing.
type Flood struct {
	Rate       float64 // messages per second from a source; 0: no limit
	Burst      int     // how many of them may come at once; 0: 1
	GoodFactor int     // multiple of both for a source in good standing; 0: 10
	Action     Action
}

// DistinctSources protects an account that is attacked from many sources.
type DistinctSources struct {
	Count  int           // failing sources within Window that are still borne; 0: the guard is off
	Window time.Duration // 0: ten minutes
}
