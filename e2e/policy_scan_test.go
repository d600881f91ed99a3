//go:build linux

package e2e_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"sipward/e2e/lab"
)

// TestPolicyScan is about those who look for accounts, and those who attack one from everywhere.
func TestPolicyScan(t *testing.T) {
	t.Parallel()
	s := attacked(t, "")
	for i, w := range []wire{udp, tcp} {
		t.Run("accounts-"+w.String(), func(t *testing.T) { s.testAccountScan(t, w, lab.Phone(40+i)) })
		t.Run("options-"+w.String(), func(t *testing.T) { s.testOptionsScan(t, w, lab.Phone(42+i)) })
		t.Run("friendly-scanner-"+w.String(), func(t *testing.T) { s.testFriendlyScanner(t, w, lab.Phone(44+i)) })
	}
	t.Run("allowed", func(t *testing.T) { s.testAllowed(t, udp, lab.Phone(48)) })
	t.Run("everywhere", s.testEverywhere)
}

// scan sends a request for each of n accounts, so many a second.
func (a *attacker) scan(method string, rate, n int) []string {
	var ids []string
	domain := a.site.pbx.Domain()
	steadily(rate, n, func(i int) bool {
		uri := "sip:" + domain
		if method == "OPTIONS" {
			uri = fmt.Sprintf("sip:%d@%s", 3000+i, domain)
		}
		b, id := a.letter(method, uri, fmt.Sprint(3000+i))
		ids = append(ids, id)
		return a.write(b) == nil
	})
	return ids
}

// testAccountScan asks for many accounts and shows no password for any.
func (s *site) testAccountScan(t *testing.T, w wire, from netip.Addr) {
	a := s.attacker(t, w, from)
	ids := a.scan("REGISTER", 200, 400)
	b := s.isBanned(t, from)
	if b.Guard != "enumeration" || b.Proven != w.over.Connected() {
		t.Errorf("the ban is %+v", b)
	}
	// 15 accounts, a hundred more for phones that all come at once, and those in flight.
	if n := a.answered(ids); n < 15 || n > 15+100+10 {
		t.Errorf("he got %d answers", n)
	}
}

// testOptionsScan asks with an innocent name for extensions, slowly.
func (s *site) testOptionsScan(t *testing.T, w wire, from netip.Addr) {
	a := s.attacker(t, w, from)
	ids := a.scan("OPTIONS", 20, 100)
	b := s.isBanned(t, from)
	if b.Guard != "enumeration" || b.Proven != w.over.Connected() {
		t.Errorf("the ban is %+v", b)
	}
	// 15 that are two seconds old, and 40 in those seconds.
	if n := a.answered(ids); n < 15 || n > 15+60 {
		t.Errorf("he got %d answers", n)
	}
}

// testFriendlyScanner says who he is.
func (s *site) testFriendlyScanner(t *testing.T, w wire, from netip.Addr) {
	a := s.attacker(t, w, from)
	b, id := a.letter("INFO", "sip:100@"+s.pbx.Domain(), "100")
	b = []byte(strings.Replace(string(b), "Yealink SIP-T46S 66.86.0.15", "friendly-scanner", 1))
	if err := a.write(b); err != nil {
		t.Fatal(err)
	}
	ban := s.isBanned(t, from)
	if ban.Guard != "scanner" || ban.Proven != w.over.Connected() {
		t.Errorf("the ban is %+v", ban)
	}
	if w.over.Connected() {
		a.isClosed(t)
	}
	if n := s.seen(t, "INFO"); n != 0 {
		t.Errorf("the PBX saw %d of it", n)
	}
	if r := a.answer(id); r != nil {
		t.Errorf("it was answered %.40q", r)
	}
}

