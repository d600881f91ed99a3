package policy_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sipward/policy"
	"sipward/policy/ban"
)

const office = "192.0.2.10"

// phone is one of the phones behind the office's address.
func phone(i int) string { return fmt.Sprintf("%s:%d", office, 20000+i) }

// Twenty phones behind one address, one of them with a stale password that it
// tries for ever: that one is shut out, the others go on.
func TestStalePhoneBehindNAT(t *testing.T) {
	s := newSim(t, simConfig())
	for i := range 19 {
		if f := s.register(phone(i), fmt.Sprintf("%d@x", i)); f.status != 200 {
			t.Fatalf("phone %d: %+v", i, f)
		}
	}
	answers, calls, failed := 0, 0, 0
	stop := s.now + int64(150*time.Minute)
	var stale func()
	stale = func() {
		if f := s.ask(msg{src: phone(19), method: "REGISTER", account: "19@x"}); f.status == 401 {
			f = s.ask(msg{src: phone(19), method: "REGISTER", account: "19@x", secret: "old", nonce: policy.NonceIssued})
			if f.status == 401 {
				answers++
			}
		}
		if s.now < stop {
			s.after(2*time.Second, stale)
		}
	}
	stale()
	var call func()
	call = func() {
		for i := range 19 {
			from := fmt.Sprintf("%d@x", i)
			if i%3 == 0 && s.register(phone(i), from).status != 200 {
				failed++
			}
			if s.ask(msg{src: phone(i), method: "INVITE", account: from, target: "5@x", secret: "right", nonce: policy.NonceIssued}).status != 200 {
				failed++
			}
			calls++
		}
		if s.now < stop {
			s.after(30*time.Minute, call)
		}
	}
	call()
	s.run(150 * time.Minute)
	s.noBans()
	if failed > 0 || calls == 0 {
		t.Errorf("%d of %d calls and registrations of the others failed", failed, calls)
	}
	// Ten in the first minute, and ten again after each hour of quarantine.
	if answers != 3*hitCount {
		t.Errorf("the stale phone got %d answers in two and a half hours", answers)
	}
	q := s.e.Quarantines(s.now)
	if len(q) != 1 || q[0].Account != "19@x" || q[0].Source.Addr().String() != office {
		t.Errorf("the quarantines are %+v", q)
	}
	x := s.e.Explain(netip.MustParseAddr(office), s.now)
	if x.Standing != policy.Good || len(x.Quarantines) != 1 || !slices.Contains(x.Undo, "sipward unban "+office) || len(x.Exhibits) == 0 {
		t.Errorf("it is explained as %+v", x)
	}
	if !strings.Contains(x.Exhibits[0].Text, "REGISTER") || x.Exhibits[0].Account != "19@x" || x.Exhibits[0].Nonce != "issued" {
		t.Errorf("the first exhibit is %+v", x.Exhibits[0])
	}
	// Its owner has put in the right password and asks to be let in.
	if n := s.e.Forgive(netip.MustParseAddr(office)); n != 1 {
		t.Errorf("%d quarantines lifted", n)
	}
	if f := s.register(phone(19), "19@x"); f.status != 200 {
		t.Errorf("after that: %+v", f)
	}
}

// The same at full speed: ten guesses reach the PBX, from the good source, too.
func TestGuesserBehindGoodNAT(t *testing.T) {
	for _, rate := range []float64{1, 10, 500} {
		s := newSim(t, simConfig())
		s.register(phone(0), "1@x")
		before := s.guesses[netip.MustParseAddr(office)]
		if n := s.guess(policy.UDP, phone(1), rate, int(rate*60), 30*time.Millisecond); n != hitCount {
			t.Errorf("%v/s: %d answers", rate, n)
		}
		if n := s.guesses[netip.MustParseAddr(office)] - before; n != hitCount {
			t.Errorf("%v/s: %d guesses reached the PBX", rate, n)
		}
		s.noBans()
	}
}

