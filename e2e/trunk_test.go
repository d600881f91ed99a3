//go:build linux

package e2e_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
)

// Carriers of the tests; the digits that lead to them are in lab.Trunks. The first host of trunk.example.com, of
// stream.example.com and of six.example.com has no SIP server any more (its kernel says so), that of silent.example.com does
// not exist.
var (
	carrierAt       = netip.AddrPortFrom(lab.Phone(60), 5070)
	silentCarrierAt = netip.AddrPortFrom(lab.Phone(61), 5070)
	sixCarrierAt    = netip.AddrPortFrom(lab.Phone6(10), 5070)
	carrierRecords  = []string{
		"_sip._udp.trunk.example.com. 60 IN SRV 10 1 5060 gone.example.com.",
		"_sip._udp.trunk.example.com. 60 IN SRV 20 1 5070 live.example.com.",
		"_sip._tcp.stream.example.com. 60 IN SRV 10 1 5060 gone.example.com.",
		"_sip._tcp.stream.example.com. 60 IN SRV 20 1 5070 live.example.com.",
		fmt.Sprintf("gone.example.com. 60 IN A %v", lab.Phone(62)),
		fmt.Sprintf("live.example.com. 60 IN A %v", carrierAt.Addr()),
		"_sip._udp.silent.example.com. 60 IN SRV 10 1 5060 nobody.example.com.",
		"_sip._udp.silent.example.com. 60 IN SRV 20 1 5070 standby.example.com.",
		fmt.Sprintf("nobody.example.com. 60 IN A %v", lab.Nobody),
		fmt.Sprintf("standby.example.com. 60 IN A %v", silentCarrierAt.Addr()),
		"_sip._udp.six.example.com. 60 IN SRV 10 1 5060 gone6.example.com.",
		"_sip._udp.six.example.com. 60 IN SRV 20 1 5070 live6.example.com.",
		"_sip._tcp.six-stream.example.com. 60 IN SRV 10 1 5070 live6.example.com.",
		fmt.Sprintf("gone6.example.com. 60 IN AAAA %v", lab.Phone6(11)),
		fmt.Sprintf("live6.example.com. 60 IN AAAA %v", sixCarrierAt.Addr()),
	}
)

// carrier is a carrier's server. Over TCP it waits for connections.
func (s *site) carrier(t *testing.T, w wire, name string, at netip.AddrPort) *phone.Phone {
	t.Helper()
	return s.phoneWith(t, w, phone.Config{User: "carrier", Domain: name + ".example.com", Local: at, Listen: true}, 0)
}

// testTrunk: the PBX calls out through sipward, its outbound proxy, which finds the carrier in DNS.
func (s *site) testTrunk(t *testing.T) {
	if direct {
		t.Skip("the trunks' outbound proxy is sipward")
	}
	carrier := s.carrier(t, udp, "trunk", carrierAt)
	caller := s.registered(t, udp, "1001", 1)
	for _, c := range []struct {
		name, prefix, host string
		carrier            *phone.Phone
		most               time.Duration // until it rings
	}{
		// The PBX sends an INVITE again after 0.5 s, 1.5 s, 3.5 s. A refusal is known by the second or third time.
		{"refused", "9", "trunk", carrier, 3 * time.Second},
		{"refused-again", "9", "trunk", carrier, 3 * time.Second},
		{"silent", "8", "silent", s.carrier(t, udp, "silent", silentCarrierAt), 2 * patience},
		{"tcp", "7", "stream", s.carrier(t, tcp, "stream", carrierAt), patience},
		{"udp6", "5", "six", s.carrier(t, udp6, "six", sixCarrierAt), patience},
		{"tcp6", "4", "six-stream", s.carrier(t, tcp6, "six-stream", sixCarrierAt), patience},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, in := s.dialOut(t, caller, c.carrier, c.prefix+"12345", c.host+".example.com", c.most)
			want(t, 200)(out.Bye(within(t, patience)))
			ended(t, in)
			out, in = s.dialOut(t, caller, c.carrier, c.prefix+"12346", c.host+".example.com", 3*time.Second)
			want(t, 200)(in.Bye(within(t, patience)))
			ended(t, out)
		})
	}
	t.Run("cancel", func(t *testing.T) {
		out := must[*phone.Call](t)(caller.Call(within(t, 4*patience), "sip:912348@"+s.pbx.Domain()))
		in := must[*phone.Call](t)(carrier.Incoming(within(t, patience)))
		in.Ring()
		want(t, 180)(out.Ringing(within(t, patience), 180))
		want(t, 200)(out.Cancel(within(t, patience)))
		want(t, 487)(out.Answered(within(t, patience)))
		if how := must[string](t)(in.WaitEnd(within(t, patience))); how != "CANCEL" {
			t.Fatalf("the carrier's call ended with %s", how)
		}
	})
	if asked := s.dns.Asked(); !slices.Contains(asked, "_sip._udp.trunk.example.com. SRV") {
		t.Errorf("nobody asked for the trunk's SRV records: %q", asked)
	}
}

// dialOut calls a number at a carrier, who answers and changes the call.
func (s *site) dialOut(t *testing.T, caller, carrier *phone.Phone, number, host string, most time.Duration) (out, in *phone.Call) {
	t.Helper()
	begun := time.Now()
	out = must[*phone.Call](t)(caller.Call(within(t, 4*patience), "sip:"+number+"@"+s.pbx.Domain()))
	in = must[*phone.Call](t)(carrier.Incoming(within(t, 2*patience)))
	took := time.Since(begun)
	t.Logf("the carrier's phone rang after %v", took.Round(time.Millisecond))
	if took > most {
		t.Errorf("it took %v, want %v at most", took, most)
	}
	if uri := in.Invite.RequestURI(); !strings.HasPrefix(uri, "sip:"+number[1:]+"@"+host) {
		t.Errorf("the carrier got an INVITE to %q", uri)
	}
	if from := in.Invite.Source.Addr(); from != s.proxy(carrier.Local().Addr().Is6()).Addr() {
		t.Errorf("it came from %v", from)
	}
	for _, v := range append(in.Invite.Values("Route"), in.Invite.Value("Via")) {
		if strings.Contains(v, lab.EdgePBX.String()) {
			t.Errorf("the carrier sees sipward's inside: %q", v)
		}
	}
	in.Ring()
	want(t, 180)(out.Ringing(within(t, patience), 180))
	if err := in.Answer(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	want(t, 200)(out.Answered(within(t, patience)))
	want(t, 200)(in.Request(within(t, patience), "INVITE", carrier.SDP()))
	return out, in
}
