package sip_test

import (
	"fmt"
	"strings"
	"testing"

	"sipward/sip"
	"sipward/sip/siptest"
)

func TestCredentials(t *testing.T) {
	full := siptest.Auth("alice", "example.com", "n1", "sip:example.com")
	for in, want := range map[string]string{
		full: "alice|example.com|n1|sip:example.com|6629fae49393a05397450978507c4ef1|MD5|0a4f113b||auth|00000001",
		// Any order, any case, white space and folds, quotes set differently.
		"digest  response = abc ,\r\n URI=\"sip:x\",Nonce=n,REALM=\"\" , username=\"a\\\"b\", QOP=\"auth\",nc=\"1\",algorithm=\"MD5\"": `a\"b||n|sip:x|abc|MD5|||auth|1`,
		`Digest username="a,b=c",realm="r",nonce="n",uri="sip:x;y=\"z\"",response="r",opaque="o",x-new=1`:                              `a,b=c|r|n|sip:x;y=\"z\"|r|||o||`,
		`Digest username="a",realm="r",nonce="n",uri="u",response="r",qop=auth-int`:                                                    "a|r|n|u|r||||auth-int|",
		"Basic dXNlcjpwYXNz":                    "other Basic",
		"Bearer a.b-c_d=":                       "other Bearer",
		"NoOneKnowsThisScheme opaque-data=here": "other NoOneKnowsThisScheme",
		"Negotiate":                             "other Negotiate",
		"":                                      "fault credentials",
		"=x":                                    "fault credentials",
		"Digest":                                "fault credentials",
		"Digestusername=\"a\"":                  "fault credentials",
		`Digest username="a"`:                   "fault credentials",
		full + ",":                              "fault credentials",
		full + ", ,x=1":                         "fault credentials",
		full + " x=1":                           "fault credentials",
		full + `, username="b"`:                 "fault repeated-param",
		full + `, NONCE=n2`:                     "fault repeated-param",
		full + `, x=1, X=2`:                     "fault repeated-param",
		strings.Replace(full, "nonce", "nonse", 1): "fault credentials",
		strings.TrimSuffix(full, "00000001"):       "fault credentials",
		full + `, x="open`:                         "fault credentials",
		full + `, x="a"b`:                          "fault credentials",
		full + `, x=a"b"`:                          "fault credentials",
		full + `, x`:                               "fault credentials",
		full + `, (=1`:                             "fault credentials",
		full + manyParams(21):                      "alice|example.com|n1|sip:example.com|6629fae49393a05397450978507c4ef1|MD5|0a4f113b||auth|00000001",
		full + manyParams(24):                      "fault credentials",
	} {
		b := []byte(in)
		c, fault := sip.ParseCredentials(b, all(in))
		got := "fault " + fault.String()
		if fault == sip.OK {
			got = fmt.Sprintf("%s|%s|%s|%s|%s|%s|%s|%s|%s|%s", c.Username.Of(b), c.Realm.Of(b), c.Nonce.Of(b), c.URI.Of(b), c.Response.Of(b),
				c.Algorithm.Of(b), c.CNonce.Of(b), c.Opaque.Of(b), c.QOP.Of(b), c.NC.Of(b))
			if !c.Digest {
				got = "other " + string(c.Scheme.Of(b))
			}
		}
		if got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", in, got, want)
		}
	}
}

func manyParams(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ", x%d=1", i)
	}
	return b.String()
}

