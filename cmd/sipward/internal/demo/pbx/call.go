package pbx

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

// maxCalls bounds the calls to the echo number, and with them the media ports in use.
const maxCalls = 32

// call is one call to the echo number.
type call struct {
	answer *sip.Response
	media  *echo
	acked  chan struct{} // closed by the ACK
	once   sync.Once
}

func (c *call) confirm() { c.once.Do(func() { close(c.acked) }) }

// calls holds the open ones by Call-ID.
type calls struct {
	mu   sync.Mutex
	open map[string]*call
}

func newCalls() *calls { return &calls{open: make(map[string]*call)} }

var errBusy = errors.New("too many calls")

func (c *calls) add(id string, new *call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.open) >= maxCalls {
		return errBusy
	}
	c.open[id] = new
	return nil
}

func (c *calls) get(id string) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open[id]
}

// end hangs up; it reports whether there was such a call.
func (c *calls) end(id string) bool {
	c.mu.Lock()
	old := c.open[id]
	delete(c.open, id)
	c.mu.Unlock()
	if old == nil {
		return false
	}
	old.confirm()
	old.media.stop()
	return true
}

func (c *calls) endAll() {
	c.mu.Lock()
	var ids []string
	for id := range c.open {
		ids = append(ids, id)
	}
	c.mu.Unlock()
	for _, id := range ids {
		c.end(id)
	}
}

// invite serves new calls and changes of open ones.
func (p *PBX) invite(req *sip.Request, tx sip.ServerTransaction) {
	if tagged(req) {
		p.reinvite(req, tx)
		return
	}
	user, ok := p.auth.check(req, tx)
	if !ok {
		return
	}
	if from := req.From(); from == nil || from.Address.User != user {
		respond(tx, req, sip.StatusForbidden, "Not Your Account")
		return
	}
	if req.Recipient.User == p.cfg.Echo {
		p.answerEcho(req, tx)
		return
	}
	p.callAccount(req, tx)
}

// answerEcho rings once and answers.
func (p *PBX) answerEcho(req *sip.Request, tx sip.ServerTransaction) {
	media, err := newEcho(p.addr.Addr())
	if err != nil {
		respond(tx, req, sip.StatusServiceUnavailable, "No Media Port")
		return
	}
	sdp, err := answerSDP(req.Body(), media.addr())
	if err != nil {
		media.stop()
		respond(tx, req, sip.StatusNotAcceptableHere, "Not Acceptable Here")
		return
	}
	ringing := sip.NewResponseFromRequest(req, sip.StatusRinging, "Ringing", nil)
	res := sip.NewSDPResponseFromRequest(req, sdp)
	res.AppendHeader(&sip.ContactHeader{Address: sip.Uri{
		Scheme: "sip", User: p.cfg.Echo, Host: p.addr.Addr().String(), Port: int(p.addr.Port()), UriParams: transportParam(req),
	}})
	ringing.ReplaceHeader(sip.HeaderClone(res.To())) // one dialog: one tag
	id := req.CallID().Value()
	c := &call{answer: res, media: media, acked: make(chan struct{})}
	if err := p.calls.add(id, c); err != nil {
		media.stop()
		respond(tx, req, sip.StatusBusyHere, "Busy Here")
		return
	}
	_ = tx.Respond(ringing)
	if err := p.answer(tx, c); err != nil {
		p.calls.end(id)
	}
}

// answer sends the 200 until it is acknowledged (RFC 3261 §13.3.1.4).
func (p *PBX) answer(tx sip.ServerTransaction, c *call) error {
	deadline := time.NewTimer(64 * sip.T1)
	defer deadline.Stop()
	for wait := sip.T1; ; wait = min(2*wait, sip.T2) {
		if err := tx.Respond(c.answer); err != nil {
			return fmt.Errorf("answer call: %w", err)
		}
		again := time.NewTimer(wait)
		select {
		case <-c.acked:
			again.Stop()
			return nil
		case <-p.ctx.Done():
			again.Stop()
			return context.Cause(p.ctx)
		case <-deadline.C:
			again.Stop()
			return errors.New("answer call: no ACK")
		case <-again.C:
		}
	}
}

// reinvite answers a refresh or a hold of an echo call as before, and forwards any other.
func (p *PBX) reinvite(req *sip.Request, tx sip.ServerTransaction) {
	c := p.calls.get(req.CallID().Value())
	if c == nil {
		p.forward(req, tx)
		return
	}
	sdp, err := answerSDP(req.Body(), c.media.addr())
	if err != nil {
		respond(tx, req, sip.StatusNotAcceptableHere, "Not Acceptable Here")
		return
	}
	res := sip.NewSDPResponseFromRequest(req, sdp)
	if h := c.answer.Contact(); h != nil {
		res.AppendHeader(h.Clone())
	}
	_ = tx.Respond(res)
}

func (p *PBX) ack(req *sip.Request, tx sip.ServerTransaction) {
	if c := p.calls.get(req.CallID().Value()); c != nil {
		c.confirm()
		return
	}
	p.forwardACK(req)
}

func (p *PBX) bye(req *sip.Request, tx sip.ServerTransaction) {
	if p.calls.end(req.CallID().Value()) {
		respond(tx, req, sip.StatusOK, "OK")
		return
	}
	p.inDialog(req, tx)
}

// inDialog serves what belongs to a dialog: of an echo call here, of all others at their peer.
func (p *PBX) inDialog(req *sip.Request, tx sip.ServerTransaction) {
	switch {
	case p.calls.get(req.CallID().Value()) != nil:
		respond(tx, req, sip.StatusOK, "OK")
	case tagged(req):
		p.forward(req, tx)
	default:
		respond(tx, req, sip.StatusCallTransactionDoesNotExists, "Call/Transaction Does Not Exist")
	}
}

// cancelUnknown is called for a CANCEL that matches no transaction.
func (p *PBX) cancelUnknown(req *sip.Request, tx sip.ServerTransaction) {
	respond(tx, req, sip.StatusCallTransactionDoesNotExists, "Call/Transaction Does Not Exist")
}

// tagged: the request is within a dialog.
func tagged(req *sip.Request) bool {
	to := req.To()
	return to != nil && to.Params.Has("tag")
}

// transportParam keeps a stream's dialog on streams.
func transportParam(req *sip.Request) sip.HeaderParams {
	if req.Transport() == "UDP" {
		return nil
	}
	return sip.HeaderParams{{K: "transport", V: sip.NetworkToLower(req.Transport())}}
}
