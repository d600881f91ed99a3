package retransmit_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sipward/proxy/retransmit"
	"sipward/sip"
)

// A world is a proxy with a Table between a phone on a stream, where nothing is lost and
// nothing repeated, and a PBX with the transactions of RFC 3261 §17 on a link that loses,
// doubles and delays. It is a model in virtual time, in steps of a tick.
type world struct {
	*retransmit.Table
	t       *rapid.T
	advance func(int64)
	now     int64
	began   int64
	air     []packet
	fates   []int // of the packets to come, see send; then all arrive at once

	invite bool
	status int // of the final response

	// What the two ends have seen.
	phoneGot, pbxGot map[string]int
	endpoint         endpoint // the PBX's end
}

type packet struct {
	at    int64
	toPBX bool
	text  string
}

const step50 = int64(50e6)

// send puts a packet on the lossy link: fate 0 loses it, 2 doubles it, and from 3 on it is
// late by so many steps.
func (w *world) send(toPBX bool, text string) {
	p := packet{at: w.now, toPBX: toPBX, text: text}
	fate := 1
	if len(w.fates) > 0 {
		fate, w.fates = w.fates[0], w.fates[1:]
	}
	switch fate {
	case 0:
		return
	case 1:
	case 2:
		w.air = append(w.air, p)
	default:
		p.at += int64(fate) * step50
	}
	w.air = append(w.air, p)
}

// run lets everything happen for a length of virtual time.
func (w *world) run(seconds int64) {
	for end := w.now + seconds*1e9; w.now < end; w.now += step50 {
		w.advance(w.now)
		w.endpoint.tick()
		for i := 0; i < len(w.air); i++ {
			p := w.air[i]
			if p.at > w.now {
				continue
			}
			w.air = slices.Delete(w.air, i, i+1)
			i--
			if p.toPBX {
				w.pbxGot[p.text]++
				w.endpoint.receive(p.text)
			} else {
				w.arrive(p.text)
			}
		}
	}
}

func (w *world) key(text string) retransmit.Key {
	switch {
	case text == "ACK":
		return numbered(1, sip.MethodAck)
	case w.invite:
		return numbered(1, sip.MethodInvite)
	}
	return numbered(1, sip.MethodRegister)
}

// arrive is what the proxy does with what the PBX has sent.
func (w *world) arrive(text string) {
	var status int
	switch {
	case text == "request":
		r := retransmit.Request{Key: w.key(text), Class: retransmit.PBX, Flow: 1}
		v, repeat, _ := w.ReceiveRequest(&r, w.now, nil)
		if len(repeat) > 0 {
			w.send(true, string(repeat))
		}
		if v == retransmit.Forward {
			w.phoneReceives(text)
		}
	case text == "ACK":
		if w.ReceiveAck(w.key(text), w.now) {
			w.phoneReceives(text)
		}
	case text == "ACK to success":
		w.ReceiveSuccessAck(success)
		w.phoneReceives(text)
	default:
		_, _ = fmt.Sscan(text, &status)
		forward, repeat, _ := w.ReceiveResponse(w.key(text), status, w.now, nil)
		if len(repeat) > 0 {
			w.send(true, string(repeat))
		}
		if forward {
			w.phoneReceives(text)
		}
	}
}

// phoneReceives is the phone's end: on a stream it repeats nothing.
func (w *world) phoneReceives(text string) {
	if n := w.phoneGot[text]; n == 0 || w.now < w.began+64*int64(retransmit.T1) { // after timers B and F nobody waits
		w.phoneGot[text]++
	}
	switch final := fmt.Sprint(w.status); {
	case text == "request":
		for _, status := range []int{180, w.status}[1-w.status%2:] {
			text := fmt.Sprint(status)
			w.SendResponse(w.key(text), status, success, pbx, []byte(text), w.now)
			w.send(true, text)
		}
	case text == final && w.invite && w.status < 300:
		w.send(true, "ACK to success")
	case text == final && w.invite:
		w.SendAck(w.key("ACK"), pbx, []byte("ACK"))
		w.send(true, "ACK")
	}
}

// phoneAsks is a request of the phone's.
func (w *world) phoneAsks() {
	w.SendRequest(&retransmit.Request{Key: w.key("request"), Source: phone, Path: pbx, Message: []byte("request")}, w.now)
	w.send(true, "request")
}

// An endpoint is the PBX's end of the transaction, over UDP.
type endpoint struct {
	*world
	client bool
	// again is what is sent at next and then at growing intervals until quiet or ends, and
	// by itself only if timed.
	again                string
	timed, quiet         bool
	next, interval, ends int64
}

