package sip_test

import (
	"testing"

	"sipward/sip"
	"sipward/sip/siptest"
)

// torture tells what the scanner makes of each message of RFC 4475, and why.
// "Passes" means that it is well-formed for a proxy; what is wrong with it, if
// anything, is another layer's matter, as the reason says.
//
// The files are those of sipgo v1.7.2. They carry the octets of the RFC (CRLFs,
// the NUL and DEL of intmeth, the binary part of mpart01), with two exceptions:
// baddn lacks the empty line at its end, and test is not in the RFC at all, but
// in the drafts before it.
var torture = map[string]struct {
	fault      sip.Fault
	answerable bool
	why        string
}{
	// §3.1.1: valid.
	"wsinv":      {sip.OK, true, "3.1.1.1: white space, folds and compact names wherever they are allowed"},
	"intmeth":    {sip.OK, true, "3.1.1.2: unusual characters where they are allowed, a NUL in a quoted pair among them"},
	"esc01":      {sip.OK, true, "3.1.1.3: an escaped '@' and ':' in the user part"},
	"escnull":    {sip.OK, true, "3.1.1.4: escaped NULs in URIs"},
	"esc02":      {sip.OK, true, "3.1.1.5: % in a method and a header name is no escape: both are unknown"},
	"lwsdisp":    {sip.OK, true, "3.1.1.6: no white space between display name and '<'"},
	"longreq":    {sip.OK, true, "3.1.1.7: long values and 34 Vias are within the caps"},
	"dblreq":     {sip.OK, true, "3.1.1.8: what follows Content-Length in a datagram is cut off"},
	"semiuri":    {sip.OK, true, "3.1.1.9: ';' in the user part"},
	"transports": {sip.OK, true, "3.1.1.10: unknown transports"},
	"mpart01":    {sip.OK, true, "3.1.1.11: a binary body, with bare LFs and NULs, is not looked at"},
	"unreason":   {sip.OK, false, "3.1.1.12: UTF-8 in a reason phrase; a response"},
	"noreason":   {sip.OK, false, "3.1.1.13: an empty reason phrase; a response"},

	// §3.1.2: invalid.
	"badinv01":   {sip.FaultVia, false, "3.1.2.1: empty parameters and values in the top Via; it cannot be copied into an answer"},
	"clerr":      {sip.FaultBodyLength, true, "3.1.2.2: Content-Length larger than the datagram: 400"},
	"ncl":        {sip.FaultContentLength, true, "3.1.2.3: negative Content-Length: 400"},
	"scalar02":   {sip.FaultCSeq, false, "3.1.2.4: CSeq over 2^32; Max-Forwards and Expires are too large as well"},
	"scalarlg":   {sip.FaultCSeq, false, "3.1.2.5: the same in a response: dropped"},
	"quotbal":    {sip.FaultTo, false, "3.1.2.6: the quote of the display name stays open"},
	"ltgtruri":   {sip.FaultRequestURI, true, "3.1.2.7: <> around the Request-URI: 400"},
	"lwsruri":    {sip.FaultRequestURI, true, "3.1.2.8: white space in the Request-URI: 400"},
	"lwsstart":   {sip.FaultRequestURI, true, "3.1.2.9: two spaces in the start line: the second belongs to the URI: 400"},
	"trws":       {sip.FaultStartLine, true, "3.1.2.10: white space at the end of the start line: 400"},
	"escruri":    {sip.FaultRequestURI, true, "3.1.2.11: headers in the Request-URI must not be forwarded: 400"},
	"baddate":    {sip.OK, true, "3.1.2.12: Date not in GMT: a proxy need not read Date"},
	"regbadct":   {sip.OK, true, "3.1.2.13: Contact with '?' but without <>: ParseNameAddr refuses it, see TestNameAddr"},
	"badaspec":   {sip.FaultTo, false, "3.1.2.14: white space within <>: refused, some parsers make it part of the URI"},
	"baddn":      {sip.FaultHeadEnd, false, "3.1.2.15: see above; with its empty line it passes, TestDeviations: comma in a display name"},
	"badvers":    {sip.FaultVersion, true, "3.1.2.16: SIP/7.0, in its Via too: 505"},
	"mismatch01": {sip.FaultCSeqMethod, true, "3.1.2.17: OPTIONS with a CSeq of INVITE: 400"},
	"mismatch02": {sip.FaultCSeqMethod, true, "3.1.2.18: the same with an unknown method: 400, not 501"},
	"bigcode":    {sip.FaultStatus, false, "3.1.2.19: status over 699: dropped"},

	// §3.2 to §3.4: well-formed, with a meaning that some element refuses.
	"badbranch": {sip.OK, true, "3.2.1: nothing after z9hG4bK: the proxy must not take it for a unique branch"},
	"insuf":     {sip.FaultMissingHeader, false, "3.3.1: no Call-ID, From and To: 400 cannot be built"},
	"unkscm":    {sip.OK, true, "3.3.2: unknown scheme in the Request-URI: the proxy answers 416"},
	"novelsc":   {sip.OK, true, "3.3.3: a known scheme that is not SIP's: the proxy answers 416"},
	"unksm2":    {sip.OK, true, "3.3.4: unknown schemes in From, To and Contact are the registrar's matter"},
	"bext01":    {sip.OK, true, "3.3.5: Proxy-Require: the proxy answers 420; Require is for the PBX"},
	"invut":     {sip.OK, true, "3.3.6: unknown Content-Type: the PBX answers 415"},
	"regaut01":  {sip.OK, true, "3.3.7: unknown authorization scheme: no digest credentials, as if there were none"},
	"multi01":   {sip.FaultRepeatedHeader, true, "3.3.8: CSeq, Call-ID, To, From and Max-Forwards twice: 400"},
	"mcl01":     {sip.FaultRepeatedHeader, true, "3.3.9: two Content-Lengths: 400"},
	"bcast":     {sip.OK, false, "3.3.10: a response with a broadcast address in its second Via: the proxy never sends to a Via's host"},
	"zeromf":    {sip.OK, true, "3.3.11: Max-Forwards 0: the proxy answers 483"},
	"cparam01":  {sip.OK, true, "3.3.12: an unknown Contact parameter"},
	"cparam02":  {sip.OK, true, "3.3.13: an unknown URI parameter in a Contact"},
	"regescrt":  {sip.OK, true, "3.3.14: headers in a Contact's URI: the registrar's matter"},
	"sdp01":     {sip.OK, true, "3.3.15: Accept without application/sdp: the PBX answers 406"},
	"inv2543":   {sip.OK, true, "3.4.1: RFC 2543: no branch, no From tag, no Max-Forwards, no Content-Length"},

	"test": {sip.FaultStartLine, false, "not in the RFC: no version in the start line, no Via, no CSeq"},
}

