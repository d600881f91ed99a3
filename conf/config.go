// Package conf reads sipward's configuration: a YAML file, on top of the
// defaults and below the environment, checked as a whole before any of it is
// used.
//
// Whoever edits the file keeps other people's telephones alive, so the reading
// is strict and the answers are complete: every mistake is reported at once,
// each with file, line, column and key, what is wrong and what to do about it.
// A key that nothing implements is a mistake too.
//
// The package reads nothing but the file (Load) and the environment that it is
// handed; it opens no socket and resolves no name.
package conf

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"
)

// Config is a complete, valid configuration. It is not changed after it was
// made: a reload makes a new one. Every path in it is absolute when the name
// of the configuration file was.
type Config struct {
	// Mode is the way sipward stands in front of the PBX. Zero is ModeProxy.
	Mode Mode
	// Placement is where a transparent sipward stands. Zero is PlacementRouter.
	Placement Placement
	// Transparent holds what transparent mode alone needs.
	Transparent Transparent
	// Listen holds the addresses that sipward receives on, in proxy mode.
	Listen Listen
	// PBX holds the protected PBXes, at least one, in the file's order.
	PBX []PBX
	// Health says how sipward learns that a PBX is down.
	Health Health
	// Path makes sipward add a Path header to REGISTER (RFC 3327) for a PBX that
	// supports it; false, the default, has it alias the Contact instead.
	Path bool
	// Trunks holds the carriers' prefixes: always in good standing, still
	// inspected. Empty: none.
	Trunks []netip.Prefix
	// Lists holds who is always and who is never let in.
	Lists Lists
	// Register watches for guessed passwords.
	Register Register
	// Invite limits the simultaneous INVITEs of one source.
	Invite Invite
	// Scanner knows the marks of attack tools.
	Scanner Scanner
	// Enumeration watches for those who look for accounts.
	Enumeration Enumeration
	// Honey holds the accounts and numbers that only an attacker asks for.
	Honey Honey
	// Malformed limits the refused messages of one source.
	Malformed Malformed
	// Flood limits the messages of one source before they are parsed.
	Flood Flood
	// DistinctSources protects one account from guessers in many places.
	DistinctSources DistinctSources
	// UnprovenBlockTime is how long a source is blocked on evidence that somebody
	// else could have forged.
	UnprovenBlockTime time.Duration
	// UniformAnswers hides from strangers whether an account exists.
	UniformAnswers bool
	// DigestLeakShield drops challenges that come from the phones' side.
	DigestLeakShield bool
	// Breaker stops automatic bans when there are too many of them.
	Breaker Breaker
	// Overload keeps strangers from crowding out the phones.
	Overload Overload
	// Kernel mirrors the bans into the kernel.
	Kernel Kernel
	// TFTP relays files to phones.
	TFTP TFTP
	// DNS answers the questions of PBXes.
	DNS DNS
	// TCP holds the caps of stream connections.
	TCP TCP
	// TLS says which certificates are shown, and asked for.
	TLS TLS
	// WebSocket is about web pages that are phones.
	WebSocket WebSocket
	// DTLS holds the caps of associations.
	DTLS DTLS
	// UDP holds the shape of the datagram workers.
	UDP UDP
	// Resolver says who answers DNS questions about trunks.
	Resolver Resolver
	// IPv6SourcePrefix is how many leading bits of an IPv6 address make one
	// source, 32 to 128. Counting and limiting see nothing finer.
	IPv6SourcePrefix int
	// TokenKeyFile holds the key of the flow tokens; made when it is missing.
	// Never empty: without the key in the file it is token.key in StateDir.
	TokenKeyFile string
	// StateDir is the folder of everything that outlives a restart.
	StateDir string
	// Node is what this sipward is called in journals. Empty: as its host is.
	Node string
	// Report is about the journal that reports are made of.
	Report Report
	// Control is how programs and people reach sipward itself.
	Control Control
	// Notify says who is told of attacks.
	Notify Notify
	// Log says what is logged, and how.
	Log Log
	// Shutdown says how sipward ends.
	Shutdown Shutdown

	file   string           // for Problem
	values map[string]*node // by key, as they were written
}

// Transparent holds what transparent mode alone needs.
type Transparent struct {
	// Inside names the interfaces that the PBXes are behind; for a router at least one,
	// else none.
	Inside []string
	// Outside names those that phones and carriers are behind. Empty: all others.
	Outside []string
	// CarrierPorts are the TCP ports on which PBXes connect to carriers.
	CarrierPorts []int
	// Fail is what becomes of messages when sipward is not there. Zero is FailOpen.
	Fail Fail
	// ManageRules has sipward make the rules and routes itself.
	ManageRules bool
	// Port and the one after it are sipward's own, on the loopback addresses.
	Port int
	// Mark is that of packets that are led to sipward, OwnMark of those that it sends.
	// They differ, and are not 0.
	Mark, OwnMark uint32
	// Table is the number of the routing table that delivers what is marked.
	Table int
}

