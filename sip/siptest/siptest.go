// Package siptest builds SIP messages for tests and benchmarks, and loads the
// torture messages of RFC 4475.
package siptest

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Options describe a message. Each empty field has a default that makes the
// message a good one, and the same each time.
type Options struct {
	User, Domain string // default alice, example.com
	RequestURI   string // default sip:DOMAIN for REGISTER, sip:TO@DOMAIN for others
	To           string // user called, default bob; a REGISTER has User in its To
	Transport    string // in the Via, default UDP
	Via          string // sent-by, default 192.0.2.10:5060
	Branch       string // default z9hG4bK-METHOD-CSEQ-CALLID
	NoRPort      bool   // leave out ;rport
	Contact      string // URI, default sip:USER@VIA
	Instance     string // value of +sip.instance in the Contact, with its quotes
	NoContact    bool
	CallID       string // default 7e5a01@VIA
	CSeq         int    // default 1
	FromTag      string // default a73kszlfl
	ToTag        string // default none
	MaxForwards  int    // default 70; -1: no such header field
	Expires      int    // of a REGISTER, default 3600; -1: 0
	Auth         string // value of an Authorization header field
	UserAgent    string
	Headers      []string // more header fields, "Name: value"
	ContentType  string   // default application/sdp when there is a Body
	Body         string
	NoLength     bool // leave out Content-Length
	Pad          int  // an X-Pad header field of this many bytes
}

func (o Options) defaults(method string) Options {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&o.User, "alice")
	def(&o.Domain, "example.com")
	def(&o.Transport, "UDP")
	def(&o.Via, "192.0.2.10:5060")
	if method == "REGISTER" {
		o.To = o.User
		def(&o.RequestURI, "sip:"+o.Domain)
	}
	def(&o.To, "bob")
	def(&o.RequestURI, "sip:"+o.To+"@"+o.Domain)
	def(&o.Contact, "sip:"+o.User+"@"+o.Via)
	def(&o.CallID, "7e5a01@"+o.Via)
	def(&o.FromTag, "a73kszlfl")
	if o.CSeq == 0 {
		o.CSeq = 1
	}
	def(&o.Branch, fmt.Sprintf("z9hG4bK-%s-%d-%s", strings.ToLower(method), o.CSeq, cut(o.CallID)))
	def(&o.UserAgent, "siptest/1.0 (sipward)")
	if o.MaxForwards == 0 {
		o.MaxForwards = 70
	}
	if o.Expires == 0 {
		o.Expires = 3600
	}
	if o.Body != "" {
		def(&o.ContentType, "application/sdp")
	}
	return o
}

// cut keeps what comes before an '@', which a branch may not have.
func cut(s string) string {
	s, _, _ = strings.Cut(s, "@")
	return s
}

// Request builds a request of any method.
func Request(method string, o Options) []byte {
	o = o.defaults(method)
	var b bytes.Buffer
	rport := ";rport"
	if o.NoRPort {
		rport = ""
	}
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("%s %s SIP/2.0", method, o.RequestURI)
	line("Via: SIP/2.0/%s %s;branch=%s%s", o.Transport, o.Via, o.Branch, rport)
	if o.MaxForwards >= 0 {
		line("Max-Forwards: %d", o.MaxForwards)
	}
	line("From: \"%s\" <sip:%s@%s>;tag=%s", o.User, o.User, o.Domain, o.FromTag)
	to := fmt.Sprintf("<sip:%s@%s>", o.To, o.Domain)
	if o.ToTag != "" {
		to += ";tag=" + o.ToTag
	}
	line("To: %s", to)
	line("Call-ID: %s", o.CallID)
	line("CSeq: %d %s", o.CSeq, method)
	if !o.NoContact {
		contact := "<" + o.Contact + ">"
		if o.Instance != "" {
			contact += ";+sip.instance=" + o.Instance + ";reg-id=1"
		}
		line("Contact: %s", contact)
	}
	if method == "REGISTER" {
		line("Expires: %d", max(o.Expires, 0))
	}
	line("User-Agent: %s", o.UserAgent)
	if o.Auth != "" {
		line("Authorization: %s", o.Auth)
	}
	finish(&b, o)
	return b.Bytes()
}

