package sip_test

import (
	"strings"
	"testing"

	"sipward/sip"
)

// base is a good request; the tables below change one thing in it.
const base = "INVITE sip:bob@example.com SIP/2.0\r\n" +
	"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK1;rport\r\n" +
	"Max-Forwards: 70\r\n" +
	"From: \"A\" <sip:alice@example.com>;tag=1\r\n" +
	"To: <sip:bob@example.com>\r\n" +
	"Call-ID: abc@192.0.2.10\r\n" +
	"CSeq: 1 INVITE\r\n" +
	"Contact: <sip:alice@192.0.2.10>\r\n" +
	"Content-Length: 4\r\n" +
	"\r\nbody"

// answer is a good response.
const answer = "SIP/2.0 200 OK\r\n" +
	"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK1;rport=5060\r\n" +
	"From: \"A\" <sip:alice@example.com>;tag=1\r\n" +
	"To: <sip:bob@example.com>;tag=2\r\n" +
	"Call-ID: abc@192.0.2.10\r\n" +
	"CSeq: 1 INVITE\r\n" +
	"Content-Length: 0\r\n\r\n"

// change replaces the line of base that begins with the same word as line; a
// line with a new first word is added before Content-Length.
func change(msg string, lines ...string) string {
	for _, line := range lines {
		word, _, _ := strings.Cut(line, ":")
		if at := strings.Index(msg, "\r\n"+word+":"); at >= 0 {
			end := at + 2 + strings.Index(msg[at+2:], "\r\n")
			msg = msg[:at+2] + line + msg[end:]
		} else {
			msg = strings.Replace(msg, "Content-Length:", line+"\r\nContent-Length:", 1)
		}
	}
	return msg
}

// drop removes the line that begins with word.
func drop(msg, word string) string {
	at := strings.Index(msg, "\r\n"+word+":")
	return msg[:at] + msg[at+2+strings.Index(msg[at+2:], "\r\n"):]
}

func start(line string) string {
	return line + base[strings.Index(base, "\r\n"):]
}

func status(line string) string {
	return line + answer[strings.Index(answer, "\r\n"):]
}

