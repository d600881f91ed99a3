package admin

import (
	"net/netip"
	"time"
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
	// Replies counts the PBXes' answers by class ("2xx").
	Replies map[string]uint64 `json:"replies"`
	UDP     []UDP             `json:"udp"`
	TCP     TCP               `json:"tcp"`

	Allow  int `json:"allow"`  // prefixes on the allow list
	Deny   int `json:"deny"`   // prefixes on the deny list
	Trunks int `json:"trunks"` // prefixes of trunks
}

// PBX is the state of one PBX.
type PBX struct {
	Address netip.AddrPort `json:"address"`
	Weight  int            `json:"weight"`
	Up      bool           `json:"up"`
	Since   time.Time      `json:"since,omitzero"` // of the state; zero: since the start
	Why     string         `json:"why,omitempty"`  // it is down
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

// Reloaded says what a reload changed.
type Reloaded struct {
	Changed []string `json:"changed"` // now in force
	Restart []string `json:"restart"` // takes effect at the next start
}