// The same against an account that is registered from there: what is on its way
// when the first guess fails may reach the PBX, but is not answered.
func TestGuesserBehindTheSameNAT(t *testing.T) {
	s := newSim(t, simConfig())
	s.register(phone(0), "100@x")
	before := s.guesses[netip.MustParseAddr(office)]
	if n := s.guess(policy.UDP, phone(1), 500, 30_000, 30*time.Millisecond); n != hitCount {
		t.Errorf("%d answers", n)
	}
	if n := s.guesses[netip.MustParseAddr(office)] - before; n > 2*hitCount {
		t.Errorf("%d guesses reached the PBX", n)
	}
	s.noBans()
}

// While a call is up, a phone that was shut out can still hang up.
func TestQuarantineLetsCallsEnd(t *testing.T) {
	s := newSim(t, simConfig())
	s.register(phone(0), "1@x")
	s.guess(policy.UDP, phone(1), 100, 100, 0)
	for _, tt := range []struct {
		method string
		want   policy.Verdict
	}{{"REGISTER", policy.Drop}, {"INVITE", policy.Drop}, {"BYE", policy.Pass}, {"ACK", policy.Pass}, {"CANCEL", policy.Pass}} {
		for _, secret := range []string{"", "right"} {
			m := msg{src: phone(1), method: tt.method, account: "100@x", inside: tt.want == policy.Pass, secret: secret}
			if secret != "" {
				m.nonce = policy.NonceIssued
			}
			if f := s.ask(m); f.Verdict != tt.want {
				t.Errorf("%s with credentials %q: %+v", tt.method, secret, f.Decision)
			}
		}
	}
	f := s.ask(msg{src: phone(1), method: "INVITE", account: "100@x", inside: true, proven: true})
	if f.status == 0 {
		t.Errorf("the refresh of a call: %+v", f)
	}
}

// A PBX of a customer's own, with one account, sets up forty calls at once.
func TestCustomersPBX(t *testing.T) {
	for _, tr := range []policy.Transport{policy.UDP, policy.TCP} {
		s := newSim(t, simConfig())
		s.ask(msg{src: phone(0), tr: tr, method: "REGISTER", account: "trunk@x", secret: "right", nonce: policy.NonceIssued})
		s.pbx = func(m *msg) answer {
			a := s.registrar(m)
			a.after = 3 * time.Second // they ring
			return a
		}
		calls := 0
		for range 25 {
			s.send(msg{src: phone(0), tr: tr, method: "INVITE", account: "trunk@x", secret: "right", nonce: policy.NonceIssued}, func(f fate) {
				if f.status == 200 {
					calls++
				}
			})
		}
		s.run(5 * time.Second)
		if calls != 25 {
			t.Errorf("%v: %d of 25 calls", tr, calls)
		}
	}
}

// A phone that tries its old nonce first, at a PBX that does not say stale=true,
// fails once for each call, and is no guesser.
func TestOldNonceFirst(t *testing.T) {
	s := newSim(t, simConfig())
	s.register(phone(0), "1@x")
	for i := range 100 {
		m := msg{src: phone(0), method: "INVITE", account: "1@x", secret: fmt.Sprint("old ", i), nonce: policy.NonceIssued}
		if f := s.ask(m); f.status != 401 {
			t.Fatalf("call %d, old nonce: %+v", i, f)
		}
		if m.secret = "right"; s.ask(m).status != 200 {
			t.Fatalf("call %d: refused", i)
		}
		s.run(time.Second)
	}
	if len(s.told) != 0 {
		t.Errorf("told %q", s.told[0].Text)
	}
}

