//go:build linux

package e2e_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/icholy/digest"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

// office is an address that many phones are behind.
var office = lab.Phone(50)

// staff gives phones of accounts 2001 … on one address, which Kamailio knows from now on.
func (s *site) staff(t *testing.T, n int) []*phone.Phone {
	t.Helper()
	return s.staffOn(t, udp, office, 2001, n)
}

// staffOn is staff with accounts from that number on.
func (s *site) staffOn(t *testing.T, w wire, from netip.Addr, first, n int) []*phone.Phone {
	t.Helper()
	all := make([]*phone.Phone, n)
	for i := range all {
		user := fmt.Sprint(first + i)
		if err := s.pbx.(*lab.Kamailio).AddAccount(user); err != nil {
			t.Fatal(err)
		}
		all[i] = s.phoneWith(t, w, phone.Config{User: user, Local: netip.AddrPortFrom(from, 0)}, 0)
	}
	return all
}

// allRegister lets phones register at the same moment.
func allRegister(t *testing.T, phones []*phone.Phone) {
	t.Helper()
	ctx := within(t, 2*patience)
	errs := make([]error, len(phones))
	var wait sync.WaitGroup
	for i, p := range phones {
		wait.Go(func() {
			r, err := p.Register(ctx, 300)
			if err == nil && r.Status() != 200 {
				err = errors.New(r.StartLine())
			}
			if err != nil {
				errs[i] = fmt.Errorf("%s: %w", p.AoR(), err)
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestPolicyOffice is about those whom a firewall must not stop, whatever others do behind their address or in its name.
func TestPolicyOffice(t *testing.T) {
	t.Parallel()
	s := attacked(t, fmt.Sprintf("trunks: [%q]\n", carrierAt.Addr()))
	s.dns = s.StartDNS(t, carrierRecords...)
	phones := s.staff(t, 20)
	allRegister(t, phones[:19])
	t.Run("stale", func(t *testing.T) {
		stale, ch := s.testStalePassword(t, udp, office, "2020", phones[:19])
		s.testQuarantineSurvives(t, stale, ch, phones[0])
	})
	t.Run("forged", func(t *testing.T) { s.testForgedNames(t, phones) })
}

// testStalePassword: one of twenty phones behind an address has an old password, and does not give up.
func (s *site) testStalePassword(t *testing.T, w wire, from netip.Addr, user string, others []*phone.Phone) (stale *attacker, ch *digest.Challenge) {
	stale = s.attacker(t, w, from)
	ch = stale.challenge(t, user)
	for i := range hits {
		b, id := stale.guess(ch, user, "old")
		if r := stale.ask(t, b, id); !strings.HasPrefix(string(r), "SIP/2.0 401") {
			t.Fatalf("attempt %d was answered %.40q", i, r)
		}
	}
	dropped := s.reasons(t, "quarantine")
	ids := stale.guessAt(ch, user, 40, 40)
	s.counted(t, dropped, 40, "quarantine")
	if n := stale.answered(ids); n != 0 {
		t.Errorf("%d attempts were answered in the quarantine", n)
	}
	allRegister(t, others)
	for i := 0; i+1 < len(others); i += 2 {
		out, in := talk(t, others[i], others[i+1])
		want(t, 200)(out.Bye(within(t, patience)))
		ended(t, in)
	}
	s.notBanned(t, from)
	text := s.explain(t, from)
	for _, want := range []string{"quarantine", user + "@", "let in", "sipward unban " + from.String()} {
		if !strings.Contains(text, want) {
			t.Errorf("explain does not say %q:\n%s", want, text)
		}
	}
	return stale, ch
}

// testQuarantineSurvives: it is still there after kill -9, and for that account alone.
func (s *site) testQuarantineSurvives(t *testing.T, stale *attacker, ch *digest.Challenge, other *phone.Phone) {
	s.sipward.Crash(t)
	dropped := s.reasons(t, "quarantine")
	stale.guessAt(ch, "2020", 20, 5)
	s.counted(t, dropped, 5, "quarantine")
	want(t, 200)(other.Register(within(t, patience), 300))
	text := s.explain(t, office)
	if !strings.Contains(text, "quarantine") || !strings.Contains(text, "2020@") {
		t.Errorf("after kill -9 and a start explain does not tell of the quarantine:\n%s", text)
	}
	if strings.Contains(text, "2001@") {
		t.Errorf("explain speaks of a phone that is innocent:\n%s", text)
	}
}

// testForgedNames: ten thousand REGISTERs with credentials for nonces that nobody gave out come in the name of the trunk, and
// of an office.
func (s *site) testForgedNames(t *testing.T, phones []*phone.Phone) {
	const forgeries, rate = 10_000, 1500 // a second, less than the limit for one address in good standing
	f := must[*lab.Forger](t)(s.Forger())
	defer f.Close()
	sent := make(chan error, 1)
	go func() {
		var err error
		steadily(rate, forgeries, func(i int) bool {
			from := netip.AddrPortFrom([]netip.Addr{office, carrierAt.Addr()}[i%2], uint16(20000+i))
			cred := fmt.Sprintf(`Authorization: Digest username="1001", realm="%[1]s", nonce="%032[2]x", uri="sip:%[1]s", response="%032[2]x", algorithm=MD5`,
				s.pbx.Domain(), 7919*i)
			b, _ := letter("REGISTER", "sip:"+s.pbx.Domain(), "1001", s.pbx.Domain(), from, phone.UDP, fmt.Sprint("forged-", i), cred)
			err = f.Send(from, s.proxy(false), b)
			return err == nil
		})
		sent <- err
	}()
	carrier := s.phoneWith(t, udp, phone.Config{User: "carrier", Domain: "trunk.example.com", Local: carrierAt}, 0)
	calls := 0
	for done := false; !done; calls++ {
		out, in := talk(t, phones[calls%19], phones[(calls+1)%19])
		want(t, 200)(out.Bye(within(t, patience)))
		ended(t, in)
		want(t, 200)(phones[(calls+2)%19].Register(within(t, patience), 300))
		out, in = s.dialOut(t, phones[calls%19], carrier, "912345", "trunk.example.com", 2*patience)
		want(t, 200)(in.Bye(within(t, patience)))
		ended(t, out)
		select {
		case err := <-sent:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		default:
		}
	}
	t.Logf("%d calls within the office and as many to the trunk meanwhile", calls)
	if calls < 2 {
		t.Errorf("only %d calls while the forgeries came", calls)
	}
	s.nobodyBanned(t)
	if n := s.reasons(t, "unproven-nonce"); n < forgeries*9/10 {
		t.Errorf("only %d of %d forgeries were stopped as such", n, forgeries)
	}
}

// TestPolicyOutage: nobody is to blame for a PBX that fails, nor for coming back with all others when it has recovered.
func TestPolicyOutage(t *testing.T) {
	t.Parallel()
	s := attacked(t, "health: {interval: 500ms, timeout: 400ms}\n")
	k := s.pbx.(*lab.Kamailio)
	phones := s.staff(t, 50)
	t.Run("together", func(t *testing.T) { // strangers all of them: sipward knows nobody yet
		allRegister(t, phones)
		s.nobodyBanned(t)
	})
	a := s.attacker(t, udp, lab.Phone(51))
	ch := a.challenge(t, "1001")
	t.Run("overloaded", func(t *testing.T) {
		if err := k.SetMood(lab.Overloaded, true); err != nil {
			t.Fatal(err)
		}
		ids := a.guessAt(ch, "1001", 20, 40)
		lab.Poll(t, patience, "40 answers", func() error {
			if n := a.answered(ids); n != 40 {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
		s.nobodyBanned(t)
		if err := k.SetMood(lab.Overloaded, false); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("silent", func(t *testing.T) {
		if err := k.Freeze(); err != nil {
			t.Fatal(err)
		}
		a.guessAt(ch, "1001", 20, 40)
		s.nobodyBanned(t)
		lab.Poll(t, patience, "sipward sees that the PBX is down", func() error {
			b, id := a.letter("REGISTER", "sip:"+s.pbx.Domain(), "1001")
			if err := a.write(b); err != nil {
				return err
			}
			time.Sleep(100 * time.Millisecond) // this paces
			if r := a.answer(id); !strings.HasPrefix(string(r), "SIP/2.0 503") {
				return fmt.Errorf("%.40q", r)
			}
			return nil
		})
		if err := k.Thaw(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("back", func(t *testing.T) {
		s.sipward.KillHard()
		s.sipward.Restart(t) // it has forgotten who is in good standing
		allRegister(t, phones)
		out, in := talk(t, phones[0], phones[1])
		want(t, 200)(out.Bye(within(t, patience)))
		ended(t, in)
		s.nobodyBanned(t)
	})
}
