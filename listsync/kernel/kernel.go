// Package kernel mirrors the bans into the kernel, so that the next packet of a
// banned source is dropped before it costs anything in user space.
//
// A Mirror keeps sets of the kernel (those of ipset, or those of nftables) as
// its lists are: who is allowed, who is banned or denied, and who is in good
// standing; each for IPv4 and IPv6. Entries end by themselves, at the time at
// which the ban does. The rules that use the sets are made by it, too:
//
//	to a protected port, or with ScopeAll to any:
//	    banned or denied, and not on the allow list  dropped
//	to a protected port, while the limit of strangers is on:
//	    on the allow list, or in good standing       goes on to user space
//	    more than the limit of all others            dropped
//
// User space decides by the same lists, so that the mirror is never asked to be
// complete: it may be late, full or gone, and no packet suffers from it.
// Nothing in the kernel is touched but what carries the mirror's name.
package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"
)

// Entry is a ban as the kernel has it.
type Entry struct {
	Prefix netip.Prefix
	Until  int64 // Unix time in nanoseconds; 0: for ever
}

// Feed is where bans come from.
type Feed interface {
	// Follow calls reset with all entries, and again whenever some changes
	// were lost; and apply with each change of an entry after that, removed
	// when it is no more. It returns nil when ctx is done.
	Follow(ctx context.Context, reset func([]Entry), apply func(e Entry, removed bool)) error
}

// Backend is what holds the sets.
type Backend string

// The backends.
const (
	BackendAuto     Backend = "auto" // ipset where it works, else nftables, else none
	BackendIPSet    Backend = "ipset"
	BackendNFTables Backend = "nftables"
	BackendNone     Backend = "none"
)

// Scope is what a ban keeps its source from.
type Scope string

// The scopes.
const (
	ScopePorts Scope = "ports" // the protected ports, so that a ban in error locks no administrator out
	ScopeAll   Scope = "all"   // the whole host, and what it routes
)

// Port is a protected port.
type Port struct {
	Protocol uint8 // of IP: 6 for TCP, 17 for UDP
	Port     uint16
}

// protocol returns the protocol's name.
func (p Port) protocol() string {
	if p.Protocol == 6 {
		return "tcp"
	}
	return "udp"
}

// The defaults of Config.
const (
	DefaultName       = "sipward"
	DefaultMaxEntries = 1 << 19
	DefaultInterval   = 30 * time.Second
)

// maxName leaves room for "-allow6-new" in the 31 characters of a set's name,
// and for "-GUARD" in the 28 of a chain's.
const maxName = 16

// Config makes a Mirror.
type Config struct {
	Backend Backend // "": BackendAuto
	Scope   Scope   // "": ScopePorts
	Ports   []Port  // what ScopePorts and the limit of strangers protect

	// Name begins the name of everything that the mirror makes in the kernel.
	// Two mirrors in one network namespace need two names. "": DefaultName.
	Name string

	// NoRules leaves the rules to the administrator. With ipset there are the
	// sets NAME-allow4, NAME-ban4, NAME-good4 and those with 6 to match; with
	// nftables the chains guard4 and guard6 of the table inet NAME-lists to
	// jump to.
	NoRules bool

	// MaxEntries caps each set. When it is full, those that last longest are
	// in it, and user space alone enforces the rest. 0: DefaultMaxEntries.
	MaxEntries int

	// Interval is the time between two comparisons of the kernel with the
	// lists. 0: DefaultInterval. It stretches when comparing takes long.
	Interval time.Duration

	RemoveOnExit bool // take all away when Run ends; else the entries end at their time

	Bans   Feed        // nil: none
	Notify func(Event) // told of what an administrator should know; must not wait; nil: the log is
	Log    *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Backend == "" {
		c.Backend = BackendAuto
	}
	if c.Scope == "" {
		c.Scope = ScopePorts
	}
	if c.Name == "" {
		c.Name = DefaultName
	}
	if c.MaxEntries <= 0 {
		c.MaxEntries = DefaultMaxEntries
	}
	if c.Interval <= 0 {
		c.Interval = DefaultInterval
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	switch c.Backend {
	case BackendAuto, BackendIPSet, BackendNFTables, BackendNone:
	default:
		return c, fmt.Errorf("kernel: unknown backend %q", c.Backend)
	}
	if c.Scope != ScopePorts && c.Scope != ScopeAll {
		return c, fmt.Errorf("kernel: unknown scope %q", c.Scope)
	}
	if len(c.Name) > maxName {
		return c, fmt.Errorf("kernel: the name %q has more than %d characters", c.Name, maxName)
	}
	for _, r := range c.Name {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			return c, fmt.Errorf("kernel: the name %q has other characters than a to z and digits", c.Name)
		}
	}
	return c, nil
}

// EventKind is what an Event is about.
type EventKind string

// The kinds of events.
const (
	EventDown     EventKind = "down"     // the kernel no longer follows, or never has; user space goes on alone
	EventUp       EventKind = "up"       // the kernel holds what it should
	EventFull     EventKind = "full"     // not all entries fit into a set
	EventRoom     EventKind = "room"     // they all fit again
	EventRepaired EventKind = "repaired" // somebody else had changed what is the mirror's
)

// Event is something that an administrator should know.
type Event struct {
	Kind EventKind
	Text string
	// Quiet says that it is for the record only: somebody has asked for it, or all is well.
	Quiet bool
}

// The reasons why the kernel cannot be used.
var (
	// ErrPermission: the process lacks CAP_NET_ADMIN.
	ErrPermission = errors.New("kernel: no permission (CAP_NET_ADMIN is needed)")
	// ErrUnsupported: the kernel or the machine lacks what the backend needs.
	ErrUnsupported = errors.New("kernel: not supported here")
	// errFull: an entry does not fit into its set.
	errFull = errors.New("kernel: set is full")
	// errMissing: a set that should be there is not.
	errMissing = errors.New("kernel: set is gone")
)
