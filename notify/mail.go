package notify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/wneessen/go-mail"
)

// mailer sends by SMTP (RFC 5321), one connection for each delivery.
type mailer struct {
	c   *Channel
	tls *tls.Config
}

var _ sender = (*mailer)(nil)

func (m *mailer) send(ctx context.Context, d *delivery) error {
	msg, err := m.message(d)
	if err != nil {
		return err
	}
	return m.post(ctx, msg)
}

// post sends a mail to all recipients, or, if the server does not want one of them,
// to the others.
func (m *mailer) post(ctx context.Context, msg *mail.Msg) error {
	err := m.hand(ctx, msg, m.c.To...)
	var failed *mail.SendError
	if !errors.As(err, &failed) {
		return err
	}
	if failed.Reason == mail.ErrSMTPRcptTo && len(m.c.To) > 1 {
		sent := 0
		for _, to := range m.c.To {
			if m.hand(ctx, msg, to) == nil {
				sent++
			}
		}
		if sent > 0 {
			return nil
		}
	}
	if code := failed.ErrorCode(); code >= 500 && code < 600 {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return err
}

// hand hands a mail to the server.
func (m *mailer) hand(ctx context.Context, msg *mail.Msg, to ...string) error {
	if err := msg.To(to...); err != nil {
		return err
	}
	client, err := m.client(ctx)
	if err != nil {
		return err
	}
	conn, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return err
	}
	if err := client.SendWithSMTPClient(conn, msg); err != nil {
		conn.Close()
		return err
	}
	_ = client.CloseWithSMTPClient(conn) // the server has taken it; that it says good-bye does not matter
	return nil
}

// mechanisms are how to log in, the best first. All are used over TLS only.
var mechanisms = []mail.SMTPAuthType{mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthSCRAMSHA1, mail.SMTPAuthCramMD5, mail.SMTPAuthPlain, mail.SMTPAuthLogin}

func (m *mailer) client(ctx context.Context) (*mail.Client, error) {
	host, port, err := net.SplitHostPort(m.c.Server)
	if err != nil {
		return nil, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	conf := m.tls.Clone()
	conf.ServerName = host
	opts := []mail.Option{
		mail.WithPort(number), mail.WithTimeout(m.c.Timeout), mail.WithTLSConfig(conf), mail.WithoutRset(),
		mail.WithDialContextFunc(func(dialing context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(dialing, network, addr)
			if err != nil {
				return nil, err
			}
			context.AfterFunc(ctx, func() { conn.Close() }) // the library looks at ctx while it dials, and no more
			if m.c.TLS == TLSImplicit {
				return tls.Client(conn, conf), nil
			}
			return conn, nil
		}),
	}
	switch m.c.TLS {
	case TLSImplicit:
		opts = append(opts, mail.WithSSL())
	case TLSNone:
		opts = append(opts, mail.WithTLSPolicy(mail.NoTLS))
	default:
		opts = append(opts, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if m.c.Username != "" {
		opts = append(opts, mail.WithOpportunisticSMTPAuth(mechanisms...), mail.WithUsername(m.c.Username), mail.WithPassword(m.c.Password))
	}
	return mail.NewClient(host, opts...)
}

func (m *mailer) message(d *delivery) (*mail.Msg, error) {
	first := &d.Events[0]
	msg, err := m.blank(first.Node, subject(d), first.ID)
	if err != nil {
		return nil, err
	}
	msg.SetDateWithValue(first.Time)
	if a := first.Attack; a != nil && first.Phase != PhaseBegin {
		begun := "<" + a.ID + "-" + PhaseBegin + "@" + domain(first.Node) + ">"
		msg.SetGenHeaderPreformatted(mail.HeaderInReplyTo, begun)
		msg.SetGenHeaderPreformatted(mail.HeaderReferences, begun)
	}
	msg.SetBodyString(mail.TypeTextPlain, plain(d))
	return msg, nil
}

// letter makes a mail of a text with a file beside it.
func (m *mailer) letter(node, subject, text, name string, file []byte) (*mail.Msg, error) {
	id := sha256.Sum256([]byte(subject + "\n" + text))
	msg, err := m.blank(node, subject, hex.EncodeToString(id[:16]))
	if err != nil {
		return nil, err
	}
	msg.SetDate()
	msg.SetBodyString(mail.TypeTextPlain, text)
	return msg, msg.AttachReader(name, bytes.NewReader(file))
}

// blank makes a mail without a body and recipients.
func (m *mailer) blank(node, subject, id string) (*mail.Msg, error) {
	msg := mail.NewMsg()
	if err := msg.From(m.c.From); err != nil {
		return nil, err
	}
	msg.Subject(safe(subject))
	msg.SetMessageIDWithValue(id + "@" + domain(node))
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no answers, please
	msg.SetUserAgent("sipward")
	return msg, nil
}

func subject(d *delivery) string {
	text := d.Events[0].Summary
	worst := d.Events[0].Severity
	for _, ev := range d.Events[1:] {
		worst = max(worst, ev.Severity)
	}
	if n := len(d.Events) - 1; n > 0 {
		text = fmt.Sprintf("%s, and %d more", text, n)
	}
	return fmt.Sprintf("[sipward %s] %s: %s", d.Events[0].Node, worst, text)
}

// domain makes the right side of a Message-ID of a node's name.
func domain(node string) string {
	clean := make([]byte, 0, len(node))
	for _, c := range []byte(node) {
		if c == '-' || c == '.' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' {
			clean = append(clean, c)
		}
	}
	if len(clean) == 0 {
		return "sipward"
	}
	return string(clean)
}
