package notify_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"sipward/admin/logtest"
	"sipward/notify"
)

const patience = 30 * time.Second

// poll waits until f has no complaint.
func poll(t *testing.T, f func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// certificate makes one for 127.0.0.1, and the PEM that it is checked against.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// letter is a mail as a mail server got it.
type letter struct {
	from, user string
	to         []string
	encrypted  bool
	*mail.Message
	body string
}

// post is a real mail server that keeps what it gets.
type post struct {
	t        *testing.T
	addr     string
	cert     *tls.Certificate // nil: no TLS
	implicit bool
	user     string // and password "pw-of-"+user; empty: nobody is asked
	refuse   string // a recipient that is not known here

	mu      sync.Mutex
	letters []letter
	tried   int
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (p *post) start() {
	p.t.Helper()
	s := smtp.NewServer(p)
	s.Domain, s.ErrorLog = "mail.example.com", slog.NewLogLogger(slog.DiscardHandler, 0)
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	if p.cert != nil {
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*p.cert}}
		if p.implicit {
			l = tls.NewListener(l, s.TLSConfig)
			s.TLSConfig = nil
		}
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	p.t.Cleanup(func() { s.Close(); <-done })
}

func (p *post) got() []letter {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]letter{}, p.letters...)
}

// NewSession implements smtp.Backend.
func (p *post) NewSession(c *smtp.Conn) (smtp.Session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried++
	_, encrypted := c.TLSConnectionState()
	return &session{post: p, letter: letter{encrypted: encrypted}}, nil
}

type session struct {
	post *post
	letter
}

func (s *session) AuthMechanisms() []string {
	if s.post.user == "" {
		return nil
	}
	return []string{sasl.Plain}
}

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != s.post.user || password != "pw-of-"+user {
			return &smtp.SMTPError{Code: 535, Message: "no: " + password} // a server that says too much
		}
		s.user = user
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.post.user != "" && s.user == "" {
		return smtp.ErrAuthRequired
	}
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if to == s.post.refuse {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "nobody of that name"}
	}
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	m, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(m.Body)
	if err != nil {
		return err
	}
	s.Message, s.body = m, strings.ReplaceAll(string(body), "\r\n", "\n")
	s.post.mu.Lock()
	defer s.post.mu.Unlock()
	s.post.letters = append(s.post.letters, s.letter)
	return nil
}

func (s *session) Reset()        { s.from, s.to = "", nil }
func (s *session) Logout() error { return nil }

var _ smtp.AuthSession = (*session)(nil)

// packet is the body of a webhook, and the input of a command.
type packet struct {
	Lost   uint64
	Events []notify.Event
}

// receiver is a real webhook receiver that checks signatures by itself.
type receiver struct {
	*httptest.Server
	t      *testing.T
	secret []byte

	mu       sync.Mutex
	packets  []packet
	requests int
	answer   func(n int) (status int, header http.Header) // of the n-th request; nil: 204
	wrong    []error
}

func newReceiver(t *testing.T, secret string) *receiver {
	r := &receiver{t: t, secret: []byte(secret)}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	t.Cleanup(func() {
		for _, err := range r.wrong {
			t.Error("webhook:", err)
		}
	})
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, _ := io.ReadAll(q.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	if err := r.verify(q, body); err != nil {
		r.wrong = append(r.wrong, err)
	}
	status := http.StatusNoContent
	if r.answer != nil {
		var h http.Header
		status, h = r.answer(r.requests)
		for k, v := range h {
			w.Header()[k] = v
		}
	}
	if status < 300 {
		var p packet
		if err := json.Unmarshal(body, &p); err != nil {
			r.wrong = append(r.wrong, err)
		}
		r.packets = append(r.packets, p)
	}
	w.WriteHeader(status)
}

// verify is written from the text of Standard Webhooks, not with its library.
func (r *receiver) verify(q *http.Request, body []byte) error {
	id, stamp := q.Header.Get("webhook-id"), q.Header.Get("webhook-timestamp")
	if id == "" || stamp == "" || q.Method != http.MethodPost || q.Header.Get("Content-Type") != "application/json" {
		return fmt.Errorf("%s with %v", q.Method, q.Header)
	}
	mac := hmac.New(sha256.New, r.secret)
	fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if got := q.Header.Get("webhook-signature"); got != want && len(r.secret) > 0 || len(r.secret) == 0 && got != "" {
		return fmt.Errorf("signature %q, want %q", got, want)
	}
	return nil
}

func (r *receiver) events() []notify.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []notify.Event
	for _, p := range r.packets {
		all = append(all, p.Events...)
	}
	return all
}

// await waits for so many events and returns all.
func (r *receiver) await(n int) []notify.Event {
	r.t.Helper()
	poll(r.t, func() error {
		if got := len(r.events()); got < n {
			return fmt.Errorf("%d events, want %d", got, n)
		}
		return nil
	})
	return r.events()
}

func phases(events []notify.Event) map[string]int {
	n := map[string]int{}
	for _, ev := range events {
		n[ev.Phase]++
	}
	return n
}

// settings has one or more channels and short times.
func settings(channels ...notify.Channel) notify.Settings {
	for i := range channels {
		c := &channels[i]
		if c.Name == "" {
			c.Name = "ops"
		}
		if c.Timeout == 0 {
			c.Timeout = 5 * time.Second
		}
		if c.PerHour == 0 {
			c.PerHour = 3_600_000
		}
	}
	return notify.Settings{
		Channels: channels, Quiet: 300 * time.Millisecond, Repeat: time.Hour, Sources: 5, SpoolSize: 1000, Keep: time.Hour,
	}
}

// running is a Notifier that runs until the test ends, or until stop.
type running struct {
	*notify.Notifier
	stop func()
	log  *logtest.Buffer
}

func start(t *testing.T, dir string, s notify.Settings) *running {
	t.Helper()
	log := &logtest.Buffer{}
	n, err := notify.New(notify.Config{
		Dir: dir, Node: "edge1", IPv6Bits: 64, Settings: s,
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(stop)
	return &running{n, stop, log}
}

// channel returns the status of a channel.
func (r *running) channel(name string) notify.ChannelStatus {
	for _, c := range r.Status().Channels {
		if c.Name == name {
			return c
		}
	}
	return notify.ChannelStatus{}
}

var errNone = errors.New("none yet")
