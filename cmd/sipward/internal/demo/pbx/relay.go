package pbx

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
)

// callAccount sends a call to where the called account is registered.
func (p *PBX) callAccount(req *sip.Request, tx sip.ServerTransaction) {
	if _, exists := p.auth.passwords[req.Recipient.User]; !exists {
		respond(tx, req, sip.StatusNotFound, "Not Found")
		return
	}
	b, ok := p.reg.find(req.Recipient.User, time.Now())
	if !ok {
		respond(tx, req, sip.StatusTemporarilyUnavailable, "Not Registered")
		return
	}
	out := p.prepare(req)
	out.Recipient = *b.contact.Clone()
	out.SetTransport(b.transport)
	out.SetDestination(b.source)
	p.relay(req, tx, out)
}

func (p *PBX) options(req *sip.Request, tx sip.ServerTransaction) {
	if tagged(req) && p.calls.get(req.CallID().Value()) == nil {
		p.forward(req, tx)
		return
	}
	respond(tx, req, sip.StatusOK, "OK",
		sip.NewHeader("Allow", "REGISTER, INVITE, ACK, CANCEL, BYE, OPTIONS, MESSAGE, INFO, UPDATE, REFER, NOTIFY, PRACK"))
}

// message is an instant message between accounts.
func (p *PBX) message(req *sip.Request, tx sip.ServerTransaction) {
	if tagged(req) {
		p.inDialog(req, tx)
		return
	}
	if _, ok := p.auth.check(req, tx); ok {
		p.callAccount(req, tx)
	}
}

// subscribe: this PBX has no events outside of calls.
func (p *PBX) subscribe(req *sip.Request, tx sip.ServerTransaction) {
	if tagged(req) {
		p.inDialog(req, tx)
		return
	}
	respond(tx, req, 489, "Bad Event") // RFC 6665 §8.3.2
}

// prepare copies a request for forwarding (RFC 3261 §16.6), without our own route.
func (p *PBX) prepare(req *sip.Request) *sip.Request {
	out := req.Clone()
	if r := out.Route(); r != nil && p.ours(r.Address) {
		out.RemoveHeader("Route")
	}
	out.RemoveHeader("Authorization") // the credentials were for us
	return out
}

func (p *PBX) ours(uri sip.Uri) bool {
	return uri.Host == p.addr.Addr().String() && uri.Port == int(p.addr.Port())
}

// forward sends a request within a dialog along its route.
func (p *PBX) forward(req *sip.Request, tx sip.ServerTransaction) {
	out := p.prepare(req)
	if !p.aim(out) {
		respond(tx, req, sip.StatusCallTransactionDoesNotExists, "Call/Transaction Does Not Exist")
		return
	}
	p.relay(req, tx, out)
}

// forwardACK sends the ACK to a 200 along its route; it has no transaction.
func (p *PBX) forwardACK(req *sip.Request) {
	out := p.prepare(req)
	if !p.aim(out) {
		return
	}
	p.bindLocal(out)
	if sipgo.ClientRequestDecreaseMaxForward(p.client, out) != nil {
		return
	}
	_ = p.client.WriteRequest(out, sipgo.ClientRequestAddVia) // a lost ACK is asked for again by the 200's repetition
}

// aim sets transport and destination: the next route, else the flow over which the target has
// registered, else the target itself. It refuses what would come back to us.
func (p *PBX) aim(out *sip.Request) bool {
	next := out.Recipient
	if r := out.Route(); r != nil {
		next = r.Address
	} else if b, ok := p.reg.flow(next, time.Now()); ok {
		out.SetTransport(b.transport)
		out.SetDestination(b.source)
		return true
	}
	host := strings.Trim(next.Host, "[]")
	if _, err := netip.ParseAddr(host); err != nil || p.ours(next) {
		return false
	}
	port, transport := next.Port, "UDP"
	if t, ok := next.UriParams.Get("transport"); ok {
		transport = strings.ToUpper(t)
	}
	if port == 0 {
		port = sip.DefaultPort(transport)
	}
	out.SetTransport(transport)
	out.SetDestination(net.JoinHostPort(host, strconv.Itoa(port)))
	return true
}

