package phone

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/icholy/digest"
)

// client is a client transaction (RFC 3261 §17.1).
type client struct {
	phone     *Phone
	req       *Request
	branch    string
	via       string
	to        netip.AddrPort
	wire      []byte
	responses *mailbox[*Received]
	heard     chan struct{} // closed when there is any response
	over      chan struct{} // closed when no more retransmissions are due

	mu    sync.Mutex
	once  sync.Once
	final bool
	early bool           // a provisional response came
	ack   []byte         // sent again for each repeated final response to an INVITE
	ackTo netip.AddrPort // where that goes
}

// transact sends req and retransmits it as its transport needs.
func (p *Phone) transact(req *Request, to netip.AddrPort) (*client, error) {
	branch := "z9hG4bK-" + p.id + "-" + token(6)
	return p.transactAs(req, to, branch, p.via(branch))
}

// via is a Via of the phone with that branch.
func (p *Phone) via(branch string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("SIP/2.0/%s %s;rport;branch=%s", p.cfg.Transport, p.host, branch)
}

// transactAs is transact with a given branch: a CANCEL has that of what it cancels.
func (p *Phone) transactAs(req *Request, to netip.AddrPort, branch, via string) (*client, error) {
	c := &client{phone: p, req: req, branch: branch, via: via, to: to, wire: req.Bytes(via),
		responses: newMailbox[*Received](), heard: make(chan struct{}), over: make(chan struct{})}
	p.mu.Lock()
	p.clients[branch+" "+req.Method] = c
	p.mu.Unlock()
	// Over UDP an error is the ICMP refusal of an earlier datagram, which retransmission repairs.
	if err := p.write(c.wire, to); err != nil && p.cfg.Transport.Connected() {
		return nil, fmt.Errorf("send %s: %w", req.Method, err)
	}
	p.readers.Add(1)
	go c.retransmit()
	return c, nil
}

// retransmit runs timers A and B, or E and F.
func (c *client) retransmit() {
	defer c.phone.readers.Done()
	t1 := c.phone.cfg.T1
	wait := t1
	deadline := time.NewTimer(64 * t1)
	defer deadline.Stop()
	for {
		var again <-chan time.Time
		if !c.phone.cfg.Transport.Reliable() {
			again = time.After(wait)
		}
		select {
		case <-c.over:
			return
		case <-deadline.C:
			c.mu.Lock()
			waiting := c.early && c.req.Method == "INVITE"
			c.mu.Unlock()
			if !waiting {
				c.responses.close(ErrTimeout)
			}
			return
		case <-again:
		}
		c.mu.Lock()
		early := c.early
		c.mu.Unlock()
		switch {
		case early && c.req.Method == "INVITE":
			wait = time.Hour // answered; the deadline still runs, see above
			continue
		case early:
			wait = t2
		case c.req.Method == "INVITE":
			wait *= 2
		default:
			wait = min(2*wait, t2)
		}
		_ = c.phone.write(c.wire, c.to)
	}
}

func (c *client) end() { c.once.Do(func() { close(c.over) }) }

// dispatchResponse hands a response to its transaction; a response of no transaction is dropped (§18.1.2).
func (p *Phone) dispatchResponse(r *Received) {
	branch := Param(r.Value("Via"), "branch")
	p.mu.Lock()
	c := p.clients[branch+" "+r.Method()]
	p.mu.Unlock()
	if c == nil {
		p.note("!", "", "response of no transaction: "+r.StartLine())
		return
	}
	c.receive(r)
}

func (c *client) receive(r *Received) {
	c.mu.Lock()
	if !c.early && !c.final {
		close(c.heard)
	}
	repeated := c.final
	switch status := r.Status(); {
	case status < 200:
		c.early = true
	default:
		c.final = true
		c.end()
		if c.req.Method == "INVITE" && status >= 300 && c.ack == nil {
			c.ack, c.ackTo = c.hopACK(r), c.to
		}
	}
	ack, to := c.ack, c.ackTo
	c.mu.Unlock()
	if ack != nil && r.Status() >= 200 {
		_ = c.phone.write(ack, to)
	}
	if !repeated {
		c.responses.put(r)
	}
}

