package admin

import (
	"net/netip"
	"time"

	"sipward/listsync/kernel"
	"sipward/notify"
	"sipward/report"
)

// Status is what a running sipward says of itself.
type Status struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Config  string    `json:"config"`
	Mode    string    `json:"mode"`
	Outside []string  `json:"outside"` // listeners as URLs
	Inside  []string  `json:"inside"`
	PBX     []PBX     `json:"pbx"`

	// Reasons counts messages by what became of them, in the words of
	// policy.Reason; Faults counts the malformed ones by what was wrong.
	Reasons map[string]uint64 `json:"reasons"`
	Faults  map[string]uint64 `json:"faults"`
	// Verdicts counts SIP messages alone, by verdict.
	Verdicts map[string]uint64 `json:"verdicts"`
	// Replies counts the PBXes' answers by class ("2xx").
	Replies map[string]uint64 `json:"replies"`
	UDP     []UDP             `json:"udp"`
	TCP     TCP               `json:"tcp"`
	// DTLS is absent without a listener of that kind.
	DTLS *DTLS `json:"dtls,omitempty"`
	// Retransmit is what sipward sends again over UDP for those who came over a connection.
	Retransmit Retransmit `json:"retransmit"`

	// Certificates are those of sipward's own TLS listeners.
	Certificates []Certificate `json:"certificates"`

	Allow  int `json:"allow"`  // prefixes on the allow list
	Deny   int `json:"deny"`   // prefixes on the deny list
	Trunks int `json:"trunks"` // prefixes of trunks

	// TFTP is absent if that is off.
	TFTP *TFTP `json:"tftp,omitempty"`
	// DNS is absent if that is off.
	DNS *DNS `json:"dns,omitempty"`

	Guards  []Guard   `json:"guards"`
	Bans    BanCounts `json:"bans"`
	Breaker []Fuse    `json:"breaker"`
	Store   Store     `json:"store"`
	Journal *Journal  `json:"journal,omitempty"` // nil: there is none
	// Kernel is how the mirror of the bans is; its counts may be half a minute old.
	Kernel kernel.Status `json:"kernel"`
	// Notify is how administrators are told.
	Notify notify.Status `json:"notify"`
	// Reports is how the scheduled reports have done.
	Reports []report.ScheduleStatus `json:"reports"`
	// KnownPlaces holds the accounts that are let in from known places only.
	KnownPlaces []string `json:"known_places"`
	// Notices holds the latest notices to the administrator, oldest first.
	Notices []Notice `json:"notices"`
}

// Notice tells of an episode: a ban, a quarantine, a limit.
type Notice struct {
	Seq     uint64    `json:"seq"` // rises by one with each
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"`
	Reason  string    `json:"reason"`
	Source  string    `json:"source,omitempty"`
	Account string    `json:"account,omitempty"`
	// Quiet says that it is for the record only, as of a guard that watches.
	Quiet    bool     `json:"quiet,omitempty"`
	Text     string   `json:"text"`
	Commands []string `json:"commands,omitempty"`
}

// Guard is what a guard does and has done.
type Guard struct {
	Name   string `json:"name"`
	Action string `json:"action"` // as in the configuration
	// Messages is how many it has stopped since the start.
	Messages uint64 `json:"messages"`
	// Bans is how many of the bans in force are its own.
	Bans int `json:"bans"`
	// Would is how often it would have acted, if it only watches.
	Would uint64 `json:"would,omitempty"`
}

// BanCounts counts bans.
type BanCounts struct {
	Dynamic   int `json:"dynamic"` // in force
	Permanent int `json:"permanent"`
	Manual    int `json:"manual"`
	Unproven  int `json:"unproven"` // of the dynamic ones
	// Recalled counts sources that are not banned, but whose earlier bans count
	// towards a permanent one.
	Recalled    int `json:"recalled"`
	Quarantines int `json:"quarantines"`
	// GoodSources counts the sources in good standing because of what a PBX
	// accepted.
	GoodSources int `json:"good_sources"`

	// Since the start.
	Added   uint64 `json:"added"`
	Expired uint64 `json:"expired"`
	Evicted uint64 `json:"evicted"` // made room in a full table
	Full    uint64 `json:"full"`    // not made, because the table was full
	Breaker uint64 `json:"breaker"` // not made, because of the breaker
}