// TestRefused lists what is refused (design §4), with the fault, and whether the
// sender can be answered.
func TestRefused(t *testing.T) {
	const yes, no = true, false
	for _, c := range []struct {
		name       string
		msg        string
		fault      sip.Fault
		answerable bool
	}{
		{"two spaces before the URI", start("INVITE  sip:b@c SIP/2.0"), sip.FaultRequestURI, yes},
		{"two spaces after the URI", start("INVITE sip:b@c  SIP/2.0"), sip.FaultRequestURI, yes},
		{"tab in the start line", start("INVITE\tsip:b@c SIP/2.0"), sip.FaultStartLine, no},
		{"space at the end", start("INVITE sip:b@c SIP/2.0 "), sip.FaultStartLine, yes},
		{"space at the start", start(" INVITE sip:b@c SIP/2.0"), sip.FaultStartLine, no},
		{"no version", start("INVITE sip:b@c"), sip.FaultStartLine, yes},
		{"no URI", start("INVITE SIP/2.0"), sip.FaultStartLine, yes},
		{"method only", start("INVITE"), sip.FaultStartLine, no},
		{"method no token", start("INV(TE sip:b@c SIP/2.0"), sip.FaultStartLine, no},
		{"version 3.0", start("INVITE sip:b@c SIP/3.0"), sip.FaultVersion, yes},
		{"version 2.00", start("INVITE sip:b@c SIP/2.00"), sip.FaultVersion, yes},
		{"HTTP", start("GET / HTTP/1.1"), sip.FaultStartLine, yes},
		{"URI without scheme", start("INVITE b@c SIP/2.0"), sip.FaultRequestURI, yes},
		{"URI in brackets", start("INVITE <sip:b@c> SIP/2.0"), sip.FaultRequestURI, yes},
		{"quote in the URI", start("INVITE sip:b@c;x=\"y\" SIP/2.0"), sip.FaultRequestURI, yes},
		{"control in the URI", start("INVITE sip:b\x01@c SIP/2.0"), sip.FaultRequestURI, yes},
		{"DEL in the URI", start("INVITE sip:b\x7f@c SIP/2.0"), sip.FaultRequestURI, yes},
		{"tab in the URI", start("INVITE sip:b\t@c SIP/2.0"), sip.FaultRequestURI, yes},
		{"two @ in the URI", start("INVITE sip:b@c@d SIP/2.0"), sip.FaultRequestURI, yes},
		{"headers in the URI", start("INVITE sip:b@c?Route=x SIP/2.0"), sip.FaultRequestURI, yes},
		{"port 0", start("INVITE sip:b@c:0 SIP/2.0"), sip.FaultRequestURI, yes},
		{"port too large", start("INVITE sip:b@c:65536 SIP/2.0"), sip.FaultRequestURI, yes},
		{"IPv6 without brackets", start("INVITE sip:b@2001:db8::1 SIP/2.0"), sip.FaultRequestURI, yes},
		{"start line too long", start("INVITE sip:" + strings.Repeat("b", sip.MaxStartLine) + "@c SIP/2.0"), sip.FaultStartLineTooLong, no},
		{"start line without end", "INVITE sip:" + strings.Repeat("b", sip.MaxStartLine), sip.FaultStartLineTooLong, no},

		{"status 99", status("SIP/2.0 099 Low"), sip.FaultStatus, no},
		{"status 700", status("SIP/2.0 700 High"), sip.FaultStatus, no},
		{"status of four digits", status("SIP/2.0 2000 OK"), sip.FaultStatus, no},
		{"status of two digits", status("SIP/2.0 20 OK"), sip.FaultStatus, no},
		{"status +20", status("SIP/2.0 +20 OK"), sip.FaultStatus, no},
		{"two spaces before the status", status("SIP/2.0  200 OK"), sip.FaultStatus, no},
		{"response of version 3.0", status("SIP/3.0 200 OK"), sip.FaultVersion, no},
		{"no status", status("SIP/2.0"), sip.FaultVersion, no},

		{"bare LF", strings.Replace(base, "70\r\n", "70\n", 1), sip.FaultLineEnd, no},
		{"bare LF in the start line", strings.Replace(base, "SIP/2.0\r\n", "SIP/2.0\n", 1), sip.FaultLineEnd, no},
		{"bare LF as empty line", strings.Replace(base, "4\r\n\r\n", "4\r\n\n", 1), sip.FaultLineEnd, no},
		{"bare CR", change(base, "X: a\rb"), sip.FaultLineEnd, no},
		{"bare CR hides a header", change(base, "X: a\rContent-Length: 9"), sip.FaultLineEnd, no},
		{"CRCRLF", change(base, "X: a\r"), sip.FaultLineEnd, no},
		{"bare CR in the start line", start("INVITE sip:b@c SIP/2.0\r"), sip.FaultVersion, no},
		{"NUL", change(base, "X: a\x00b"), sip.FaultNUL, no},
		{"NUL in quotes", change(base, "To: \"a\x00b\" <sip:b@c>"), sip.FaultNUL, no},
		{"quoted NUL elsewhere", change(base, "Subject: \"a\\\x00b\""), sip.FaultNUL, no},
		{"NUL after a backslash, not in quotes", change(base, "To: a\\\x00b <sip:b@c>"), sip.FaultNUL, no},
		{"NUL in the start line", start("INVITE sip:b\x00@c SIP/2.0"), sip.FaultRequestURI, no},
		{"no empty line", base[:strings.Index(base, "\r\n\r\n")+2], sip.FaultHeadEnd, no},
		{"cut in a header", base[:100], sip.FaultHeadEnd, no},

		{"no colon", change(base, "X: a\r\nno colon here"), sip.FaultHeaderSyntax, yes},
		{"no name", change(base, "X: a\r\n: value"), sip.FaultHeaderSyntax, yes},
		{"space in a name", change(base, "X Y: a"), sip.FaultHeaderSyntax, yes},
		{"fold before the colon", change(base, "X\r\n : a"), sip.FaultHeaderSyntax, yes},
		{"vertical tab in a name", change(base, "Content-Length\v: 4\r\nX: y"), sip.FaultHeaderSyntax, yes},
		{"first header folded", strings.Replace(base, "\r\nVia", "\r\n Via", 1), sip.FaultHeaderSyntax, no},
		{"fold of white space", change(base, "X: a\r\n \r\nY: b"), sip.FaultFold, no},
		{"fold of white space at the end", change(base, "X: a\r\n \t "), sip.FaultFold, no},
		{"header too long", change(base, "X: "+strings.Repeat("x", sip.MaxHeaderLine)), sip.FaultHeaderTooLong, no},
		{"folded header too long", change(base, "X: x"+strings.Repeat("\r\n x", sip.MaxHeaderLine/4)), sip.FaultHeaderTooLong, no},
		{"129 headers", change(base, "X: y"+strings.Repeat("\r\nX: y", sip.MaxHeaders-8)), sip.FaultTooManyHeaders, no},

		{"two From", change(base, "From: <sip:a@b>;tag=1\r\nf: <sip:a@b>;tag=1"), sip.FaultRepeatedHeader, yes},
		{"two To", change(base, "To: <sip:a@b>\r\nTo: <sip:c@d>"), sip.FaultRepeatedHeader, yes},
		{"two Call-ID", change(base, "Call-ID: a\r\nI: a"), sip.FaultRepeatedHeader, yes},
		{"two CSeq", change(base, "CSeq: 1 INVITE\r\nCSeq: 1 INVITE"), sip.FaultRepeatedHeader, yes},
		{"two Max-Forwards", change(base, "Max-Forwards: 1\r\nMAX-FORWARDS: 1"), sip.FaultRepeatedHeader, yes},
		{"two Content-Length", change(base, "Content-Length: 4\r\nl: 4"), sip.FaultRepeatedHeader, yes},
		{"two Content-Type", change(base, "c: a/b\r\nContent-Type: a/b"), sip.FaultRepeatedHeader, yes},
		{"two Expires", change(base, "Expires: 60\r\nExpires: 60"), sip.FaultRepeatedHeader, yes},
		{"two From in a response", change(answer, "From: <sip:a@b>\r\nFrom: <sip:a@b>"), sip.FaultRepeatedHeader, no},

		{"no Via", drop(base, "Via"), sip.FaultMissingHeader, no},
		{"no From", drop(base, "From"), sip.FaultMissingHeader, no},
		{"no To", drop(base, "To"), sip.FaultMissingHeader, no},
		{"no Call-ID", drop(base, "Call-ID"), sip.FaultMissingHeader, no},
		{"no CSeq", drop(base, "CSeq"), sip.FaultMissingHeader, no},
		{"no CSeq in a response", drop(answer, "CSeq"), sip.FaultMissingHeader, no},

		{"Via empty", change(base, "Via:"), sip.FaultVia, no},
		{"Via of HTTP", change(base, "Via: HTTP/2.0/UDP h"), sip.FaultVia, no},
		{"Via of SIP/1.0", change(base, "Via: SIP/1.0/UDP h"), sip.FaultVersion, yes},
		{"Via without host", change(base, "Via: SIP/2.0/UDP ;branch=z9hG4bK1"), sip.FaultVia, no},
		{"Via without space", change(base, "Via: SIP/2.0/UDP;branch=z9hG4bK1"), sip.FaultVia, no},
		{"Via of bare IPv6", change(base, "Via: SIP/2.0/UDP 2001:db8::1"), sip.FaultVia, no},
		{"Via with port 0", change(base, "Via: SIP/2.0/UDP h:0"), sip.FaultVia, no},
		{"Via with port 65536", change(base, "Via: SIP/2.0/UDP h:65536"), sip.FaultVia, no},
		{"Via without port", change(base, "Via: SIP/2.0/UDP h:"), sip.FaultVia, no},
		{"Via with garbage", change(base, "Via: SIP/2.0/UDP h x"), sip.FaultVia, no},
		{"two branches", change(base, "Via: SIP/2.0/UDP h;branch=a;BRANCH=b"), sip.FaultRepeatedParam, no},
		{"two received", change(base, "Via: SIP/2.0/UDP h;received=1.1.1.1;received=2.2.2.2"), sip.FaultRepeatedParam, no},
		{"two rports", change(base, "Via: SIP/2.0/UDP h;rport;rport=1"), sip.FaultRepeatedParam, no},
		{"two maddr", change(base, "Via: SIP/2.0/UDP h;maddr=1.1.1.1;maddr=2.2.2.2"), sip.FaultRepeatedParam, no},
		{"empty branch", change(base, "Via: SIP/2.0/UDP h;branch=;rport"), sip.FaultVia, no},
		{"empty Via value", change(base, "Via: SIP/2.0/UDP h,,SIP/2.0/UDP i"), sip.FaultVia, no},
		{"comma after the Via", change(base, "Via: SIP/2.0/UDP h;branch=a,"), sip.FaultVia, no},
		{"second Via with an empty value", change(base, "Via: SIP/2.0/UDP h\r\nVia: ,"), sip.FaultVia, yes},

		{"From empty", change(base, "From:"), sip.FaultFrom, no},
		{"From star", change(base, "From: *"), sip.FaultFrom, no},
		{"From with two tags", change(base, "From: <sip:a@b>;tag=1;TAG=2"), sip.FaultFrom, no},
		{"From with an empty tag", change(base, "From: <sip:a@b>;tag="), sip.FaultFrom, no},
		{"From with a tag without value", change(base, "From: <sip:a@b>;tag"), sip.FaultFrom, no},
		{"From with a quoted tag", change(base, "From: <sip:a@b>;tag=\"1\""), sip.FaultFrom, no},
		{"From with two addresses", change(base, "From: <sip:a@b>;tag=1, <sip:c@d>;tag=2"), sip.FaultFrom, no},
		{"From with two addresses, no space", change(base, "From: <sip:a@b>;tag=1,<sip:c@d>"), sip.FaultFrom, no},
		{"From with a URI before the brackets", change(base, "From: sip:evil@b <sip:a@b>;tag=1"), sip.FaultFrom, no},
		{"From with text after the brackets", change(base, "From: <sip:a@b> x;tag=1"), sip.FaultFrom, no},
		{"From with an open bracket", change(base, "From: <sip:a@b;tag=1"), sip.FaultFrom, no},
		{"From with nested brackets", change(base, "From: <sip:<sip:a@b>>;tag=1"), sip.FaultFrom, no},
		{"To with an open quote", change(base, "To: \"Bob <sip:b@c>"), sip.FaultTo, no},
		{"To with two @", change(base, "To: <sip:a@b@c>"), sip.FaultTo, no},
		{"To with an @ in the headers", change(base, "To: <sip:a@b?x=@c>"), sip.FaultTo, no},
		{"To with an @ after the semicolon", change(base, "To: sip:a;b@c"), sip.FaultTo, no},
		{"To with a fold in its URI", change(base, "To: <sip:a@\r\n b>"), sip.FaultTo, no},
		{"To with empty parameters", change(base, "To: <sip:a@b>;;x"), sip.FaultTo, no},

		{"Call-ID empty", change(base, "Call-ID:"), sip.FaultCallID, no},
		{"Call-ID with a space", change(base, "Call-ID: a b"), sip.FaultCallID, no},
		{"Call-ID with a fold", change(base, "Call-ID: a\r\n b"), sip.FaultCallID, no},
		{"Call-ID with a control", change(base, "Call-ID: a\x01b"), sip.FaultCallID, no},

		{"CSeq empty", change(base, "CSeq:"), sip.FaultCSeq, no},
		{"CSeq without method", change(base, "CSeq: 1"), sip.FaultCSeq, no},
		{"CSeq without number", change(base, "CSeq: INVITE"), sip.FaultCSeq, no},
		{"CSeq without space", change(base, "CSeq: 1INVITE"), sip.FaultCSeq, no},
		{"CSeq 2^31", change(base, "CSeq: 2147483648 INVITE"), sip.FaultCSeq, no},
		{"CSeq 2^32+1", change(base, "CSeq: 4294967297 INVITE"), sip.FaultCSeq, no},
		{"CSeq 2^64+1", change(base, "CSeq: 18446744073709551617 INVITE"), sip.FaultCSeq, no},
		{"CSeq negative", change(base, "CSeq: -1 INVITE"), sip.FaultCSeq, no},
		{"CSeq list", change(base, "CSeq: 1 INVITE, 2 INVITE"), sip.FaultCSeq, no},
		{"CSeq of another method", change(base, "CSeq: 1 BYE"), sip.FaultCSeqMethod, yes},
		{"CSeq of another case", change(base, "CSeq: 1 Invite"), sip.FaultCSeqMethod, yes},

		{"Max-Forwards empty", change(base, "Max-Forwards:"), sip.FaultMaxForwards, yes},
		{"Max-Forwards 256", change(base, "Max-Forwards: 256"), sip.FaultMaxForwards, yes},
		{"Max-Forwards negative", change(base, "Max-Forwards: -1"), sip.FaultMaxForwards, yes},
		{"Max-Forwards 2^32", change(base, "Max-Forwards: 4294967296"), sip.FaultMaxForwards, yes},
		{"Max-Forwards list", change(base, "Max-Forwards: 70, 70"), sip.FaultMaxForwards, yes},
		{"Expires 2^32", change(base, "Expires: 4294967296"), sip.FaultExpires, yes},

		{"Content-Length empty", change(base, "Content-Length:"), sip.FaultContentLength, yes},
		{"Content-Length negative", change(base, "Content-Length: -4"), sip.FaultContentLength, yes},
		{"Content-Length +4", change(base, "Content-Length: +4"), sip.FaultContentLength, yes},
		{"Content-Length 0x4", change(base, "Content-Length: 0x4"), sip.FaultContentLength, yes},
		{"Content-Length 4 4", change(base, "Content-Length: 4 4"), sip.FaultContentLength, yes},
		{"Content-Length 4, 4", change(base, "Content-Length: 4, 4"), sip.FaultContentLength, yes},
		{"Content-Length 2^32+4", change(base, "Content-Length: 4294967300"), sip.FaultContentLength, yes},
		{"Content-Length 2^64+4", change(base, "Content-Length: 18446744073709551620"), sip.FaultContentLength, yes},
		{"Content-Length too large", change(base, "Content-Length: 5"), sip.FaultBodyLength, yes},

		{"nothing", "", sip.FaultKeepAlive, no},
		{"CRLFCRLF", "\r\n\r\n", sip.FaultKeepAlive, no},
		{"zeros", "\x00\x00\x00\x00", sip.FaultKeepAlive, no},
		{"jaK", "jaK", sip.FaultKeepAlive, no},
		{"STUN", "\x00\x01\x00\x00\x21\x12\xa4\x42transactionI", sip.FaultKeepAlive, no},
		{"no STUN, the length is wrong", "\x00\x01\x00\x01\x21\x12\xa4\x42transactionI", sip.FaultHeadEnd, no},
		{"garbage", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 garbage \r\n\r\n", sip.FaultStartLine, no},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m sip.Message
			if fault := m.Parse([]byte(c.msg), false); fault != c.fault || m.Answerable() != c.answerable {
				t.Errorf("got %v, answerable %v; want %v, %v\n%q", fault, m.Answerable(), c.fault, c.answerable, c.msg)
			}
			if c.fault != sip.FaultBodyLength { // a stream waits for more
				if fault := m.Parse([]byte(c.msg), true); fault != c.fault {
					t.Errorf("as a stream message: %v", fault)
				}
			}
		})
	}
}

