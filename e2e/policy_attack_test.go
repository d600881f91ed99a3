//go:build linux

package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/icholy/digest"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

// attacked is a Kamailio with sipward in front of it, and what is to be different from sipward's defaults.
func attacked(t *testing.T, extra string) *site {
	t.Helper()
	lab.Need(t, "kamailio")
	if direct {
		t.Skip("it is sipward that is attacked here")
	}
	s := &site{Lab: labs.New(t)}
	s.pbx = s.StartKamailio(t, lab.PBX1)
	s.start(t, lab.Config{Extra: extra})
	return s
}

// seen is how many requests of these methods have reached Kamailio.
func (s *site) seen(t *testing.T, methods ...string) int {
	t.Helper()
	sum := 0
	for _, m := range methods {
		sum += must[int](t)(s.pbx.(*lab.Kamailio).Seen(m))
	}
	return sum
}

// ban is one of `sipward list bans --json`.
type ban struct {
	Prefix, Kind, Guard string
	Proven              bool
	Blocks              int
}

// bans gives those in force.
func (s *site) bans(t *testing.T) []ban {
	t.Helper()
	var v struct{ Bans []ban }
	out := must[string](t)(s.sipward.CLI("list", "bans", "--json"))
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("read the list of bans: %v: %s", err, out)
	}
	return v.Bans
}

// banOf is that of an address, nil if it has none.
func (s *site) banOf(t *testing.T, a netip.Addr) *ban {
	t.Helper()
	for _, b := range s.bans(t) {
		if netip.MustParsePrefix(b.Prefix).Contains(a) {
			return &b
		}
	}
	return nil
}

// isBanned waits for the ban of an address.
func (s *site) isBanned(t *testing.T, a netip.Addr) ban {
	t.Helper()
	var b *ban
	lab.Poll(t, patience, fmt.Sprintf("%v is banned", a), func() error {
		if b = s.banOf(t, a); b == nil {
			return errors.New("it is not")
		}
		return nil
	})
	return *b
}

// notBanned fails if that address is.
func (s *site) notBanned(t *testing.T, a netip.Addr) {
	t.Helper()
	if b := s.banOf(t, a); b != nil {
		t.Errorf("banned: %+v", *b)
	}
}

// nobodyBanned fails if anybody is.
func (s *site) nobodyBanned(t *testing.T) {
	t.Helper()
	if b := s.bans(t); len(b) > 0 {
		t.Errorf("banned: %+v", b)
	}
}

// counted waits until so many messages more than before have been given one of those reasons.
func (s *site) counted(t *testing.T, before, n int64, names ...string) {
	t.Helper()
	lab.Poll(t, patience, fmt.Sprintf("%d messages counted as %q", n, names), func() error {
		if got := s.reasons(t, names...) - before; got < n {
			return fmt.Errorf("%d are", got)
		}
		return nil
	})
}

// explain is what `sipward explain` says to people.
func (s *site) explain(t *testing.T, a netip.Addr) string {
	t.Helper()
	return must[string](t)(s.sipward.CLI("explain", a.String()))
}

// attacker writes messages of his own making, as fast as he likes, and notes what comes back.
type attacker struct {
	site  *site
	wire  wire
	local netip.AddrPort
	write func([]byte) error
	id    string
	n     int

	mu      sync.Mutex
	answers map[string]int    // the last status by Call-ID
	raw     map[string][]byte // the last answer by Call-ID
	count   map[int]int       // answers by status, repeated ones and all
	closed  chan struct{}     // the connection has ended
}

// attacker opens a socket, or a connection, of an attacker.
func (s *site) attacker(t *testing.T, w wire, a netip.Addr) *attacker {
	t.Helper()
	return s.attackerTo(t, w, a, s.door(w))
}

// attackerTo is an attacker who writes to that address of sipward's.
func (s *site) attackerTo(t *testing.T, w wire, a netip.Addr, to netip.AddrPort) *attacker {
	t.Helper()
	at := &attacker{site: s, wire: w, id: fmt.Sprintf("%x", time.Now().UnixNano()),
		answers: map[string]int{}, raw: map[string][]byte{}, count: map[int]int{}, closed: make(chan struct{})}
	line, err := phone.Dial(phone.Config{Net: s.WAN, User: "attacker", Proxy: to, Local: netip.AddrPortFrom(a, 0), Transport: w.over, TLS: s.trust})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(line.Close)
	at.local = netip.AddrPortFrom(a.WithZone(""), line.Local().Port())
	at.write = line.Write
	go at.listen(line.Read)
	return at
}

var (
	statusLine = regexp.MustCompile(`^SIP/2\.0 (\d{3}) `)
	fromTag    = regexp.MustCompile(`(?mi)^From:.*;tag=(\S+)\r$`)
)

func (a *attacker) listen(next func() ([]byte, error)) {
	defer close(a.closed)
	for {
		b, err := next()
		if err != nil {
			return
		}
		status, id := statusLine.FindSubmatch(b), fromTag.FindSubmatch(b)
		if status == nil || id == nil {
			continue
		}
		code, _ := strconv.Atoi(string(status[1]))
		if code < 200 {
			continue
		}
		a.mu.Lock()
		a.answers[string(id[1])] = code
		a.raw[string(id[1])] = bytes.Clone(b)
		a.count[code]++
		a.mu.Unlock()
	}
}

// answered is how many of the requests with these From tags have a final answer.
func (a *attacker) answered(ids []string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, id := range ids {
		if a.answers[id] != 0 {
			n++
		}
	}
	return n
}

