//go:build linux

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"sipward/e2e/lab"
)

// hits is how many failures a source has here.
const hits = 10

// TestPolicyGuess: how many answers somebody who guesses passwords gets before nobody answers him any more, how many of his
// messages reach the PBX, and what becomes of him.
func TestPolicyGuess(t *testing.T) {
	t.Parallel()
	lab.Need(t, "sipp")
	s := attacked(t, "register: {hit_count: 10, block_time: 1h, block_threshold: 3}\n")
	for i, w := range []wire{udp, tcp} {
		for j, rate := range []int{10, 500} {
			t.Run(fmt.Sprintf("%v-%d", w, rate), func(t *testing.T) { s.testGuess(t, w, rate, lab.Phone(40+2*i+j)) })
		}
	}
	for i, w := range []wire{udp, tcp} {
		t.Run("sipp-"+w.String(), func(t *testing.T) { s.testSIPpGuesses(t, w, lab.Phone(44+i)) })
	}
	s.sipward.Edit(t, "block_time: 1h", "block_time: 3s")
	if _, err := s.sipward.CLI("reload"); err != nil {
		t.Fatal(err)
	}
	t.Run("ladder", func(t *testing.T) {
		for i, w := range []wire{udp, tcp} {
			t.Run(w.String(), func(t *testing.T) { s.testLadder(t, w, lab.Phone(46+i)) })
		}
	})
	t.Run("kill", s.testBansSurvive)
	t.Run("report", s.testGuessersReported)
}

// testGuessersReported: the journal has the bans of all who guessed, and survived the kill -9, too.
func (s *site) testGuessersReported(t *testing.T) {
	out, err := s.sipward.CLI("report", "--last", "1h", "--by", "source", "--guard", "register", "--format", "json")
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Groups []struct {
			Key  []string
			Bans int
		}
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	bans := map[string]int{}
	for _, g := range r.Groups {
		bans[g.Key[0]] = g.Bans
	}
	for n := 40; n <= 45; n++ {
		if bans[lab.Phone(n).String()] != 1 {
			t.Errorf("the report has %d bans of %v, want 1: %s", bans[lab.Phone(n).String()], lab.Phone(n), out)
		}
	}
	for n := 46; n <= 47; n++ { // up the ladder
		if bans[lab.Phone(n).String()] != 3 {
			t.Errorf("the report has %d bans of %v, want 3: %s", bans[lab.Phone(n).String()], lab.Phone(n), out)
		}
	}
}

// TestPolicyGuessSlowly: a guess a second.
func TestPolicyGuessSlowly(t *testing.T) {
	t.Parallel()
	s := attacked(t, "register: {hit_count: 10}\n")
	for i, w := range []wire{udp, tcp} {
		t.Run(w.String(), func(t *testing.T) { s.testGuess(t, w, 1, lab.Phone(40+i)) })
	}
}

// testGuess guesses at a pace that does not depend on answers. (fail2ban lets 5, 11 and 574 answers pass at 1, 10 and 500
// guesses a second, CrowdSec 7, 24 and 632.)
func (s *site) testGuess(t *testing.T, w wire, rate int, from netip.Addr) {
	a := s.attacker(t, w, from)
	ch := a.challenge(t, "1001")
	before := s.seen(t, "REGISTER")
	ids := a.guessAt(ch, "1001", rate, min(max(2*hits+5, rate), hits+2*rate))
	b := s.isBanned(t, from)
	if b.Kind != "dynamic" || b.Guard != "register" || !b.Proven {
		t.Errorf("the ban is %+v", b)
	}
	s.stays(t, a, before+hits)
	a.gotExactly(t, ids, hits)
}

// testSIPpGuesses: the guesser is somebody else's program. It asks for a challenge before each guess.
func (s *site) testSIPpGuesses(t *testing.T, w wire, from netip.Addr) {
	before := s.seen(t, "REGISTER")
	p := s.StartSIPp(t, lab.SIPpConfig{Name: "guess", Scenario: "testdata/sipp/guess.xml", Local: netip.AddrPortFrom(from, 5080), Remote: s.proxy(false),
		Over: w.over, Calls: 40, Rate: 50, Users: []string{"1001"}, Domain: s.pbx.Domain(), Args: []string{"-l", "1"}})
	s.isBanned(t, from)
	drops := s.reasons(t, "ban")
	if w.over.Connected() {
		s.refused(t, from)
	} else {
		s.counted(t, drops, 1, "ban") // it does not give up
	}
	p.Kill()
	if n := s.seen(t, "REGISTER") - before; n != 2*hits {
		t.Errorf("%d REGISTERs have reached the PBX, want %d", n, 2*hits)
	}
}

