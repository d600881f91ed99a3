//go:build linux

package e2e_test

import (
	"strings"
	"testing"

	"sipward/e2e/phone"
)

// testSIPS: phones whose contacts are sips URIs call each other by sips URIs, through a PBX that is not spoken to over TLS
// and would refuse them. What the phones see is as RFC 5630 wants it.
func (s *site) testSIPS(t *testing.T, w wire) {
	var phones [2]*phone.Phone
	for i, user := range []string{"1001", "1002"} {
		contact := "sips:" + user + "@10.9.9.9:5061;ob"
		if w == wssWire {
			contact = "sips:" + user + "@x1y2z3.invalid;transport=ws"
		}
		phones[i] = s.phoneWith(t, w, phone.Config{User: user, Contact: contact}, i+1)
		register(t, phones[i])
	}
	caller, callee := phones[0], phones[1]
	for _, uri := range []string{"sips:1002@" + s.pbx.Domain(), callee.AoR()} {
		t.Run(strings.SplitN(uri, ":", 2)[0], func(t *testing.T) {
			out := must[*phone.Call](t)(caller.Call(within(t, patience), uri))
			in := must[*phone.Call](t)(callee.Incoming(within(t, patience)))
			s.arrives(t, w, callee, in.Invite)
			for _, name := range []string{"Contact", "Record-Route"} {
				if got := in.Invite.Value(name); !strings.HasPrefix(got, "<sips:") {
					t.Errorf("%s of a call to a sips URI is %s", name, got)
				}
			}
			in.Ring()
			if err := in.Answer(within(t, patience)); err != nil {
				t.Fatal(err)
			}
			ok := want(t, 200)(out.Answered(within(t, patience)))
			if got, secure := ok.Value("Contact"), strings.HasPrefix(uri, "sips:"); strings.HasPrefix(got, "<sips:") != secure {
				t.Errorf("called by %s, answered with the Contact %s", uri, got)
			}
			want(t, 200)(out.Request(within(t, patience), "INVITE", caller.SDP()))
			want(t, 200)(in.Request(within(t, patience), "INVITE", callee.SDP()))
			if strings.HasPrefix(uri, "sips:") {
				want(t, 200)(in.Bye(within(t, patience)))
				ended(t, out)
			} else {
				want(t, 200)(out.Bye(within(t, patience)))
				ended(t, in)
			}
		})
	}
}
