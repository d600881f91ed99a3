package phone

import (
	"context"
	"fmt"
)

// NewRequest makes a request outside any dialog, from the phone's account to uri.
func (p *Phone) NewRequest(method, uri string, extra ...Header) *Request {
	p.mu.Lock()
	p.seq++
	seq, id := p.seq, token(8)
	p.mu.Unlock()
	req := &Request{Method: method, URI: uri, Headers: []Header{
		{"Max-Forwards", "70"},
		{"From", fmt.Sprintf("\"Phone %s\" <%s>;tag=%s", p.cfg.User, p.AoR(), p.tag(id))},
		{"To", "<" + uri + ">"},
		{"Call-ID", id + "@" + p.Local().Addr().String()},
		{"CSeq", fmt.Sprintf("%d %s", seq, method)},
		{"Contact", "<" + p.Contact() + ">"},
		{"User-Agent", "sipward-e2e phone"},
	}}
	req.Headers = append(req.Headers, extra...)
	return req
}

// Registration makes a REGISTER as the phone would send it: one Call-ID for all of them, CSeq counting up (§10.2).
func (p *Phone) Registration(expires int, contact string) *Request {
	req := p.NewRequest("REGISTER", "sip:"+p.cfg.Domain)
	req.Set("To", "<"+p.AoR()+">")
	req.Set("From", "<"+p.AoR()+">;tag="+p.tag(p.regID))
	req.Set("Call-ID", p.regID)
	req.Set("Contact", contact)
	req.Set("Expires", fmt.Sprint(expires))
	return req
}

// Register registers the phone's contact for so many seconds; 0 takes it back.
func (p *Phone) Register(ctx context.Context, expires int) (*Received, error) {
	return p.Do(ctx, p.Registration(expires, "<"+p.Contact()+">"))
}