// Fuse is a limit of the breaker, which stops automatic bans.
type Fuse struct {
	Name    string    `json:"name"`
	Open    bool      `json:"open"` // they are stopped
	Since   time.Time `json:"since,omitzero"`
	Limit   int       `json:"limit"` // bans a minute; zero: none
	Count   int       `json:"count"` // within the last minute
	Refused uint64    `json:"refused"`
}

// Store is the state of the database.
type Store struct {
	Path     string    `json:"path"`
	OK       bool      `json:"ok"`
	Error    string    `json:"error,omitempty"` // why it cannot be used at present
	Since    time.Time `json:"since,omitzero"`
	Errors   uint64    `json:"errors"`
	Pending  int       `json:"pending"` // changes that wait to be written
	BadRows  int       `json:"bad_rows,omitempty"`
	SetAside string    `json:"set_aside,omitempty"` // where a damaged one was moved to
}

// Journal is the state of what reports are made of.
type Journal struct {
	Path       string    `json:"path"`
	OK         bool      `json:"ok"`
	Error      string    `json:"error,omitempty"` // why it cannot be used at present
	Since      time.Time `json:"since,omitzero"`
	Errors     uint64    `json:"errors"`
	Waiting    int       `json:"waiting"`     // acts and minutes that wait to be written
	Events     uint64    `json:"events"`      // messages counted since the start
	LostEvents uint64    `json:"lost_events"` // messages that were too many to count
	Folded     uint64    `json:"folded"`      // messages counted without their source
	LostActs   uint64    `json:"lost_acts"`
	Bytes      int64     `json:"bytes"`
	SetAside   string    `json:"set_aside,omitempty"` // where a damaged one was moved to
}

// PBX is the state of one PBX.
type PBX struct {
	Address netip.AddrPort `json:"address"`
	Weight  int            `json:"weight"`
	Up      bool           `json:"up"`
	Since   time.Time      `json:"since,omitzero"` // of the state; zero: since the start
	Why     string         `json:"why,omitempty"`  // it is down
}

// Certificate is one by which sipward shows who it is.
type Certificate struct {
	Source string   `json:"source"` // its key in the configuration
	Names  []string `json:"names"`  // that it is for
	// From and Until bound the time in which it is valid; absent: there is none yet.
	From     time.Time `json:"from,omitzero"`
	Until    time.Time `json:"until,omitzero"`
	DaysLeft int       `json:"days_left"`         // negative: it has expired
	Warning  string    `json:"warning,omitempty"` // what is wrong with it
}

// UDP counts datagrams of one listener.
type UDP struct {
	Listener   string `json:"listener"`
	Received   uint64 `json:"received"`
	Sent       uint64 `json:"sent"`
	SendErrors uint64 `json:"send_errors"`
	QueueDrops uint64 `json:"queue_drops"` // lost in the kernel's receive queue
}

// TCP counts connections.
type TCP struct {
	Open     int    `json:"open"`
	Accepted uint64 `json:"accepted"`
	Refused  uint64 `json:"refused"` // by a cap or the gate
	Slow     uint64 `json:"slow"`    // closed at the message deadline
	Idle     uint64 `json:"idle"`
	Faults   uint64 `json:"faults"` // closed for a framing error
}

