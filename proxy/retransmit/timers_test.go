package retransmit_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sipward/proxy/retransmit"
	"sipward/sip"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	pbx   = retransmit.Path{Addr: netip.MustParseAddrPort("203.0.113.2:5060")}
	phone = netip.MustParseAddr("192.0.2.10")
)

func key(m sip.Method) retransmit.Key {
	return retransmit.Key{Branch: [12]byte([]byte("abcdefghijkl")), Method: m}
}

// A play is what happens to one transaction, on the clock of a synctest bubble.
type play struct {
	*retransmit.Table
	method sip.Method
	start  time.Time

	mu  sync.Mutex // the clock alone tells the race detector nothing
	log []string
}

const success = 77 // the ACK to the 2xx

func (p *play) now() int64 { return time.Now().UnixNano() }

func (p *play) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Since(p.start).String()
	p.log = append(p.log, at+" "+fmt.Sprintf(format, args...))
}

// The steps: what the stream's side sends, and what the UDP side does.
func (p *play) phoneSends() {
	r := retransmit.Request{Key: key(p.method), Source: phone, Path: pbx, Message: []byte("request")}
	if !p.SendRequest(&r, p.now()) {
		p.note("refused")
	}
}

func (p *play) phoneAcks() { p.SendAck(key(sip.MethodAck), pbx, []byte("ACK")) }

func (p *play) pbxAnswers(status int) func() {
	return func() {
		forward, repeat, path := p.ReceiveResponse(key(p.method), status, p.now(), nil)
		switch {
		case forward:
			p.note("forward %d", status)
		case len(repeat) > 0 && path == pbx:
			p.note("absorb %d, send %s", status, repeat)
		default:
			p.note("absorb %d", status)
		}
	}
}

func (p *play) pbxSends() { p.pbxSendsTo(1)() }

func (p *play) pbxSendsTo(flow uint64) func() {
	return func() {
		r := retransmit.Request{Key: key(p.method), Class: retransmit.PBX, Source: pbx.Addr.Addr(), Flow: flow}
		switch v, repeat, path := p.ReceiveRequest(&r, p.now(), nil); {
		case v == retransmit.Forward:
			p.note("forward request")
		case v == retransmit.Refuse:
			p.note("refuse")
		case len(repeat) > 0 && path == pbx:
			p.note("absorb, send %s", repeat)
		default:
			p.note("absorb")
		}
	}
}

func (p *play) phoneAnswers(status int) func() {
	return func() {
		p.SendResponse(key(p.method), status, success, pbx, fmt.Append(nil, status), p.now())
	}
}

func (p *play) pbxAcks() {
	if p.ReceiveAck(key(sip.MethodAck), p.now()) {
		p.note("forward ACK")
	} else {
		p.note("absorb ACK")
	}
}

func (p *play) pbxAcksSuccess() { p.ReceiveSuccessAck(success) }

// A step is taken at a time.
type step struct {
	at time.Duration
	do func()
}

// TestClockSetBack: when the clock is set back, what waits is sent again and forgotten no later than if it had been noted after
// that, and what is noted after that, as ever.
func TestClockSetBack(t *testing.T) {
	var sent []string
	table := retransmit.New(retransmit.Config{
		Bytes: 1 << 20, Send: func(_ retransmit.Path, b []byte) { sent = append(sent, string(b)) }, TimedOut: func(retransmit.Path, []byte) {},
	})
	advance := table.Clock()
	now := int64(1_000_000 * time.Hour)
	request := func(branch byte, text string) {
		r := retransmit.Request{Key: key(sip.MethodInvite), Class: retransmit.Known, Source: phone, Path: pbx, Message: []byte(text)}
		r.Key.Branch[0] = branch
		if !table.SendRequest(&r, now) {
			t.Fatal("no room")
		}
	}
	request('a', "before")
	advance(now)
	now -= int64(time.Hour)
	request('b', "after, in another shard")
	request('a'+16, "after")
	for end := now + int64(time.Second); now < end; now += int64(50 * ms) {
		advance(now)
	}
	slices.Sort(sent)
	if want := []string{"after", "after, in another shard", "before"}; !slices.Equal(sent, want) {
		t.Errorf("sent again within a second: %q, want %q", sent, want)
	}
	for end := now + int64(40*time.Second); now < end; now += int64(50 * ms) {
		advance(now)
	}
	if n := table.Stats().Entries; n != 0 {
		t.Errorf("%d are remembered for longer than 64*T1", n)
	}
}

const ms = time.Millisecond