// InsideOrOutside returns the listeners that face the PBX: the inside ones, or
// the outside ones when they serve both sides.
func (c *Config) InsideOrOutside() []Listener {
	if len(c.Listen.Inside) > 0 {
		return c.Listen.Inside
	}
	return c.Listen.Outside
}

// Listen holds the addresses that sipward receives on.
type Listen struct {
	// Outside faces the phones, the carriers and everybody else. Never empty.
	Outside []Listener
	// OutsideIsDefault says that nobody chose Outside, so that an address family
	// which this machine does not have may be left out without a complaint.
	OutsideIsDefault bool
	// Inside faces the PBX. Empty: the outside listeners serve both sides. Either has
	// what PBX.Onward says for each transport of Outside.
	Inside []Listener
	// Advertise holds what phones are told instead of an outside listener's own
	// address, where sipward is behind 1:1 NAT. A listener that is not in it
	// names its own address.
	Advertise map[Listener]Advertised
}

// PBX is one protected PBX.
type PBX struct {
	// Address is where it listens, over UDP and TCP.
	Address netip.AddrPort
	// Weight is its share of the accounts relative to the other PBXes, 0 to
	// 1000. Zero: a reserve, used only when all that have a weight are down.
	Weight int
	// Transports are those that it speaks: UDP, TCP, TLS; at least one.
	Transports []Transport
	// TLS says how it is spoken to over TLS, if that is among them.
	TLS PBXTLS
}

// Speaks says whether a transport is among the PBX's.
func (p *PBX) Speaks(t Transport) bool { return slices.Contains(p.Transports, t) }

// Onward returns what a message goes on to the PBX by that came by t, and whether it can.
func (p *PBX) Onward(t Transport) (Transport, bool) {
	if t.Datagrams() {
		return TransportUDP, p.Speaks(TransportUDP)
	}
	for _, on := range []Transport{TransportTLS, TransportTCP, TransportUDP} {
		if p.Speaks(on) {
			return on, true
		}
	}
	return TransportUDP, false
}

// String writes it in one line, as the environment has it.
func (p PBX) String() string {
	text := fmt.Sprintf("%s weight %d", p.Address, p.Weight)
	if !slices.Equal(p.Transports, []Transport{TransportUDP, TransportTCP}) {
		text += " transports " + show(p.Transports)
	}
	if p.Speaks(TransportTLS) {
		text += " tls " + p.TLS.String()
	}
	return text
}

// Health says how sipward learns that a PBX is down.
type Health struct {
	// Probe is what is sent. Zero is ProbeOptions.
	Probe Probe
	// Interval is the time between two probes of one PBX.
	Interval time.Duration
	// Timeout is how long an answer may take; not above Interval.
	Timeout time.Duration
	// Fall is how many probes in a row must fail before a PBX counts as down.
	Fall int
	// Rise is how many probes in a row must succeed before it counts as up again.
	Rise int
}

// Lists holds who is always and who is never let in. Allow beats everything.
// The prefixes are masked, and IPv4 is never in its IPv6-mapped form.
type Lists struct {
	Allow, Deny []netip.Prefix
	// AllowFiles and DenyFiles name files with one prefix a line. They are
	// neither opened nor checked here.
	AllowFiles, DenyFiles []string
}

// TCP holds the caps of stream connections.
type TCP struct {
	// MaxConnections is how many connections phones may hold open in all.
	MaxConnections int
	// MaxPerSource is how many of them one source may hold; PBXes, trunks and
	// allowed sources are exempt.
	MaxPerSource int
	// MaxHeader is the cap of a message's start line and headers in bytes.
	MaxHeader int
	// MaxMessage is the cap of a whole message in bytes; not below MaxHeader.
	MaxMessage int
	// MessageTimeout is how long one whole message may take from its first byte
	// to its last.
	MessageTimeout time.Duration
	// IdleTimeout is how long a connection may be silent; above MessageTimeout.
	IdleTimeout time.Duration
	// WriteTimeout is how long a peer may leave what is sent to it unread.
	WriteTimeout time.Duration
	// DialTimeout is how long connecting to a PBX or a trunk may take.
	DialTimeout time.Duration
}

// UDP holds the shape of the datagram workers.
type UDP struct {
	// Workers is how many threads receive on each listener. Zero: one for every two CPUs, and
	// two where there are two.
	Workers int
	// Batch is how many datagrams one system call may move.
	Batch int
	// ReceiveBuffer is the kernel's buffer of each socket in bytes.
	ReceiveBuffer int
}

// Resolver says who answers DNS questions about trunks (RFC 3263).
type Resolver struct {
	// Nameservers are asked in this order. Empty: those of the system.
	Nameservers []netip.AddrPort
	// Timeout is how long one of them may take.
	Timeout time.Duration
	// CacheEntries is how many answers are remembered, above zero.
	CacheEntries int
}

// Log says what is logged, and how.
type Log struct {
	Level slog.Level
	// Format is LogText or LogJSON. Zero is LogText.
	Format LogFormat
}

// Shutdown says how sipward ends.
type Shutdown struct {
	// Drain is how long connections may finish what they are in the middle of.
	// Zero: they are closed at once.
	Drain time.Duration
}
