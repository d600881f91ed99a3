package sip_test

import (
	"bytes"
	"maps"
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
// or what TestDeviations lets through. A message to which none of them applies
// must be read by both in the same way.
var divergences = []struct {
	why     string
	applies func(m *sip.Message) bool
}{
	{"URI schemes: sipgo takes letters only (RFC 3986 has digits, '+', '-' and '.'), and no URI of one letter", func(m *sip.Message) bool {
		for _, u := range uris(m) {
			if u.uri.Kind == sip.SchemeOther && (len(u.text) < 3 || !isLetters(m.Text(u.uri.Scheme))) {
				return true
			}
		}
		return false
	}},
	{"'[' or '*' in a user part: sipgo takes it for an IPv6 reference, '*' for a wildcard", func(m *sip.Message) bool {
		for _, u := range uris(m) {
			if bytes.ContainsAny(m.Text(u.uri.User), "[*") || bytes.ContainsAny(m.Text(u.uri.Password), "[*") {
				return true
			}
		}
		return false
	}},
	{"IPv6 references over 40 bytes: sipgo does not look for the bracket any further", func(m *sip.Message) bool {
		for _, u := range uris(m) {
			if u.uri.Host.Len() > 40 {
				return true
			}
		}
		return false
	}},
	{"quotes in a URI parameter: sipgo ends the URI at the '>' within", func(m *sip.Message) bool {
		for _, u := range uris(m) {
			if bytes.IndexByte(u.text, '"') >= 0 {
				return true
			}
		}
		return false
	}},
	{"status line without a space after the code, or in lower case", func(m *sip.Message) bool {
		return !m.IsRequest && (m.ReasonText.Off == 11 || !bytes.HasPrefix(m.Buf, []byte("SIP/")))
	}},
	{"start line version in lower case", func(m *sip.Message) bool {
		return m.IsRequest && !bytes.HasPrefix(m.Buf[m.RequestURI.End:], []byte(" SIP/2.0"))
	}},
	{"a header without a name that sipgo trims in another way: vertical tab, NEL and other Unicode spaces in a value", func(m *sip.Message) bool {
		return bytes.ContainsAny(m.Buf[:m.HeadEnd], "\v\f\u0085\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\u1680")
	}},
	{"white space around ';', '=' or ':' and between CSeq's parts: sipgo keeps it, or gives up the rest", func(m *sip.Message) bool {
		for _, s := range []sip.Span{m.From.Params, m.To.Params, m.Via.Params, m.Via.SentBy} {
			if bytes.ContainsAny(m.Text(s), " \t\r\n") {
				return true
			}
		}
		return m.Via.Params.Off != m.Via.SentBy.End || m.Via.Host.Off != m.Via.Transport.End+1 ||
			spaceBefore(m, m.From) || spaceBefore(m, m.To)
	}},
	{"quoted parameter values: sipgo splits them at ';' and '='", func(m *sip.Message) bool {
		for _, s := range []sip.Span{m.From.Params, m.To.Params, m.Via.Params} {
			if bytes.IndexByte(m.Text(s), '"') >= 0 {
				return true
			}
		}
		return false
	}},
	{"'=' in a parameter's value: sipgo takes the last one for the separator", func(m *sip.Message) bool {
		for _, s := range []sip.Span{m.From.Params, m.To.Params, m.Via.Params} {
			for part := range bytes.SplitSeq(m.Text(s), []byte{';'}) {
				if bytes.Count(part, []byte{'='}) > 1 {
					return true
				}
			}
		}
		return false
	}},
	{"names of parameters that are not in lower case", func(m *sip.Message) bool {
		for _, s := range []sip.Span{m.From.Params, m.To.Params, m.Via.Params} {
			for part := range bytes.SplitSeq(m.Text(s), []byte{';'}) {
				name, _, _ := bytes.Cut(part, []byte{'='})
				if low := strings.ToLower(string(name)); low != string(name) && (low == "tag" || low == "branch") {
					return true
				}
			}
		}
		return false
	}},
	{"parameters before the branch without a value, or of one letter: sipgo's state machine drops what follows", func(m *sip.Message) bool {
		for part := range bytes.SplitSeq(bytes.TrimPrefix(m.Text(m.Via.Params), []byte{';'}), []byte{';'}) {
			name, value, _ := bytes.Cut(part, []byte{'='})
			if len(name) < 2 || len(value) == 0 {
				return true
			}
		}
		return false
	}},
	{"several Vias on a line, and commas in Via parameters", func(m *sip.Message) bool {
		for it := m.Values(sip.HeaderVia); it.Next(); {
			if !it.Last || bytes.IndexByte(m.Text(it.Value), ',') >= 0 {
				return true
			}
		}
		return false
	}},
	{"a Via after the first that cannot be read: only the first one is ours to judge", func(m *sip.Message) bool {
		it := m.Values(sip.HeaderVia)
		for it.Next(); it.Next(); {
			if _, fault := sip.ParseVia(m.Buf, it.Value); fault != sip.OK {
				return true
			}
		}
		return false
	}},
	{"a fold in From, To or Via: sipgo makes it one space, see white space", func(m *sip.Message) bool {
		for _, id := range []sip.HeaderID{sip.HeaderFrom, sip.HeaderTo, sip.HeaderVia, sip.HeaderCSeq} {
			if bytes.IndexByte(m.Text(m.Find(id).Value), '\n') >= 0 {
				return true
			}
		}
		return false
	}},
	{"leading zeros without end: sipgo's ParseUint of CSeq with two spaces, or its method with a space", func(m *sip.Message) bool {
		value := m.Text(m.Find(sip.HeaderCSeq).Value)
		return bytes.ContainsAny(value, "\t") || bytes.Count(value, []byte{' '}) != 1
	}},
}

// spaceBefore reports white space between the address and its parameters.
func spaceBefore(m *sip.Message, n sip.NameAddr) bool {
	end := n.URISpan.End
	if n.Bracketed {
		end++
	}
	return n.Params.Off != end
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
// "" if nothing does.
func compare(m *sip.Message) string {
	theirs, err := oracle().ParseSIP(bytes.Clone(m.Buf))
	if err != nil {
		return "sipgo refuses it: " + err.Error()
	}
	// sipgo rewrites what it has parsed into its own types; these read them.
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
	}
	if h := theirs.To(); h != nil {
		equal("To tag", string(m.Text(m.To.Tag)), get(h.Params, "tag"))
	}
	if h := theirs.Via(); h != nil {
		equal("branch", string(m.Text(m.Via.Branch.Value)), get(h.Params, "branch"))
	}
	if h := theirs.ContentLength(); h != nil && int(*h) != m.ContentLength {
		diff = append(diff, "Content-Length")
	}
	equal("body", string(m.Text(m.Body)), string(theirs.Body()))
	return strings.Join(diff, "; ")
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
