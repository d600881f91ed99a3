// Package phone is a softphone without a screen, for demonstrations and tests: it
// registers, calls, answers, and checks that it hears what it says.
package phone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
)

// Config of a phone. Transport, Contact port and all else not given have defaults.
type Config struct {
	Local          netip.Addr     // the address that it speaks from
	Server         netip.AddrPort // the PBX, or what stands in front of it
	Transport      string         // "udp" (default) or "tcp"
	User, Password string
	Agent          string // User-Agent; default "sipward demo phone"
	Calls          Habit  // what it does with calls to it
}

// Habit is what a phone does when it is called.
type Habit uint8

// The habits; the zero value refuses.
const (
	Refuse Habit = iota // 486 Busy Here
	Answer
	Ring // until the caller gives up
)

// Phone is one softphone with one socket. Close ends it.
type Phone struct {
	cfg     Config
	ua      *sipgo.UserAgent
	server  *sipgo.Server
	client  *sipgo.Client
	udp     net.PacketConn // nil over TCP
	contact sip.ContactHeader
	dialing *sipgo.DialogClientCache
	callID  string
	cseq    uint32

	mu       sync.Mutex
	answered map[string]*media // calls that others made, by Call-ID
	missed   int               // calls that ended while ringing
	serving  sync.WaitGroup
}

// Listen makes a phone ready to speak; nothing is sent yet.
func Listen(cfg Config) (*Phone, error) {
	if cfg.Agent == "" {
		cfg.Agent = "sipward demo phone"
	}
	if cfg.Transport == "" {
		cfg.Transport = "udp"
	}
	quiet := slog.New(slog.DiscardHandler)
	p := &Phone{cfg: cfg, answered: make(map[string]*media), callID: sip.GenerateTagN(20)}
	var err error
	if p.ua, err = sipgo.NewUA(sipgo.WithUserAgent(cfg.User), sipgo.WithUserAgentHostname(cfg.Server.Addr().String()),
		sipgo.WithUserAgentTransportLayerOptions(sip.WithTransportLayerLogger(quiet)),
		sipgo.WithUserAgentTransactionLayerOptions(sip.WithTransactionLayerLogger(quiet),
			sip.WithTransactionLayerUnhandledResponseHandler(func(*sip.Response) {}))); err != nil {
		return nil, fmt.Errorf("make user agent: %w", err)
	}
	if p.server, err = sipgo.NewServer(p.ua, sipgo.WithServerLogger(quiet)); err != nil {
		return nil, fmt.Errorf("make server: %w", err)
	}
	local := netip.AddrPortFrom(cfg.Local, 0)
	if cfg.Transport == "udp" {
		if p.udp, err = net.ListenPacket("udp", local.String()); err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
		local = p.udp.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	p.client, err = sipgo.NewClient(p.ua, sipgo.WithClientLogger(quiet), sipgo.WithClientNAT(),
		sipgo.WithClientHostname(local.Addr().String()), sipgo.WithClientConnectionAddr(local.String()))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make client: %w", err), p.Close())
	}
	uri := sip.Uri{Scheme: "sip", User: cfg.User, Host: local.Addr().String(), Port: int(local.Port())}
	if cfg.Transport != "udp" {
		uri.Port = 5060 // nobody listens there: calls come over the connection
		uri.UriParams = sip.HeaderParams{{K: "transport", V: cfg.Transport}}
	}
	p.contact = sip.ContactHeader{Address: uri}
	p.dialing = sipgo.NewDialogClientCache(p.client, p.contact)
	p.serve()
	if err := p.awaitSocket(local); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// awaitSocket waits until sipgo knows the socket that ServeUDP was given; it would open another one
// for a request before that.
func (p *Phone) awaitSocket(local netip.AddrPort) error {
	if p.udp == nil {
		return nil
	}
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if c, err := p.ua.TransportLayer().GetConnection("udp", local.String()); err == nil && c != nil {
			_, err := c.TryClose()
			return err
		}
	}
	return errors.New("make a phone: its socket is not served")
}

// serve answers what others send.
func (p *Phone) serve() {
	p.server.OnInvite(p.ring)
	p.server.OnAck(func(*sip.Request, sip.ServerTransaction) {})
	p.server.OnBye(p.hungUp)
	p.server.OnOptions(func(req *sip.Request, tx sip.ServerTransaction) {
		_ = tx.Respond(sip.NewResponseFromRequest(req, sip.StatusOK, "OK", nil))
	})
	if p.udp != nil {
		p.serving.Go(func() { _ = p.server.ServeUDP(p.udp) }) // ends with the socket
	}
}

// Close ends all calls without a word and releases the socket.
func (p *Phone) Close() error {
	var err error
	if p.udp != nil {
		err = p.udp.Close()
	}
	if cerr := p.ua.Close(); !errors.Is(cerr, net.ErrClosed) {
		err = errors.Join(err, cerr)
	}
	p.serving.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.answered {
		m.close()
	}
	return err
}

// uri addresses a user at the server.
func (p *Phone) uri(user string) sip.Uri {
	u := sip.Uri{Scheme: "sip", User: user, Host: p.cfg.Server.Addr().String(), Port: int(p.cfg.Server.Port())}
	if p.cfg.Transport != "udp" {
		u.UriParams = sip.HeaderParams{{K: "transport", V: p.cfg.Transport}}
	}
	return u
}

// Register registers for that long, or ends the registration with 0. It returns the final status,
// after authentication if that was asked for. Like a phone it keeps one Call-ID (RFC 3261 §10.2).
func (p *Phone) Register(ctx context.Context, expires time.Duration) (*sip.Response, error) {
	req := sip.NewRequest(sip.REGISTER, p.uri(""))
	aor := p.uri(p.cfg.User)
	aor.UriParams = nil
	from := &sip.FromHeader{Address: aor}
	from.Params.Add("tag", sip.GenerateTagN(10))
	id := sip.CallIDHeader(p.callID)
	p.cseq++
	for _, h := range []sip.Header{
		from, &sip.ToHeader{Address: aor}, &id, &sip.CSeqHeader{SeqNo: p.cseq, MethodName: sip.REGISTER}, p.contact.Clone(),
		sip.NewHeader("Expires", strconv.Itoa(int(expires.Seconds()))), sip.NewHeader("User-Agent", p.cfg.Agent),
	} {
		req.AppendHeader(h)
	}
	res, err := p.client.Do(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	if res.StatusCode != sip.StatusUnauthorized {
		return res, nil
	}
	p.cseq++
	res, err = p.client.DoDigestAuth(ctx, req, res, sipgo.DigestAuth{Username: p.cfg.User, Password: p.cfg.Password})
	if err != nil {
		return nil, fmt.Errorf("register with credentials: %w", err)
	}
	return res, nil
}
