package sip_test

import (
	"fmt"
	"testing"

	"sipward/sip"
)

func all(s string) sip.Span { return sip.Span{End: uint32(len(s))} }

func TestURI(t *testing.T) {
	for in, want := range map[string]string{
		"sip:a@b":                      "1 a||b|0|b||",
		"SIP:a:p@b:5061;x;y=z?h=1&i=2": "1 a|p|b|5061|b:5061|;x;y=z|h=1&i=2",
		"sips:b":                       "2 ||b|0|b||",
		"sip:[2001:db8::1]:5070":       "1 ||[2001:db8::1]|5070|[2001:db8::1]:5070||",
		"sip:a@[::ffff:192.0.2.1];lr":  "1 a||[::ffff:192.0.2.1]|0|[::ffff:192.0.2.1]|;lr|",
		"sip:a;b?c,d/e:p:q@h":          "1 a;b?c,d/e|p:q|h|0|h||",
		"sip:@h":                       "1 ||h|0|h||",
		"sip:a:@h":                     "1 a||h|0|h||",
		"sip:b?x=1@2":                  "1 b?x=1||2|0|2||", // an '@' ends the user part, whatever stands before it
		"sip:a@b?x=1@2":                "1 a||b|0|b||x=1@2",
		"sip:h;x=\"<a;b>\";lr":         "1 ||h|0|h|;x=\"<a;b>\";lr|",
		"tel:+1-201;phone-context=x":   "3 +1-201||||;phone-context=x",
		"urn:service:sos":              "4 service:sos",
		"http://x/?a@b":                "0 //x/?a@b",
		"soap.beep://192.0.2.103:3002": "0 //192.0.2.103:3002",
		"":                             "fault uri",
		"sip":                          "fault uri",
		"sip:":                         "fault uri",
		"sip:a@":                       "fault uri",
		":a":                           "fault uri",
		"1a:b":                         "fault uri",
		"sip :a":                       "fault uri",
		"sip: a":                       "fault uri",
		"sip:a@b ":                     "fault uri",
		"sip:a b@c":                    "fault uri",
		"sip::p@b":                     "fault uri",
		"sip:a@b@c":                    "fault uri",
		"sip:a@b;x=@c":                 "fault uri",
		"sip:a@b:":                     "fault uri",
		"sip:a@b:0":                    "fault uri",
		"sip:a@b:65536":                "fault uri",
		"sip:a@b:5060x":                "fault uri",
		"sip:a@b:5060:5061":            "fault uri",
		"sip:a@b/c":                    "fault uri",
		"sip:a@b,c":                    "fault uri",
		"sip:a@b;":                     "1 a||b|0|b||",
		"sip:a@b;;x":                   "fault uri",
		"sip:a@b;x;":                   "1 a||b|0|b|;x|",
		"sip:a@b;?x":                   "fault uri",
		"sip:a@b;=x":                   "fault uri",
		"sip:a@b;x=\"":                 "fault uri",
		"sip:a@b;<":                    "fault uri",
		"sip:a@b?\"":                   "fault uri",
		"sip:2001:db8::1":              "fault uri",
		"sip:[2001:db8::1":             "fault uri",
		"sip:[2001]":                   "fault uri",
		"sip:[]":                       "fault uri",
		"sip:[fe80::1%25eth0]":         "fault uri",
		"sip:a@[2001:db8::1]x":         "fault uri",
		"tel:":                         "fault uri",
		"tel:;x":                       "fault uri",
		"tel:1 2":                      "fault uri",
		"urn:":                         "fault uri",
		"x:\x7f":                       "fault uri",
	} {
		b := []byte(in)
		u, fault := sip.ParseURI(b, all(in))
		got := "fault " + fault.String()
		if fault == sip.OK {
			switch u.Kind {
			case sip.SchemeSIP, sip.SchemeSIPS:
				got = fmt.Sprintf("%d %s|%s|%s|%d|%s|%s|%s", u.Kind, u.User.Of(b), u.Password.Of(b), u.Host.Of(b), u.Port, u.HostPort.Of(b), u.Params.Of(b), u.HeadersPart.Of(b))
			case sip.SchemeTel:
				got = fmt.Sprintf("%d %s||||%s", u.Kind, u.User.Of(b), u.Params.Of(b))
			default:
				got = fmt.Sprintf("%d %s", u.Kind, u.Rest.Of(b))
			}
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
	if _, fault := sip.ParseURI([]byte("sip:a"), sip.Span{Off: 2, End: 9}); fault != sip.FaultURI {
		t.Errorf("span outside: %v", fault)
	}
}

func TestURIParam(t *testing.T) {
	in := []byte("sip:a@b;Transport=TCP;lr;x=\"a;ob;b\";empty=;maddr=1.2.3.4?lr2")
	u, fault := sip.ParseURI(in, sip.Span{End: uint32(len(in))})
	if fault != sip.OK {
		t.Fatal(fault)
	}
	for name, want := range map[string]string{
		"transport": ";Transport=TCP|Transport|TCP", "lr": ";lr|lr|", "x": `;x="a;ob;b"|x|"a;ob;b"`,
		"empty": ";empty=|empty|", "maddr": ";maddr=1.2.3.4|maddr|1.2.3.4", "ob": "", "lr2": "",
	} {
		got := ""
		if p, ok := u.Param(in, name); ok && p.Present {
			got = fmt.Sprintf("%s|%s|%s", p.Whole.Of(in), p.Name.Of(in), p.Value.Of(in))
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestNameAddr(t *testing.T) {
	for in, want := range map[string]string{
		"<sip:a@b>":                       "|sip:a@b||",
		" \"A \\\" <x>\" <sip:a@b>;tag=1": "\"A \\\" <x>\"|sip:a@b|;tag=1|1",
		"A B<sip:a@b;tag=0> ; TAG = 1 ;x": "A B|sip:a@b;tag=0|; TAG = 1 ;x|1",
		"sip:a@b;tag=1":                   "|sip:a@b|;tag=1|1",
		"sip:a@b\r\n ;tag=1":              "|sip:a@b|;tag=1|1",
		"sip:b":                           "|sip:b||",
		"<sip:a@b>;x=\"a;tag=2\";tag=1":   "|sip:a@b|;x=\"a;tag=2\";tag=1|1",
		"<sip:a@b;x=\"<>\">;tag=1":        "|sip:a@b;x=\"<>\"|;tag=1|1",
		"*":                               "|*||",
		"<tel:+1;x>;tag=1":                "|tel:+1;x|;tag=1|1",
		"":                                "fault name-addr",
		" \t":                             "fault name-addr",
		"*;x":                             "fault uri",
		"A":                               "fault uri",
		"\"A\" sip:a@b":                   "fault name-addr",
		"\"A <sip:a@b>":                   "fault name-addr",
		"A \"B\" <sip:a@b>":               "fault name-addr",
		"A;B <sip:a@b>":                   "fault name-addr",
		"A: <sip:a@b>":                    "fault name-addr",
		"sip:x@y <sip:a@b>":               "fault name-addr",
		"<sip:a@b":                        "fault name-addr",
		"<>":                              "fault uri",
		"< sip:a@b >":                     "fault uri",
		"<<sip:a@b>>":                     "fault uri",
		"sip:a@b,sip:c@d":                 "fault name-addr",
		"sip:a@b?x=y":                     "fault name-addr", // RFC 4475 regbadct
		"sip:a;b@c":                       "fault name-addr",
		"<sip:a@b>x":                      "fault param",
		"<sip:a@b>,<sip:c@d>":             "fault param",
		"<sip:a@b>;":                      "|sip:a@b||",
		"<sip:a@b>;tag=1 ; ":              "|sip:a@b|;tag=1|1",
		"<sip:a@b>;;":                     "fault param",
		"<sip:a@b>;=x":                    "fault param",
		"<sip:a@b>;x=\"":                  "fault param",
		"<sip:a@b>;x=a b":                 "fault param",
		"<sip:a@b>;x=\"a\"b":              "fault param",
		"<sip:a@b>;tag":                   "fault param",
		"<sip:a@b>;tag=1;tag=1":           "fault repeated-param",
	} {
		b := []byte(in)
		n, fault := sip.ParseNameAddr(b, all(in))
		got := "fault " + fault.String()
		if fault == sip.OK {
			got = fmt.Sprintf("%s|%s|%s|%s", n.Display.Of(b), n.URISpan.Of(b), n.Params.Of(b), n.Tag.Of(b))
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
		if n.Star != (in == "*") {
			t.Errorf("%q: Star %v", in, n.Star)
		}
	}
}

func TestHeaderParam(t *testing.T) {
	in := []byte("<sip:a@b>;Expires = 60 ;q=0.5;+sip.instance=\"<urn:uuid:1;x>\"; ob;empty= ;methods=\"A,B\"")
	n, fault := sip.ParseNameAddr(in, sip.Span{End: uint32(len(in))})
	if fault != sip.OK {
		t.Fatal(fault)
	}
	for name, want := range map[string]string{
		"expires": ";Expires = 60|Expires|60", "q": ";q=0.5|q|0.5", "ob": "; ob|ob|", "empty": ";empty=|empty|",
		"+sip.instance": `;+sip.instance="<urn:uuid:1;x>"|+sip.instance|"<urn:uuid:1;x>"`,
		"methods":       `;methods="A,B"|methods|"A,B"`, "x": "",
	} {
		got := ""
		if p, ok := n.Param(in, name); ok && p.Present {
			got = fmt.Sprintf("%s|%s|%s", p.Whole.Of(in), p.Name.Of(in), p.Value.Of(in))
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestVia(t *testing.T) {
	for in, want := range map[string]string{
		"SIP/2.0/UDP h": "UDP|h|0|h|||||",
		"SIP/2.0/UDP h:5060;branch=z9hG4bK1;rport":    "UDP|h|5060|h:5060|;branch=z9hG4bK1;rport|z9hG4bK1||;rport|",
		"SIP / 2.0 / TLS\r\n [::1] : 5061 ; maddr=x":  "TLS|[::1]|5061|[::1] : 5061|; maddr=x||||x",
		"sip/2.0/tcp h;RECEIVED=2001:db8::1;Branch=b": "tcp|h|0|h|;RECEIVED=2001:db8::1;Branch=b|b|2001:db8::1||",
		"SIP/2.0/UDP h;received=[::1];rport=1":        "UDP|h|0|h|;received=[::1];rport=1||[::1]|;rport=1|",
		"SIP/2.0/UDP h;ttl=1;x=\";branch=y\"":         "UDP|h|0|h|;ttl=1;x=\";branch=y\"||||",
		"SIP/2.0/UDP h;":                              "UDP|h|0|h|||||",
		"SIP/2.0/UDP h;rport; ":                       "UDP|h|0|h|;rport|||;rport|",
		"SIP/2.0/UDP h;;":                             "fault via",
		"SIP/2.0/UDP":                                 "fault via",
		"SIP/2.0 UDP h":                               "fault via",
		"SIP/UDP h":                                   "fault via",
		"/2.0/UDP h":                                  "fault via",
		"SIP//UDP h":                                  "fault via",
		"SIP/2.0/UDP h;branch=a;branch=a":             "fault repeated-param",
		"SIP/2.0/UDP h;received":                      "fault via",
		"SIP/2.0/UDP ::1":                             "fault via",
		"SIP/2.0/UDP h,":                              "fault via",
		"SIP/2.1/UDP h":                               "fault version",
	} {
		b := []byte(in)
		v, fault := sip.ParseVia(b, all(in))
		got := "fault " + fault.String()
		if fault == sip.OK {
			got = fmt.Sprintf("%s|%s|%d|%s|%s|%s|%s|%s|%s", v.Transport.Of(b), v.Host.Of(b), v.Port, v.SentBy.Of(b), v.Params.Of(b),
				v.Branch.Value.Of(b), v.Received.Value.Of(b), v.RPort.Whole.Of(b), v.MAddr.Value.Of(b))
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
	in := []byte("SIP/2.0/UDP h;ttl=1")
	v, _ := sip.ParseVia(in, sip.Span{End: uint32(len(in))})
	if p, ok := v.Param(in, "ttl"); !ok || string(p.Value.Of(in)) != "1" {
		t.Errorf("ttl: %+v", p)
	}
}

func TestValues(t *testing.T) {
	type value struct {
		text        string
		first, last bool
	}
	for name, c := range map[string]struct {
		lines []string
		want  []value
		fault sip.Fault
	}{
		"none":         {nil, nil, 0},
		"one":          {[]string{"Route: <sip:a>"}, []value{{"<sip:a>", true, true}}, 0},
		"list":         {[]string{"Route: <sip:a> , <sip:b>"}, []value{{"<sip:a>", true, false}, {"<sip:b>", false, true}}, 0},
		"lines":        {[]string{"Route: <sip:a>", "X: y", "Route: <sip:b>,<sip:c>"}, []value{{"<sip:a>", true, true}, {"<sip:b>", true, false}, {"<sip:c>", false, true}}, 0},
		"quotes":       {[]string{`Route: "a,\",b" <sip:x,y>;z="1,2",<sip:b>`}, []value{{`"a,\",b" <sip:x,y>;z="1,2"`, true, false}, {"<sip:b>", false, true}}, 0},
		"in brackets":  {[]string{`Route: <sip:x;y="<,>">,<sip:b>`}, []value{{`<sip:x;y="<,>">`, true, false}, {"<sip:b>", false, true}}, 0},
		"empty":        {[]string{"Route:"}, nil, 0},
		"empty values": {[]string{"Route: ,<sip:a>, ,<sip:b>,"}, []value{{"<sip:a>", true, false}, {"<sip:b>", false, true}}, sip.FaultList},
		"ends empty":   {[]string{"Route: <sip:a>, ,"}, []value{{"<sip:a>", true, true}}, sip.FaultList},
		"only commas":  {[]string{"Route: , ,", "Route: <sip:a>"}, []value{{"<sip:a>", true, true}}, sip.FaultList},
		"open quote":   {[]string{`Route: <sip:a>,"b,<sip:c>`, "Route: <sip:d>"}, []value{{"<sip:a>", true, false}}, sip.FaultList},
		"open bracket": {[]string{"Route: <sip:a>,<sip:b,c"}, []value{{"<sip:a>", true, false}}, sip.FaultList},
		"folds":        {[]string{"Route:\r\n <sip:a>\r\n ,\r\n\t<sip:b>"}, []value{{"<sip:a>", true, false}, {"<sip:b>", false, true}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := parse(t, routes(c.lines...))
			var got []value
			it := m.Values(sip.HeaderRoute)
			for it.Next() {
				got = append(got, value{string(m.Text(it.Value)), it.First, it.Last})
				if m.Headers[it.Header].ID != sip.HeaderRoute {
					t.Errorf("Header %d is none of Route", it.Header)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) || it.Fault != c.fault || it.Next() {
				t.Errorf("got %v, %v", got, it.Fault)
			}
		})
	}
}