// relay forwards a request and its answers. Ours is a transaction on both sides, so each side
// repeats what the network loses.
func (p *PBX) relay(req *sip.Request, tx sip.ServerTransaction, out *sip.Request) {
	if sipgo.ClientRequestDecreaseMaxForward(p.client, out) != nil {
		respond(tx, req, sip.StatusTooManyHops, "Too Many Hops")
		return
	}
	p.bindLocal(out)
	options := []sipgo.ClientRequestOption{sipgo.ClientRequestAddVia}
	if !tagged(req) && req.IsInvite() {
		options = append(options, p.recordRoute)
	}
	onward, err := p.client.TransactionRequest(p.ctx, out, options...)
	if err != nil {
		respond(tx, req, sip.StatusTemporarilyUnavailable, "Not Reachable")
		return
	}
	defer onward.Terminate()
	f := forwarding{req: req, out: out, tx: tx, onward: onward, cancelled: make(chan struct{}, 1)}
	tx.OnCancel(f.onCancel)
	p.answers(&f)
}

// bindLocal sends from our address, and over UDP from our one socket: that is where answers go.
func (p *PBX) bindLocal(out *sip.Request) {
	out.Laddr = sip.Addr{IP: p.addr.Addr().AsSlice()}
	if out.Transport() == "UDP" {
		out.Laddr.Port = int(p.addr.Port())
	}
}

// recordRoute keeps us in the dialog, on both transports if they differ (RFC 5658).
func (p *PBX) recordRoute(_ *sipgo.Client, out *sip.Request) error {
	out.PrependHeader(&sip.RecordRouteHeader{Address: sip.Uri{
		Scheme: "sip", Host: p.addr.Addr().String(), Port: int(p.addr.Port()),
		UriParams: sip.HeaderParams{{K: "lr"}},
	}})
	return nil
}

// forwarding is one request on its way through us.
type forwarding struct {
	req, out  *sip.Request
	tx        sip.ServerTransaction
	onward    sip.ClientTransaction
	cancelled chan struct{}
	final     bool
}

func (f *forwarding) onCancel(*sip.Request) {
	select {
	case f.cancelled <- struct{}{}:
	default:
	}
}

// answers passes back what comes, until the transaction ends. An INVITE's goes on after its final
// answer, for the repetitions.
func (p *PBX) answers(f *forwarding) {
	var cancelAnswers <-chan *sip.Response
	for {
		select {
		case res := <-f.onward.Responses():
			if f.back(res) {
				return
			}
		case <-f.cancelled:
			// sipgo has answered the CANCEL and the INVITE; the called side has to stop, too.
			if c := p.cancel(f.out); c != nil {
				defer c.Terminate()
				cancelAnswers = c.Responses()
			}
		case <-cancelAnswers:
		case <-f.onward.Done():
			if !f.final {
				respond(f.tx, f.req, sip.StatusRequestTimeout, "Request Timeout")
			}
			return
		case <-p.ctx.Done():
			return
		}
	}
}

// back passes one answer on, and says whether that was the end.
func (f *forwarding) back(res *sip.Response) bool {
	if res.StatusCode == sip.StatusTrying {
		return false // hop by hop
	}
	back := res.Clone()
	back.RemoveHeader("Via")
	back.SetDestination(f.req.Source())
	back.SetTransport(f.req.Transport())
	_ = f.tx.Respond(back) // an error: it was cancelled meanwhile, and answered
	f.final = f.final || !res.IsProvisional()
	return f.final && !f.req.IsInvite()
}

// cancel stops what was sent (RFC 3261 §9.1): the same Via, another method.
func (p *PBX) cancel(out *sip.Request) sip.ClientTransaction {
	c := sip.NewRequest(sip.CANCEL, out.Recipient)
	if via := out.Via(); via != nil {
		c.AppendHeader(via.Clone())
	}
	for _, name := range []string{"Route", "From", "To", "Call-ID", "CSeq"} {
		for _, h := range out.GetHeaders(name) {
			c.AppendHeader(sip.HeaderClone(h))
		}
	}
	if cseq := c.CSeq(); cseq != nil {
		cseq.MethodName = sip.CANCEL
	}
	hops := sip.MaxForwardsHeader(70)
	c.AppendHeader(&hops)
	c.SetBody(nil)
	c.SetTransport(out.Transport())
	c.SetDestination(out.Destination())
	c.Laddr = out.Laddr
	tx, err := p.client.TransactionRequest(p.ctx, c, func(*sipgo.Client, *sip.Request) error { return nil })
	if err != nil {
		return nil // the called side rings until its own timer ends it
	}
	return tx
}