// A PBX that lets OPTIONS and some calls pass unasked does not help one who
// guesses: neither to forget his failures, nor to see more answers.
func TestUnaskedMethodsHideNoGuesses(t *testing.T) {
	for _, method := range []string{"OPTIONS", "INVITE"} {
		for _, latency := range []time.Duration{0, 30 * time.Millisecond} {
			s := newSim(t, simConfig())
			s.register(phone(0), "own@x")
			s.pbx = func(m *msg) answer {
				if m.method == method {
					return answer{status: 200}
				}
				a := s.registrar(m)
				a.after = latency
				return a
			}
			answers := 0
			for i := range 400 {
				m := msg{src: phone(0), tr: policy.TCP, method: method, account: "victim@x", secret: "junk", nonce: policy.NonceIssued}
				s.send(m, nil)
				m.method, m.secret = "REGISTER", fmt.Sprint(i)
				s.send(m, func(f fate) {
					if f.status == 401 {
						answers++
					}
				})
				s.run(100 * time.Microsecond)
			}
			s.run(time.Minute)
			if answers != hitCount {
				t.Errorf("%s, %v: %d answers", method, latency, answers)
			}
		}
	}
}

// A registered source may send ten times as much as a stranger.
func TestFloodLimitOfTheGood(t *testing.T) {
	cfg := simConfig()
	cfg.Flood = policy.Flood{Rate: 100, Burst: 400}
	s := newSim(t, cfg)
	s.e.Recall(netip.MustParseAddr(office), s.now)
	passed := map[string]int{}
	for range 20_000 { // 2,000 a second for ten seconds
		s.now += int64(500 * time.Microsecond)
		for _, addr := range []string{office, "192.0.2.1", "192.0.2.241"} {
			if s.e.Gate().Check(netip.MustParseAddr(addr), s.now).Pass() {
				passed[addr]++
			}
		}
	}
	for addr, want := range map[string][2]int{office: {10_000, 14_100}, "192.0.2.1": {1390, 1410}, "192.0.2.241": {10_000, 14_100}} {
		if n := passed[addr]; n < want[0] || n > want[1] {
			t.Errorf("%s: %d messages passed, want %d to %d", addr, n, want[0], want[1])
		}
	}
}

// forge sends REGISTERs with made-up nonces in somebody's name. They come from
// different ports and carry different accounts.
func (s *sim) forge(addr string, n int, each func(i int)) {
	for i := range n {
		s.send(msg{
			src: fmt.Sprintf("%s:%d", addr, 1024+i%60000), method: "REGISTER", account: fmt.Sprintf("%d@x", i%5000),
			secret: fmt.Sprint("forged ", i), nonce: policy.NonceUnknown,
		}, nil)
		if each != nil {
			each(i)
		}
		s.run(time.Millisecond)
	}
}

// Ten thousand forged messages in the name of the trunk, and in that of the
// office: neither is banned, and both keep calling meanwhile.
func TestForgedInTheNameOfTheGood(t *testing.T) {
	const trunk = "192.0.2.241"
	for _, latency := range []time.Duration{0, 50 * time.Millisecond} {
		s := newSim(t, simConfig())
		s.pbx = func(m *msg) answer {
			a := s.registrar(m)
			if strings.HasPrefix(m.src, trunk) && m.method == "INVITE" {
				a = answer{status: 200}
			}
			a.after = latency
			return a
		}
		s.e.Recall(netip.MustParseAddr(office), s.now)
		for i := range 10 {
			s.send(msg{src: phone(i), method: "REGISTER", account: fmt.Sprintf("%d@x", i), secret: "right", nonce: policy.NonceIssued}, nil)
		}
		s.run(time.Second)
		calls, good := 0, 0
		call := func(i int) {
			if i%10 != 0 {
				return
			}
			count := func(f fate) {
				calls++
				if f.status == 200 {
					good++
				}
			}
			account := fmt.Sprintf("%d@x", i/10%10)
			s.send(msg{src: phone(i / 10 % 10), method: "INVITE", account: account, secret: "right", nonce: policy.NonceIssued}, count)
			s.send(msg{src: phone(i / 10 % 10), method: "REGISTER", account: account}, nil)
			s.send(msg{src: phone(i / 10 % 10), method: "REGISTER", account: account, secret: "right", nonce: policy.NonceIssued}, count)
			s.send(msg{src: trunk + ":5060", method: "INVITE", account: "0301234@carrier", target: "5@x"}, count)
		}
		for _, addr := range []string{office, trunk} {
			before := s.guesses[netip.MustParseAddr(addr)]
			s.forge(addr, 10_000, call)
			s.run(time.Second)
			if n := s.guesses[netip.MustParseAddr(addr)] - before; n > 2000+12*hitCount {
				t.Errorf("%d messages with credentials of %s reached the PBX", n, addr)
			}
		}
		s.noBans()
		if calls != 6000 || good != calls {
			t.Errorf("latency %v: %d of %d calls and registrations succeeded", latency, good, calls)
		}
		if n := s.notices(policy.NoticeSpared); n != 2 {
			t.Errorf("%d notices of what was done in good names, want one for each", n)
		}
		if len(s.e.Quarantines(s.now)) > 0 {
			t.Error("forged messages led to a quarantine")
		}
	}
}