// A stream message must have a Content-Length that fits exactly.
func TestStreamLength(t *testing.T) {
	var m sip.Message
	for msg, want := range map[string]sip.Fault{
		base:                         sip.OK,
		base + "x":                   sip.FaultBodyLength,
		base[:len(base)-1]:           sip.FaultBodyLength,
		drop(base, "Content-Length"): sip.FaultMissingLength,
	} {
		if fault := m.Parse([]byte(msg), true); fault != want {
			t.Errorf("got %v, want %v: %q", fault, want, msg)
		}
	}
}

// An ACK is never answered, a refused one neither.
func TestAckIsNotAnswerable(t *testing.T) {
	var m sip.Message
	ack := strings.ReplaceAll(base, "INVITE", "ACK")
	if fault := m.Parse([]byte(ack), false); fault != sip.OK || m.Answerable() {
		t.Errorf("%v, answerable %v", fault, m.Answerable())
	}
}

// A reused Message shows nothing of the message before.
func TestMessageReuse(t *testing.T) {
	var used sip.Message
	used.Parse([]byte(base), false)
	for _, msg := range []string{answer, "", "BYE sip:b SIP/2.0\r\nX: y\r\n\r\n", base} {
		var fresh sip.Message
		fa, fb := used.Parse([]byte(msg), false), fresh.Parse([]byte(msg), false)
		if fa != fb || used.Via != fresh.Via || used.From != fresh.From || used.To != fresh.To || used.URI != fresh.URI ||
			used.CSeq != fresh.CSeq || used.CallID != fresh.CallID || used.Status != fresh.Status || used.IsRequest != fresh.IsRequest ||
			used.MaxForwards != fresh.MaxForwards || used.ContentLength != fresh.ContentLength || used.ViaCount != fresh.ViaCount ||
			len(used.Headers) != len(fresh.Headers) || used.Body != fresh.Body || used.Method != fresh.Method ||
			used.Has(sip.HeaderContact) != fresh.Has(sip.HeaderContact) {
			t.Errorf("a used Message differs for %q", msg)
		}
	}
}
