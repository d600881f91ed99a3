package notify_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/leodido/go-syslog/v4/rfc5424"

	"sipward/notify"
	"sipward/policy"
)

func mailChannel(p *post) notify.Channel {
	return notify.Channel{
		Type: notify.SMTP, Server: p.addr, From: "sipward@example.com", To: []string{"ops@example.com", "noc@example.com"},
		Username: p.user, Password: "pw-of-" + p.user,
	}
}

func TestMail(t *testing.T) {
	cert, ca := certificate(t)
	for _, c := range []struct {
		name string
		post *post
		tls  notify.TLS
	}{
		{"STARTTLS and authentication", &post{cert: &cert, user: "alice"}, notify.TLSStart},
		{"implicit TLS and authentication", &post{cert: &cert, implicit: true, user: "alice"}, notify.TLSImplicit},
		{"neither", &post{}, notify.TLSNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &post{t: t, addr: freeAddr(t), cert: c.post.cert, implicit: c.post.implicit, user: c.post.user}
			p.start()
			ch := mailChannel(p)
			ch.TLS, ch.CA = c.tls, ca
			n := start(t, t.TempDir(), settings(ch))
			x := inviteNotice(addr(9))
			x.Account = "bob\r\nBcc: evil@example.net\x1b[2J"
			n.Notice(x)
			poll(t, func() error {
				if l := p.got(); len(l) < 2 {
					return fmt.Errorf("%d mails: %+v", len(l), n.channel("ops"))
				}
				return nil
			})
			begin, end := p.got()[0], p.got()[1]
			subject, _ := new(mime.WordDecoder).DecodeHeader(begin.Header.Get("Subject"))
			if subject != "[sipward edge1] warning: 198.51.0.9: invite-limit began" {
				t.Error(subject)
			}
			if begin.user != c.post.user || begin.from != "sipward@example.com" || len(begin.to) != 2 || begin.encrypted != (c.post.cert != nil) {
				t.Errorf("envelope: %+v", begin)
			}
			body, _ := io.ReadAll(quoted(begin))
			for _, want := range []string{"sipward ban 198.51.0.9\n", "set invite.rate_limit above 30", `bob\r\nBcc: evil@example.net\x1b[2J`} {
				if !strings.Contains(string(body), want) {
					t.Errorf("no %q in\n%s", want, body)
				}
			}
			if begin.Header.Get("Bcc") != "" || begin.Header.Get("Auto-Submitted") != "auto-generated" {
				t.Errorf("header: %v", begin.Header)
			}
			if end.Header.Get("In-Reply-To") != begin.Header.Get("Message-Id") || begin.Header.Get("Message-Id") == "" {
				t.Errorf("the closing answers %q, the opening is %q", end.Header.Get("In-Reply-To"), begin.Header.Get("Message-Id"))
			}
		})
	}
}

// What is not to be sent is not, and the password is in no message about it.
func TestMailRefused(t *testing.T) {
	cert, ca := certificate(t)
	for _, c := range []struct {
		name   string
		post   *post
		change func(*notify.Channel)
		want   string
	}{
		{"no STARTTLS", &post{}, func(*notify.Channel) {}, "STARTTLS"},
		{"a certificate that nobody knows", &post{cert: &cert}, func(c *notify.Channel) { c.CA = "" }, "certificate"},
		{"a wrong password", &post{cert: &cert, user: "alice"}, func(c *notify.Channel) { c.Password = "hunter2secret" }, "no: …"},
		{"nobody there", &post{}, func(c *notify.Channel) { c.Server = freeAddr(t) }, "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &post{t: t, addr: freeAddr(t), cert: c.post.cert, user: c.post.user}
			p.start()
			ch := mailChannel(p)
			ch.CA = ca
			c.change(&ch)
			n := start(t, t.TempDir(), settings(ch))
			_, err := n.Test(t.Context(), "ops")
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), ch.Password) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if len(p.got()) > 0 {
				t.Error("a mail was sent")
			}
		})
	}
}

// One address that is wrong keeps nobody else from being told.
func TestMailUnknownRecipient(t *testing.T) {
	p := &post{t: t, addr: freeAddr(t), refuse: "ops@example.com"}
	p.start()
	ch := mailChannel(p)
	ch.TLS = notify.TLSNone
	n := start(t, t.TempDir(), settings(ch))
	if _, err := n.Test(t.Context(), "ops"); err != nil {
		t.Fatal(err)
	}
	if l := p.got(); len(l) != 1 || l[0].to[0] != "noc@example.com" {
		t.Errorf("%+v", l)
	}
	if _, err := n.Test(t.Context(), "nobody"); !errors.Is(err, notify.ErrNoChannel) {
		t.Error(err)
	}
}

