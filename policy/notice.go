package policy

import (
	"net/netip"
	"strconv"
	"sync"
)

// NoticeKind is what a Notice is about.
type NoticeKind uint8

// The kinds of notices.
const (
	NoticeBan             NoticeKind = iota // a source is banned
	NoticeQuarantine                        // an account is shut out from a source in good standing
	NoticeKnownPlaces                       // an account is let in from known places only
	NoticeCalm                              // … and from everywhere again
	NoticeInviteLimit                       // a source sets up too many calls at once
	NoticeSpared                            // a source in good standing was not banned for what came in its name
	NoticeWouldBan                          // a guard that only watches would have acted
	NoticeBreaker                           // bans are refused because there were too many at once
	NoticeDigestLeak                        // a phone asked the PBX for its password
	NoticeRequestLimit                      // a source asks for so much that it is limited
	NoticeRequestCalm                       // … and is limited no more
	NoticeDNS                               // an upstream of the DNS front answers as it should not
	NoticeKernelDown                        // the kernel does not follow the bans
	NoticeKernelUp                          // … and follows them
	NoticeKernelFull                        // not all bans fit into the kernel's sets
	NoticeKernelRoom                        // … and they fit again
	NoticeKernelRepaired                    // somebody else had changed what sipward has in the kernel
	NoticeCertificate                       // a certificate has expired, or will soon
	NoticeCertificateFine                   // … and none will any more
)

var noticeNames = [...]string{
	"ban", "quarantine", "known-places", "calm", "invite-limit", "spared", "would-ban", "breaker", "digest-leak",
	"request-limit", "request-calm", "dns", "kernel-down", "kernel-up", "kernel-full", "kernel-room", "kernel-repaired", "certificate", "certificate-fine",
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

// noticeRing is how many notices are kept for those who ask.
const noticeRing = 256

// The most notices of a kind within a minute. What is more is counted, and said
// with the next one.
const noticesPerMinute = 60

// notices keeps the latest notices and knows the episodes that have been told.
type notices struct {
	mu       sync.Mutex
	ring     [noticeRing]Notice
	seq      uint64
	budget   [len(noticeNames)]budget
	episodes *table[int64] // when the next one of its kind may be told, by hash
}

type budget struct {
	minute   int64
	told     int
	withheld int
}

// begins says whether something that goes on has not been told of for quiet
// nanoseconds.
func (n *notices) begins(key uint64, now, quiet int64) bool {
	b := n.episodes.lock(key)
	defer b.mu.Unlock()
	until := n.episodes.claim(b, key, now)
	begins := *until <= now
	*until = now + quiet
	return begins
}

// take gives a notice its number and keeps it, unless there are too many.
func (n *notices) take(v *Notice) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := &n.budget[v.Kind]
	if m := v.Time / (60 * second); m != b.minute {
		b.minute, b.told = m, 0
	}
	if b.told++; b.told > noticesPerMinute {
		b.withheld++
		return false
	}
	if b.withheld > 0 {
		v.Text += " (" + count(b.withheld, "notice") + " of this kind withheld before this one.)"
		b.withheld = 0
	}
	n.seq++
	v.Seq = n.seq
	n.ring[n.seq%noticeRing] = *v
	return true
}

// tell hands a notice to whoever is to know.
func (e *Engine) tell(v Notice) {
	if e.notices.take(&v) && e.notify != nil {
		e.notify(v)
	}
}

// Notices returns the notices after the one with the given number, oldest first:
// of those that are gone, none.
func (e *Engine) Notices(after uint64) []Notice {
	n := &e.notices
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []Notice
	for seq := max(after, n.seq-min(n.seq, noticeRing)) + 1; seq <= n.seq; seq++ {
		all = append(all, n.ring[seq%noticeRing])
	}
	return all
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func times(n int) string { return count(n, "time") }