// The same in a stranger's name: he is shut out for five minutes, no more.
func TestForgedInAStrangersName(t *testing.T) {
	s := newSim(t, simConfig())
	s.forge("192.0.2.1", 1000, nil)
	r := s.banned("192.0.2.1")
	if r == nil || r.Proven || r.Until-r.Start != int64(5*time.Minute) || r.Blocks != 0 {
		t.Fatalf("the ban is %+v", r)
	}
	if n := s.guesses[netip.MustParseAddr("192.0.2.1")]; n != hitCount {
		t.Errorf("%d of them reached the PBX", n)
	}
	s.run(5*time.Minute + time.Second)
	for range 20 {
		s.forge("192.0.2.1", 100, nil)
		s.run(5*time.Minute + time.Second)
	}
	if s.banned("192.0.2.1") != nil || s.bans.Blocks(netip.MustParseAddr("192.0.2.1"), s.now) != 0 {
		t.Error("what may be forged has climbed the ladder")
	}
	if f := s.register("192.0.2.1:5060", "1@x"); f.status != 200 {
		t.Errorf("he himself then gets %+v", f)
	}
}

// Evidence that may be forged and evidence that is proven do not add up.
func TestProvenAndUnprovenDoNotAddUp(t *testing.T) {
	s := newSim(t, simConfig())
	s.forge("192.0.2.1", hitCount-1, nil)
	for i := range hitCount - 1 {
		s.ask(msg{src: "192.0.2.1:5060", method: "REGISTER", account: "1@x", secret: fmt.Sprint(i), nonce: policy.NonceIssued})
	}
	s.noBans()
}

// Forged guesses that are in flight do not hold up those of the one who is
// really there.
func TestForgedDoNotHoldUpTheReal(t *testing.T) {
	s := newSim(t, simConfig())
	s.pbx = func(m *msg) answer {
		a := s.registrar(m)
		a.after = time.Second
		return a
	}
	s.forge("192.0.2.1", 100, nil)
	got := fate{}
	s.send(msg{src: "192.0.2.1:5060", method: "REGISTER", account: "1@x", secret: "right", nonce: policy.NonceIssued}, func(f fate) { got = f })
	s.run(1500 * time.Millisecond)
	if got.Verdict == policy.Hold {
		t.Errorf("his own was held: %+v", got)
	}
}

