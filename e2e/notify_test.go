//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"

	"sipward/e2e/lab"
)

// told is a mail server and a webhook receiver beside sipward.
type told struct {
	mu     sync.Mutex
	mails  []string
	bodies []string
	wrong  int // signatures
	secret string
}

// NewSession implements smtp.Backend.
func (p *told) NewSession(*smtp.Conn) (smtp.Session, error) { return &toldSession{p}, nil }

type toldSession struct{ p *told }

func (s *toldSession) Mail(string, *smtp.MailOptions) error { return nil }
func (s *toldSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (s *toldSession) Reset()                               {}
func (s *toldSession) Logout() error                        { return nil }

func (s *toldSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.mails = append(s.p.mails, string(b))
	return err
}

func (p *told) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	b, _ := io.ReadAll(q.Body)
	mac := hmac.New(sha256.New, []byte(p.secret))
	fmt.Fprintf(mac, "%s.%s.%s", q.Header.Get("webhook-id"), q.Header.Get("webhook-timestamp"), b)
	p.mu.Lock()
	defer p.mu.Unlock()
	if q.Header.Get("webhook-signature") != "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
		p.wrong++
	}
	p.bodies = append(p.bodies, string(b))
}

// mailsOf gives the mails whose subject has that text.
func (p *told) mailsOf(text string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.mails {
		head, _, _ := strings.Cut(m, "\r\n\r\n")
		if strings.Contains(strings.ReplaceAll(head, "\r\n ", " "), text) {
			n++
		}
	}
	return n
}

// listen serves both in sipward's namespace.
func (p *told) listen(t *testing.T, ns *lab.Namespace) (mail, hook netip.AddrPort) {
	t.Helper()
	open := func() net.Listener {
		return must[*net.TCPListener](t)(ns.ListenTCP(netip.MustParseAddrPort("127.0.0.1:0")))
	}
	l, h := open(), open()
	server, web := smtp.NewServer(p), &http.Server{Handler: p}
	server.Domain = "mail.example.com"
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	wg.Go(func() { _ = web.Serve(h) })
	t.Cleanup(func() {
		_ = server.Close()
		_ = web.Shutdown(context.Background())
		wg.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort(), h.Addr().(*net.TCPAddr).AddrPort()
}

// TestNotify: somebody who guesses passwords is one mail when he begins and one when it is over, however long he goes
// on; and what is SIP's secret appears nowhere, at whatever level sipward logs.
func TestNotify(t *testing.T) {
	t.Parallel()
	lab.Need(t, "kamailio")
	if direct {
		t.Skip("it is sipward that tells")
	}
	s := &site{Lab: labs.New(t)}
	s.pbx = s.StartKamailio(t, lab.PBX1)
	p := &told{secret: "HookSecret-5d1c"}
	mail, hook := p.listen(t, s.Edge)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(p.secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t, lab.Config{Extra: fmt.Sprintf(`notify:
  channels:
    - {name: mail, type: smtp, server: "%v", tls: none, from: sipward@example.com, to: [ops@example.com]}
    - {name: hook, type: webhook, url: "http://%v/T0pSecretPath", secret_file: %q}
  group: {quiet: 2s}
`, mail, hook, file)})
	good := s.attacker(t, udp, lab.Phone(61)) // a phone with the right password
	asked := good.challenge(t, "1002")
	b, id := good.guess(asked, "1002", "pw-1002")
	if err := good.write(b); err != nil {
		t.Fatal(err)
	}
	good.gotExactly(t, []string{id}, 1)
	if !bytes.HasPrefix(good.answer(id), []byte("SIP/2.0 200")) {
		t.Errorf("the phone got %q", good.answer(id))
	}
	secrets := []string{asked.Nonce, "pw-1002"}
	from := lab.Phone(60)
	a := s.attacker(t, udp, from)
	ch := a.challenge(t, "1001")
	secrets = append(secrets, ch.Nonce, p.secret, "T0pSecretPath")
	field := regexp.MustCompile(`(?:response|cnonce)="([^"]+)"`)
	sent := 0
	steadily(500, 3000, func(i int) bool { // four times as long as an attack may be silent
		b, _ := a.guess(ch, "1001", fmt.Sprint("Guess-ed-Password-", i))
		if i < 50 {
			for _, m := range field.FindAllSubmatch(b, -1) {
				secrets = append(secrets, string(m[1]))
			}
		}
		sent++
		return a.write(b) == nil
	})
	s.isBanned(t, from)
	secrets = append(secrets, "Guess-ed-Password")
	explained := s.explain(t, from) + must[string](t)(s.sipward.CLI("explain", from.String(), "--json"))
	explained += s.explain(t, lab.Phone(61))
	lab.Poll(t, patience, "the attack is over", func() error {
		if n := p.mailsOf("is over"); n == 0 {
			return fmt.Errorf("no mail says so")
		}
		return nil
	})
	for _, what := range []string{": ban (register) began", ": ban (register) is over"} {
		if n := p.mailsOf(from.String() + what); n != 1 {
			t.Errorf("%d mails say %q", n, what)
		}
	}
	p.mu.Lock()
	if len(p.mails) != 2 || len(p.bodies) != 2 || p.wrong > 0 {
		t.Errorf("%d mails, %d webhooks, %d of them wrongly signed, want 2, 2 and 0\n%s", len(p.mails), len(p.bodies), p.wrong, strings.Join(p.mails, "\n"))
	}
	outputs := map[string]string{
		"mail": strings.Join(p.mails, "\n"), "webhook": strings.Join(p.bodies, "\n"), "log": s.sipward.Log(), "explain": explained,
	}
	p.mu.Unlock()
	for _, line := range [][]string{{"status"}, {"status", "--json"}, {"list", "bans", "--json"}, {"notify", "status"}, {"notify", "status", "--json"},
		{"report", "--last", "1h"}, {"report", "--last", "1h", "--format", "json"}, {"notify", "test", "hook"}} {
		outputs[strings.Join(line, " ")] = must[string](t)(s.sipward.CLI(line...))
	}
	outputs["check"] = must[string](t)(s.sipward.Tool("check"))
	if !strings.Contains(outputs["log"], "level=DEBUG") && !strings.Contains(outputs["log"], "Banned for") || !strings.Contains(outputs["explain"], "REGISTER") {
		t.Errorf("nothing to look at:\n%s\n%s", outputs["log"], outputs["explain"])
	}
	s.inState(t, outputs)
	for name, text := range outputs {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds %q", name, secret)
			}
		}
	}
	t.Logf("%d messages, %d secrets looked for in %d outputs", sent, len(secrets), len(outputs))
}

// inState adds every file in sipward's state folder: bans, the journal, what waits to be told.
func (s *site) inState(t *testing.T, outputs map[string]string) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(s.Dir(), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || !strings.Contains(path, "/state/") {
			return err
		}
		b, err := os.ReadFile(path)
		outputs[e.Name()] = string(bytes.ToValidUTF8(b, []byte("?")))
		found++
		return err
	})
	if err != nil || found < 3 {
		t.Errorf("%d files in the state folder, %v", found, err)
	}
}
