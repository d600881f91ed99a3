package admin

import (
	"net/netip"
	"time"
)

// Explanation is everything that is known about a source.
type Explanation struct {
	Address netip.Addr `json:"address"`
	// Source is what is counted and banned: the address, or its IPv6 prefix.
	Source netip.Prefix `json:"source"`

	// Verdict is what happens to its packets before they are read, "pass" or
	// "drop"; Reason says why in one word of policy.Reason, Why in a sentence.
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
	Why     string `json:"why"`
	// Standing is stranger, good, trunk or allowed; StandingWhy says what it owes
	// that to.
	Standing    string `json:"standing"`
	StandingWhy string `json:"standing_why,omitempty"`

	// DNS says whether it may ask the DNS front; empty if that is off.
	DNS string `json:"dns,omitempty"`

	// Lists holds the entries that cover the address.
	Lists []ListMatch `json:"lists,omitempty"`
	// Bans holds the bans that cover it, the one that lasts longest first.
	Bans []Ban `json:"bans,omitempty"`
	// Blocks is how many bans of the source count towards a permanent one, which
	// comes with the BlockThreshold-th. A BlockThreshold of zero: never.
	Blocks         int `json:"blocks"`
	BlockThreshold int `json:"block_threshold"`

	// Guards holds what the guards have counted of it, those that have anything.
	Guards []GuardCount `json:"guards,omitempty"`
	// Quarantines holds the accounts that are shut out from this source alone.
	Quarantines []Quarantine `json:"quarantines,omitempty"`
	// Messages holds the last ones that counted against it, oldest first.
	Messages []Message `json:"messages,omitempty"`

	// Undo holds the commands, and other steps, that let the source in.
	Undo []string `json:"undo,omitempty"`
}

// ListMatch is an entry of the list allow, deny, trunks or pbx.
type ListMatch struct {
	List string `json:"list"`
	Entry
}

// GuardCount is what a guard has counted of a source.
type GuardCount struct {
	Guard string `json:"guard"`
	What  string `json:"what"` // in the plural: "failures"
	Count int    `json:"count"`
	Limit int    `json:"limit"` // zero: none
	// Seconds is how long a thing counts; zero: as long as it lasts.
	Seconds float64 `json:"seconds,omitempty"`
	// Account is set when the count is that of one account from this source.
	Account string `json:"account,omitempty"`
}

// Quarantine is an account that is shut out from a source.
type Quarantine struct {
	Source  netip.Prefix `json:"source"`
	Account string       `json:"account"`
	Since   time.Time    `json:"since"`
	Until   time.Time    `json:"until"`
}

// Message is one message that counted against a source.
type Message struct {
	Time    time.Time `json:"time"`
	Reason  string    `json:"reason"`
	Method  string    `json:"method,omitempty"`
	Status  int       `json:"status,omitempty"` // of the answer to it
	Account string    `json:"account,omitempty"`
	Nonce   string    `json:"nonce,omitempty"` // where that of its credentials came from
	// Proven says that nobody else can have sent it.
	Proven bool   `json:"proven"`
	Detail string `json:"detail,omitempty"`
	// Text is the head of the message, without credentials.
	Text string `json:"text,omitempty"`
}

// Evidence is what a ban rests on.
type Evidence struct {
	By       string    `json:"by,omitempty"`     // who gave the command
	Charge   string    `json:"charge,omitempty"` // what the guard counted
	Standing string    `json:"standing,omitempty"`
	Proven   bool      `json:"proven,omitempty"`
	Messages []Message `json:"exhibits,omitempty"`
	// Omitted is the size of what was too large to be kept.
	Omitted int `json:"omitted_bytes,omitempty"`
}