// stays sends more from a banned source, and fails if a REGISTER or INVITE more than so many has reached the PBX.
func (s *site) stays(t *testing.T, a *attacker, registers int) {
	t.Helper()
	const more = 50
	if a.wire.over.Connected() {
		a.isClosed(t)
		s.refusedAt(t, a.wire, a.local.Addr(), s.door(a.wire))
	} else {
		invites, drops := s.seen(t, "INVITE"), s.reasons(t, "ban")
		for i := range more {
			b, _ := a.letter("REGISTER", "sip:"+s.pbx.Domain(), "1001")
			if i%2 == 1 {
				b, _ = a.letter("INVITE", "sip:1002@"+s.pbx.Domain(), "1001")
			}
			if err := a.write(b); err != nil {
				t.Fatal(err)
			}
		}
		s.counted(t, drops, more, "ban")
		if n := s.seen(t, "INVITE"); n != invites {
			t.Errorf("%d INVITEs of the banned source reached the PBX", n-invites)
		}
	}
	if n := s.seen(t, "REGISTER"); n != registers {
		t.Errorf("%d REGISTERs have reached the PBX, want %d", n, registers)
	}
}

// TestPolicyGuessAsterisk counts at the wire what reaches Asterisk.
func TestPolicyGuessAsterisk(t *testing.T) {
	lab.Need(t, "asterisk")
	if direct {
		t.Skip("it is sipward that is attacked here")
	}
	t.Parallel()
	s := &site{Lab: labs.New(t)}
	s.pbx = s.StartAsterisk(t)
	s.start(t, lab.Config{Extra: "health: {probe: \"off\"}\n"}) // nothing else shall be on the wire
	t.Run("uniform", func(t *testing.T) { s.testUniform(t, lab.Phone(39)) })
	for i, rate := range []int{10, 500} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			from := lab.Phone(40 + i)
			a := s.attacker(t, udp, from)
			ch := a.challenge(t, "1001")
			wire := must[*lab.Counter](t)(s.PBX.Count(fmt.Sprint("asterisk", i), lab.PBX1))
			ids := a.guessAt(ch, "1001", rate, max(2*hits+5, rate))
			if b := s.isBanned(t, from); b.Guard != "register" || !b.Proven {
				t.Errorf("the ban is %+v", b)
			}
			drops := s.reasons(t, "ban")
			for range 50 {
				b, _ := a.letter("INVITE", "sip:"+lab.EchoNumber+"@"+s.pbx.Domain(), "1001")
				if err := a.write(b); err != nil {
					t.Fatal(err)
				}
			}
			s.counted(t, drops, 50, "ban")
			if n := must[int](t)(wire.Packets()); n != hits {
				t.Errorf("%d packets reached Asterisk, want %d", n, hits)
			}
			a.gotExactly(t, ids, hits)
		})
	}
	t.Run("tcp", func(t *testing.T) { s.testGuessAsteriskTCP(t, lab.Phone(42)) })
}

// testGuessAsteriskTCP: each message is a segment of its own at this pace.
func (s *site) testGuessAsteriskTCP(t *testing.T, from netip.Addr) {
	a := s.attacker(t, tcp, from)
	ch := a.challenge(t, "1001")
	wire := must[*lab.Counter](t)(s.PBX.CountMatching("asterisktcp", "tcp dport 5060 tcp flags & psh == psh", lab.PBX1))
	ids := a.guessAt(ch, "1001", 10, 2*hits)
	a.isClosed(t)
	s.isBanned(t, from)
	s.refused(t, from)
	if n := must[int](t)(wire.Packets()); n != hits {
		t.Errorf("%d messages reached Asterisk, want %d", n, hits)
	}
	a.gotExactly(t, ids, hits)
}

// testLadder: blocked, let in again after block_time, and for good at the third time.
func (s *site) testLadder(t *testing.T, w wire, from netip.Addr) {
	for block := 1; block <= 3; block++ {
		a := s.reopened(t, w, from)
		ch := a.challenge(t, "1001")
		before := s.seen(t, "REGISTER")
		for i := range hits {
			b, id := a.guess(ch, "1001", fmt.Sprint("guess-", i))
			if r := a.ask(t, b, id); !strings.HasPrefix(string(r), "SIP/2.0 401") {
				t.Fatalf("guess %d of block %d was answered %.40q", i, block, r)
			}
		}
		b := s.isBanned(t, from)
		if want := map[bool]string{true: "permanent", false: "dynamic"}[block == 3]; b.Kind != want {
			t.Fatalf("block %d is %+v", block, b)
		}
		if block == 3 { // the others end while one looks
			s.stays(t, a, before+hits)
		}
	}
}

// reopened is an attacker who is let in, after his ban has ended.
func (s *site) reopened(t *testing.T, w wire, from netip.Addr) *attacker {
	t.Helper()
	lab.Poll(t, patience, fmt.Sprintf("the ban of %v ends", from), func() error {
		if b := s.banOf(t, from); b != nil {
			return fmt.Errorf("it is %+v", *b)
		}
		return nil
	})
	return s.attacker(t, w, from)
}

// testBansSurvive: neither kill -9 nor the start that follows lets anybody in again.
func (s *site) testBansSurvive(t *testing.T) {
	before := s.bans(t)
	if len(before) != 8 {
		t.Fatalf("%d bans before, want 8: %+v", len(before), before)
	}
	s.sipward.Crash(t)
	after := s.bans(t)
	if fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("bans before: %+v\nafter: %+v", before, after)
	}
	for _, n := range []int{40, 46} {
		s.stays(t, s.attacker(t, udp, lab.Phone(n)), s.seen(t, "REGISTER"))
	}
	s.refused(t, lab.Phone(47))
	s.registered(t, udp, "1001", 1)
}
