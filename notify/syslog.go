package notify

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/leodido/go-syslog/v4/rfc5424"
)

// syslogger sends RFC 5424 messages: a datagram each over UDP (RFC 5426) and unix
// sockets, counted octets over TCP (RFC 6587) and TLS (RFC 5425). Syslog has no
// acknowledgement: what was handed over counts as delivered.
type syslogger struct {
	c       *Channel
	tls     *tls.Config
	network string
	addr    string
	stream  bool
}

var _ sender = (*syslogger)(nil)

func newSyslogger(c *Channel, conf *tls.Config) (*syslogger, error) {
	u, err := url.Parse(c.Server)
	if err != nil {
		return nil, err
	}
	s := &syslogger{c: c, tls: conf, network: u.Scheme, addr: u.Host}
	switch u.Scheme {
	case "udp":
	case "tcp":
		s.stream = true
	case "tls":
		s.network, s.stream = "tcp", true
		s.tls.ServerName = hostOf(u.Host)
	case "unix":
		s.network, s.addr = "unixgram", u.Path
	default:
		return nil, fmt.Errorf("syslog is not spoken over %q", u.Scheme)
	}
	return s, nil
}

// maxDatagram is the longest message in a datagram: receivers need not take more
// (RFC 5426 §3.2).
const maxDatagram = 2048

func (s *syslogger) send(ctx context.Context, d *delivery) error {
	conn, err := s.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	for i := range d.Events {
		line, err := s.line(&d.Events[i])
		if err != nil {
			return err
		}
		if s.stream {
			line = strconv.Itoa(len(line)) + " " + line
		} else {
			line = cut(line, maxDatagram)
		}
		if _, err := conn.Write([]byte(line)); err != nil {
			return err
		}
	}
	return nil
}

func (s *syslogger) dial(ctx context.Context) (net.Conn, error) {
	if s.c.Server[:3] == "tls" {
		return (&tls.Dialer{Config: s.tls}).DialContext(ctx, s.network, s.addr)
	}
	return (&net.Dialer{}).DialContext(ctx, s.network, s.addr)
}

// element is the name of our structured data. 32473 is the number for whoever has none
// (RFC 5612).
const element = "sipward@32473"

func (s *syslogger) line(ev *Event) (string, error) {
	m := &rfc5424.SyslogMessage{}
	level := map[Severity]uint8{Info: 6, Warning: 4, Critical: 2}[ev.Severity]
	m.SetVersion(1)
	m.SetPriority(s.c.Facility<<3 | level)
	m.SetTimestamp(ev.Time.UTC().Format("2006-01-02T15:04:05.000000Z"))
	m.SetHostname(domain(ev.Node))
	m.SetAppname("sipward")
	m.SetProcID(strconv.Itoa(os.Getpid()))
	m.SetMsgID(ev.Kind)
	params := map[string]string{}
	m.StructuredData = &map[string]map[string]string{element: params} // SetParameter wants what is escaped already
	param := func(name, value string) {
		if value != "" {
			params[name] = safe(value)
		}
	}
	param("id", ev.ID)
	param("phase", ev.Phase)
	param("severity", ev.Severity.String())
	param("reason", ev.Reason)
	param("source", ev.Source)
	param("account", ev.Account)
	if a := ev.Attack; a != nil {
		param("attack", a.ID)
		param("began", a.Began.UTC().Format(time.RFC3339))
		param("messages", strconv.FormatUint(a.Messages, 10))
		param("bans", strconv.FormatUint(a.Bans, 10))
		param("sources", strconv.Itoa(a.Sources))
	}
	text := ev.Summary + ". " + ev.Text
	if len(ev.Commands) > 0 {
		text += " Commands: " + strings.Join(ev.Commands, "; ")
	}
	m.SetMessage(safe(text))
	return m.String()
}

// cut shortens text to n bytes, at the end of a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
