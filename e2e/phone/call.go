package phone

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
)

// Call is one side of an INVITE dialog.
type Call struct {
	phone  *Phone
	Invite *Received // as it arrived; nil for a call of our own
	dialog *Dialog
	key    string

	responses *mailbox[*Received] // to our INVITE, but challenges
	requests  *mailbox[*Received] // in the dialog, already answered
	acks      *mailbox[*Received]

	mu      sync.Mutex
	server  *server            // of the incoming INVITE
	invites map[string]*server // INVITEs that we have accepted, by CSeq number
	client  *client            // of our INVITE
	ended   chan struct{}
	how     string
	once    sync.Once
}

func callKey(id, localTag string) string { return id + " " + localTag }

func newCall(p *Phone) *Call {
	return &Call{phone: p, ended: make(chan struct{}), invites: map[string]*server{},
		responses: newMailbox[*Received](), requests: newMailbox[*Received](), acks: newMailbox[*Received]()}
}

func (p *Phone) add(c *Call, id, tag string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.key = callKey(id, tag)
	p.calls[c.key] = c
}

// SDP is a plain offer or answer of one G.711 stream. Nobody listens on its port.
func (p *Phone) SDP() []byte {
	a := p.Local().Addr()
	family := "IP4"
	if a.Is6() {
		family = "IP6"
	}
	return fmt.Appendf(nil, "v=0\r\no=- 1 1 IN %[1]s %[2]v\r\ns=-\r\nc=IN %[1]s %[2]v\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n", family, a)
}

// NewInvite makes an INVITE with an offer.
func (p *Phone) NewInvite(uri string, extra ...Header) *Request {
	req := p.NewRequest("INVITE", uri, append([]Header{
		{"Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, REFER, NOTIFY, MESSAGE, INFO"},
		{"Content-Type", "application/sdp"}}, extra...)...)
	req.Body = p.SDP()
	return req
}

// Call sends an INVITE and answers its challenges; the rest is up to Ringing, Answered and Cancel.
func (p *Phone) Call(ctx context.Context, uri string) (*Call, error) {
	return p.CallWith(ctx, p.NewInvite(uri))
}

// CallWith is Call with an INVITE of one's own making.
func (p *Phone) CallWith(ctx context.Context, req *Request) (*Call, error) {
	c := newCall(p)
	p.add(c, req.Get("Call-ID"), Param(req.Get("From"), "tag"))
	to, err := p.destination(req)
	if err != nil {
		return nil, err
	}
	if err := c.send(req, to); err != nil {
		return nil, err
	}
	p.readers.Add(1)
	go c.follow(ctx, req, to)
	return c, nil
}

func (c *Call) send(req *Request, to netip.AddrPort) error {
	c.mu.Lock()
	defer c.mu.Unlock() // whoever hears of it by the callee, and cancels, waits
	tx, err := c.phone.transact(req, to)
	if err != nil {
		return err
	}
	c.client = tx
	return nil
}

// follow hands on the responses to our INVITE, after at most one challenge.
func (c *Call) follow(ctx context.Context, req *Request, to netip.AddrPort) {
	defer c.phone.readers.Done()
	for challenged := false; ; {
		c.mu.Lock()
		tx := c.client
		c.mu.Unlock()
		r, err := tx.next(ctx)
		if err != nil {
			c.responses.close(err)
			return
		}
		if s := r.Status(); (s == 401 || s == 407) && !challenged && c.phone.cfg.Password != "" {
			challenged = true
			if req, err = c.phone.authorized(req, r); err == nil {
				err = c.send(req, to)
			}
			if err != nil {
				c.responses.close(err)
				return
			}
			continue
		}
		if r.Status() >= 200 && r.Status() < 300 {
			c.confirm(tx, req, r)
		}
		c.responses.put(r)
		if r.Status() >= 200 {
			return
		}
	}
}

// confirm makes the dialog and acknowledges its 2xx.
func (c *Call) confirm(tx *client, req *Request, r *Received) {
	d := c.phone.ClientDialog(req, r)
	c.mu.Lock()
	c.dialog = d
	c.mu.Unlock()
	c.acknowledge(tx, d)
}

