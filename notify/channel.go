package notify

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// The types of channels.
const (
	SMTP    = "smtp"
	Webhook = "webhook"
	Command = "command"
	Syslog  = "syslog"
)

// Channel is one way to tell somebody. Type says which of the other fields matter.
type Channel struct {
	Name string // fit for a folder's name
	Type string
	// Timeout is how long one attempt may take, above zero.
	Timeout time.Duration
	// PerHour is how many deliveries there may be in an hour, above zero; ten of them may
	// follow each other at once. What has to wait is put together.
	PerHour int

	// Server is HOST:PORT of SMTP, and udp://, tcp:// or tls://HOST:PORT or unix:///PATH of
	// syslog.
	Server string
	// TLS is that of SMTP. Zero is TLSStart.
	TLS TLS
	// Username and Password are those of SMTP; empty: it is not authenticated.
	Username, Password string
	From               string
	To                 []string

	URL    string // of a webhook, http or https
	Secret string // of a webhook's signature; empty: it is not signed

	Run []string // a command and its arguments, without a shell

	Facility uint8 // of syslog, 0 to 23

	// CA holds PEM certificates that a TLS server is checked against. Empty: those of the
	// system.
	CA string
}

// TLS is how a connection to a mail server is encrypted.
type TLS uint8

// The ways.
const (
	TLSStart    TLS = iota // STARTTLS, and nothing is sent without it
	TLSImplicit            // TLS from the first byte
	TLSNone
)

func (c *Channel) sender(cfg *Config) (sender, error) {
	conf, err := c.tls()
	if err != nil {
		return nil, err
	}
	switch c.Type {
	case SMTP:
		return &mailer{c: c, tls: conf}, nil
	case Webhook:
		return newHook(c, conf, cfg.Proxy)
	case Command:
		return &command{c: c}, nil
	case Syslog:
		return newSyslogger(c, conf)
	}
	return nil, fmt.Errorf("there is no type %q", c.Type)
}

func (c *Channel) tls() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM([]byte(c.CA)) {
			return nil, errors.New("the certificates of the CA are not PEM")
		}
	}
	return conf, nil
}

// Check says what keeps a channel from being used, as far as that is known without
// trying.
func (c Channel) Check() error {
	_, err := c.sender(&Config{})
	return err
}

// Target says where a channel leads to, without what could be a secret: a webhook's
// path often is one.
func (c *Channel) Target() string {
	switch c.Type {
	case SMTP:
		return strings.Join(c.To, ", ") + " by " + c.Server
	case Webhook:
		u, err := url.Parse(c.URL)
		if err != nil {
			return ""
		}
		return u.Scheme + "://" + u.Host
	case Command:
		return c.Run[0]
	}
	return c.Server
}

// hide takes out of an error what must not be shown. What it wraps stays known.
func (c *Channel) hide(err error) error {
	text := err.Error()
	for _, secret := range []string{c.URL, c.path(), c.Password, c.Secret} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	if r := []rune(text); len(r) > maxError {
		text = string(r[:maxError]) + "…"
	}
	return &hidden{text: safe(text), err: err}
}

// maxError is how many characters of an error are kept: part of it comes from the
// other side.
const maxError = 500

// path returns the part of a webhook's URL that may be a secret.
func (c *Channel) path() string {
	u, err := url.Parse(c.URL)
	if err != nil || u.RequestURI() == "/" {
		return ""
	}
	return u.RequestURI()
}

type hidden struct {
	text string
	err  error
}

func (e *hidden) Error() string { return e.text }
func (e *hidden) Unwrap() error { return e.err }

// hostOf returns the host of HOST:PORT.
func hostOf(server string) string {
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		return server
	}
	return host
}