func (e *endpoint) repeat(text string, timed bool) {
	e.again, e.timed, e.quiet = text, timed, false
	e.interval = int64(retransmit.T1)
	e.next, e.ends = e.now+e.interval, e.now+64*e.interval
	e.send(false, text)
}

func (e *endpoint) tick() {
	if e.again == "" || !e.timed || e.quiet || e.now < e.next || e.now >= e.ends {
		return
	}
	e.send(false, e.again)
	e.interval *= 2
	if !e.client || !e.invite {
		e.interval = min(e.interval, int64(retransmit.T2))
	}
	e.next = e.now + e.interval
}

func (e *endpoint) receive(text string) {
	switch {
	case text == "request" && e.again == "":
		if e.status%2 == 1 {
			e.send(false, "180")
		}
		e.repeat(fmt.Sprint(e.status), e.invite)
	case text == "request":
		if e.now < e.ends {
			e.send(false, e.again)
		}
	case text == "ACK" || text == "ACK to success":
		e.quiet = true
	default:
		if text == "180" {
			e.quiet = e.invite
			return
		}
		e.quiet = true
		if e.invite && e.status < 300 {
			e.send(false, "ACK to success")
		} else if e.invite {
			e.send(false, "ACK")
		}
	}
}

// TestLoss: whatever the link does to the first packets, each end gets what it has to
// get, the phone no more than once, and nothing is left.
func TestLoss(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(rapid.SliceOfN(rapid.IntRange(0, 30), 0, 12).Draw(t, "fates"))
		w.t = t
		w.invite = rapid.Bool().Draw(t, "invite")
		w.status = rapid.SampledFrom([]int{200, 201, 404, 407}).Draw(t, "status") // odd: with a 180 before
		w.play(rapid.Bool().Draw(t, "from the PBX"))
		w.check(t.Errorf)
	})
}

func newWorld(fates []int) *world {
	w := &world{now: 1e15, began: 1e15, fates: fates, phoneGot: map[string]int{}, pbxGot: map[string]int{}}
	w.Table = retransmit.New(retransmit.Config{
		Bytes:    1 << 20,
		Send:     func(_ retransmit.Path, b []byte) { w.send(true, string(b)) },
		TimedOut: func(retransmit.Path, []byte) { w.phoneGot["408"]++ },
	})
	w.advance = w.Clock()
	return w
}

func (w *world) play(fromPBX bool) {
	w.endpoint = endpoint{world: w, client: fromPBX}
	if fromPBX {
		w.endpoint.repeat("request", true)
	} else {
		w.phoneAsks()
	}
	w.run(120)
}

// FuzzLoss is TestLoss with the fates of all packets, so that the whole exchange may fail;
// then only what must never happen is checked.
func FuzzLoss(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 2, 3, 30}, true, uint8(0), true)
	f.Add([]byte{1, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, true, uint8(2), false)
	f.Fuzz(func(t *testing.T, raw []byte, invite bool, status uint8, fromPBX bool) {
		var fates []int
		for _, b := range raw[:min(len(raw), 200)] {
			fates = append(fates, int(b)%10) // later than half a second they could outlive the timers
		}
		w := newWorld(fates)
		w.invite, w.status = invite, []int{200, 201, 404, 407}[status%4]
		w.play(fromPBX)
		w.checkOnce(t.Errorf)
	})
}

// check holds what must have happened.
func (w *world) check(errorf func(string, ...any)) {
	w.checkOnce(errorf)
	final := fmt.Sprint(w.status)
	asked, answered := w.pbxGot, w.phoneGot
	if w.endpoint.client {
		asked, answered = w.phoneGot, w.pbxGot
	}
	if asked["request"] == 0 || answered[final] == 0 {
		errorf("the request arrived %d times, the response %d times", asked["request"], answered[final])
	}
	if ack := "ACK"; w.invite {
		if w.status < 300 {
			ack = "ACK to success"
		}
		if asked[ack] == 0 {
			errorf("no %s arrived", ack)
		}
		if !w.endpoint.quiet && !w.endpoint.client {
			errorf("the PBX goes on repeating its response")
		}
	}
}

// checkOnce holds what must not happen.
func (w *world) checkOnce(errorf func(string, ...any)) {
	for text, n := range w.phoneGot {
		success := text == "ACK to success" || w.invite && text == fmt.Sprint(w.status) && w.status < 300
		if n > 1 && !success && text != "180" {
			errorf("the phone got %q %d times", text, n)
		}
	}
	for text, n := range w.pbxGot {
		if n > 60 {
			errorf("the PBX got %q %d times", text, n)
		}
	}
	w.now += 3600e9
	w.advance(w.now)
	if st := w.Stats(); st.Entries != 0 || st.Bytes != 0 || w.Successes() != 0 {
		errorf("left over: %+v, %d successes", st, w.Successes())
	}
}