// hopACK makes the ACK of a final response other than 2xx (§17.1.1.3): same branch, To of the response.
func (c *client) hopACK(r *Received) []byte {
	ack := &Request{Method: "ACK", URI: c.req.URI}
	for _, h := range c.req.Headers {
		switch strings.ToLower(h.Name) {
		case "from", "call-id", "max-forwards", "route":
			ack.Headers = append(ack.Headers, h)
		}
	}
	number, _, _ := strings.Cut(c.req.Get("CSeq"), " ")
	ack.Set("To", r.Value("To"))
	ack.Set("CSeq", number+" ACK")
	return ack.Bytes(c.via)
}

// next waits for the next response.
func (c *client) next(ctx context.Context) (*Received, error) {
	return c.responses.take(ctx, "an answer to "+c.req.Method+" "+c.req.URI, func(*Received) bool { return true })
}

// Do sends a request that is no INVITE and waits for its final response. A challenge is answered once, if the phone
// has a password. Routes lead the way if there are any, else the proxy.
func (p *Phone) Do(ctx context.Context, req *Request) (*Received, error) {
	to, err := p.destination(req)
	if err != nil {
		return nil, err
	}
	r, err := p.final(ctx, req, to)
	if err != nil || p.cfg.Password == "" || (r.Status() != 401 && r.Status() != 407) {
		return r, err
	}
	again, err := p.authorized(req, r)
	if err != nil {
		return nil, err
	}
	return p.final(ctx, again, to)
}

// Once is Do without an answer to a challenge.
func (p *Phone) Once(ctx context.Context, req *Request) (*Received, error) {
	to, err := p.destination(req)
	if err != nil {
		return nil, err
	}
	return p.final(ctx, req, to)
}

func (p *Phone) final(ctx context.Context, req *Request, to netip.AddrPort) (*Received, error) {
	c, err := p.transact(req, to)
	if err != nil {
		return nil, err
	}
	defer c.end()
	for {
		r, err := c.next(ctx)
		if err != nil || r.Status() >= 200 {
			return r, err
		}
	}
}

// destination is where a request goes: its first Route, for a request inside a dialog its URI, else the proxy (§8.1.2,
// §12.2.1.1).
func (p *Phone) destination(req *Request) (netip.AddrPort, error) {
	if route := req.Get("Route"); route != "" {
		return p.hop(AddressURI(splitList(route)[0]))
	}
	if Param(req.Get("To"), "tag") != "" {
		return p.hop(req.URI)
	}
	return p.cfg.Proxy, nil
}

// authorized is req with credentials for the challenge and the next CSeq (§22).
func (p *Phone) authorized(req *Request, challenge *Received) (*Request, error) {
	from, to := "WWW-Authenticate", "Authorization"
	if challenge.Status() == 407 {
		from, to = "Proxy-Authenticate", "Proxy-Authorization"
	}
	ch, err := digest.ParseChallenge(challenge.Value(from))
	if err != nil {
		return nil, fmt.Errorf("read the challenge %q: %w", challenge.Value(from), err)
	}
	cred, err := digest.Digest(ch, digest.Options{Method: req.Method, URI: req.URI, Username: p.cfg.User, Password: p.cfg.Password, Count: 1})
	if err != nil {
		return nil, fmt.Errorf("answer the challenge: %w", err)
	}
	again := req.clone()
	again.Set(to, cred.String())
	var n uint32
	var method string
	if _, err := fmt.Sscanf(req.Get("CSeq"), "%d %s", &n, &method); err != nil {
		return nil, fmt.Errorf("read CSeq %q: %w", req.Get("CSeq"), err)
	}
	again.Set("CSeq", fmt.Sprintf("%d %s", n+1, method))
	p.mu.Lock()
	p.seq = max(p.seq, n+1)
	p.mu.Unlock()
	return again, nil
}
