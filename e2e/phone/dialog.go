package phone

import (
	"fmt"
	"slices"
	"sync"
)

// Dialog is one side's view of a dialog (RFC 3261 §12).
type Dialog struct {
	CallID        string
	Local, Remote string   // From and To of requests sent in it, with tags
	Target        string   // the peer's Contact URI
	Routes        []string // route set, nearest first

	mu  sync.Mutex
	seq uint32
}

// clientDialog is the dialog that a response to a request of ours makes (§12.1.2).
func clientDialog(req *Request, r *Received, seq uint32) *Dialog {
	routes := r.List("Record-Route")
	slices.Reverse(routes)
	return &Dialog{CallID: req.Get("Call-ID"), Local: req.Get("From"), Remote: r.Value("To"),
		Target: AddressURI(r.Value("Contact")), Routes: routes, seq: seq}
}

// Dialog is the dialog that a request makes that the phone has answered (§12.1.1).
func (p *Phone) Dialog(r *Received) *Dialog {
	local := r.Value("To")
	if Param(local, "tag") == "" {
		local += ";tag=" + p.tag(r.Value("Call-ID"))
	}
	return &Dialog{CallID: r.Value("Call-ID"), Local: local, Remote: r.Value("From"),
		Target: AddressURI(r.Value("Contact")), Routes: r.List("Record-Route"), seq: 100}
}

// ClientDialog is the dialog that a response to req makes, for a SUBSCRIBE say.
func (p *Phone) ClientDialog(req *Request, r *Received) *Dialog {
	var n uint32
	_, _ = fmt.Sscanf(r.Value("CSeq"), "%d", &n)
	return clientDialog(req, r, n)
}

// Request makes the next request in the dialog. (§12.2.1.1; all routers here are loose.)
func (d *Dialog) Request(method string, extra ...Header) *Request {
	d.mu.Lock()
	if method != "ACK" {
		d.seq++
	}
	seq := d.seq
	d.mu.Unlock()
	return d.at(seq, method, extra...)
}

func (d *Dialog) at(seq uint32, method string, extra ...Header) *Request {
	req := &Request{Method: method, URI: d.Target}
	for _, route := range d.Routes {
		req.Headers = append(req.Headers, Header{"Route", route})
	}
	req.Headers = append(req.Headers, Header{"Max-Forwards", "70"}, Header{"From", d.Local}, Header{"To", d.Remote},
		Header{"Call-ID", d.CallID}, Header{"CSeq", fmt.Sprintf("%d %s", seq, method)})
	req.Headers = append(req.Headers, extra...)
	return req
}