func TestTorture(t *testing.T) {
	seen := 0
	for _, f := range siptest.Torture(t) {
		t.Run(f.Name, func(t *testing.T) {
			want, ok := torture[f.Name]
			if !ok {
				t.Fatal("not in the table: say what is expected, and why")
			}
			seen++
			if f.Valid && want.fault != sip.OK {
				t.Errorf("valid in the RFC, but the table refuses it")
			}
			var m sip.Message
			fault := m.Parse(f.Data, false)
			if fault != want.fault || m.Answerable() != want.answerable {
				t.Errorf("got %v (answerable %v), want %v (%v): %s", fault, m.Answerable(), want.fault, want.answerable, want.why)
			}
			if fault == sip.OK {
				checkSpans(t, &m)
			}
		})
	}
	if seen != len(torture) {
		t.Errorf("%d of %d messages seen", seen, len(torture))
	}
}

// The valid messages, looked at closely.
func TestTortureValues(t *testing.T) {
	files := map[string][]byte{}
	for _, f := range siptest.Torture(t) {
		files[f.Name] = f.Data
	}
	check := func(name string, want map[string]func(m *sip.Message) string) {
		m := parse(t, string(files[name]))
		for text, got := range want {
			if g := got(m); g != text {
				t.Errorf("%s: got %q, want %q", name, g, text)
			}
		}
	}
	check("wsinv", map[string]func(m *sip.Message) string{
		"1918181833n":        func(m *sip.Message) string { return string(m.Text(m.To.Tag)) },
		"98asjd8":            func(m *sip.Message) string { return string(m.Text(m.From.Tag)) },
		`"J Rosenberg \\\""`: func(m *sip.Message) string { return string(m.Text(m.From.Display)) },
		"0068":               func(m *sip.Message) string { return string(m.Text(m.MaxForwardsValue)) },
		"390skdjuw":          func(m *sip.Message) string { return string(m.Text(m.Via.Branch.Value)) },
		"UDP":                func(m *sip.Message) string { return string(m.Text(m.Via.Transport)) },
		"192.0.2.2":          func(m *sip.Message) string { return string(m.Text(m.Via.SentBy)) },
		"\x03\x96\x44\x09": func(m *sip.Message) string {
			return string([]byte{byte(m.ViaCount), byte(m.ContentLength), byte(m.MaxForwards), byte(m.CSeq)})
		},
		"SIP  / 2.0  / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8": func(m *sip.Message) string {
			it := m.Values(sip.HeaderVia)
			it.Next()
			it.Next()
			return string(m.Text(it.Value))
		},
		"z9hG4bK30239": func(m *sip.Message) string {
			it := m.Values(sip.HeaderVia)
			for it.Next() && !(it.Last && !it.First) {
			}
			v, fault := sip.ParseVia(m.Buf, it.Value)
			if fault != sip.OK {
				return fault.String()
			}
			return string(m.Text(v.Branch.Value))
		},
	})
	check("intmeth", map[string]func(m *sip.Message) string{
		"1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*": func(m *sip.Message) string { return string(m.Text(m.URI.User)) },
		"&it+has=1,weird!*pas$wo~d_too.(doesn't-it)":       func(m *sip.Message) string { return string(m.Text(m.URI.Password)) },
		"\"BEL:\\\a NUL:\\\x00 DEL:\\\x7f\"":               func(m *sip.Message) string { return string(m.Text(m.To.Display)) },
		"_token~1'+`*%!-.":                                 func(m *sip.Message) string { return string(m.Text(m.From.Tag)) },
		"token1~` token2'+_ token3*%!.-":                   func(m *sip.Message) string { return string(m.Text(m.From.Display)) },
	})
	check("semiuri", map[string]func(m *sip.Message) string{
		"user;par=u%40example.net": func(m *sip.Message) string { return string(m.Text(m.URI.User)) },
		"example.com":              func(m *sip.Message) string { return string(m.Text(m.URI.HostPort)) },
	})
	check("dblreq", map[string]func(m *sip.Message) string{
		"REGISTER": func(m *sip.Message) string { return m.Method.String() },
		"\r\n\r\n": func(m *sip.Message) string { return string(m.Buf[len(m.Buf)-4:]) },
	})
	check("longreq", map[string]func(m *sip.Message) string{
		"\x22": func(m *sip.Message) string { return string([]byte{byte(m.ViaCount)}) },
	})
}