// finish writes what ends every message.
func finish(b *bytes.Buffer, o Options) {
	for _, h := range o.Headers {
		b.WriteString(h + "\r\n")
	}
	if o.Pad > 0 {
		b.WriteString("X-Pad: " + strings.Repeat("x", o.Pad) + "\r\n")
	}
	if o.ContentType != "" {
		b.WriteString("Content-Type: " + o.ContentType + "\r\n")
	}
	if !o.NoLength {
		b.WriteString("Content-Length: " + strconv.Itoa(len(o.Body)) + "\r\n")
	}
	b.WriteString("\r\n" + o.Body)
}

// Register builds a REGISTER. With [Auth] as its Auth it has about 800 bytes,
// the size of what desk phones send.
func Register(o Options) []byte {
	if o.Instance == "" {
		o.Instance = `"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"`
	}
	o.Headers = append([]string{
		"Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, INFO, MESSAGE, SUBSCRIBE, UPDATE",
		"Supported: path, gruu, outbound",
	}, o.Headers...)
	return Request("REGISTER", o)
}

// Auth returns digest credentials of an account for the Auth option. The
// response is not computed: nobody checks it in these tests.
func Auth(user, realm, nonce, uri string) string {
	return fmt.Sprintf(`Digest username="%s", realm="%s", nonce="%s", uri="%s", `+
		`response="6629fae49393a05397450978507c4ef1", algorithm=MD5, cnonce="0a4f113b", qop=auth, nc=00000001`,
		user, realm, nonce, uri)
}

// Invite builds an INVITE, with an SDP offer unless the options have a body.
func Invite(o Options) []byte {
	if o.Body == "" {
		o.Body = SDP("192.0.2.10", 49172)
	}
	return Request("INVITE", o)
}

// SDP returns a session description with one audio stream.
func SDP(addr string, port int) string {
	family := "IP4"
	if strings.Contains(addr, ":") {
		family = "IP6"
	}
	return fmt.Sprintf("v=0\r\no=- 2890844526 2890844526 IN %[1]s %[2]s\r\ns=-\r\nc=IN %[1]s %[2]s\r\nt=0 0\r\n"+
		"m=audio %[3]d RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"+
		"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=sendrecv\r\n", family, addr, port)
}

// Response builds a response to a request made by this package: its Via, From,
// To, Call-ID and CSeq lines are copied, the To gets o.ToTag unless it has a tag.
// Of the options, ToTag (default "" for 100, else b314159), Contact, Headers,
// ContentType, Body, NoLength and Pad are used.
func Response(request []byte, status int, reason string, o Options) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "SIP/2.0 %d %s\r\n", status, reason)
	if o.ToTag == "" && status > 100 {
		o.ToTag = "b314159"
	}
	if o.Body != "" && o.ContentType == "" {
		o.ContentType = "application/sdp"
	}
	head, _, _ := bytes.Cut(request, []byte("\r\n\r\n"))
	for line := range strings.SplitSeq(string(head), "\r\n") {
		name, _, _ := strings.Cut(line, ":")
		switch name {
		case "To":
			if o.ToTag != "" && !strings.Contains(line, ";tag=") {
				line += ";tag=" + o.ToTag
			}
		case "Via", "From", "Call-ID", "CSeq", "Record-Route":
		default:
			continue
		}
		b.WriteString(line + "\r\n")
	}
	if o.Contact != "" {
		fmt.Fprintf(&b, "Contact: <%s>\r\n", o.Contact)
	}
	finish(&b, o)
	return b.Bytes()
}
