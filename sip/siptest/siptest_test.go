package siptest_test

import (
	"testing"

	"sipward/sip"
	"sipward/sip/siptest"
)

// What the builders make, the scanner accepts, over UDP and TCP.
func TestBuilders(t *testing.T) {
	auth := siptest.Auth("alice", "example.com", "dcd98b7102dd2f0e8b11d0f600bfb0c093", "sip:example.com")
	invite := siptest.Invite(siptest.Options{User: "a", To: "b", Transport: "TCP", Via: "[2001:db8::1]:5060", Pad: 100})
	ok := siptest.Response(invite, 200, "OK", siptest.Options{Contact: "sip:b@192.0.2.20", Body: siptest.SDP("2001:db8::2", 4000)})
	for name, c := range map[string]struct {
		msg    []byte
		method sip.Method
		status int
	}{
		"register":  {siptest.Register(siptest.Options{}), sip.MethodRegister, 0},
		"auth":      {siptest.Register(siptest.Options{Auth: auth, Expires: -1}), sip.MethodRegister, 0},
		"invite":    {invite, sip.MethodInvite, 0},
		"bye":       {siptest.Request("BYE", siptest.Options{ToTag: "x", NoContact: true, CSeq: 2, MaxForwards: -1}), sip.MethodBye, 0},
		"trying":    {siptest.Response(invite, 100, "Trying", siptest.Options{}), sip.MethodInvite, 100},
		"ok":        {ok, sip.MethodInvite, 200},
		"challenge": {siptest.Response(invite, 407, "Proxy Authentication Required", siptest.Options{Headers: []string{`Proxy-Authenticate: Digest realm="r", nonce="n"`}}), sip.MethodInvite, 407},
	} {
		var m sip.Message
		if fault := m.Parse(c.msg, true); fault != sip.OK || m.Method != c.method || m.Status != c.status {
			t.Errorf("%s: %v, %v, %d\n%s", name, fault, m.Method, m.Status, c.msg)
		}
		if want := c.status != 100 && c.status != 0 || name == "bye"; m.To.Tag.Empty() == want {
			t.Errorf("%s: To tag %q", name, m.Text(m.To.Tag))
		}
	}
	if n := len(siptest.Register(siptest.Options{Auth: auth})); n < 780 || n > 820 {
		t.Errorf("a REGISTER with credentials has %d bytes, should be like a phone's 800", n)
	}
	if n := len(siptest.Torture(t)); n < 49 {
		t.Errorf("%d torture messages", n)
	}
}
