package sip_test

import (
	"strings"
	"testing"

	"sipward/sip"
)

// TestDeviations lists what real phones and PBXes send although RFC 3261 does
// not allow it, and what passes nevertheless. Each line is one exception; there
// is no general loosening behind it.
func TestDeviations(t *testing.T) {
	for name, msg := range map[string]string{
		// RFC 3261 §8.1.1.6 makes Max-Forwards mandatory; RFC 2543 did not know it.
		"Max-Forwards missing": drop(base, "Max-Forwards"),
		// Only stream transports may have CRLFs before the start line (§7.5).
		"CRLF before the start line on UDP":      "\r\n" + base,
		"many CRLFs before the start line":       strings.Repeat("\r\n", 20) + base,
		"Content-Length missing on UDP":          drop(base, "Content-Length"),
		"status line without space after status": status("SIP/2.0 200"),
		// RFC 2543 peers: no branch, no tags.
		"Via without branch": change(base, "Via: SIP/2.0/UDP 192.0.2.10"),
		"From without tag":   change(base, "From: <sip:a@b>"),

		"display name in UTF-8 without quotes":   change(base, "From: Jürgen Groß <sip:a@b>;tag=1"),
		"display name in Latin-1 without quotes": change(base, "From: J\xfcrgen <sip:a@b>;tag=1"),
		"comma in a display name":                change(base, "From: Bell, Alexander <sip:a@b>;tag=1"), // RFC 4475 baddn
		"brackets and @ in a display name":       change(base, "From: Bob (home) [2] b@c <sip:a@b>;tag=1"),
		"empty display name":                     change(base, "From: \"\" <sip:a@b>;tag=1"),
		"no space after a quoted display name":   change(base, "From: \"x\"<sip:a@b>;tag=1"),

		"'#' in the user part":      start("INVITE sip:*21*5551#@example.com SIP/2.0"), // dialled service codes
		"UTF-8 in the user part":    start("INVITE sip:jürgen@example.com SIP/2.0"),
		"underscore in a host name": change(base, "Via: SIP/2.0/UDP my_phone:5060;branch=z9hG4bK1", "To: <sip:b@my_pbx>"),
		"host name ends with a dot": start("INVITE sip:b@example.com. SIP/2.0"),
		"empty user part":           change(base, "From: <sip:@192.0.2.10>;tag=1"),
		"quotes in a URI parameter": change(base, "From: <sip:a@b;+sip.instance=\"<urn:uuid:1>\">;tag=1"),

		"semicolon at the end of a Via":             change(base, "Via: SIP/2.0/UDP h;branch=z9hG4bK1;rport;"),
		"semicolon at the end of a From":            change(base, "From: <sip:a@b>;tag=1;"),
		"semicolon at the end of a URI":             change(base, "From: <sip:a@b;user=phone;>;tag=1"),
		"URI parameter with an empty value":         change(base, "From: <sip:a@b;transport=;lr>;tag=1"),
		"Contact without brackets, with parameters": change(base, "Contact: sip:a@b:5060;expires=60;q=0.5"),

		"tag with '=', '/' and ':'":        change(base, "From: <sip:a@b>;tag=YWJj/Zm9v+Yg==:1"),
		"Call-ID with ';', '=' and ','":    change(base, "Call-ID: a;b=c,d@192.0.2.10"),
		"branch with '=' and '@'":          change(base, "Via: SIP/2.0/UDP h;branch=z9hG4bK-a=b@c"),
		"no magic cookie in the branch":    change(base, "Via: SIP/2.0/UDP h;branch=1"),
		"rport first":                      change(base, "Via: SIP/2.0/UDP h;rport;branch=z9hG4bK1"),
		"rport with an empty value":        change(base, "Via: SIP/2.0/UDP h;rport=;branch=z9hG4bK1"),
		"received with IPv6 and brackets":  change(base, "Via: SIP/2.0/UDP h;received=[2001:db8::1];branch=z9hG4bK1"), // RFC 5118 §4.5
		"User-Agent with odd characters":   change(base, "User-Agent: Ph\xf6ne \"1.0 (beta <x>, ;;"),
		"Expires that is no number":        change(base, "Expires: Thu, 01 Dec 1994 16:00:00 GMT"),
		"Max-Forwards 300 in a response":   change(answer, "Max-Forwards: 300"),
		"Expires twice in a response":      change(answer, "Expires: 60\r\nExpires: 60"),
		"'@' in the headers of a Refer-To": change(base, "Refer-To: <sip:b@c?Replaces=1@2>"),
	} {
		t.Run(name, func(t *testing.T) {
			checkSpans(t, parse(t, msg))
		})
	}
}