// DTLS counts associations.
type DTLS struct {
	Open      int    `json:"open"`
	Accepted  uint64 `json:"accepted"`  // whose address was proven
	Refused   uint64 `json:"refused"`   // by a cap or the gate
	Failed    uint64 `json:"failed"`    // in the handshake
	Idle      uint64 `json:"idle"`      // closed for that
	Moved     uint64 `json:"moved"`     // gone on at another address
	Replaced  uint64 `json:"replaced"`  // begun anew by the other side
	Cookies   uint64 `json:"cookies"`   // sent, to clients that had none
	Malformed uint64 `json:"malformed"` // ClientHellos with a wrong cookie, or that cannot be read
	Strays    uint64 `json:"strays"`    // datagrams of no association
	Oversize  uint64 `json:"oversize"`  // datagrams of more than 8,192 bytes
	Lost      uint64 `json:"lost"`      // datagrams that a queue had no room for
}

// Retransmit counts what crosses from connections to UDP and back: behind a PBX that speaks UDP
// alone.
type Retransmit struct {
	Transactions int   `json:"transactions"` // that are remembered now
	Bytes        int64 `json:"bytes"`        // that they take, with their messages

	// Since the start.
	Timers   uint64 `json:"timers"`    // messages sent again by a timer
	Replays  uint64 `json:"replays"`   // messages sent again because the other side repeated its own
	Absorbed uint64 `json:"absorbed"`  // messages repeated over UDP that did not go on
	TimedOut uint64 `json:"timed_out"` // INVITEs that were never answered
	Refused  uint64 `json:"refused"`   // requests for which there was no room
}

// Used says whether there is anything to tell.
func (r *Retransmit) Used() bool { return *r != Retransmit{} }

// TFTP counts transfers of files. The requests that were refused are among Reasons.
type TFTP struct {
	Listen []string `json:"listen"` // as URLs
	Server string   `json:"server"` // its address, or the folder that is served

	Open     int `json:"open"`      // transfers at present
	HalfOpen int `json:"half_open"` // of them those whose client has not shown its address yet
	Limited  int `json:"limited"`   // sources that are limited at present

	// Since the start.
	Started   uint64 `json:"started"`
	Completed uint64 `json:"completed"`
	Failed    uint64 `json:"failed"`  // by an ERROR of either side, such as for a missing file
	Cut       uint64 `json:"cut"`     // for their slowness, or because their source was shut out
	Evicted   uint64 `json:"evicted"` // made room for others
	NoSocket  uint64 `json:"no_socket"`
	// Withheld counts packets that would have gone to a client that has not shown its
	// address, Ignored those that belong to no transfer.
	Withheld  uint64 `json:"withheld"`
	Ignored   uint64 `json:"ignored"`
	ToClients uint64 `json:"to_clients"` // bytes
	ToServer  uint64 `json:"to_server"`
}

// DNS counts questions. Those that were refused are among Reasons.
type DNS struct {
	Listen     []string      `json:"listen"` // as URLs
	Protection string        `json:"protection"`
	Upstreams  []DNSUpstream `json:"upstreams"`

	// Since the start.
	Hits     uint64 `json:"hits"`     // answered from the cache
	Misses   uint64 `json:"misses"`   // asked of the upstreams
	Stale    uint64 `json:"stale"`    // answered with what is out of date
	Failures uint64 `json:"failures"` // that no upstream could answer

	Entries     int    `json:"entries"` // answers in the cache
	Bytes       int64  `json:"bytes"`   // their size
	InFlight    int    `json:"in_flight"`
	Connections int    `json:"connections"`
	Refused     uint64 `json:"refused"` // connections, by a cap
}

// DNSUpstream is a resolver that is asked.
type DNSUpstream struct {
	Address string    `json:"address"` // as in the configuration
	Up      bool      `json:"up"`
	Since   time.Time `json:"since,omitzero"` // of the state; zero: since the start
	Why     string    `json:"why,omitempty"`  // it is down
	Asked   uint64    `json:"asked"`
	Failed  uint64    `json:"failed"`
	Foreign uint64    `json:"foreign"` // replies that answered no question: forged, or too late
}

// Reloaded says what a reload changed.
type Reloaded struct {
	Changed []string `json:"changed"` // now in force
	Restart []string `json:"restart"` // takes effect at the next start
	// Warnings say what is in force and hardly meant.
	Warnings []string `json:"warnings,omitempty"`
}