// A mail server that is down for a while: nothing is lost, nobody waits.
func TestMailServerDown(t *testing.T) {
	p := &post{t: t, addr: freeAddr(t)}
	ch := mailChannel(p)
	ch.TLS = notify.TLSNone
	s := settings(ch)
	n := start(t, t.TempDir(), s)
	began := time.Now()
	for i := range 4 {
		n.Notice(inviteNotice(addr(i)))
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("telling took %v", took)
	}
	poll(t, func() error {
		if c := n.channel("ops"); c.Waiting < 8 || c.Error == "" || c.Next.IsZero() || c.Oldest.IsZero() {
			return fmt.Errorf("%+v", c) // four openings and four closings wait
		}
		return nil
	})
	p.start()
	poll(t, func() error {
		if c := n.channel("ops"); c.Waiting > 0 || c.Error != "" || c.Delivered != 8 || c.Full+c.Expired+c.Refused > 0 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	text := ""
	for _, l := range p.got() {
		text += l.body
	}
	for i := range 4 {
		for _, what := range []string{"began", "is over"} {
			if line := fmt.Sprintf("%v: invite-limit %s\n", addr(i), what); strings.Count(text, line) != 1 {
				t.Errorf("%q comes %d times", line, strings.Count(text, line))
			}
		}
	}
}

func TestWebhookTriesAgain(t *testing.T) {
	r := newReceiver(t, "\x01\x02raw")
	r.answer = func(n int) (int, http.Header) {
		switch n {
		case 1:
			return 503, http.Header{"Retry-After": {"1"}}
		case 2:
			return 302, http.Header{"Location": {r.URL + "/elsewhere"}}
		}
		return 200, nil
	}
	n := start(t, t.TempDir(), settings(notify.Channel{Type: notify.Webhook, URL: r.URL + "/hook/T0pSecretPath", Secret: "whsec_AQJyYXc="}))
	began := time.Now()
	n.Notice(inviteNotice(addr(1)))
	r.await(1)
	if took := time.Since(began); took < 1500*time.Millisecond {
		t.Errorf("two failures took %v, want at least 1s and half of 2s", took)
	}
	poll(t, func() error {
		if c := n.channel("ops"); c.Failures != 2 || c.Delivered == 0 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	n.stop()
	if strings.Contains(n.log.String(), "T0pSecret") {
		t.Error(n.log)
	}
}

// What the other side does not want is not sent for ever, and takes nothing with it.
func TestWebhookRefuses(t *testing.T) {
	r := newReceiver(t, "")
	down := true
	r.answer = func(n int) (int, http.Header) {
		if down {
			return 500, nil
		}
		return 400, nil
	}
	s := settings(notify.Channel{Type: notify.Webhook, URL: r.URL})
	s.Quiet = time.Hour
	n := start(t, t.TempDir(), s)
	for i := range 3 {
		n.Notice(inviteNotice(addr(i)))
	}
	poll(t, func() error {
		if c := n.channel("ops"); c.Waiting != 3 || c.Failures == 0 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	r.mu.Lock()
	down = false
	r.mu.Unlock()
	poll(t, func() error {
		if c := n.channel("ops"); c.Waiting != 0 || c.Refused != 3 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
}

func TestWebhookUnreachable(t *testing.T) {
	n := start(t, t.TempDir(), settings(notify.Channel{Type: notify.Webhook, URL: "http://" + freeAddr(t) + "/T0pSecret?key=T0pSecret", Secret: "abc"}))
	_, err := n.Test(t.Context(), "ops")
	if err == nil || strings.Contains(err.Error(), "T0pSecret") {
		t.Error(err)
	}
	if c := n.channel("ops"); strings.Contains(c.To, "T0pSecret") || !strings.HasPrefix(c.To, "http://127.0.0.1:") {
		t.Error(c.To)
	}
}

func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "told")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCommand(t *testing.T) {
	t.Setenv("PASSWORD_OF_MAIL", "hunter2secret")
	out := filepath.Join(t.TempDir(), "out")
	n := start(t, t.TempDir(), settings(notify.Channel{Type: notify.Command, Run: []string{script(t, `cat >"$1.new"; env >"$1.env"; mv "$1.new" "$1"`), out}}))
	if _, err := n.Test(t.Context(), "ops"); err != nil {
		t.Fatal(err)
	}
	var p packet
	text, err := os.ReadFile(out)
	if err != nil || json.Unmarshal(text, &p) != nil || len(p.Events) != 1 || p.Events[0].Phase != notify.PhaseTest || p.Events[0].Node != "edge1" {
		t.Errorf("%v: %s", err, text)
	}
	if env, err := os.ReadFile(out + ".env"); err != nil || strings.Contains(string(env), "hunter2") || !strings.Contains(string(env), "PATH=") {
		t.Errorf("%v: the program sees\n%s", err, env)
	}
}

func TestCommandFails(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"echo 'no \033[31mway' >&2; exit 3": `exit status 3: no \x1b[31mway`,
		// A child that would hold its output open for long is killed, too.
		"sleep 300 & echo $! >" + dir + "/pid; sleep 300": "no success within 1s",
	} {
		c := notify.Channel{Type: notify.Command, Run: []string{script(t, text)}, Timeout: time.Second}
		n := start(t, t.TempDir(), settings(c))
		began := time.Now()
		if _, err := n.Test(t.Context(), "ops"); err == nil || !strings.Contains(err.Error(), want) || time.Since(began) > 20*time.Second {
			t.Errorf("after %v: %v, want %q", time.Since(began), err, want)
		}
	}
	pid, err := os.ReadFile(dir + "/pid")
	if err != nil {
		t.Fatal(err)
	}
	poll(t, func() error {
		state, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
		if err == nil && !strings.Contains(string(state), ") Z ") {
			return fmt.Errorf("the child lives: %s", state)
		}
		return nil
	})
	n := start(t, t.TempDir(), settings(notify.Channel{Type: notify.Command, Run: []string{dir + "/none"}}))
	if _, err := n.Test(t.Context(), "ops"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestCommandLeavesChild: a program that has ended well has taken the event, whoever of its
// children still has its output. It is not run again.
func TestCommandLeavesChild(t *testing.T) {
	dir := t.TempDir()
	n := start(t, t.TempDir(), settings(notify.Channel{Type: notify.Command, Run: []string{script(t, `sleep 300 & echo $! >>"$1"; exit 0`), dir + "/pids"}}))
	t.Cleanup(func() {
		pids, _ := os.ReadFile(dir + "/pids")
		for pid := range strings.FieldsSeq(string(pids)) {
			if number, err := strconv.Atoi(pid); err == nil {
				syscall.Kill(number, syscall.SIGKILL)
			}
		}
	})
	if _, err := n.Test(t.Context(), "ops"); err != nil {
		t.Error(err)
	}
}

func TestSyslog(t *testing.T) {
	cert, ca := certificate(t)
	hostile := "x\"]\\\n<script> ünï"
	for _, scheme := range []string{"udp", "unix", "tcp", "tls"} {
		t.Run(scheme, func(t *testing.T) {
			lines := make(chan string, 10)
			server := listenSyslog(t, scheme, &cert, lines)
			n := start(t, t.TempDir(), settings(notify.Channel{Type: notify.Syslog, Server: server, Facility: 10, CA: ca}))
			x := inviteNotice(addr(5))
			x.Account = hostile
			n.Notice(x)
			for _, phase := range []string{"begin", "end"} {
				var line string
				select {
				case line = <-lines:
				case <-time.After(patience):
					t.Fatalf("nothing came: %+v", n.channel("ops"))
				}
				parsed, err := rfc5424.NewParser().Parse([]byte(line))
				if err != nil {
					t.Fatalf("%v: %q", err, line)
				}
				m := parsed.(*rfc5424.SyslogMessage)
				got := (*m.StructuredData)["sipward@32473"]
				if *m.Priority != 10<<3|4 || *m.Hostname != "edge1" || *m.Appname != "sipward" || *m.MsgID != "invite-limit" ||
					got["phase"] != phase || got["source"] != "198.51.0.5" || got["reason"] != "invite-limit" {
					t.Errorf("%q", line)
				}
				if account := got["account"]; !strings.Contains(account, "<script> ünï") || strings.Contains(account, "\n") {
					t.Errorf("account %q", account)
				}
				if !strings.Contains(*m.Message, "sipward ban 198.51.0.5") {
					t.Errorf("message %q", *m.Message)
				}
			}
		})
	}
}

// listenSyslog takes messages until the test ends, and returns its address.
func listenSyslog(t *testing.T, scheme string, cert *tls.Certificate, lines chan<- string) string {
	t.Helper()
	if scheme == "udp" || scheme == "unix" {
		network, where := "udp", "127.0.0.1:0"
		if scheme == "unix" {
			network, where = "unixgram", filepath.Join(t.TempDir(), "log")
		}
		c, err := net.ListenPacket(network, where)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			b := make([]byte, 65536)
			for {
				n, _, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				lines <- string(b[:n])
			}
		}()
		return scheme + "://" + c.LocalAddr().String()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if scheme == "tls" {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*cert}})
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			readCounted(c, lines)
		}
	}()
	return scheme + "://" + l.Addr().String()
}

// readCounted reads messages with counted octets (RFC 6587 §3.4.1).
func readCounted(c net.Conn, lines chan<- string) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		length, err := r.ReadString(' ')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSpace(length))
		if err != nil {
			lines <- "bad length " + length
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		lines <- string(b)
	}
}

func TestNoticeDoesNotWait(t *testing.T) {
	n, err := notify.New(notify.Config{Dir: t.TempDir(), IPv6Bits: 64, Settings: settings()})
	if err != nil {
		t.Fatal(err)
	}
	for range 10_000 { // nobody takes them
		n.Notice(notice(policy.NoticeSpared, policy.ReasonRegister, addr(1)))
	}
	if lost := n.Status().Lost; lost == 0 || lost >= 10_000 {
		t.Errorf("%d lost", lost)
	}
}

// quoted reads the body of a mail.
func quoted(l letter) io.Reader {
	if strings.EqualFold(l.Header.Get("Content-Transfer-Encoding"), "quoted-printable") {
		return quotedprintable.NewReader(strings.NewReader(l.body))
	}
	return strings.NewReader(l.body)
}