// gotExactly fails unless so many of these requests have been answered, and no more. What follows the last of them
// has been sent before.
func (a *attacker) gotExactly(t *testing.T, ids []string, want int) {
	t.Helper()
	lab.Poll(t, patience, fmt.Sprintf("%d answers", want), func() error {
		if n := a.answered(ids); n < want {
			return fmt.Errorf("%d of %d requests are answered", n, len(ids))
		}
		return nil
	})
	if n := a.answered(ids); n != want {
		t.Errorf("%d of %d requests were answered, want %d", n, len(ids), want)
	}
}

// answer is the last one to a request, nil if there is none.
func (a *attacker) answer(id string) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.raw[id]
}

// letter is a request of a new transaction, that looks like an ordinary phone's, and its From tag. All of an attacker have one
// Call-ID, as RFC 3261 §22.2 wants it of a request with credentials and the one that was challenged.
func (a *attacker) letter(method, uri, user string, extra ...string) ([]byte, string) {
	a.n++
	return letter(method, uri, user, a.site.pbx.Domain(), a.local, a.wire.over, fmt.Sprintf("%s-%d", a.id, a.n), extra...)
}

func letter(method, uri, user, domain string, from netip.AddrPort, over phone.Transport, id string, extra ...string) ([]byte, string) {
	to := uri
	if method == "REGISTER" {
		to = "sip:" + user + "@" + domain
	}
	call, _, _ := strings.Cut(id, "-")
	tag := "f" + id
	lines := append([]string{
		fmt.Sprintf("%s %s SIP/2.0", method, uri),
		fmt.Sprintf("Via: SIP/2.0/%s %v;rport;branch=z9hG4bK.a%s", over, from, id),
		"Max-Forwards: 70",
		fmt.Sprintf("From: <sip:%s@%s>;tag=%s", user, domain, tag),
		fmt.Sprintf("To: <%s>", to),
		fmt.Sprintf("Call-ID: %s@%v", call, from.Addr()),
		"CSeq: 20 " + method,
		fmt.Sprintf("Contact: <sip:%s@%v>", user, from),
		"User-Agent: Yealink SIP-T46S 66.86.0.15",
	}, extra...)
	return []byte(strings.Join(append(lines, "Content-Length: 0", "", ""), "\r\n")), tag
}

// ask sends a request, over UDP again and again, until it is answered, and gives the answer.
func (a *attacker) ask(t *testing.T, b []byte, id string) []byte {
	t.Helper()
	var answer []byte
	next := time.Time{}
	lab.Poll(t, patience, "an answer to "+strings.SplitN(string(b), "\r\n", 2)[0], func() error {
		if answer = a.answer(id); answer != nil {
			return nil
		}
		if next.IsZero() || !a.wire.over.Connected() && time.Now().After(next) {
			next = time.Now().Add(time.Second)
			if err := a.write(b); err != nil {
				return err
			}
		}
		return errors.New("none")
	})
	return answer
}

var challenge401 = regexp.MustCompile(`(?mi)^WWW-Authenticate:\s*(.*)\r$`)

// challenge asks for a nonce.
func (a *attacker) challenge(t *testing.T, user string) *digest.Challenge {
	t.Helper()
	b, id := a.letter("REGISTER", "sip:"+a.site.pbx.Domain(), user)
	m := challenge401.FindSubmatch(a.ask(t, b, id))
	if m == nil {
		t.Fatalf("no challenge in %q", a.answer(id))
	}
	return must[*digest.Challenge](t)(digest.ParseChallenge(string(m[1])))
}

// guess is a REGISTER with that password.
func (a *attacker) guess(ch *digest.Challenge, user, password string) ([]byte, string) {
	uri := "sip:" + a.site.pbx.Domain()
	cred, err := digest.Digest(ch, digest.Options{Method: "REGISTER", URI: uri, Username: user, Password: password, Count: 1})
	if err != nil {
		panic(err) // of a challenge that has been read
	}
	return a.letter("REGISTER", uri, user, "Authorization: "+cred.String(), "Expires: 300")
}

// steadily calls f n times, so many times a second, until it gives false.
func steadily(rate, n int, f func(i int) bool) {
	begun := time.Now()
	for i := range n {
		time.Sleep(time.Until(begun.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		if !f(i) {
			return
		}
	}
}

// guessAt sends n guesses, so many a second, whether they are answered or not, and gives their From tags. It ends early when
// the connection has been closed.
func (a *attacker) guessAt(ch *digest.Challenge, user string, rate, n int) []string {
	var ids []string
	steadily(rate, n, func(i int) bool {
		b, id := a.guess(ch, user, fmt.Sprint("guess-", i))
		ids = append(ids, id)
		return a.write(b) == nil
	})
	return ids
}

// isClosed waits until the peer has closed the connection.
func (a *attacker) isClosed(t *testing.T) {
	t.Helper()
	select {
	case <-a.closed:
	case <-time.After(patience):
		t.Errorf("the connection of %v is still open", a.local)
	}
}

// refused says whether sipward closes a new connection from that address at once.
func (s *site) refused(t *testing.T, from netip.Addr) {
	t.Helper()
	s.refusedAt(t, tcp, from, s.proxy(from.Is6()))
}

func (s *site) refusedAt(t *testing.T, w wire, from netip.Addr, at netip.AddrPort) {
	t.Helper()
	if w.over == phone.DTLS { // nobody answers the first of its messages
		line, err := phone.Dial(phone.Config{Net: s.WAN, Proxy: at, Local: netip.AddrPortFrom(from, 0), Transport: w.over, TLS: s.trust})
		if err == nil {
			line.Close()
			t.Errorf("an association from %v was let in", from)
		}
		return
	}
	c, err := s.WAN.DialTCP(netip.AddrPortFrom(from, 0), at, patience)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("a connection from %v was not closed: %d bytes, %v", from, n, err)
	}
}