// TestOddities lists what RFC 3261 allows though few expect it, beyond what the
// torture messages hold.
func TestOddities(t *testing.T) {
	for name, msg := range map[string]string{
		"lower-case version":                        start("INVITE sip:bob@example.com sip/2.0"), // §7.1
		"lower-case status line":                    status("sip/2.0 200 OK"),
		"lower-case Via":                            change(base, "Via: sip/2.0/udp h;branch=z9hG4bK1"),
		"Via with white space":                      change(base, "Via: SIP / 2.0 / UDP h : 5060 ; branch = z9hG4bK1 ; rport"),
		"Via with a space after slash":              change(base, "Via: SIP/2.0/ UDP h;branch=z9hG4bK1"),
		"Via with tabs":                             change(base, "Via:\tSIP/2.0/UDP\th\t;branch=z9hG4bK1"),
		"Via with a quoted parameter":               change(base, "Via: SIP/2.0/UDP h;x=\"a;branch=b,c\";branch=z9hG4bK1"),
		"quoted display that looks like an address": change(base, "From: \"<sip:x@y>;tag=0\" <sip:a@b>;tag=1"),
		"quoted backslash before the quote":         change(base, "From: \"\\\\\" <sip:a@b>;tag=1"),
		"addr-spec":                                 change(base, "From: sip:a@b;tag=1", "To: sip:b@c"),
		"addr-spec with space before parameters":    change(base, "From: sip:a@b ; tag = 1"),
		"tel":                                       change(base, "To: tel:+1-201-555-0123;phone-context=x"),
		"unknown scheme":                            change(base, "To: <im:a@b>"),
		"urn":                                       start("INVITE urn:service:sos SIP/2.0"),
		"unknown method":                            strings.ReplaceAll(base, "INVITE", "FOO.BAR%1"),
		"CSeq 0":                                    change(base, "CSeq: 0 INVITE"),
		"CSeq 2^31-1":                               change(base, "CSeq: 2147483647 INVITE"),
		"CSeq with many zeros":                      change(base, "CSeq: 000000000000000001 INVITE"),
		"CSeq with a fold":                          change(base, "CSeq: 1\r\n\tINVITE"),
		"Max-Forwards 255":                          change(base, "Max-Forwards: 255"),
		"Expires 2^32-1":                            change(base, "Expires: 4294967295"),
		"Content-Length shorter":                    change(base, "Content-Length: 2"),
		"Content-Length with zeros":                 change(base, "Content-Length: 0004"),
		"Content-Length folded":                     change(base, "Content-Length:\r\n 4"),
		"header without value":                      change(base, "Subject:"),
		"unknown list with empties":                 change(base, "X: ;;,,;;,;"),
		"128 headers":                               change(base, "X: y"+strings.Repeat("\r\nX: y", sip.MaxHeaders-9)),
		"a fold with a colon":                       change(base, "X: a\r\n Content-Length: 9"),
		"start line at the cap":                     start("INVITE sip:" + strings.Repeat("b", sip.MaxStartLine-len("INVITE sip:@c SIP/2.0")) + "@c SIP/2.0"),
		"header at the cap":                         change(base, "X: "+strings.Repeat("x", sip.MaxHeaderLine-5)),
		"Contact star":                              change(strings.ReplaceAll(base, "INVITE", "REGISTER"), "Contact: *", "Expires: 0"),
		"two Contacts in a line":                    change(base, "m: <sip:a@b>,\r\n <sip:c@d>;q=0.5"),
		"two Via lines and one list":                change(base, "Via: SIP/2.0/UDP a, SIP/2.0/TCP b;branch=1 ,SIP/2.0/UDP c\r\nv: SIP/2.0/UDP d"),
		"IPv6 everywhere":                           strings.NewReplacer("192.0.2.10", "[2001:db8::10]", "example.com", "[2001:db8::1]").Replace(base),
		"NUL in the body":                           change(base, "Content-Length: 3")[:strings.LastIndex(change(base, "Content-Length: 3"), "body")] + "\x00\n\r",
		"response to another version":               change(answer, "CSeq: 1 FOO"),
	} {
		t.Run(name, func(t *testing.T) {
			checkSpans(t, parse(t, msg))
		})
	}
}

func TestLeadingCRLFIsNotInBuf(t *testing.T) {
	if m := parse(t, "\r\n\r\n"+base); string(m.Buf) != base {
		t.Errorf("Buf is %q", m.Buf)
	}
}

func TestViaCount(t *testing.T) {
	m := parse(t, change(base, "Via: SIP/2.0/UDP a, SIP/2.0/TCP b;branch=1 ,SIP/2.0/UDP c\r\nv: SIP/2.0/UDP d"))
	if m.ViaCount != 4 || !m.Via.First || m.Via.Last || string(m.Text(m.Via.Value)) != "SIP/2.0/UDP a" {
		t.Errorf("%d vias, first %+v", m.ViaCount, m.Via)
	}
	var got []string
	for it := m.Values(sip.HeaderVia); it.Next(); {
		v, fault := sip.ParseVia(m.Buf, it.Value)
		if fault != sip.OK {
			t.Fatalf("ParseVia: %v", fault)
		}
		got = append(got, string(m.Text(v.Host)))
	}
	if strings.Join(got, "") != "abcd" {
		t.Errorf("hosts %q", got)
	}
}
