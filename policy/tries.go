package policy

import "math"

// slots is how many guesses of one who guesses are known one by one. Up to this
// limit failures are counted exactly within a sliding period; see fold.
const slots = 12

// pendingTime is how long a guess without an answer is taken to be one that a
// PBX still works on (ns). It is forgotten after that: when a PBX is down nobody
// is to blame.
const pendingTime = 4_000_000_000

// tries counts guesses of passwords: those that have failed, and those that are
// with the PBX. Both together are limited, so that no more than the limit reach
// the PBX however fast they come.
//
// A guess has an ID, the same for its retransmissions, so that it counts once
// however often its request and its answer are repeated.
type tries struct {
	id      [slots]uint32
	at      [slots]uint32 // ticks: of a pending one when it was asked, of a failed one when it failed
	account [slots]uint16 // a part of the account's key
	method  [slots]methodID
	state   [slots]tryState

	failures uint8 // since the entry was made, up to 255: what it is worth to remember
	fold     fold
	last     int64 // when it was last touched, ns
	success  int64 // when a password was right last; of pairs only
	sentence       // what was decided about whoever guesses
}

// guessed is a guess: its ID, and what it is for.
type guessed struct {
	id      uint32
	account uint16
	method  methodID
}

// methodID tells apart the methods that a PBX may treat differently.
type methodID uint8

func methodOf(name []byte) methodID {
	switch string(name) {
	case "REGISTER":
		return 1
	case "INVITE":
		return 2
	case "SUBSCRIBE":
		return 3
	case "PUBLISH":
		return 4
	case "MESSAGE":
		return 5
	case "OPTIONS":
		return 6
	case "REFER":
		return 7
	case "INFO":
		return 8
	}
	return 0
}

type tryState uint8

const (
	tryFree tryState = iota
	tryPending
	tryFailed
)

// tick is the unit of times within a table, about a millisecond. 32 bits of it
// go round in 52 days; what is that old is forgotten by tries.age.
const tickBits = 20

func ticks(ns int64) uint32 { return uint32(ns >> tickBits) }

// since returns the time from a tick to now in nanoseconds; negative if the tick
// is ahead, as after a clock that stepped back.
func since(at uint32, now int64) int64 { return int64(int32(ticks(now)-at)) << tickBits }

// skew is how far a time may lie ahead before it counts as nonsense.
const skew = 1_000_000_000

// within says whether a tick lies within the last period.
func within(at uint32, now, period int64) bool {
	age := since(at, now)
	return age < period && age > -skew
}

// longest is how long anything of a tries without a sentence counts.
const longest = 24 * 3600 * second

// touch forgets what is so old that ticks could be mistaken about it, and what
// has been served.
func (t *tries) touch(now int64) {
	if age := now - t.last; age > longest || age < -skew {
		*t = tries{sentence: t.sentence}
	}
	if t.until != 0 && t.until <= now {
		*t = tries{}
	}
	t.last = now
}

// count returns the failures within the period, and the guesses whose answer is
// awaited.
func (t *tries) count(now, period int64) (failed, pending int) {
	if t.idle() {
		return t.fold.count(now, period), 0
	}
	for i, state := range t.state {
		switch {
		case state == tryFree || !t.live(i, now, period):
		case state == tryFailed:
			failed++
		default:
			pending++
		}
	}
	return failed + t.fold.count(now, period), pending
}

// askVerdict is what ask says.
type askVerdict uint8

const (
	askPass    askVerdict = iota
	askWait               // it may fail, and would then be one too many
	askTooMany            // too many have failed
)

// ask says whether a guess may go to the PBX, and notes that it has gone. One
// that has failed already and is sent again may: its answer tells nothing new.
//
// An account that has succeeded and does not fail may have any number of requests
// on their way: it may be a PBX of its own that sets up many calls at once.
func (t *tries) ask(g guessed, now, period int64, limit int) askVerdict {
	failed, pending := t.count(now, period)
	if failed >= limit {
		return askTooMany
	}
	i := t.find(g.id)
	if i >= 0 && t.live(i, now, period) {
		return askPass
	}
	trusted := failed == 0 && t.success != 0 && now-t.success < longest
	if failed+pending >= limit && !trusted {
		return askWait
	}
	if i < 0 {
		i = t.free(now, period)
	}
	switch {
	case i >= 0:
		t.put(i, g, now, tryPending)
	case !trusted:
		return askWait // a dozen are in flight, and a higher limit does not change that
	}
	return askPass
}

func (t *tries) put(i int, g guessed, now int64, s tryState) {
	t.id[i], t.at[i], t.account[i], t.method[i], t.state[i] = g.id, ticks(now), g.account, g.method, s
}