// TestTimers plays each row of the tables in RFC 3261 §17 (with RFC 6026 and RFC 4320).
func TestTimers(t *testing.T) {
	const invite, register = sip.MethodInvite, sip.MethodRegister
	for _, c := range []struct {
		name   string
		method sip.Method
		steps  func(*play) []step
		want   []string
		gone   time.Duration // when nothing is known of it any more
	}{
		{"INVITE without a response: timers A and B", invite, func(p *play) []step {
			return []step{{0, p.phoneSends}}
		}, []string{
			"500ms send request", "1.5s send request", "3.5s send request", "7.5s send request",
			"15.5s send request", "31.5s send request", "32s timed out request",
		}, 32 * time.Second},
		{"INVITE with a provisional response", invite, func(p *play) []step {
			return []step{{0, p.phoneSends}, {600 * ms, p.pbxAnswers(100)}, {900 * ms, p.pbxAnswers(180)}}
		}, []string{"500ms send request", "600ms forward 100", "900ms forward 180"}, 10*time.Minute + 900*ms},
		{"INVITE that fails: timer D", invite, func(p *play) []step {
			return []step{
				{0, p.phoneSends}, {100 * ms, p.pbxAnswers(180)}, {200 * ms, p.pbxAnswers(486)},
				{700 * ms, p.pbxAnswers(486)}, {800 * ms, p.phoneAcks}, {1700 * ms, p.pbxAnswers(486)},
				{1800 * ms, p.pbxAnswers(180)}, {30 * time.Second, p.pbxAnswers(486)}, {33 * time.Second, p.pbxAnswers(486)},
			}
		}, []string{
			"100ms forward 180", "200ms forward 486", "700ms absorb 486", "1.7s absorb 486, send ACK",
			"1.8s absorb 180, send ACK", "30s absorb 486, send ACK", "33s forward 486",
		}, 32200 * ms},
		{"INVITE that succeeds: every 2xx is the phone's (RFC 6026)", invite, func(p *play) []step {
			return []step{{0, p.phoneSends}, {600 * ms, p.pbxAnswers(200)}, {1100 * ms, p.pbxAnswers(200)}}
		}, []string{"500ms send request", "600ms forward 200", "1.1s forward 200"}, 600 * ms},
		{"INVITE that fails and succeeds elsewhere", invite, func(p *play) []step {
			return []step{{0, p.phoneSends}, {100 * ms, p.pbxAnswers(500)}, {200 * ms, p.pbxAnswers(200)}}
		}, []string{"100ms forward 500", "200ms forward 200"}, 32100 * ms},
		{"REGISTER without a response: timers E and F", register, func(p *play) []step {
			return []step{{0, p.phoneSends}}
		}, []string{
			"500ms send request", "1.5s send request", "3.5s send request", "7.5s send request", "11.5s send request",
			"15.5s send request", "19.5s send request", "23.5s send request", "27.5s send request", "31.5s send request",
		}, 32 * time.Second},
		{"REGISTER with a provisional response: T2", register, func(p *play) []step {
			return []step{{0, p.phoneSends}, {600 * ms, p.pbxAnswers(100)}, {10 * time.Second, p.pbxAnswers(200)}}
		}, []string{
			"500ms send request", "600ms forward 100", "1.5s send request", "5.5s send request", "9.5s send request",
			"10s forward 200",
		}, 15 * time.Second},
		{"REGISTER with a response: timer K", register, func(p *play) []step {
			return []step{
				{0, p.phoneSends}, {200 * ms, p.pbxAnswers(401)}, {700 * ms, p.pbxAnswers(401)},
				{800 * ms, p.pbxAnswers(100)}, {6 * time.Second, p.pbxAnswers(401)},
			}
		}, []string{"200ms forward 401", "700ms absorb 401", "800ms absorb 100", "6s forward 401"}, 5200 * ms},
		{"REGISTER that the phone begins anew", register, func(p *play) []step {
			return []step{
				{0, p.phoneSends}, {200 * ms, p.pbxAnswers(401)}, {300 * ms, p.phoneSends},
				{900 * ms, p.pbxAnswers(200)},
			}
		}, []string{"200ms forward 401", "800ms send request", "900ms forward 200"}, 5900 * ms},

		{"INVITE of the PBX, repeated", invite, func(p *play) []step {
			return []step{
				{0, p.pbxSends}, {500 * ms, p.pbxSends}, {600 * ms, p.phoneAnswers(100)}, {700 * ms, p.phoneAnswers(180)},
				{1500 * ms, p.pbxSends}, {3500 * ms, p.pbxSends},
			}
		}, []string{"0s forward request", "500ms absorb", "1.5s absorb, send 180", "3.5s absorb, send 180"},
			10*time.Minute + 700*ms},
		{"INVITE of the PBX that is never answered", invite, func(p *play) []step {
			return []step{{0, p.pbxSends}, {31500 * ms, p.pbxSends}}
		}, []string{"0s forward request", "31.5s absorb"}, 32 * time.Second},
		{"INVITE of the PBX that fails: timers G and H", invite, func(p *play) []step {
			return []step{{0, p.pbxSends}, {2 * time.Second, p.phoneAnswers(486)}, {2200 * ms, p.pbxSends}}
		}, []string{
			"0s forward request", "2.2s absorb, send 486", "2.5s send 486", "3.5s send 486", "5.5s send 486", "9.5s send 486",
			"13.5s send 486", "17.5s send 486", "21.5s send 486", "25.5s send 486", "29.5s send 486", "33.5s send 486",
		}, 34 * time.Second},
		{"INVITE of the PBX that fails and is acknowledged: timer I", invite, func(p *play) []step {
			return []step{
				{0, p.pbxSends}, {1 * time.Second, p.phoneAnswers(486)}, {1700 * ms, p.pbxAcks},
				{2200 * ms, p.pbxAcks}, {2300 * ms, p.pbxSends}, {7 * time.Second, p.pbxAcks},
			}
		}, []string{
			"0s forward request", "1.5s send 486", "1.7s forward ACK", "2.2s absorb ACK", "2.3s absorb", "7s forward ACK",
		}, 6700 * ms},
		{"INVITE of the PBX that succeeds: timer L", invite, func(p *play) []step {
			return []step{
				{0, p.pbxSends}, {1 * time.Second, p.phoneAnswers(200)}, {1100 * ms, p.pbxSends},
				{1600 * ms, p.phoneAnswers(200)}, {2600 * ms, p.pbxAcksSuccess}, {2700 * ms, p.pbxSends},
				{2800 * ms, p.pbxAcksSuccess},
			}
		}, []string{"0s forward request", "1.1s absorb, send 200", "1.5s send 200", "2.5s send 200", "2.7s absorb"},
			33 * time.Second},
		{"INVITE of the PBX whose 2xx is never acknowledged", invite, func(p *play) []step {
			return []step{{0, p.pbxSends}, {0, p.phoneAnswers(200)}}
		}, []string{
			"0s forward request", "500ms send 200", "1.5s send 200", "3.5s send 200", "7.5s send 200", "11.5s send 200",
			"15.5s send 200", "19.5s send 200", "23.5s send 200", "27.5s send 200", "31.5s send 200",
		}, 32 * time.Second},
		{"OPTIONS of the PBX: timer J", sip.MethodOptions, func(p *play) []step {
			return []step{
				{0, p.pbxSends}, {500 * ms, p.pbxSends}, {600 * ms, p.phoneAnswers(100)}, {1500 * ms, p.pbxSends},
				{2 * time.Second, p.phoneAnswers(200)}, {3500 * ms, p.pbxSends}, {4 * time.Second, p.phoneAnswers(500)},
				{33 * time.Second, p.pbxSends}, {35 * time.Second, p.pbxSendsTo(0)},
			}
		}, []string{
			"0s forward request", "500ms absorb", "1.5s absorb, send 100", "3.5s absorb, send 200", "33s absorb, send 200",
			"35s forward request",
		}, 34 * time.Second},
		{"request of the PBX while the phone comes back", sip.MethodOptions, func(p *play) []step {
			return []step{{0, p.pbxSends}, {500 * ms, p.pbxSendsTo(2)}, {1500 * ms, p.pbxSendsTo(2)}, {3500 * ms, p.pbxSendsTo(0)}}
		}, []string{"0s forward request", "500ms forward request", "1.5s absorb", "3.5s forward request"}, 3500 * ms},
		{"request of the PBX to a phone that has answered and gone", sip.MethodBye, func(p *play) []step {
			return []step{{0, p.pbxSends}, {100 * ms, p.phoneAnswers(200)}, {500 * ms, p.pbxSendsTo(0)}}
		}, []string{"0s forward request", "500ms absorb, send 200"}, 32100 * ms},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { perform(t, c.method, c.steps, c.want, c.gone) })
		})
	}
}