// acknowledge sends the ACK of a 2xx, and lets it be sent again for each repeated 2xx (§13.2.2.4).
func (c *Call) acknowledge(tx *client, d *Dialog) {
	ack := d.Request("ACK")
	to, err := c.phone.destination(ack)
	if err != nil {
		c.phone.note("!", "", "cannot send ACK: "+err.Error())
		return
	}
	b := ack.Bytes(c.phone.via("z9hG4bK-" + c.phone.id + "-" + token(6)))
	tx.mu.Lock()
	tx.ack, tx.ackTo = b, to
	tx.mu.Unlock()
	_ = c.phone.write(b, to)
}

// Ringing waits for a provisional response of that status.
func (c *Call) Ringing(ctx context.Context, status int) (*Received, error) {
	return c.responses.take(ctx, fmt.Sprintf("%d to INVITE", status), func(r *Received) bool { return r.Status() == status || r.Status() >= 200 })
}

// Answered waits for the final response; a 2xx has been acknowledged by then.
func (c *Call) Answered(ctx context.Context) (*Received, error) {
	return c.responses.take(ctx, "a final answer to INVITE", func(r *Received) bool { return r.Status() >= 200 })
}

// Cancel cancels our INVITE as soon as it has been answered at all, and gives the response to the CANCEL (§9.1).
func (c *Call) Cancel(ctx context.Context) (*Received, error) {
	c.mu.Lock()
	tx := c.client
	c.mu.Unlock()
	select {
	case <-tx.heard:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for any answer to INVITE %s before a CANCEL: %w", tx.req.URI, ctx.Err())
	}
	cancel := &Request{Method: "CANCEL", URI: tx.req.URI}
	for _, name := range []string{"Route", "Max-Forwards", "From", "To", "Call-ID"} {
		if v := tx.req.Get(name); v != "" {
			cancel.Set(name, v)
		}
	}
	var n uint32
	_, _ = fmt.Sscanf(tx.req.Get("CSeq"), "%d", &n)
	cancel.Set("CSeq", fmt.Sprintf("%d CANCEL", n))
	ct, err := c.phone.transactAs(cancel, tx.to, tx.branch, tx.via)
	if err != nil {
		return nil, err
	}
	defer ct.end()
	return ct.next(ctx)
}

// newIncoming is the call of an INVITE that arrived.
func (p *Phone) newIncoming(t *server) *Call {
	c := newCall(p)
	c.Invite, c.server = t.req, t
	t.call = c
	t.respond(100, "Trying", nil, nil)
	c.dialog = p.Dialog(t.req)
	p.add(c, t.req.Value("Call-ID"), p.tag(t.req.Value("Call-ID")))
	return c
}

// Ring answers 180.
func (c *Call) Ring() {
	c.server.respond(180, "Ringing", []Header{{"Contact", "<" + c.phone.Contact() + ">"}}, nil)
}

// Reject answers with a failure.
func (c *Call) Reject(code int, reason string) { c.server.respond(code, reason, nil, nil) }

// Answer answers 200 and waits for the ACK.
func (c *Call) Answer(ctx context.Context) error {
	c.acceptOffer(c.server)
	_, err := c.acks.take(ctx, "the ACK", func(*Received) bool { return true })
	return err
}

func (c *Call) acceptOffer(t *server) {
	c.mu.Lock()
	c.invites[number(t.req)] = t
	c.mu.Unlock()
	t.respond(200, "OK", []Header{{"Contact", "<" + c.phone.Contact() + ">"},
		{"Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, REFER, NOTIFY, MESSAGE, INFO"},
		{"Content-Type", "application/sdp"}}, c.phone.SDP())
}

// number is the number in CSeq.
func number(r *Received) string {
	n, _, _ := strings.Cut(r.Value("CSeq"), " ")
	return n
}

// ack ends the repetition of the 2xx that it is for (§13.3.1.4), and of no other: one may come late.
func (c *Call) ack(r *Received) {
	c.mu.Lock()
	t := c.invites[number(r)]
	c.mu.Unlock()
	if t != nil {
		t.end()
	}
	c.acks.put(r)
}

