package phone

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// server is a server transaction (RFC 3261 §17.2): it repeats its last response to a repeated request, and an
// INVITE's final response until the ACK.
type server struct {
	phone *Phone
	req   *Received
	call  *Call // of an INVITE

	mu    sync.Mutex
	once  sync.Once
	last  []byte
	final bool
	acked chan struct{}
}

func (t *server) end() { t.once.Do(func() { close(t.acked) }) }

// dispatchRequest finds the transaction, the call or the answer for a request.
func (p *Phone) dispatchRequest(r *Received) {
	method, branch := r.Req.Method.String(), Param(r.Value("Via"), "branch")
	key := branch + " " + method
	p.mu.Lock()
	invite := p.servers[branch+" INVITE"]
	known := p.servers[key]
	call := p.calls[callKey(r.Value("Call-ID"), Param(r.Value("To"), "tag"))]
	if known == nil && method != "ACK" {
		p.servers[key] = &server{phone: p, req: r, acked: make(chan struct{})}
	}
	t := p.servers[key]
	if known != nil {
		p.repeats++
	}
	p.mu.Unlock()

	switch {
	case method == "ACK":
		if invite != nil {
			invite.end() // of a final response other than 2xx
		}
		if call != nil {
			call.ack(r)
		}
	case known != nil:
		known.repeat()
	case method == "CANCEL":
		p.cancelled(t, invite)
	case call != nil:
		call.request(t)
	case Param(r.Value("To"), "tag") != "" && (method == "BYE" || method == "INVITE" || method == "UPDATE"):
		t.respond(481, "Call/Transaction Does Not Exist", nil, nil)
		p.inbox.put(r)
	case method == "INVITE" && p.merged(r):
		t.respond(482, "Loop Detected", nil, nil)
	case method == "INVITE":
		p.incoming.put(p.newIncoming(t))
	default:
		t.accept()
		p.inbox.put(r)
	}
}

// merged says whether an INVITE came here before by another way (§8.2.2.2), and counts it.
func (p *Phone) merged(r *Received) bool {
	id := r.Value("Call-ID")
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls[callKey(id, p.tag(id))] == nil {
		return false
	}
	p.merges++
	return true
}

// accept answers what needs no decision: 202 where the answer comes later, else 200.
func (t *server) accept() {
	code, reason := 200, "OK"
	extra := []Header{{"Contact", "<" + t.phone.Contact() + ">"}}
	switch t.req.Method() {
	case "SUBSCRIBE":
		code, reason = 202, "Accepted"
		extra = append(extra, Header{"Expires", "600"})
	case "REFER":
		code, reason = 202, "Accepted"
	}
	t.respond(code, reason, extra, nil)
}

// cancelled ends the INVITE that a CANCEL names (§9.2).
func (p *Phone) cancelled(t, invite *server) {
	if invite == nil || invite.call == nil {
		t.respond(481, "Call/Transaction Does Not Exist", nil, nil)
		return
	}
	t.respond(200, "OK", nil, nil)
	invite.mu.Lock()
	final := invite.final
	invite.mu.Unlock()
	if !final {
		invite.respond(487, "Request Terminated", nil, nil)
	}
	invite.call.over("CANCEL")
}

// tag is the phone's tag in the dialog of that Call-ID.
func (p *Phone) tag(callID string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(callID))
	return fmt.Sprintf("%s-%08x", p.id, h.Sum32())
}

// respond sends a response and remembers it. Via, From, Call-ID and CSeq are those of the request, byte for byte.
func (t *server) respond(code int, reason string, extra []Header, body []byte) {
	var b strings.Builder
	fmt.Fprintf(&b, "SIP/2.0 %d %s\r\n", code, reason)
	for _, v := range t.req.Values("Via") {
		fmt.Fprintf(&b, "Via: %s\r\n", v)
	}
	if code < 300 {
		for _, v := range t.req.Values("Record-Route") {
			fmt.Fprintf(&b, "Record-Route: %s\r\n", v)
		}
	}
	to := t.req.Value("To")
	if code > 100 && Param(to, "tag") == "" {
		t.req.tag = t.phone.tag(t.req.Value("Call-ID"))
		to += ";tag=" + t.req.tag
	}
	fmt.Fprintf(&b, "From: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %s\r\n", t.req.Value("From"), to, t.req.Value("Call-ID"), t.req.Value("CSeq"))
	for _, h := range extra {
		fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	t.mu.Lock()
	t.last, t.final = []byte(b.String()), code >= 200
	t.mu.Unlock()
	t.repeat()
	if t.req.Method() == "INVITE" && code >= 200 && (code < 300 || !t.phone.cfg.Transport.Reliable()) {
		t.phone.readers.Add(1)
		go t.untilACK()
	}
}

// untilACK is timer G, and for a 2xx §13.3.1.4.
func (t *server) untilACK() {
	defer t.phone.readers.Done()
	wait := t.phone.cfg.T1
	for end := time.Now().Add(64 * t.phone.cfg.T1); time.Now().Before(end); wait = min(2*wait, t2) {
		select {
		case <-t.acked:
			return
		case <-time.After(wait):
			t.repeat()
		}
	}
}

func (t *server) repeat() {
	t.mu.Lock()
	last := t.last
	t.mu.Unlock()
	if last != nil {
		_ = t.phone.write(last, t.back())
	}
}

// back is where a response goes (§18.2.2, RFC 3581): the source if rport asks for it, else the address in Via.
func (t *server) back() netip.AddrPort {
	via := t.req.Value("Via")
	if t.phone.cfg.Transport.Connected() || strings.Contains(via, ";rport") {
		return t.req.Source
	}
	_, sentBy, _ := strings.Cut(via, " ")
	sentBy, _, _ = strings.Cut(sentBy, ";")
	to, err := t.phone.hop("sip:" + strings.TrimSpace(sentBy))
	if err != nil {
		return t.req.Source
	}
	return to
}
