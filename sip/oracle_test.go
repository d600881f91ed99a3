package sip_test

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	gosip "github.com/emiago/sipgo/sip"

	"sipward/sip"
)

// oracle is sipgo's parser, made to read the header fields that [sip.Message.Parse]
// reads. The others are parsed on demand here, so there is nothing to compare.
func oracle() *gosip.Parser {
	ours := map[string]bool{"v": true, "via": true, "f": true, "from": true, "t": true, "to": true, "i": true, "call-id": true,
		"cseq": true, "max-forwards": true, "l": true, "content-length": true}
	headers := maps.Clone(gosip.DefaultHeadersParser())
	maps.DeleteFunc(headers, func(name string, _ gosip.HeaderParser) bool { return !ours[name] })
	return gosip.NewParser(gosip.WithHeadersParsers(headers))
}

// divergences lists where sipgo v1.7.2 reads differently what RFC 3261 allows,
// or what TestDeviations lets through, each with an example. A message to which
// none of them applies must be read by both in the same way.
var divergences = []struct {
	why     string
	example string
	applies func(m *sip.Message) bool
}{
	{"scheme: sipgo takes letters only, RFC 3986 has digits, '+', '-' and '.' too",
		change(base, "To: <a.b:c>"),
		anyURI(func(m *sip.Message, u uriText) bool { return !isLetters(m.Text(u.uri.Scheme)) })},
	{"'[' in a user part: sipgo takes it for an IPv6 reference",
		start("INVITE sip:a[b@c SIP/2.0"),
		anyURI(func(m *sip.Message, u uriText) bool {
			return bytes.IndexByte(m.Text(u.uri.User), '[') >= 0 || bytes.IndexByte(m.Text(u.uri.Password), '[') >= 0
		})},
	{"two ':' before the '@': sipgo begins the password at the last one",
		change(base, "To: <sip:a:b:c@d>"),
		anyURI(func(m *sip.Message, u uriText) bool { return bytes.IndexByte(m.Text(u.uri.Password), ':') >= 0 })},
	{"'//' before the user part: sipgo cuts it off, it is part of the name",
		change(base, "To: <sip://a@b>"),
		anyURI(func(m *sip.Message, u uriText) bool { return bytes.HasPrefix(m.Text(u.uri.Rest), []byte("//")) })},
	{"IPv6 reference over 42 bytes: sipgo does not look for the bracket any further",
		start("INVITE sip:[2001:0db8:0000:0000:0000:ffff:192.000.002.001] SIP/2.0"),
		anyURI(func(m *sip.Message, u uriText) bool { return u.uri.Host.Len() > 42 })},
	{"quotes in a URI parameter: sipgo ends the URI at the '>' within",
		change(base, "To: <sip:a@b;x=\">;tag=2\">"),
		anyURI(func(m *sip.Message, u uriText) bool { return bytes.IndexByte(u.text, '"') >= 0 })},
	{"status line without a space after the code",
		status("SIP/2.0 200"),
		func(m *sip.Message) bool { return !m.IsRequest && m.ReasonText.Off == 11 }},
	{"Unicode spaces at the end of a value: sipgo trims them",
		change(base, "Call-ID: abc\u00a0"),
		func(m *sip.Message) bool { return bytes.ContainsAny(m.Buf[:m.HeadEnd], unicodeSpaces) }},
	{"white space around ';', '=' or ':': sipgo keeps it, or gives up the rest",
		change(base, "To: <sip:a@b> ; tag = 1"),
		func(m *sip.Message) bool {
			return inParams(m, func(p []byte) bool { return bytes.ContainsAny(p, " \t\r\n") }) ||
				bytes.ContainsAny(m.Text(m.Via.SentBy), " \t\r\n") ||
				!m.Via.Params.Empty() && m.Via.Params.Off != m.Via.SentBy.End ||
				m.Via.Host.Off != m.Via.Transport.End+1 || spaceBefore(m.From) || spaceBefore(m.To)
		}},
	{"quoted parameter value: sipgo splits it at ';' and '='",
		change(base, "To: <sip:a@b>;tag=1;x=\"a;tag=2\""),
		func(m *sip.Message) bool {
			return inParams(m, func(p []byte) bool { return bytes.IndexByte(p, '"') >= 0 })
		}},
	{"'=' in a parameter's value: sipgo takes the last one for the separator",
		change(base, "To: <sip:a@b>;tag=1="),
		func(m *sip.Message) bool {
			return inParams(m, func(p []byte) bool {
				for part := range bytes.SplitSeq(p, []byte{';'}) {
					if bytes.Count(part, []byte{'='}) > 1 {
						return true
					}
				}
				return false
			})
		}},
	{"parameter names not in lower case: sipgo does not find them",
		change(base, "To: <sip:a@b>;Tag=1"),
		func(m *sip.Message) bool {
			return inParams(m, func(p []byte) bool {
				low := bytes.ToLower(p)
				return bytes.Count(low, []byte(";tag=")) != bytes.Count(p, []byte(";tag=")) ||
					bytes.Count(low, []byte(";branch=")) != bytes.Count(p, []byte(";branch="))
			})
		}},
	{"several Vias on a line, and commas in a Via: sipgo looks for the comma in parameters only, and in quotes",
		change(base, "Via: SIP/2.0/UDP a, SIP/2.0/UDP b;branch=1"),
		func(m *sip.Message) bool {
			for it := m.Values(sip.HeaderVia); it.Next(); {
				if !it.Last || bytes.IndexByte(m.Text(it.Value), ',') >= 0 {
					return true
				}
			}
			return false
		}},
	{"a Via after the first that cannot be read: only the first one is ours to judge",
		change(base, "Via: SIP/2.0/UDP a\r\nVia: x"),
		func(m *sip.Message) bool {
			it := m.Values(sip.HeaderVia)
			for it.Next(); it.Next(); {
				if _, fault := sip.ParseVia(m.Buf, it.Value); fault != sip.OK {
					return true
				}
			}
			return false
		}},
}