func perform(t *testing.T, method sip.Method, steps func(*play) []step, want []string, gone time.Duration) {
	p := &play{method: method, start: time.Now()}
	p.Table = retransmit.New(retransmit.Config{
		Bytes: 1 << 20,
		Send: func(to retransmit.Path, b []byte) {
			if to != pbx {
				t.Errorf("%s goes to %v", b, to)
			}
			p.note("send %s", b)
		},
		TimedOut: func(_ retransmit.Path, b []byte) { p.note("timed out %s", b) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer synctest.Wait()
	defer cancel()
	go run(ctx, t, p.Table)
	for _, s := range steps(p) {
		time.Sleep(time.Until(p.start.Add(s.at)))
		synctest.Wait() // what is due by the timers at the same time comes first
		s.do()
	}
	// An entry is removed within a tick of its end.
	time.Sleep(time.Until(p.start.Add(gone - 1)))
	synctest.Wait()
	if n := p.Stats().Entries; n != 1 && time.Since(p.start) == gone-1 {
		t.Errorf("%d entries just before %v", n, gone)
	}
	time.Sleep(100 * ms)
	synctest.Wait()
	if st := p.Stats(); st.Entries != 0 || st.Bytes != 0 || p.Successes() != 0 {
		t.Errorf("left over: %+v, %d successes", st, p.Successes())
	}
	time.Sleep(time.Minute)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Equal(p.log, want) {
		t.Errorf("got\n\t%q\nwant\n\t%q", p.log, want)
	}
}

func run(ctx context.Context, t *testing.T, table *retransmit.Table) {
	if err := table.Run(ctx); err != nil {
		t.Error(err)
	}
}