// request answers a request inside the dialog.
func (c *Call) request(t *server) {
	switch t.req.Method() {
	case "BYE":
		t.respond(200, "OK", nil, nil)
		c.over("BYE")
	case "INVITE":
		c.retarget(t.req)
		c.acceptOffer(t)
	case "UPDATE":
		c.retarget(t.req)
		extra := []Header{{"Contact", "<" + c.phone.Contact() + ">"}}
		var body []byte
		if len(t.req.Body()) > 0 {
			extra, body = append(extra, Header{"Content-Type", "application/sdp"}), c.phone.SDP()
		}
		t.respond(200, "OK", extra, body)
	default:
		t.accept()
	}
	c.requests.put(t.req)
}

// retarget follows the peer's Contact in a target refresh (§12.2.2).
func (c *Call) retarget(r *Received) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if uri := AddressURI(r.Value("Contact")); uri != "" && c.dialog != nil {
		c.dialog.Target = uri
	}
}

func (c *Call) over(how string) {
	c.once.Do(func() {
		c.how = how
		close(c.ended)
	})
}

// WaitEnd waits until the peer has ended the call, and says with which request.
func (c *Call) WaitEnd(ctx context.Context) (string, error) {
	select {
	case <-c.ended:
		return c.how, nil
	case <-ctx.Done():
		return "", fmt.Errorf("wait for the peer to end the call: %w", ctx.Err())
	}
}

// WaitRequest waits for a request of that method in the call. It has been answered already.
func (c *Call) WaitRequest(ctx context.Context, method string) (*Received, error) {
	return c.requests.take(ctx, method+" in the call", func(r *Received) bool { return r.Method() == method })
}

// errNoDialog: the call was not answered.
var errNoDialog = errors.New("phone: the call has no dialog yet")

// Dialog gives the call's dialog, nil before there is one.
func (c *Call) Dialog() *Dialog {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dialog
}

// Request sends a request in the call, and waits for its final answer. The ACK of a re-INVITE is sent, too.
func (c *Call) Request(ctx context.Context, method string, body []byte, extra ...Header) (*Received, error) {
	d := c.Dialog()
	if d == nil {
		return nil, errNoDialog
	}
	if method == "INVITE" || method == "UPDATE" {
		extra = append([]Header{{"Contact", "<" + c.phone.Contact() + ">"}}, extra...)
	}
	if body != nil && (method == "INVITE" || method == "UPDATE") {
		extra = append(extra, Header{"Content-Type", "application/sdp"})
	}
	req := d.Request(method, extra...)
	req.Body = body
	if method != "INVITE" {
		r, err := c.phone.Do(ctx, req)
		c.followSeq(d)
		return r, err
	}
	return c.reinvite(ctx, d, req)
}

// followSeq keeps the dialog's CSeq ahead of a repeated request with credentials.
func (c *Call) followSeq(d *Dialog) {
	c.phone.mu.Lock()
	seq := c.phone.seq
	c.phone.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seq = max(d.seq, seq)
}

func (c *Call) reinvite(ctx context.Context, d *Dialog, req *Request) (*Received, error) {
	to, err := c.phone.destination(req)
	if err != nil {
		return nil, err
	}
	for challenged := false; ; challenged = true {
		tx, err := c.phone.transact(req, to)
		if err != nil {
			return nil, err
		}
		r, err := tx.next(ctx)
		for err == nil && r.Status() < 200 {
			r, err = tx.next(ctx)
		}
		switch {
		case err != nil:
			return nil, err
		case r.Status() < 300:
			d.mu.Lock()
			_, _ = fmt.Sscanf(req.Get("CSeq"), "%d", &d.seq)
			if uri := AddressURI(r.Value("Contact")); uri != "" {
				d.Target = uri
			}
			d.mu.Unlock()
			c.acknowledge(tx, d)
			return r, nil
		case (r.Status() == 401 || r.Status() == 407) && !challenged && c.phone.cfg.Password != "":
			if req, err = c.phone.authorized(req, r); err != nil {
				return nil, err
			}
		default:
			return r, nil
		}
	}
}

// Bye ends the call.
func (c *Call) Bye(ctx context.Context) (*Received, error) { return c.Request(ctx, "BYE", nil) }