const unicodeSpaces = "\v\f\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"

// Each divergence is real: its example is accepted here, and read differently.
func TestDivergences(t *testing.T) {
	for i, d := range divergences {
		m := parse(t, d.example)
		if compare(m) == "" {
			t.Errorf("both read the example in the same way: %s", d.why)
		}
		for k, other := range divergences {
			if applies := other.applies(m); applies != (i == k) {
				t.Errorf("example of %q: %q applies: %v", d.why, other.why, applies)
			}
		}
	}
	if m := parse(t, base); compare(m) != "" {
		t.Errorf("the good message: %s", compare(m))
	}
}

func anyURI(f func(m *sip.Message, u uriText) bool) func(m *sip.Message) bool {
	return func(m *sip.Message) bool {
		return slices.ContainsFunc(uris(m), func(u uriText) bool { return f(m, u) })
	}
}

// inParams reports whether f holds for the parameters of From, To or the top Via.
func inParams(m *sip.Message, f func(params []byte) bool) bool {
	return f(m.Text(m.From.Params)) || f(m.Text(m.To.Params)) || f(m.Text(m.Via.Params))
}

// spaceBefore reports white space between the address and its parameters.
func spaceBefore(n sip.NameAddr) bool {
	end := n.URISpan.End
	if n.Bracketed {
		end++
	}
	return !n.Params.Empty() && n.Params.Off != end
}

type uriText struct {
	uri  sip.URI
	text []byte
}

func uris(m *sip.Message) []uriText {
	list := []uriText{{m.From.URI, m.Text(m.From.URISpan)}, {m.To.URI, m.Text(m.To.URISpan)}}
	if m.IsRequest {
		list = append(list, uriText{m.URI, m.Text(m.RequestURI)})
	}
	return list
}

func isLetters(b []byte) bool {
	for _, c := range b {
		if c|0x20 < 'a' || c|0x20 > 'z' {
			return false
		}
	}
	return true
}

// compare holds an accepted message against the oracle. It returns what differs,
// "" when nothing does.
func compare(m *sip.Message) string {
	theirs, err := oracle().ParseSIP(bytes.Clone(m.Buf))
	if err != nil {
		return "sipgo refuses it: " + err.Error()
	}
	var diff []string
	equal := func(what, ours, theirs string) {
		if ours != theirs {
			diff = append(diff, what+": ours "+ours+", sipgo's "+theirs)
		}
	}
	get := func(params gosip.HeaderParams, name string) string { return params.GetOr(name, "") }
	if h := theirs.CallID(); h != nil {
		equal("Call-ID", string(m.Text(m.CallID)), h.Value())
	}
	if h := theirs.CSeq(); h != nil && h.SeqNo != m.CSeq {
		diff = append(diff, "CSeq")
	}
	if h := theirs.From(); h != nil {
		equal("From tag", string(m.Text(m.From.Tag)), get(h.Params, "tag"))
		equal("From", account(m, m.From.URI), theirAccount(h.Address))
	}
	if h := theirs.To(); h != nil {
		equal("To tag", string(m.Text(m.To.Tag)), get(h.Params, "tag"))
		equal("To", account(m, m.To.URI), theirAccount(h.Address))
	}
	if h := theirs.Via(); h != nil {
		equal("branch", string(m.Text(m.Via.Branch.Value)), get(h.Params, "branch"))
	}
	// sipgo adds the header field when it is missing.
	if h := theirs.ContentLength(); h != nil && int(*h) != m.Body.Len() {
		diff = append(diff, "Content-Length")
	}
	equal("body", string(m.Text(m.Body)), string(theirs.Body()))
	return strings.Join(diff, "; ")
}

// account returns user and host of a SIP URI, what policy goes by.
func account(m *sip.Message, u sip.URI) string {
	if u.Kind != sip.SchemeSIP && u.Kind != sip.SchemeSIPS {
		return "none"
	}
	return string(m.Text(u.User)) + " at " + string(m.Text(u.Host))
}

func theirAccount(u gosip.Uri) string {
	if u.Scheme != "sip" && u.Scheme != "sips" {
		return "none"
	}
	return u.User + " at " + u.Host
}

// checkOracle fails when the oracle reads an accepted message differently and no
// listed divergence explains it.
func checkOracle(tb testing.TB, m *sip.Message) {
	tb.Helper()
	diff := compare(m)
	if diff == "" {
		return
	}
	for _, d := range divergences {
		if d.applies(m) {
			return
		}
	}
	tb.Errorf("%s\n%q", diff, m.Buf)
}
