package sip_test

import (
	"testing"

	"sipward/sip"
	"sipward/sip/siptest"
)

// register is a REGISTER with credentials, as desk phones send it.
func register() []byte {
	return siptest.Register(siptest.Options{Auth: siptest.Auth("alice", "example.com", "dcd98b7102dd2f0e8b11d0f600bfb0c093", "sip:example.com")})
}

func TestParseRegister(t *testing.T) {
	raw := register()
	var m sip.Message
	if fault := m.Parse(raw, false); fault != sip.OK {
		t.Fatalf("Parse: %v\n%s", fault, raw)
	}
	for _, c := range []struct {
		got  sip.Span
		want string
	}{
		{m.MethodText, "REGISTER"}, {m.RequestURI, "sip:example.com"}, {m.URI.Host, "example.com"},
		{m.Via.Transport, "UDP"}, {m.Via.SentBy, "192.0.2.10:5060"}, {m.Via.Branch.Value, "z9hG4bK-register-1-7e5a01"},
		{m.From.Display, `"alice"`}, {m.From.URI.User, "alice"}, {m.From.Tag, "a73kszlfl"},
		{m.To.URISpan, "sip:alice@example.com"}, {m.To.Tag, ""}, {m.CallID, "7e5a01@192.0.2.10:5060"},
		{m.CSeqMethod, "REGISTER"}, {m.MaxForwardsValue, "70"}, {m.Body, ""},
	} {
		if got := string(m.Text(c.got)); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if m.Method != sip.MethodRegister || m.CSeq != 1 || m.MaxForwards != 70 || m.ContentLength != 0 || m.ViaCount != 1 || m.Via.Port != 5060 || !m.Via.RPort.Present {
		t.Errorf("numbers: %+v", m.Via)
	}
}
