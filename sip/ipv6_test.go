package sip_test

import (
	"strings"
	"testing"

	"sipward/sip"
	"sipward/sip/siptest"
)

// The shapes of RFC 5118, with messages of our own.
func TestIPv6Shapes(t *testing.T) {
	register := func(uri string) string {
		return string(siptest.Register(siptest.Options{RequestURI: uri, Via: "[2001:db8::9:1]", Contact: "sip:alice@[2001:db8::9:1]"}))
	}
	text := func(get func(m *sip.Message) sip.Span) func(m *sip.Message) string {
		return func(m *sip.Message) string { return string(m.Text(get(m))) }
	}
	host := text(func(m *sip.Message) sip.Span { return m.URI.Host })
	hostPort := text(func(m *sip.Message) sip.Span { return m.URI.HostPort })
	received := text(func(m *sip.Message) sip.Span { return m.Via.Received.Value })
	sentBy := text(func(m *sip.Message) sip.Span { return m.Via.SentBy })
	via := func(value string) string { return change(base, "Via: "+value) }
	sdp := func(body string) string {
		return string(siptest.Invite(siptest.Options{Via: "[2001:db8::9:1]", Body: body}))
	}
	body := text(func(m *sip.Message) sip.Span { return m.Body })
	two := siptest.SDP("2001:db8::20", 4000) + "m=video 6000 RTP/AVP 31\r\nc=IN IP4 192.0.2.20\r\n"

	for _, c := range []struct {
		name  string
		msg   string
		fault sip.Fault
		got   func(m *sip.Message) string
		want  string
	}{
		{"4.1 IPv6 reference", register("sip:[2001:db8::10]"), sip.OK, host, "[2001:db8::10]"},
		{"4.2 no brackets", register("sip:2001:db8::10"), sip.FaultRequestURI, nil, ""},
		{"4.2 no brackets, with a user", register("sip:alice@2001:db8::10"), sip.FaultRequestURI, nil, ""},
		// The sender meant a port; what he wrote is an address that ends with 5070.
		{"4.3 ambiguous port", register("sip:[2001:db8::10:5070]"), sip.OK, hostPort, "[2001:db8::10:5070]"},
		{"4.4 port outside the brackets", register("sip:[2001:db8::10]:5070"), sip.OK, hostPort, "[2001:db8::10]:5070"},
		// RFC 3261 has no brackets in received; implementations write them.
		{"4.5 received without brackets", via("SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255;branch=z9hG4bK1"), sip.OK, received, "2001:db8::9:255"},
		{"4.5 received with brackets", via("SIP/2.0/UDP [2001:db8::9:1]:6050;received=[2001:db8::9:255];branch=z9hG4bK1"), sip.OK, received, "[2001:db8::9:255]"},
		{"4.5 sent-by with a port", via("SIP/2.0/UDP [2001:db8::9:1]:6050;branch=z9hG4bK1"), sip.OK, sentBy, "[2001:db8::9:1]:6050"},
		{"4.5 sent-by without brackets", via("SIP/2.0/UDP 2001:db8::9:1;branch=z9hG4bK1"), sip.FaultVia, nil, ""},
		{"4.6 IPv6 in the SDP", sdp(siptest.SDP("2001:db8::20", 4000)), sip.OK, body, siptest.SDP("2001:db8::20", 4000)},
		{"4.7 both families in headers", change(base,
			"Via: SIP/2.0/UDP [2001:db8::9:1]:6050;branch=z9hG4bKas3-111\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKjhja8781hjuaij65144\r\n"+
				"Via: SIP/2.0/TCP [2001:db8::9:255];branch=z9hG4bK451jj;received=192.0.2.200"), sip.OK, sentBy, "[2001:db8::9:1]:6050"},
		{"4.8 both families in the SDP", sdp(two), sip.OK, body, two},
		{"4.9 IPv4-mapped", via("SIP/2.0/UDP [::ffff:192.0.2.10]:19823;branch=z9hG4bKbh19"), sip.OK, sentBy, "[::ffff:192.0.2.10]:19823"},
		{"4.9 IPv4-mapped in the Request-URI", register("sip:[::ffff:192.0.2.10]"), sip.OK, host, "[::ffff:192.0.2.10]"},
		// Three colons: what the ABNF of RFC 3261 makes of an IPv4 tail. It passes
		// as a host; whoever wants an address out of it will find none.
		{"4.10 the ABNF bug", register("sip:[2001:db8:::192.0.2.1]"), sip.OK, host, "[2001:db8:::192.0.2.1]"},
		{"4.10 the same without the bug", register("sip:[2001:db8::192.0.2.1]"), sip.OK, host, "[2001:db8::192.0.2.1]"},

		{"zone", register("sip:[fe80::1%25eth0]"), sip.FaultRequestURI, nil, ""},
		{"longest", register("sip:[2001:0db8:0000:0000:0000:ffff:192.000.002.001]"), sip.OK, host, "[2001:0db8:0000:0000:0000:ffff:192.000.002.001]"},
		{"too long", register("sip:[" + strings.Repeat("1:", 30) + "1]"), sip.FaultRequestURI, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m sip.Message
			if fault := m.Parse([]byte(c.msg), false); fault != c.fault {
				t.Fatalf("got %v, want %v:\n%s", fault, c.fault, c.msg)
			}
			if c.fault != sip.OK {
				return
			}
			checkSpans(t, &m)
			if got := c.got(&m); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
