// Package pbx is a small PBX for demonstrations and tests: a registrar with digest
// authentication, a number that answers and echoes, and calls between its accounts.
// It is built with sipgo and knows nothing of sipward: like any PBX it speaks plain
// SIP to whoever comes.
package pbx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
)

// Account may register and call.
type Account struct{ User, Password string }

// Config of a PBX. Addr is required; all else has a default.
type Config struct {
	// Addr is bound for UDP and TCP. With port 0 a free port is taken.
	Addr netip.AddrPort
	// Accounts that exist. None: nobody can register or call.
	Accounts []Account
	// Realm of the challenges; default "sipward-demo".
	Realm string
	// Echo is the number that answers and sends back what it hears; default "600".
	Echo string
}

// PBX is bound but idle until Run.
type PBX struct {
	cfg    Config
	addr   netip.AddrPort
	udp    net.PacketConn
	tcp    net.Listener
	ua     *sipgo.UserAgent
	server *sipgo.Server
	client *sipgo.Client
	auth   *authenticator
	reg    *registrar
	calls  *calls

	ctx      context.Context // Run's, for handlers
	mu       sync.Mutex
	closed   bool
	handlers sync.WaitGroup
}

// quiet drops sipgo's own log: what a stranger sends is not the PBX's error.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// setSipgo sets what sipgo has for the whole process: it may send datagrams beyond 1300 bytes (on
// a loopback interface fragments are not lost), and where it has no other logger it is quiet.
var setSipgo = sync.OnceFunc(func() {
	sip.UDPMTUSize = 60_000
	sip.SetDefaultLogger(quiet())
})

// Listen binds a PBX. It is released by Run.
func Listen(cfg Config) (*PBX, error) {
	if cfg.Realm == "" {
		cfg.Realm = "sipward-demo"
	}
	if cfg.Echo == "" {
		cfg.Echo = "600"
	}
	setSipgo()
	auth, err := newAuthenticator(cfg.Realm, cfg.Accounts)
	if err != nil {
		return nil, err
	}
	p := &PBX{cfg: cfg, auth: auth, reg: newRegistrar(), calls: newCalls()}
	if err := p.bind(); err != nil {
		return nil, err
	}
	if err := p.agent(); err != nil {
		p.tcp.Close()
		p.udp.Close()
		return nil, err
	}
	return p, nil
}

// bind takes one port for both transports, trying others when any will do.
func (p *PBX) bind() error {
	var err error
	for range 20 {
		p.tcp, err = net.Listen("tcp", p.cfg.Addr.String())
		if err != nil {
			return fmt.Errorf("listen for the PBX: %w", err)
		}
		p.addr = p.tcp.Addr().(*net.TCPAddr).AddrPort()
		p.udp, err = net.ListenPacket("udp", p.addr.String())
		if err == nil {
			return nil
		}
		p.tcp.Close()
		if p.cfg.Addr.Port() != 0 {
			break
		}
	}
	return fmt.Errorf("listen for the PBX: %w", err)
}

func (p *PBX) agent() error {
	var err error
	p.ua, err = sipgo.NewUA(
		sipgo.WithUserAgent("sipward demo PBX"),
		sipgo.WithUserAgentTransportLayerOptions(sip.WithTransportLayerLogger(quiet())),
		sipgo.WithUserAgentTransactionLayerOptions(sip.WithTransactionLayerLogger(quiet()),
			sip.WithTransactionLayerUnhandledResponseHandler(func(*sip.Response) {})),
	)
	if err != nil {
		return fmt.Errorf("make the PBX's user agent: %w", err)
	}
	if p.server, err = sipgo.NewServer(p.ua, sipgo.WithServerLogger(quiet())); err != nil {
		return fmt.Errorf("make the PBX's server: %w", err)
	}
	p.client, err = sipgo.NewClient(p.ua, sipgo.WithClientLogger(quiet()),
		sipgo.WithClientHostname(p.addr.Addr().String()), sipgo.WithClientPort(int(p.addr.Port())))
	if err != nil {
		return fmt.Errorf("make the PBX's client: %w", err)
	}
	p.server.OnRegister(p.handle(p.register))
	p.server.OnInvite(p.handle(p.invite))
	p.server.OnAck(p.handle(p.ack))
	p.server.OnBye(p.handle(p.bye))
	p.server.OnCancel(p.handle(p.cancelUnknown))
	p.server.OnOptions(p.handle(p.options))
	p.server.OnMessage(p.handle(p.message))
	for _, m := range []sip.RequestMethod{sip.INFO, sip.UPDATE, sip.REFER, sip.NOTIFY, sip.PRACK} {
		p.server.OnRequest(m, p.handle(p.inDialog))
	}
	p.server.OnSubscribe(p.handle(p.subscribe))
	p.server.OnNoRoute(p.handle(func(req *sip.Request, tx sip.ServerTransaction) {
		respond(tx, req, sip.StatusMethodNotAllowed, "Method Not Allowed")
	}))
	return nil
}

// Addr is the bound address.
func (p *PBX) Addr() netip.AddrPort { return p.addr }

// Run serves until ctx ends, then hangs up everything and releases all ports.
func (p *PBX) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.mu.Lock()
	p.ctx = ctx
	p.mu.Unlock()
	failed := make(chan error, 2)
	go func() { failed <- p.server.ServeUDP(p.udp) }()
	go func() { failed <- p.server.ServeTCP(p.tcp) }()
	var err error
	running := 2
	select {
	case <-ctx.Done():
	case err = <-failed:
		running--
	}
	cancel()
	err = errors.Join(err, ignoreClosed(p.tcp.Close()), ignoreClosed(p.udp.Close()))
	for range running {
		err = errors.Join(err, ignoreClosed(<-failed))
	}
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err = errors.Join(err, ignoreClosed(p.ua.Close()))
	p.handlers.Wait()
	p.calls.endAll()
	if err != nil {
		return fmt.Errorf("run the PBX: %w", err)
	}
	return nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// handle makes sure that Run waits for every handler, and that none starts after it.
func (p *PBX) handle(f func(*sip.Request, sip.ServerTransaction)) sipgo.RequestHandler {
	return func(req *sip.Request, tx sip.ServerTransaction) {
		p.mu.Lock()
		if p.closed || p.ctx == nil {
			p.mu.Unlock()
			return
		}
		p.handlers.Add(1)
		p.mu.Unlock()
		defer p.handlers.Done()
		f(req, tx)
	}
}

// respond answers; an error means that the transaction has ended meanwhile.
func respond(tx sip.ServerTransaction, req *sip.Request, code int, reason string, headers ...sip.Header) {
	res := sip.NewResponseFromRequest(req, code, reason, nil)
	for _, h := range headers {
		res.AppendHeader(h)
	}
	_ = tx.Respond(res)
}
