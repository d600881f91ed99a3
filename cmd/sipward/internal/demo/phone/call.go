package phone

import (
	"context"
	"fmt"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
)

// Call is a call that this phone made.
type Call struct {
	dialog *sipgo.DialogClientSession
	media  *media
}

// Call calls a number and returns when it is answered. A refusal is a *sipgo.ErrDialogResponse;
// when ctx ends before the answer, the call is cancelled.
func (p *Phone) Call(ctx context.Context, number string) (*Call, error) {
	m, err := newMedia(p.cfg.Local)
	if err != nil {
		return nil, err
	}
	// The session lives as long as the call, not as the attempt.
	d, err := p.dialing.Invite(context.WithoutCancel(ctx), p.uri(number), m.offer(),
		sip.NewHeader("Content-Type", "application/sdp"), sip.NewHeader("User-Agent", p.cfg.Agent))
	if err != nil {
		m.close()
		return nil, fmt.Errorf("call %s: %w", number, err)
	}
	if err := d.WaitAnswer(ctx, sipgo.AnswerOptions{Username: p.cfg.User, Password: p.cfg.Password}); err != nil {
		m.close()
		_ = d.Close()
		return nil, fmt.Errorf("call %s: %w", number, err)
	}
	c := &Call{dialog: d, media: m}
	if err := d.Ack(ctx); err != nil {
		m.close()
		return nil, fmt.Errorf("acknowledge the answer: %w", err)
	}
	return c, c.media.connect(d.InviteResponse.Body())
}

// Speak sends packets of sound, 20 ms each, and counts those that come back.
func (c *Call) Speak(ctx context.Context, packets int) (heard int, err error) {
	return c.media.speak(ctx, packets)
}

// HangUp ends the call.
func (c *Call) HangUp(ctx context.Context) error {
	defer c.media.close()
	if err := c.dialog.Bye(ctx); err != nil {
		return fmt.Errorf("hang up: %w", err)
	}
	return nil
}

// ring answers or refuses a call to this phone.
func (p *Phone) ring(req *sip.Request, tx sip.ServerTransaction) {
	switch p.cfg.Calls {
	case Refuse:
		_ = tx.Respond(sip.NewResponseFromRequest(req, sip.StatusBusyHere, "Busy Here", nil))
		return
	case Ring:
		tx.OnCancel(func(*sip.Request) { p.miss() })
		_ = tx.Respond(sip.NewResponseFromRequest(req, sip.StatusRinging, "Ringing", nil))
		<-tx.Done()
		return
	}
	m, err := newMedia(p.cfg.Local)
	if err != nil {
		_ = tx.Respond(sip.NewResponseFromRequest(req, sip.StatusServiceUnavailable, "No Media Port", nil))
		return
	}
	p.mu.Lock()
	p.answered[req.CallID().Value()] = m
	p.mu.Unlock()
	m.echo()
	res := sip.NewSDPResponseFromRequest(req, m.offer())
	res.AppendHeader(p.contact.Clone())
	ringing := sip.NewResponseFromRequest(req, sip.StatusRinging, "Ringing", nil)
	ringing.ReplaceHeader(sip.HeaderClone(res.To()))
	ringing.AppendHeader(p.contact.Clone())
	_ = tx.Respond(ringing)
	_ = tx.Respond(res)
}

func (p *Phone) miss() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.missed++
}

// Missed is how many calls were cancelled while this phone rang.
func (p *Phone) Missed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.missed
}

// hungUp ends a call that the other side ended.
func (p *Phone) hungUp(req *sip.Request, tx sip.ServerTransaction) {
	p.mu.Lock()
	m := p.answered[req.CallID().Value()]
	delete(p.answered, req.CallID().Value())
	p.mu.Unlock()
	if m == nil {
		_ = tx.Respond(sip.NewResponseFromRequest(req, sip.StatusCallTransactionDoesNotExists, "No Such Call", nil))
		return
	}
	m.close()
	_ = tx.Respond(sip.NewResponseFromRequest(req, sip.StatusOK, "OK", nil))
}