// live says whether what is known of a guess still counts.
func (t *tries) live(i int, now, period int64) bool {
	switch t.state[i] {
	case tryPending:
		return within(t.at[i], now, pendingTime)
	case tryFailed:
		return within(t.at[i], now, period)
	}
	return false
}

// fail notes that a guess has failed and returns the failures within the period.
// fresh is false if that was known.
func (t *tries) fail(g guessed, now, period int64) (n int, fresh bool) {
	i := t.find(g.id)
	fresh = i < 0 || t.state[i] != tryFailed || !t.live(i, now, period)
	if fresh {
		if i < 0 {
			if i = t.free(now, period); i < 0 {
				i = t.oldest(tryPending, now)
			}
		}
		t.put(i, g, now, tryFailed)
		if t.failures < math.MaxUint8 {
			t.failures++
		}
	}
	n, _ = t.count(now, period)
	return n, fresh
}

// forgive forgets the failures of an account, but those that are only left as a
// number.
func (t *tries) forgive(account uint16) {
	for i := range t.state {
		if t.state[i] == tryFailed && t.account[i] == account {
			t.state[i] = tryFree
		}
	}
}

// settle forgets a pending guess, and says whether there was one: it has been
// answered, and not with a failure.
func (t *tries) settle(id uint32) bool {
	i := t.find(id)
	if i < 0 || t.state[i] != tryPending {
		return false
	}
	t.state[i] = tryFree
	return true
}

// accept settles a guess whose password was right, and says whether there was one.
// One failure before it was most likely the phone's own, with a nonce that had
// expired. It is taken back for the same method only, and once: a PBX may let some
// methods pass unasked.
func (t *tries) accept(g guessed, now int64) bool {
	if !t.settle(g.id) {
		return false
	}
	t.takeBack(g, now)
	return true
}

// takeBack forgets the latest failure of the same account with the same method:
// phones try an old nonce first, and some PBXes do not say that it is old.
func (t *tries) takeBack(g guessed, now int64) {
	at := -1
	for i := range t.state {
		if t.state[i] == tryFailed && t.account[i] == g.account && t.method[i] == g.method &&
			(at < 0 || since(t.at[i], now) < since(t.at[at], now)) {
			at = i
		}
	}
	if at >= 0 {
		t.state[at] = tryFree
	}
}

// idle says that no guess is known: most often.
func (t *tries) idle() bool { return t.state == [slots]tryState{} }

func (t *tries) find(id uint32) int {
	if t.idle() {
		return -1
	}
	for i := range t.id {
		if t.id[i] == id && t.state[i] != tryFree {
			return i
		}
	}
	return -1
}

// free returns a slot for another guess. When all hold failures that count, the
// oldest is folded. It returns -1 when none can be had but at the cost of a
// guess in flight.
func (t *tries) free(now, period int64) int {
	for i := range t.state {
		if !t.live(i, now, period) {
			return i
		}
	}
	i := t.oldest(tryFailed, now)
	if i >= 0 {
		t.fold.add(now-since(t.at[i], now), now, period)
	}
	return i
}

// oldest returns the slot in a state that has been in it longest, -1 if none is.
func (t *tries) oldest(s tryState, now int64) int {
	at, age := -1, int64(math.MinInt64)
	for i := range t.state {
		if a := since(t.at[i], now); t.state[i] == s && a > age {
			at, age = i, a
		}
	}
	return at
}

// folds is the number of parts of a period.
const folds = 4

// fold counts the failures for which there is no slot, when a limit is higher
// than the number of slots, by quarters of the period. What it counts has
// happened within the last period, but it may forget up to a quarter of a period
// too early.
type fold struct {
	quarter int64 // the latest quarter that anything was added in
	n       [folds]uint16
}

func (f *fold) add(at, now, period int64) {
	f.turn(now, period)
	q := at / max(period/folds, 1)
	if f.quarter-q >= folds || q > f.quarter {
		return
	}
	if n := &f.n[q%folds]; *n < math.MaxUint16 {
		*n++
	}
}

// turn forgets the quarters that have passed out of the period.
func (f *fold) turn(now, period int64) {
	q := now / max(period/folds, 1)
	if d := q - f.quarter; d < 0 || d >= folds {
		f.n = [folds]uint16{}
	} else {
		for ; d > 0; d-- {
			f.n[(q-d+1)%folds] = 0
		}
	}
	f.quarter = q
}

func (f *fold) count(now, period int64) int {
	if f.n == [folds]uint16{} {
		return 0
	}
	f.turn(now, period)
	sum := 0
	for _, n := range f.n {
		sum += int(n)
	}
	return sum
}
