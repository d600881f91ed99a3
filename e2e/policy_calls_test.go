//go:build linux

package e2e_test

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/icholy/digest"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

// TestPolicyCalls is about calls and answers that tell too much.
func TestPolicyCalls(t *testing.T) {
	t.Parallel()
	s := attacked(t, fmt.Sprintf("trunks: [%q]\n", carrierAt.Addr()))
	s.dns = s.StartDNS(t, carrierRecords...)
	k := s.pbx.(*lab.Kamailio)
	if err := k.SetMood(lab.Talkative, true); err != nil {
		t.Fatal(err)
	}
	t.Run("uniform", func(t *testing.T) { s.testUniform(t, lab.Phone(40)) })
	if err := k.SetMood(lab.Talkative, false); err != nil {
		t.Fatal(err)
	}
	t.Run("digest-leak", s.testDigestLeak)
	t.Run("at-once", func(t *testing.T) { s.testCallsAtOnce(t, udp, 1) })
}

// testCallsAtOnce: of sixty calls from one source that ring at the same time, thirty are let through. (A call is turned away
// only while thirty others are set up, so exactly thirty ring in the end, whichever they are.)
func (s *site) testCallsAtOnce(t *testing.T, w wire, n int) {
	const calls, limit = 60, 30
	caller, callee := s.registered(t, w, "1001", n), s.registered(t, w, "1002", n+1)
	ctx := within(t, 2*patience)
	go func() {
		for {
			in, err := callee.Incoming(ctx)
			if err != nil {
				return
			}
			in.Ring()
		}
	}()
	var mu sync.Mutex
	var ringing []*phone.Call
	refused := 0
	var errs []error
	var wait sync.WaitGroup
	for range calls {
		wait.Go(func() {
			c, err := caller.Call(ctx, callee.AoR())
			var r *phone.Received
			if err == nil {
				r, err = c.Ringing(ctx, 180)
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				errs = append(errs, err)
			case r.Status() == 180:
				ringing = append(ringing, c)
			case r.Status() == 503 && r.Value("Retry-After") != "":
				refused++
			default:
				errs = append(errs, errors.New(r.StartLine()))
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if len(ringing) != limit || refused != calls-limit {
		t.Errorf("%d calls ring and %d were refused, want %d and %d", len(ringing), refused, limit, calls-limit)
	}
	from := caller.Local().Addr()
	s.notBanned(t, from)
	about := slices.DeleteFunc(s.notices(t, "invite-limit"), func(text string) bool { return !strings.Contains(text, from.String()) })
	if len(about) != 1 || !strings.Contains(about[0], "sipward ban ") || !strings.Contains(about[0], "invite.rate_limit") {
		t.Errorf("notices: %q", about)
	}
	for _, c := range ringing {
		want(t, 200)(c.Cancel(ctx))
	}
	for _, c := range ringing {
		want(t, 487)(c.Answered(ctx))
	}
	again := must[*phone.Call](t)(caller.Call(ctx, callee.AoR()))
	want(t, 180)(again.Ringing(ctx, 180)) // as before, when it is calm again
	want(t, 200)(again.Cancel(ctx))
}

// notices gives those of a kind, with their commands.
func (s *site) notices(t *testing.T, kind string) []string {
	t.Helper()
	var found []string
	all, _ := must[map[string]any](t)(s.sipward.Status())["notices"].([]any)
	for _, n := range all {
		if n := n.(map[string]any); n["kind"] == kind {
			found = append(found, fmt.Sprint(n["text"], n["commands"]))
		}
	}
	return found
}

// shape is what of an answer must not depend on the account: the start line and the names of the headers, in order.
func shape(answer []byte) string {
	head, _, _ := strings.Cut(string(answer), "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	for i := range lines[1:] {
		name, value, _ := strings.Cut(lines[i+1], ":")
		if name == "WWW-Authenticate" || name == "Proxy-Authenticate" {
			name += fmt.Sprint(" of ", len(value))
		}
		lines[i+1] = name
	}
	return strings.Join(lines, "\n")
}

// testUniform: whatever the PBX tells of accounts, sipward does not tell a stranger which exist.
func (s *site) testUniform(t *testing.T, from netip.Addr) {
	a := s.attacker(t, udp, from)
	for _, method := range []string{"REGISTER", "INVITE"} {
		uri := "sip:" + s.pbx.Domain()
		if method == "INVITE" {
			uri = "sip:1003@" + s.pbx.Domain()
		}
		ask := func(user string, credentials ...string) []byte {
			b, id := a.letter(method, uri, user, credentials...)
			return a.ask(t, b, id)
		}
		ask("1001") // some phone must have been asked for its password before sipward can know how the PBX asks
		if is, not := shape(ask("1002")), shape(ask("7002")); is != not {
			t.Errorf("%s: an account that exists is answered\n%s\none that does not\n%s", method, is, not)
		}
		guess := func(user string) string {
			return shape(ask(user, credentials(t, ask(user), method, uri, user, "guess")))
		}
		if is, not := guess("1002"), guess("7002"); is != not {
			t.Errorf("%s: a guess for an account that exists is answered\n%s\nfor one that does not\n%s", method, is, not)
		}
	}
}

// credentials answer a challenge.
func credentials(t *testing.T, challenge []byte, method, uri, user, password string) string {
	t.Helper()
	m := challenge40x.FindSubmatch(challenge)
	if m == nil {
		t.Fatalf("no challenge in %q", challenge)
	}
	ch := must[*digest.Challenge](t)(digest.ParseChallenge(string(m[2])))
	cred := must[*digest.Credentials](t)(digest.Digest(ch, digest.Options{Method: method, URI: uri, Username: user, Password: password, Count: 1}))
	return map[string]string{"WWW": "Authorization: ", "Proxy": "Proxy-Authorization: "}[string(m[1])] + cred.String()
}

var challenge40x = regexp.MustCompile(`(?m)^(WWW|Proxy)-Authenticate: (.*)\r$`)

// testDigestLeak: a phone that asks the PBX for its password does not reach it; a carrier may.
func (s *site) testDigestLeak(t *testing.T) {
	caller, callee := s.registered(t, udp, "1003", 3), s.registered(t, udp, "1009", 4) // the PBX gives it up after 3 s
	challenges := map[int]string{401: "Unauthorized", 407: "Proxy Authentication Required"}
	for code, phrase := range challenges {
		out := must[*phone.Call](t)(caller.Call(within(t, 2*patience), callee.AoR()))
		in := must[*phone.Call](t)(callee.Incoming(within(t, patience)))
		in.Ring()
		want(t, 180)(out.Ringing(within(t, patience), 180))
		before := s.reasons(t, "digest-leak")
		in.Reject(code, phrase)
		s.counted(t, before, 1, "digest-leak")
		r := must[*phone.Received](t)(out.Answered(within(t, patience)))
		if challenges[r.Status()] != "" {
			t.Errorf("the challenge %d came through: %q", code, r.Raw)
		}
	}
	carrier := s.phoneWith(t, udp, phone.Config{User: "carrier", Domain: "trunk.example.com", Local: carrierAt}, 0)
	for code, phrase := range challenges {
		out := must[*phone.Call](t)(caller.Call(within(t, 2*patience), "sip:912345@"+s.pbx.Domain()))
		in := must[*phone.Call](t)(carrier.Incoming(within(t, patience)))
		in.Reject(code, phrase)
		want(t, code)(out.Answered(within(t, patience))) // that PBX hands it on
	}
	if told := fmt.Sprint(s.notices(t, "digest-leak")); !strings.Contains(told, callee.Local().Addr().String()) || strings.Contains(told, carrierAt.Addr().String()) {
		t.Errorf("notices: %s", told)
	}
}
