package phone

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Timers of RFC 3261 §17 (table 4).
const (
	DefaultT1 = 500 * time.Millisecond
	t2        = 4 * time.Second
)

// Config says who a phone is and where it stands.
type Config struct {
	Net      Network        // where it opens its socket; nil: Host
	User     string         // of its account
	Password string         // empty: it never answers a challenge
	Domain   string         // host part of its address of record
	Proxy    netip.AddrPort // everything outside a dialog goes there
	Local    netip.AddrPort // its own address; port 0: any
	Listen   bool           // with TCP: it waits at Local to be called, as a carrier does, and has no connection to the proxy
	Contact  string         // its contact URI; empty: made from its user and socket
	T1       time.Duration  // 0: DefaultT1

	Transport Transport
	TLS       *tls.Config // whom it trusts over TLS, WSS and DTLS, and its own certificate
	Origin    string      // of the web page, over WS and WSS; empty: it is no browser, and sends none
}

// Phone is one user agent on one socket.
type Phone struct {
	cfg Config
	id  string // tells this phone's tags and branches from those of others

	mu       sync.Mutex
	sock     socket
	lost     chan struct{} // closed when the present socket has ended
	clients  map[string]*client
	servers  map[string]*server
	calls    map[string]*Call // by Call-ID and local tag
	host     string           // in Via, and in its contact
	contact  string
	seq      uint32
	regID    string
	trace    []string
	merges   int
	repeats  int
	readers  sync.WaitGroup
	incoming *mailbox[*Call]
	inbox    *mailbox[*Received]
}

// New opens the phone's socket and starts to listen.
func New(cfg Config) (*Phone, error) {
	if cfg.Net == nil {
		cfg.Net = Host{}
	}
	if cfg.T1 == 0 {
		cfg.T1 = DefaultT1
	}
	p := &Phone{
		cfg: cfg, id: token(4),
		clients: map[string]*client{}, servers: map[string]*server{}, calls: map[string]*Call{},
		regID:    "reg-" + token(8),
		incoming: newMailbox[*Call](), inbox: newMailbox[*Received](),
	}
	if err := p.open(); err != nil {
		return nil, err
	}
	return p, nil
}

func token(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// open makes a socket, a contact for it if none was given, and a reader.
func (p *Phone) open() error {
	var s socket
	var err error
	if p.cfg.Listen && p.cfg.Transport == TCP {
		if s, err = listenTCP(p.cfg.Net, p.cfg.Local); err != nil {
			return fmt.Errorf("open phone %s: %w", p.cfg.User, err)
		}
	} else if s, err = connect(&p.cfg); err != nil {
		return err
	}
	lost := make(chan struct{})
	p.mu.Lock()
	p.sock, p.lost, p.host, p.contact = s, lost, s.local().String(), p.cfg.Contact
	if p.cfg.Transport.browser() {
		p.host = p.id + ".invalid" // RFC 7118 §5.2
	}
	if p.contact == "" {
		p.contact = "sip:" + p.cfg.User + "@" + p.host + p.cfg.Transport.Param()
	}
	p.mu.Unlock()
	p.readers.Add(1)
	go p.readLoop(s, lost)
	return nil
}

func (p *Phone) readLoop(s socket, lost chan struct{}) {
	defer p.readers.Done()
	defer close(lost)
	for {
		raw, from, err := s.receive()
		if err != nil {
			p.note("!", "", fmt.Sprintf("socket ended: %v", err))
			s.close()
			return
		}
		p.note("<", from.String(), string(raw))
		m, err := read(raw, from)
		if err != nil {
			p.note("!", from.String(), err.Error())
			continue
		}
		if m.Res != nil {
			p.dispatchResponse(m)
		} else {
			p.dispatchRequest(m)
		}
	}
}

// Close ends the phone without a word to anyone, as pulling its cable does (over TCP the peer sees the connection end).
func (p *Phone) Close() {
	p.mu.Lock()
	s := p.sock
	for _, c := range p.clients {
		c.end()
	}
	for _, t := range p.servers {
		t.end()
	}
	p.mu.Unlock()
	s.close()
	p.readers.Wait()
}

// Reconnect closes the phone's socket and opens a new one; what it knows of its calls stays.
func (p *Phone) Reconnect() error {
	p.mu.Lock()
	s := p.sock
	p.mu.Unlock()
	s.close()
	p.readers.Wait()
	return p.open()
}

// Lost is closed when the present socket has ended, for TCP by the peer as well.
func (p *Phone) Lost() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// Local is the phone's address.
func (p *Phone) Local() netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sock.local()
}

// Contact is the URI that the phone puts into Contact.
func (p *Phone) Contact() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.contact
}

// AoR is the phone's address of record.
func (p *Phone) AoR() string { return "sip:" + p.cfg.User + "@" + p.cfg.Domain }

// Incoming waits for the next call.
func (p *Phone) Incoming(ctx context.Context) (*Call, error) {
	return p.incoming.take(ctx, "a call to "+p.cfg.User, func(*Call) bool { return true })
}

// Waiting is how many calls have come that nobody has taken, and Merged how many INVITEs came twice, by different ways.
func (p *Phone) Waiting() (calls, merged int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.incoming.len(), p.merges
}

// Repeats is how many requests came again by the same way, other than ACK.
func (p *Phone) Repeats() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.repeats
}

// WaitRequest waits for a request of that method that belongs to no call. It has been answered already.
func (p *Phone) WaitRequest(ctx context.Context, method string) (*Received, error) {
	return p.inbox.take(ctx, method+" to "+p.cfg.User, func(r *Received) bool { return r.Method() == method })
}

// Send writes raw bytes to the proxy, whatever they are.
func (p *Phone) Send(raw []byte) error { return p.write(raw, p.cfg.Proxy) }

func (p *Phone) write(b []byte, to netip.AddrPort) error {
	p.mu.Lock()
	s := p.sock
	p.mu.Unlock()
	p.note(">", to.String(), string(b))
	if err := s.send(b, to); err != nil {
		p.note("!", to.String(), err.Error())
		return err
	}
	return nil
}

// note adds to the trace, which keeps the last messages.
func (p *Phone) note(mark, peer, text string) {
	const keep, longest = 60, 1500
	if len(text) > longest {
		text = fmt.Sprintf("%s… (%d bytes)", text[:longest], len(text))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trace = append(p.trace, fmt.Sprintf("%s %s %s\n%s", mark, time.Now().Format("15:04:05.000"), peer, strings.TrimSpace(text)))
	if len(p.trace) > keep {
		p.trace = p.trace[len(p.trace)-keep:]
	}
}

// Trace is what the phone sent and received last, for people.
func (p *Phone) Trace() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("──── phone %s on %v\n%s", p.cfg.User, p.sock.local(), strings.Join(p.trace, "\n\n"))
}

// ErrTimeout is a transaction without an answer (RFC 3261 timers B and F).
var ErrTimeout = errors.New("phone: no answer within 64*T1")