func TestChallenge(t *testing.T) {
	for in, want := range map[string]string{
		`Digest realm="example.com", nonce="n1", algorithm=MD5, qop="auth,auth-int", opaque="", stale=FALSE`: "example.com|n1||MD5|auth,auth-int||false",
		`Digest realm="r",nonce="n",stale="True",domain="sip:a sip:b"`:                                       "r|n||||sip:a sip:b|true",
		`Digest realm="r",nonce="n",stale=TRUE`:                                                              "r|n|||||true",
		`Digest realm="r"`:                                                                                   "fault challenge",
		`Digest realm="r",nonce="n",nonce="m"`:                                                               "fault repeated-param",
		`Digest realm="r",nonce="n", Basic x="y"`:                                                            "fault challenge",
		`Digest realm="r",nonce="n`:                                                                          "fault challenge",
		`Basic realm="r"`:                                                                                    "other Basic",
		"":                                                                                                   "fault challenge",
	} {
		b := []byte(in)
		c, fault := sip.ParseChallenge(b, all(in))
		got := "fault " + fault.String()
		if fault == sip.OK {
			got = fmt.Sprintf("%s|%s|%s|%s|%s|%s|%v", c.Realm.Of(b), c.Nonce.Of(b), c.Opaque.Of(b), c.Algorithm.Of(b), c.QOP.Of(b), c.Domain.Of(b), c.Stale)
			if !c.Digest {
				got = "other " + string(c.Scheme.Of(b))
			}
		}
		if got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", in, got, want)
		}
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		`Authorization: Digest username="a", realm="r", nonce="n", uri="sip:x", response="abc", cnonce=def, opaque = "g", qop=auth`: `Authorization: Digest username="a", realm="r", nonce="***", uri="sip:x", response="***", cnonce=***, opaque = "***", qop=auth`,
		"WWW-Authenticate: Digest nonce=\r\n \"a\\\"b\", stale=true":                                                                "WWW-Authenticate: Digest nonce=\r\n \"***\", stale=true",
		"Authentication-Info: nextnonce=\"1\",rspauth=\"2\"":                                                                        "Authentication-Info: nextnonce=\"***\",rspauth=\"***\"",
		"Authorization: Basic dXNlcjpwYXNz\r\nX: y":                                                                                 "Authorization: Basic ***\r\nX: y",
		"Authorization: bearer a.b.c\r\nX: y":                                                                                       "Authorization: bearer ***\r\nX: y",
		"Subject: basic\r\nFrom: x":                                                                                                 "Subject: basic\r\nFrom: x",
		"To: <sip:alice:secret@example.com:5060;x=y>":                                                                               "To: <sip:alice:***@example.com:5060;x=y>",
		"To: <sip:alice@example.com:5060>, <sips:b:c:d@e>":                                                                          "To: <sip:alice@example.com:5060>, <sips:b:***@e>",
		"INVITE sip:example.com:5060 SIP/2.0\r\nTo: <sip:b@c>":                                                                      "INVITE sip:example.com:5060 SIP/2.0\r\nTo: <sip:b@c>",
		"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0|2^20\r\ns=-":                                                            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:***\r\ns=-",
		"a=ice-pwd:abc\r\na=ice-ufrag:x":                                                                                            "a=ice-pwd:***\r\na=ice-ufrag:x",
		"X: nonce=\"open\r\nY: z":                                                                                                   "X: nonce=\"***\r\nY: z",
		"X: response=\r\nY: z":                                                                                                      "X: response=\r\nY: z",
		"X: response":                                                                                                               "X: response",
		"X: response=":                                                                                                              "X: response=",
		"X: \x1b[2Jabc\x00\x7f\tä\r\n":                                                                                              "X: .[2Jabc..\tä\r\n",
		"":                                                                                                                          "",
	} {
		if got := string(sip.Redact(nil, []byte(in))); got != want {
			t.Errorf("%q:\ngot  %q\nwant %q", in, got, want)
		}
	}
	if got := string(sip.Redact([]byte("> "), []byte("a"))); got != "> a" {
		t.Errorf("appended: %q", got)
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{`a\"b`: `a"b`, `"a\\b"`: `a\b`, `a\`: `a\`, ``: ``, `"`: `"`, `""`: ``} {
		if got := string(sip.AppendUnquoted(nil, []byte(in))); got != want {
			t.Errorf("unquote %q: %q", in, got)
		}
	}
	for in, want := range map[string]string{"%61lice": "alice", "a%2fB%2F": "a/B/", "%": "%", "%4": "%4", "%zz%41": "%zzA", "": ""} {
		if got := string(sip.AppendUnescaped(nil, []byte(in))); got != want {
			t.Errorf("unescape %q: %q", in, got)
		}
	}
	for in, want := range map[string]int64{"0": 0, "007": 7, "4294967295": 1<<32 - 1, "4294967296": -1, "": -1, "-1": -1, "1a": -1, "99999999999999999999999": -1} {
		n, ok := all(in).Number([]byte(in))
		if ok != (want >= 0) || ok && int64(n) != want {
			t.Errorf("number %q: %d, %v", in, n, ok)
		}
	}
}

func TestNames(t *testing.T) {
	for id := sip.HeaderVia; int(id) < sip.HeaderCount; id++ {
		for _, name := range []string{id.String(), strings.ToLower(id.String()), strings.ToUpper(id.String())} {
			if got := sip.LookupHeader([]byte(name)); got != id || name == "" {
				t.Errorf("LookupHeader(%q): %v, want %v", name, got, id)
			}
		}
	}
	for name, id := range map[string]sip.HeaderID{
		"v": sip.HeaderVia, "F": sip.HeaderFrom, "t": sip.HeaderTo, "I": sip.HeaderCallID, "m": sip.HeaderContact, "l": sip.HeaderContentLength,
		"c": sip.HeaderContentType, "e": sip.HeaderContentEncoding, "k": sip.HeaderSupported, "s": sip.HeaderSubject, "o": sip.HeaderEvent,
		"r": sip.HeaderReferTo, "b": sip.HeaderReferredBy, "u": sip.HeaderAllowEvents, "x": sip.HeaderSessionExpires, "y": sip.HeaderIdentity,
		"": 0, "q": 0, "z": 0, "{": 0, "-": 0, "Vi": 0, "Call_ID": 0, "Call\rID": 0, "Via ": 0, strings.Repeat("x", 99): 0,
	} {
		if got := sip.LookupHeader([]byte(name)); got != id {
			t.Errorf("LookupHeader(%q): %v, want %v", name, got, id)
		}
	}
	for m := sip.MethodInvite; int(m) < sip.MethodCount; m++ {
		if got := sip.LookupMethod([]byte(m.String())); got != m {
			t.Errorf("LookupMethod(%v): %v", m, got)
		}
	}
	if sip.LookupMethod([]byte("invite")) != sip.MethodOther || sip.Method(99).String() != "OTHER" || sip.HeaderID(99).String() != "" {
		t.Error("unknown names")
	}
	seen := map[string]bool{}
	for f := range sip.FaultCount {
		f := sip.Fault(f)
		if f.String() == "" || seen[f.String()] || f.Error() != "sip: "+f.String() || f.Code() < 200 || f.Code() > 599 {
			t.Errorf("fault %d: %q, %q, %d", f, f.String(), f.Error(), f.Code())
		}
		seen[f.String()] = true
	}
	if sip.Fault(250).String() != "unknown" || sip.Fault(250).Error() != "sip: unknown" {
		t.Error("unknown fault")
	}
}
