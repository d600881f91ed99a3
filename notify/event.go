package notify

import (
	"fmt"
	"time"
)

// Severity says how bad something is. The words are those of syslog (RFC 5424).
type Severity uint8

// The severities.
const (
	Info     Severity = iota // for the record
	Warning                  // an attack that is being dealt with
	Critical                 // somebody should look
)

var severityNames = [...]string{"info", "warning", "critical"}

// String returns the severity's word.
func (s Severity) String() string { return severityNames[min(int(s), len(severityNames)-1)] }

// MarshalText writes the severity's word.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the severity's word.
func (s *Severity) UnmarshalText(text []byte) error {
	for i, name := range severityNames {
		if string(text) == name {
			*s = Severity(i)
			return nil
		}
	}
	return fmt.Errorf("%.20q is not a severity", text)
}

// The phases of an event.
const (
	PhaseBegin  = "begin"  // an attack has begun
	PhaseUpdate = "update" // it goes on
	PhaseEnd    = "end"    // it is over
	PhaseOnce   = "once"   // something that has no end, such as a command
	PhaseTest   = "test"
)

// Event is what is told, once in each phase of an attack. Its JSON is what webhooks
// and commands get.
type Event struct {
	// ID is the same whenever the event is sent again.
	ID       string    `json:"id"`
	Time     time.Time `json:"time"`
	Node     string    `json:"node"`
	Phase    string    `json:"phase"`
	Severity Severity  `json:"severity"`
	// Kind and Reason are words of policy.NoticeKind and policy.Reason.
	Kind    string `json:"kind"`
	Reason  string `json:"reason,omitempty"`
	Source  string `json:"source,omitempty"`  // address or prefix; empty: of an account, or of many
	Account string `json:"account,omitempty"` // from a stranger; of the first message
	Summary string `json:"summary"`           // one line
	Text    string `json:"text"`              // sentences
	// Commands are what to run to undo it, or to go further.
	Commands []string `json:"commands,omitempty"`
	Attack   *Attack  `json:"attack,omitempty"`
}

// Attack is what is known of an attack so far.
type Attack struct {
	ID       string    `json:"id"`
	Began    time.Time `json:"began"`
	Last     time.Time `json:"last"`     // when it was heard of last
	Messages uint64    `json:"messages"` // not let through since it began; those that the kernel dropped are not seen
	Notices  uint64    `json:"notices"`
	Bans     uint64    `json:"bans"`
	Sources  int       `json:"sources"`
	// More says that there were more sources than are counted.
	More bool     `json:"more,omitempty"`
	Top  []Source `json:"top,omitempty"` // of an attack by many
}

// Source is one source of an attack.
type Source struct {
	Source   string `json:"source"`
	Messages uint64 `json:"messages"`
}

// delivery is what is handed to a channel at a time: an event, or several that had to
// wait. Its JSON is the body of webhooks and the input of commands.
type delivery struct {
	// Lost is how many events were lost by this channel since the last delivery.
	Lost   uint64  `json:"lost,omitempty"`
	Events []Event `json:"events"`
}
