package policy

import "net/netip"

// NoticeKind is what a Notice is about.
type NoticeKind uint8

// The kinds of notices.
const (
	NoticeBan         NoticeKind = iota // a source is banned
	NoticeQuarantine                    // an account is shut out from a source in good standing
	NoticeKnownPlaces                   // an account is let in from known places only
	NoticeCalm                          // … and from everywhere again
	NoticeInviteLimit                   // a source sets up too many calls at once
	NoticeSpared                        // a source in good standing was not banned for what came in its name
	NoticeWouldBan                      // a guard that only watches would have acted
	NoticeBreaker                       // bans are refused because there were too many at once
	NoticeDigestLeak                    // a phone asked the PBX for its password
)

var noticeNames = [...]string{
	"ban", "quarantine", "known-places", "calm", "invite-limit", "spared", "would-ban", "breaker", "digest-leak",
}

// String returns the stable word of the kind.
func (k NoticeKind) String() string {
	if int(k) < len(noticeNames) {
		return noticeNames[k]
	}
	return "unknown"
}

// Notice tells an administrator of an episode. There is one for each episode,
// not for each message of it.
type Notice struct {
	Seq     uint64 // rises by one with each notice
	Time    int64  // Unix nanoseconds
	Kind    NoticeKind
	Reason  Reason     // which guard
	Source  netip.Addr // invalid when it is about an account alone
	Account string     // may be empty; from a stranger: escape it
	// Quiet says that it is for the record only: of a guard that watches.
	Quiet    bool
	Text     string   // one sentence
	Commands []string // what to run to undo it, or to go further
}