// The standing of a source through the life of its bindings and calls.
func TestStanding(t *testing.T) {
	addr := netip.MustParseAddr(office)
	s := newSim(t, simConfig())
	expect := func(what string, want policy.Standing) {
		t.Helper()
		if got := s.e.Standing(addr, s.now); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	unregister := func(i int) {
		old := s.pbx
		s.pbx = func(*msg) answer { return answer{status: 200} }
		s.ask(msg{src: phone(i), method: "REGISTER", account: fmt.Sprintf("%d@x", i), secret: "right", nonce: policy.NonceIssued})
		s.pbx = old
	}
	expect("at first", policy.Stranger)
	s.register(phone(1), "1@x")
	expect("with a binding", policy.Good)
	if n := s.e.GoodSources(); n != 1 {
		t.Errorf("%d sources in good standing", n)
	}
	s.register(phone(2), "2@x")
	s.register(phone(2), "2@x")
	unregister(1)
	expect("with one of two bindings left", policy.Good)
	unregister(2)
	expect("with none left", policy.Stranger)
	s.register(phone(1), "1@x")
	s.run(59 * time.Minute)
	expect("before it expires", policy.Good)
	s.run(2 * time.Minute)
	expect("after that", policy.Stranger)
	s.run(time.Minute)
	for range 64 {
		s.e.Tick(s.now)
	}
	if n := s.e.GoodSources(); n != 0 {
		t.Errorf("%d sources in good standing", n)
	}

	call := msg{src: phone(1), method: "INVITE", account: "1@x", secret: "right", nonce: policy.NonceIssued, dialog: 7}
	s.ask(call)
	expect("in a call", policy.Good)
	s.run(11 * time.Hour)
	expect("in a long call", policy.Good)
	s.ask(msg{src: phone(1), method: "BYE", account: "1@x", inside: true, dialog: 7})
	expect("after it", policy.Stranger)
	s.ask(call)
	s.run(12*time.Hour + time.Second)
	expect("in a call that never ends", policy.Stranger)

	s.e.Recall(addr, s.now)
	expect("after a restart", policy.Good)
	s.run(time.Hour + time.Second)
	expect("an hour later", policy.Stranger)
	for _, tt := range []struct {
		addr string
		want policy.Standing
	}{{"192.0.2.250", policy.Allowed}, {"192.0.2.241", policy.Trunk}} {
		if got := s.e.Standing(netip.MustParseAddr(tt.addr), s.now); got != tt.want {
			t.Errorf("%s: %v", tt.addr, got)
		}
	}
}

// A call that the PBX accepts without a password gives standing only when its
// caller has shown that he is there.
func TestDialogNeedsProof(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.1")
	for _, tt := range []struct {
		name   string
		ack    *msg
		tr     policy.Transport
		before policy.Standing
		after  policy.Standing
	}{
		{"UDP, nothing follows", nil, policy.UDP, policy.Stranger, policy.Stranger},
		{"UDP, an ACK that echoes nothing", &msg{method: "ACK", inside: true, dialog: 7}, policy.UDP, policy.Stranger, policy.Stranger},
		{"UDP, an ACK of another call", &msg{method: "ACK", inside: true, proven: true, dialog: 8}, policy.UDP, policy.Stranger, policy.Stranger},
		{"UDP, the ACK", &msg{method: "ACK", inside: true, proven: true, dialog: 7}, policy.UDP, policy.Stranger, policy.Good},
		{"TCP", nil, policy.TCP, policy.Good, policy.Good},
	} {
		s := newSim(t, simConfig())
		s.pbx = func(*msg) answer { return answer{status: 200} }
		s.ask(msg{src: "192.0.2.1:5060", tr: tt.tr, method: "INVITE", account: "030@carrier", target: "5@x", dialog: 7})
		if got := s.e.Standing(addr, s.now); got != tt.before {
			t.Errorf("%s: %v after the answer", tt.name, got)
		}
		if tt.ack != nil {
			tt.ack.src, tt.ack.account = "192.0.2.1:5060", "030@carrier"
			s.ask(*tt.ack)
		}
		if got := s.e.Standing(addr, s.now); got != tt.after {
			t.Errorf("%s: %v in the end", tt.name, got)
		}
		s.ask(msg{src: "192.0.2.1:5060", method: "BYE", inside: true, proven: true, dialog: 7})
		if got := s.e.Standing(addr, s.now); got != policy.Stranger {
			t.Errorf("%s: %v after the BYE", tt.name, got)
		}
	}
}

// Whoever answers a call of the PBX is in good standing while it lasts.
func TestPartnerOfThePBX(t *testing.T) {
	s := newSim(t, simConfig())
	o := policy.Outcome{Source: netip.MustParseAddrPort("198.51.100.1:5060"), FromPBX: true, Method: []byte("INVITE"), Status: 200, Dialog: 9}
	if d := s.e.Observe(&o, s.now); d.Verdict != policy.Pass {
		t.Errorf("%+v", d)
	}
	if got := s.e.Standing(o.Source.Addr(), s.now); got != policy.Good {
		t.Errorf("%v", got)
	}
	o.Method = []byte("BYE")
	s.e.Observe(&o, s.now)
	if got := s.e.Standing(o.Source.Addr(), s.now); got != policy.Stranger {
		t.Errorf("%v after the BYE", got)
	}
	// A carrier that the PBX registers with.
	o.Method, o.Dialog = []byte("REGISTER"), 0
	s.e.Observe(&o, s.now)
	if got := s.e.Standing(o.Source.Addr(), s.now); got != policy.Good {
		t.Errorf("%v after a registration with it", got)
	}
}

// A carrier that is known by its certificate alone may fail as often as one that is known by its
// address.
func TestCertifiedTrunk(t *testing.T) {
	for _, certified := range []bool{true, false} {
		s := newSim(t, simConfig())
		s.pbx = func(*msg) answer { return answer{status: 404} }
		src := netip.MustParseAddrPort("198.51.100.1:5061")
		for i := range 40 {
			s.ask(msg{src: src.String(), tr: policy.TLS, method: "REGISTER", account: fmt.Sprintf("+1555%d@x", i), certified: certified})
		}
		if got := s.banned("198.51.100.1") != nil; got == certified {
			t.Errorf("certified %v: banned %v", certified, got)
		}
		want := map[bool]policy.Standing{true: policy.Good, false: policy.Stranger}[certified]
		if got := s.e.Standing(src.Addr(), s.now); got != want {
			t.Errorf("certified %v: standing %v", certified, got)
		}
		s.run(61 * time.Minute)
		if got := s.e.Standing(src.Addr(), s.now); got != policy.Stranger {
			t.Errorf("certified %v: after an hour of silence it is %v", certified, got)
		}
	}
}

// All phones behind an address come at once, as strangers, after an outage.
func TestFiftyPhonesAtOnce(t *testing.T) {
	for _, known := range []bool{false, true} {
		for _, latency := range []time.Duration{time.Millisecond, 200 * time.Millisecond, 1500 * time.Millisecond} {
			s := newSim(t, simConfig())
			if known {
				s.register(phone(0), "0@x")
			}
			s.pbx = func(m *msg) answer {
				a := s.registrar(m)
				a.after = latency
				return a
			}
			registered := 0
			for i := range 50 {
				account := fmt.Sprintf("%d@x", i)
				var authenticated func(msg, time.Duration)
				authenticated = func(m msg, wait time.Duration) { // with the retransmissions of a UDP client
					s.send(m, func(f fate) {
						switch {
						case f.status == 200:
							registered++
						case f.Verdict == policy.Hold:
							s.after(wait, func() { authenticated(m, min(2*wait, 4*time.Second)) })
						}
					})
				}
				s.after(time.Duration(i)*time.Millisecond, func() {
					s.send(msg{src: phone(i), method: "REGISTER", account: account}, func(f fate) {
						if f.status == 401 {
							m := msg{src: phone(i), method: "REGISTER", account: account, secret: "right", nonce: policy.NonceIssued, tx: s.newTx()}
							authenticated(m, 500*time.Millisecond)
						}
					})
				})
			}
			s.run(32 * time.Second)
			s.noBans()
			if registered != 50 {
				t.Errorf("known %v, latency %v: %d of 50 phones registered", known, latency, registered)
			}
			if len(s.told) > 0 {
				t.Errorf("told %q", s.told[0].Text)
			}
		}
	}
}

// After a restart of ours phones use nonces that we have not seen. A PBX that
// says stale=true weighs nothing, and from one that does not a phone recovers.
func TestRestart(t *testing.T) {
	for _, stale := range []bool{true, false} {
		s := newSim(t, simConfig())
		s.e.Recall(netip.MustParseAddr(office), s.now)
		s.pbx = func(m *msg) answer {
			a := s.registrar(m)
			a.stale = stale && a.status == 401
			return a
		}
		for i := range 50 {
			account := fmt.Sprintf("%d@x", i)
			for _, nonce := range []policy.Nonce{policy.NonceUnknown, policy.NonceIssued} {
				s.ask(msg{src: phone(i), method: "REGISTER", account: account, secret: "right", nonce: nonce})
			}
			s.run(time.Second)
		}
		s.noBans()
		if n := s.notices(policy.NoticeSpared); n != 0 {
			t.Errorf("stale %v: %d notices", stale, n)
		}
	}
}

// Config.Standing is told when a standing begins, when a dialog makes it longer, when it
// is over sooner than was told, and when it ends, but not of each renewal.
func TestStandingIsTold(t *testing.T) {
	var told []string
	cfg := simConfig()
	start := int64(time.Hour)
	cfg.Standing = func(p netip.Prefix, until int64) {
		told = append(told, fmt.Sprintf("%v %v", p, time.Duration(until-start)))
	}
	e := policy.New(cfg)
	f := newFlow(7, nil)
	source := f.registration.Source.Addr().String() + "/32"
	now := start
	expect := func(what string, want ...string) {
		t.Helper()
		for i := range want {
			want[i] = source + " " + want[i]
		}
		if !slices.Equal(told, want) {
			t.Errorf("%s: told %q, want %q", what, told, want)
		}
		told = nil
	}
	f.register(e, now)
	expect("registered", "1h1m0s")
	now += int64(time.Second)
	f.register(e, now)
	expect("registered again at once")
	now += int64(30 * time.Minute)
	f.register(e, now)
	expect("registered again", "1h31m1s")
	f.call(e, now)
	expect("called", "12h31m1s")
	f.hangUp(e, now)
	expect("hung up")
	for range 64 {
		e.Tick(now)
	}
	expect("hung up, and some seconds later", "1h31m1s")
	var listed []string
	e.EachGoodSource(now, func(p netip.Prefix, until int64) { listed = append(listed, fmt.Sprintf("%v %t", p, until > now)) })
	if want := []string{source + " true"}; !slices.Equal(listed, want) {
		t.Errorf("in good standing are %v, want %v", listed, want)
	}
	f.registration.Expires = 0
	f.register(e, now)
	expect("unregistered", time.Duration(now-start).String())
	e.Recall(netip.MustParseAddr("2001:db8:0:1:2::3"), now)
	source = "2001:db8:0:1::/64"
	expect("recalled", "1h31m1s")
}

// A restart ends no quarantine, and an engine that comes after it lifts it.
func TestQuarantineOutlivesTheEngine(t *testing.T) {
	cfg := simConfig()
	kept, err := ban.NewQuarantines(nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Quarantines = kept
	s := newSim(t, cfg)
	const phone, office = "192.0.2.1:5062", "192.0.2.1"
	s.register("192.0.2.1:5060", "a%2541@x")
	wrong := msg{src: phone, method: "REGISTER", account: "b%2541@x", secret: "wrong", nonce: policy.NonceIssued}
	for range hitCount {
		s.ask(wrong)
	}
	if f := s.ask(wrong); f.Reason != policy.ReasonQuarantine {
		t.Fatalf("no quarantine: %+v", f)
	}

	next := newSim(t, cfg)
	next.now = s.now
	next.e.Resume(next.now)
	if f := next.ask(wrong); f.Reason != policy.ReasonQuarantine {
		t.Errorf("after the restart %+v", f)
	}
	if f := next.register("192.0.2.1:5060", "a%2541@x"); f.status != 200 {
		t.Errorf("another account: %+v", f)
	}
	if q := next.e.Explain(netip.MustParseAddr(office), next.now).Quarantines; len(q) != 1 {
		t.Errorf("explained as %+v", q)
	}
	if n := next.e.Forgive(netip.MustParseAddr(office)); n != 1 {
		t.Errorf("%d lifted", n)
	}
	if f := next.ask(wrong); f.status != 401 {
		t.Errorf("after it was lifted %+v", f)
	}
	if q := kept.InForce(next.now); len(q) != 0 {
		t.Errorf("%+v is kept", q)
	}
}
