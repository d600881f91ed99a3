package admin

import (
	"context"
	"net/netip"
	"time"

	"sipward/listsync/kernel"
	"sipward/notify"
	"sipward/report"
)

// Backend is the sipward that is controlled. Its methods are called by any
// number of goroutines.
//
// An error that is a *Refusal tells the client what to do; any other is a
// failure of sipward's own. What a method has changed is on disk when it returns
// without an error.
type Backend interface {
	Status() Status
	// Metrics is asked at each scrape.
	Metrics() Metrics
	// Reload reads the configuration again. An error says why the old one stays in
	// force.
	Reload() (Reloaded, error)

	// Bans returns bans in force.
	Bans(BanQuery) (BanPage, error)
	Ban(BanRequest, Caller) (Banned, error)
	Unban(address string) (Unbanned, error)

	// Quarantines returns the accounts that are shut out from a source in good standing,
	// those that end first in front.
	Quarantines() ([]Quarantine, error)

	// Entries returns a list in the order of its prefixes.
	Entries(List) ([]Entry, error)
	AddEntry(List, EntryRequest, Caller) (EntryChange, error)
	RemoveEntry(list List, address string) (EntryChange, error)

	// Kernel returns how the mirror of the bans is, with fresh counts. SyncKernel makes
	// everything in the kernel anew, ClearKernel removes it until the next SyncKernel.
	Kernel(context.Context) kernel.Status
	SyncKernel(context.Context) (kernel.Status, error)
	ClearKernel(context.Context) (kernel.Status, error)

	// Report answers a question about what happened; MailReport mails the answer by a
	// channel at once.
	Report(context.Context, *report.Query) (*report.Report, error)
	MailReport(ctx context.Context, q *report.Query, channel string) (Mailed, error)

	// Notifications returns how administrators are told; TestNotification sends a test by
	// a channel at once.
	Notifications() notify.Status
	TestNotification(ctx context.Context, channel string) (notify.Tested, error)

	// Explain tells everything that is known about a source.
	Explain(address string) (Explanation, error)
}

// List names a static list.
type List string

// The lists.
const (
	Allow List = "allow"
	Deny  List = "deny"
)

// Entry is one prefix of a list.
type Entry struct {
	Prefix netip.Prefix `json:"prefix"`
	// Origin is "command", "config", or the file and line that it stands in.
	Origin  string    `json:"origin"`
	Comment string    `json:"comment,omitempty"`
	Created time.Time `json:"created,omitzero"` // of one by command
}

// EntryRequest asks for an address or prefix to be put on a list.
type EntryRequest struct {
	Address string `json:"address"`
	Comment string `json:"comment,omitempty"`
	// Force puts it there even where that has no effect.
	Force bool `json:"force,omitempty"`
}

// EntryChange says what became of an EntryRequest.
type EntryChange struct {
	Entry Entry    `json:"entry"`
	Notes []string `json:"notes,omitempty"` // sentences for people
}

// Ban is one ban.
type Ban struct {
	Prefix netip.Prefix `json:"prefix"`
	Kind   string       `json:"kind"` // dynamic, permanent or manual
	Start  time.Time    `json:"start"`
	Until  time.Time    `json:"until,omitzero"` // zero: for ever
	Reason string       `json:"reason"`
	Guard  string       `json:"guard"`
	// Proven says that nobody else can have forged what it is for.
	Proven bool `json:"proven"`
	// Blocks is how many bans of the source count towards a permanent one.
	Blocks  int    `json:"blocks,omitempty"`
	Origin  string `json:"origin"`
	Comment string `json:"comment,omitempty"`
	// Evidence is shown by Explain alone.
	Evidence *Evidence `json:"evidence,omitempty"`
}

// BanRequest asks for a ban.
type BanRequest struct {
	// Address is an address or a prefix. An IPv6 address stands for its source,
	// the prefix of ipv6_source_prefix.
	Address string `json:"address"`
	// For is how long, such as "90m", "1h" or "30d"; empty: for ever.
	For    string `json:"for,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Force bans what is on the allow list, a trunk or a PBX, too. Those are still
	// let in, as long as they are.
	Force bool `json:"force,omitempty"`
}

// Banned says what became of a BanRequest.
type Banned struct {
	Ban   Ban      `json:"ban"` // what is in force now
	Notes []string `json:"notes,omitempty"`
}

// Unbanned says what was lifted.
type Unbanned struct {
	Removed []Ban `json:"removed"`
	// Forgotten is how many earlier bans no longer count towards a permanent one.
	Forgotten int `json:"forgotten"`
	// Quarantines is how many accounts are no longer shut out from the source.
	Quarantines int      `json:"quarantines"`
	Notes       []string `json:"notes,omitempty"`
}

// Mailed says where a report has gone.
type Mailed struct {
	Channel string        `json:"channel"`
	To      string        `json:"to"` // without credentials
	Subject string        `json:"subject"`
	Took    time.Duration `json:"took"` // nanoseconds
}

// Refusal is an answer in which sipward declined what was asked.
type Refusal struct {
	// Status is that of HTTP; 0 means 422.
	Status int
	Reason string
}

func (e *Refusal) Error() string { return e.Reason }

// TestRequest asks for a test of a channel of notifications.
type TestRequest struct {
	Channel string `json:"channel"`
}
