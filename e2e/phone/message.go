// Package phone is a SIP user agent for tests. It behaves as a desk phone does: one socket, retransmissions over UDP,
// digest credentials when it is asked for them, routing by the Record-Route it was given. Beside the parsed form it
// keeps the bytes of everything it received, so that a test can say what a peer changed and what it left alone.
//
// It listens where its Network opens sockets: in a network namespace, or on the machine itself with Host.
package phone

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// Header is one header line of a request that a phone sends.
type Header struct{ Name, Value string }

// Request is a request to be sent. The phone adds Via in front and Content-Length at the end; all else leaves as it
// stands here, in this order.
type Request struct {
	Method  string
	URI     string
	Headers []Header
	Body    []byte
}

// Set replaces the first header of that name, or adds one.
func (r *Request) Set(name, value string) {
	for i := range r.Headers {
		if strings.EqualFold(r.Headers[i].Name, name) {
			r.Headers[i].Value = value
			return
		}
	}
	r.Headers = append(r.Headers, Header{name, value})
}

// Get gives the value of the first header of that name, or "".
func (r *Request) Get(name string) string {
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

// Bytes is the request as it goes on the wire, with that Via.
func (r *Request) Bytes(via string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s SIP/2.0\r\nVia: %s\r\n", r.Method, r.URI, via)
	for _, h := range r.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(r.Body))
	b.Write(r.Body)
	return b.Bytes()
}

// clone copies r deeply enough to be sent a second time with other headers.
func (r *Request) clone() *Request {
	c := *r
	c.Headers = append([]Header(nil), r.Headers...)
	return &c
}

// Received is one message that came in: its bytes, and what sipgo made of them. Exactly one of Req and Res is set.
type Received struct {
	Raw    []byte
	Source netip.AddrPort
	Req    *sip.Request
	Res    *sip.Response

	tag string // the local To tag with which a request was answered
}

// read parses one whole message.
func read(raw []byte, from netip.AddrPort) (*Received, error) {
	m, err := sip.ParseMessage(raw)
	if err != nil {
		return nil, fmt.Errorf("parse a message of %d bytes from %v: %w", len(raw), from, err)
	}
	r := &Received{Raw: bytes.Clone(raw), Source: from}
	switch m := m.(type) {
	case *sip.Request:
		r.Req = m
	case *sip.Response:
		r.Res = m
	}
	return r, nil
}

// Status of a response, 0 for a request.
func (r *Received) Status() int {
	if r.Res == nil {
		return 0
	}
	return r.Res.StatusCode
}

// Method of a request, or the CSeq method of a response.
func (r *Received) Method() string {
	_, method, _ := strings.Cut(r.Value("CSeq"), " ")
	return strings.TrimSpace(method)
}

// StartLine is the first line, without its line end.
func (r *Received) StartLine() string {
	line, _, _ := bytes.Cut(r.Raw, []byte("\r\n"))
	return string(line)
}

// RequestURI is the Request-URI as it came, byte for byte.
func (r *Received) RequestURI() string {
	f := strings.Fields(r.StartLine())
	if r.Req == nil || len(f) != 3 {
		return ""
	}
	return f[1]
}

// Body gives the bytes after the empty line.
func (r *Received) Body() []byte {
	_, body, _ := bytes.Cut(r.Raw, []byte("\r\n\r\n"))
	return body
}

// compact names that peers in these tests use (RFC 3261 §7.3.3).
var compact = map[string]string{
	"v": "via", "f": "from", "t": "to", "m": "contact", "i": "call-id", "l": "content-length", "c": "content-type", "o": "event", "r": "refer-to",
}

// Values gives the text of every header line of that name, trimmed and unfolded, in order; lists are not split.
func (r *Received) Values(name string) []string {
	head, _, _ := bytes.Cut(r.Raw, []byte("\r\n\r\n"))
	text := strings.NewReplacer("\r\n ", " ", "\r\n\t", " ").Replace(string(head))
	var values []string
	for _, line := range strings.Split(text, "\r\n")[1:] {
		n, v, ok := strings.Cut(line, ":")
		n = strings.ToLower(strings.TrimSpace(n))
		if long, is := compact[n]; is {
			n = long
		}
		if ok && n == strings.ToLower(name) {
			values = append(values, strings.TrimSpace(v))
		}
	}
	return values
}

// Value is the first of Values, or "".
func (r *Received) Value(name string) string {
	if v := r.Values(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// List gives every comma-separated value of every header line of that name, in order.
func (r *Received) List(name string) []string {
	var all []string
	for _, v := range r.Values(name) {
		all = append(all, splitList(v)...)
	}
	return all
}

// splitList splits at commas outside quotes and angle brackets.
func splitList(v string) []string {
	var parts []string
	var quoted, angled bool
	start := 0
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == '<' && !quoted:
			angled = true
		case c == '>' && !quoted:
			angled = false
		case c == ',' && !quoted && !angled:
			parts = append(parts, strings.TrimSpace(v[start:i]))
			start = i + 1
		}
	}
	return append(parts, strings.TrimSpace(v[start:]))
}

// AddressURI cuts the URI out of a name-addr or addr-spec.
func AddressURI(v string) string {
	if _, after, ok := strings.Cut(v, "<"); ok {
		uri, _, _ := strings.Cut(after, ">")
		return uri
	}
	uri, _, _ := strings.Cut(v, ";")
	return strings.TrimSpace(uri)
}

// Param is a parameter of a header value (of the header, not of its URI), or "".
func Param(v, name string) string {
	if _, after, ok := strings.Cut(v, ">"); ok {
		v = after
	}
	for _, p := range strings.Split(v, ";")[1:] {
		n, val, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(n), name) {
			return strings.TrimSpace(val)
		}
	}
	return ""
}

// hop is where a request with that URI on top goes: its numeric host, and its port or that of the phone's transport.
func (p *Phone) hop(uri string) (netip.AddrPort, error) {
	var u sip.Uri
	if err := sip.ParseUri(uri, &u); err != nil {
		return netip.AddrPort{}, fmt.Errorf("read URI %q: %w", uri, err)
	}
	addr, err := netip.ParseAddr(strings.Trim(u.Host, "[]"))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("route to %q: a phone in a test wants numeric hosts: %w", uri, err)
	}
	port := uint16(u.Port)
	if port == 0 {
		port = p.cfg.Transport.Port()
	}
	return netip.AddrPortFrom(addr, port), nil
}

// URIHost writes an address as the host of a SIP URI.
func URIHost(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}