// testAllowed: who is on the allow list may do all of that.
func (s *site) testAllowed(t *testing.T, w wire, from netip.Addr) {
	if _, err := s.sipward.CLI("allow", from.String(), "--comment", "our own scanner"); err != nil {
		t.Fatal(err)
	}
	if out, err := s.sipward.CLI("ban", from.String(), "--force"); err != nil {
		t.Fatal(out, err)
	}
	a := s.attacker(t, w, from)
	b, id := a.letter("OPTIONS", "sip:"+s.pbx.Domain(), "100")
	a.ask(t, []byte(strings.Replace(string(b), "Yealink SIP-T46S 66.86.0.15", "friendly-scanner", 1)), id)
	ch := a.challenge(t, "1002")
	for i := range 3 * hits {
		b, id := a.guess(ch, "1002", fmt.Sprint("guess-", i))
		a.ask(t, b, id)
	}
	ids := a.scan("REGISTER", 200, 130)
	lab.Poll(t, patience, "all are answered", func() error {
		if n := a.answered(ids); n < len(ids)-5 { // it is UDP
			return fmt.Errorf("%d of %d", n, len(ids))
		}
		return nil
	})
	if b := s.banOf(t, from); b == nil || b.Kind != "manual" {
		t.Errorf("its ban is %+v, want that by command alone", b)
	}
	if text := s.explain(t, from); !strings.Contains(text, "allow-list") {
		t.Errorf("explain does not speak of the allow list:\n%s", text)
	}
}

// testEverywhere: two hundred sources try one wrong password each for one account, whose owner goes on as if nothing was.
func (s *site) testEverywhere(t *testing.T) {
	owner := s.registered(t, udp, "1008", 1)
	known := func() string {
		v := must[map[string]any](t)(s.sipward.Status())
		return fmt.Sprint(v["known_places"])
	}
	reached, refused := 0, 0
	for i := range 200 {
		a := s.attacker(t, udp, netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i)}))
		b, id := a.guess(a.challenge(t, "1008"), "1008", fmt.Sprint("guess-", i))
		r := string(a.ask(t, b, id))
		switch {
		case strings.HasPrefix(r, "SIP/2.0 401"):
			reached++
		case strings.HasPrefix(r, "SIP/2.0 503") && strings.Contains(r, "Retry-After:"):
			refused++
		default:
			t.Fatalf("source %d was answered %q", i, r)
		}
		if i%20 == 0 {
			want(t, 200)(owner.Register(within(t, patience), 300))
		}
	}
	t.Logf("%d guesses reached the PBX, %d sources were turned away", reached, refused)
	if reached > 21 || reached+refused != 200 {
		t.Errorf("%d guesses reached the PBX, want at most 21", reached)
	}
	if !strings.Contains(known(), "1008@") {
		t.Errorf("accounts in known places: %s", known())
	}
	other := s.registered(t, udp, "1001", 2)
	out, in := talk(t, other, owner)
	want(t, 200)(out.Bye(within(t, patience)))
	ended(t, in)
	for _, b := range s.bans(t) {
		if strings.HasPrefix(b.Prefix, "192.0.2.") {
			t.Errorf("banned for one failure: %+v", b)
		}
	}
}

// TestPolicyWatch: with the action watch everything is told and nothing is done.
func TestPolicyWatch(t *testing.T) {
	t.Parallel()
	s := attacked(t, "register: {action: watch}\nenumeration: {action: watch}\nscanner: {action: watch}\n")
	from := lab.Phone(40)
	a := s.attacker(t, udp, from)
	b, id := a.letter("OPTIONS", "sip:"+s.pbx.Domain(), "100")
	a.ask(t, []byte(strings.Replace(string(b), "Yealink SIP-T46S 66.86.0.15", "friendly-scanner", 1)), id)
	ch := a.challenge(t, "1001")
	for i := range 2 * hits {
		b, id := a.guess(ch, "1001", fmt.Sprint("guess-", i))
		if r := a.ask(t, b, id); !strings.HasPrefix(string(r), "SIP/2.0 401") {
			t.Fatalf("guess %d was answered %.40q", i, r)
		}
	}
	if text := s.explain(t, from); !strings.Contains(text, "let in") || !strings.Contains(text, "register") || !strings.Contains(text, "1001@") {
		t.Errorf("explain does not show what he has done:\n%s", text)
	}
	ids := a.scan("REGISTER", 60, 130)
	lab.Poll(t, patience, "all are answered", func() error {
		if n := a.answered(ids); n < len(ids)-5 { // it is UDP
			return fmt.Errorf("%d of %d", n, len(ids))
		}
		return nil
	})
	s.nobodyBanned(t)
	would := map[string]float64{}
	for _, g := range must[map[string]any](t)(s.sipward.Status())["guards"].([]any) {
		g := g.(map[string]any)
		n, _ := g["would"].(float64)
		would[fmt.Sprint(g["name"])] = n
	}
	for _, g := range []string{"register", "enumeration", "scanner"} {
		if would[g] == 0 {
			t.Errorf("the guard %s has recorded nothing: %v", g, would)
		}
	}
}
