package scanner_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"sipward/policy/scanner"
)

// parse reads signatures for a test, one condition or more a line of YAML.
func parse(t *testing.T, text string) *scanner.Set {
	t.Helper()
	s, err := scanner.Parse("t.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestKinds tries each way to match on both sides of its border.
func TestKinds(t *testing.T) {
	long := strings.Repeat("x", 600)
	for _, c := range []struct {
		match     string
		hit, miss []string
	}{
		{"match: equal, value: AbC", []string{"abc", "ABC", "AbC"}, []string{"", "ab", "abcd", "xabc"}},
		{"match: equal, value: AbC, exact_case: true", []string{"AbC"}, []string{"abc", "ABC"}},
		{"match: equal, value: [abc, defg]", []string{"abc", "DEFG"}, []string{"abcdefg", "abcg"}},
		{"match: prefix, value: AbC", []string{"abc", "ABCd", "abc abc"}, []string{"ab", " abc", "bc"}},
		{"match: prefix, value: AbC, exact_case: true", []string{"AbCd"}, []string{"abcd"}},
		{"match: suffix, value: .Com", []string{"a.com", ".COM"}, []string{"com", "a.comx"}},
		{"match: contains, value: [bcd, cde]", []string{"bcd", "xBCDx", "xcde", "bbcd", "bccde"}, []string{"bc", "bdc", "", long + "bcd"}},
		{"match: contains, value: BcD, exact_case: true", []string{"aBcDe"}, []string{"abcde"}},
		{"match: contains, value: é!ü", []string{"é!ü", "xé!ü"}, []string{"É!ü", "e!u"}},
		{"match: token, value: sip", []string{"sip", "a sip", "SIP/2", "sip-x", "x.sip.y", "gossip sip"}, []string{"sips", "gossip", "si", "sip2", "sip_x", "ésip", "sipé"}},
		{"match: token, value: [a b, b]", []string{"a b", "b", "x-b"}, []string{"a bc", "ab", "bb"}},
		{"match: present", []string{"x", " "}, []string{""}},
		{"match: absent", []string{""}, []string{"x"}},
		{"match: shape, value: digits", []string{"0", "0123456789012345678901234"}, []string{"", "12a", "1@2", "-1"}},
		{"match: shape, value: uint32-branch", []string{"z9hG4bK-0", "z9hG4bK-4294967295"}, []string{"z9hG4bK-", "z9hG4bK-4294967296", "z9hG4bK-01", "z9hG4bK-1-2", "z9hG4bK1", "Z9HG4BK-1", "z9hG4bK-99999999999"}},
		{"match: shape, value: sipvicious-tag", []string{"61013132333435", "200131303030303030303030", "7E0139393939393939393939"}, []string{"610131323334", "0131323334353637", "6101313233343", "1f013132333435", "6101313233343561", "610131323334353637383930313233", "zz013132333435", "61023132333435"}},
		{"match: shape, value: bare-address", []string{"sip:a@b", "sip:a"}, []string{"", "*", "<sip:a@b>", `"A" <sip:a>`}},
		{"match: shape, value: [digits, bare-address]", []string{"1", "ab"}, []string{"<1>"}},
	} {
		set := parse(t, "signatures: [{id: x, field: user-agent, score: 7, "+c.match+"}]")
		for _, v := range c.hit {
			if got := set.Match(&scanner.Message{UserAgent: b(v)}); got != (scanner.Match{Score: 7, Signature: "x"}) {
				t.Errorf("%s: %.40q: %+v", c.match, v, got)
			}
		}
		for _, v := range c.miss {
			if got := set.Match(&scanner.Message{UserAgent: b(v)}); got != (scanner.Match{}) {
				t.Errorf("%s: %.40q: %+v", c.match, v, got)
			}
		}
	}
}

// TestDigits tries each byte at each place among digits.
func TestDigits(t *testing.T) {
	set := parse(t, "signatures: [{id: x, field: call-id, match: shape, value: digits, score: 1}]")
	for n := 1; n <= 20; n++ {
		for at := range n {
			for c := range 256 {
				v := bytes.Repeat([]byte("9"), n)
				v[at] = byte(c)
				if got, want := set.Match(&scanner.Message{CallID: v}).Score == 1, c >= '0' && c <= '9'; got != want {
					t.Fatalf("%q: %t", v, got)
				}
			}
		}
	}
}

// TestFields holds that each field is taken from its place.
func TestFields(t *testing.T) {
	m := scanner.Message{
		Method: b("m"), RequestURI: b("sip:ru@rh"), UserAgent: b("ua"), Server: b("s"),
		FromDisplay: b(`"fd"`), FromUser: b("fu"), FromHost: b("fh"), FromTag: b("ft"),
		ToDisplay: b("td"), ToUser: b("tu"), ToHost: b("th"),
		CallID: b("ci"), Contact: b("<sip:cu@ch>"), ViaHost: b("vh"), ViaBranch: b("vb"), Accept: b("a"),
		QOP: b(`"q"`), CNonce: b("cn"), ChallengeKnown: true,
	}
	for field, value := range map[string]string{
		"method": "m", "request-uri": "sip:ru@rh", "request-user": "ru", "request-host": "rh", "user-agent": "ua", "server": "s",
		"from-display": "fd", "from-user": "fu", "from-host": "fh", "from-tag": "ft", "to-display": "td", "to-user": "tu", "to-host": "th",
		"call-id": "ci", "contact": "<sip:cu@ch>", "contact-user": "cu", "contact-host": "ch", "via-host": "vh", "via-branch": "vb", "accept": "a",
		"qop": "q", "cnonce": "cn", "challenge": "no-qop",
	} {
		set := parse(t, fmt.Sprintf("signatures: [{id: x, field: %s, match: equal, value: %q, score: 1}]", field, value))
		if set.Match(&m).Score != 1 {
			t.Errorf("%s is not %s", field, value)
		}
		if got := set.Match(&scanner.Message{}); got != (scanner.Match{}) {
			t.Errorf("%s of an empty message: %+v", field, got)
		}
	}
	set := parse(t, `signatures: [{id: x, field: challenge, match: equal, value: qop, score: 1}]`)
	if set.Match(&m).Score != 0 || set.Match(&scanner.Message{ChallengeHadQOP: true}).Score != 0 || set.Match(&scanner.Message{ChallengeKnown: true, ChallengeHadQOP: true}).Score != 1 {
		t.Error("challenge with qop")
	}
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct{ contact, user, host string }{
		{"sip:a@h", "a", "h"},
		{"<sip:a@h:5060;transport=udp>;expires=60", "a", "h"},
		{`"x <sip:q@z>" <sips:a:pass@h.example.com?x=y>`, "a", "h.example.com"},
		{`"x \" <sip:q@z>" <sip:a@h>`, "a", "h"},
		{"Anna <sip:a@[2001:db8::1]:5060>", "a", "[2001:db8::1]"},
		{"<sip:h>", "", "h"},
		{"<sip:h:5060>,<sip:i>", "", "h"},
		{"sip:a@h, sip:b@i", "a", "h"},
		{"sip:a@h ;x", "a", "h"},
		{"<tel:+49>", "", ""},
		{"*", "", ""},
		{"", "", ""},
		{"<", "", ""},
		{"sip:", "", ""},
		{"sip:@", "", ""},
		{`"never ends`, "", ""},
		{"sip:[2001", "", ""},
	} {
		m := scanner.Message{Contact: b(c.contact), RequestURI: b(c.contact)}
		for _, field := range []string{"contact", "request"} {
			check := func(part, want string) {
				how := fmt.Sprintf("match: equal, value: %q", want)
				if want == "" {
					how = "match: absent"
				}
				set := parse(t, fmt.Sprintf("signatures: [{id: x, field: %s-%s, %s, score: 1}]", field, part, how))
				if set.Match(&m).Score != 1 {
					t.Errorf("%s: the %s is not %q", c.contact, part, want)
				}
			}
			check("user", c.user)
			check("host", c.host)
		}
	}
}

// TestScores holds how scores add up.
func TestScores(t *testing.T) {
	set := parse(t, `
signatures:
- {id: a1, field: user-agent, match: prefix, value: a, score: 10}
- {id: a2, field: user-agent, match: prefix, value: ab, score: 30}
- {id: a3, field: user-agent, match: suffix, value: z, score: 30}
- {id: s, field: server, match: present, score: 5}
- id: both
  all:
  - {field: user-agent, match: prefix, value: a}
  - {field: server, match: equal, value: s}
  score: 40
- id: more
  all:
  - {field: server, match: equal, value: s}
  - {field: method, match: equal, value: [INVITE, ACK]}
  score: 100
- id: unless
  all:
  - {field: method, match: absent, not: true}
  - {field: call-id, match: shape, value: digits}
  - {field: server, match: present, not: true}
  score: 2
`)
	for _, c := range []struct {
		m    scanner.Message
		want scanner.Match
		ids  string
	}{
		{scanner.Message{}, scanner.Match{}, "[]"},
		{scanner.Message{UserAgent: b("a")}, scanner.Match{Score: 10, Signature: "a1"}, "[a1 10]"},
		{scanner.Message{UserAgent: b("abz")}, scanner.Match{Score: 30, Signature: "a2"}, "[a2 30 a3 30 a1 10]"},
		{scanner.Message{UserAgent: b("abz"), Server: b("x")}, scanner.Match{Score: 35, Signature: "a2"}, "[a2 30 a3 30 a1 10 s 5]"},
		{scanner.Message{UserAgent: b("abz"), Server: b("s")}, scanner.Match{Score: 75, Signature: "both"}, "[both 40 a2 30 a3 30 a1 10 s 5]"},
		{scanner.Message{UserAgent: b("abz"), Server: b("s"), Method: b("ack")}, scanner.Match{Score: 135, Signature: "more", Sure: true}, "[more 100 both 40 a2 30 a3 30 a1 10 s 5]"},
		{scanner.Message{CallID: b("1")}, scanner.Match{}, "[]"},
		{scanner.Message{CallID: b("1"), Method: b("BYE")}, scanner.Match{Score: 2, Signature: "unless"}, "[unless 2]"},
		{scanner.Message{CallID: b("1"), Method: b("BYE"), Server: b("x")}, scanner.Match{Score: 5, Signature: "s"}, "[s 5]"},
	} {
		if got := set.Match(&c.m); got != c.want {
			t.Errorf("%+v, not %+v", got, c.want)
		}
		if got := fmt.Sprint(ids(set.Explain(&c.m))); got != c.ids {
			t.Errorf("%s, not %s", got, c.ids)
		}
	}
}

func TestNilSet(t *testing.T) {
	var s *scanner.Set
	m := scanner.Message{UserAgent: b("friendly-scanner")}
	if got := s.Match(&m); got != (scanner.Match{}) || s.Explain(&m) != nil || s.Signatures() != nil {
		t.Error("the nil set matches")
	}
	if _, ok := s.Signature("x"); ok {
		t.Error("the nil set has signatures")
	}
}
