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

// Carriers of the tests. A number that begins with 9 goes to trunk.example.com, whose first host has no SIP server any more
// (its kernel says so), one that begins with 8 to silent.example.com, whose first host does not exist.
var (
	carrierAt       = netip.AddrPortFrom(lab.Phone(60), 5070)
	silentCarrierAt = netip.AddrPortFrom(lab.Phone(61), 5070)
	carrierRecords  = []string{
		"_sip._udp.trunk.example.com. 60 IN SRV 10 1 5060 gone.example.com.",
		"_sip._udp.trunk.example.com. 60 IN SRV 20 1 5070 live.example.com.",
		fmt.Sprintf("gone.example.com. 60 IN A %v", lab.Phone(62)),
		fmt.Sprintf("live.example.com. 60 IN A %v", carrierAt.Addr()),
		"_sip._udp.silent.example.com. 60 IN SRV 10 1 5060 nobody.example.com.",
		"_sip._udp.silent.example.com. 60 IN SRV 20 1 5070 standby.example.com.",
		fmt.Sprintf("nobody.example.com. 60 IN A %v", lab.Nobody),
		fmt.Sprintf("standby.example.com. 60 IN A %v", silentCarrierAt.Addr()),
	}
)

// testTrunk: the PBX calls out through sipward, its outbound proxy, which finds the carrier in DNS.
func (s *site) testTrunk(t *testing.T) {
	if direct {
		t.Skip("the trunks' outbound proxy is sipward")
	}
	carrier := s.phoneWith(t, udp, phone.Config{User: "carrier", Domain: "trunk.example.com", Local: carrierAt}, 0)
	standby := s.phoneWith(t, udp, phone.Config{User: "carrier", Domain: "silent.example.com", Local: silentCarrierAt}, 0)
	caller := s.registered(t, udp, "1001", 1)
	t.Run("refused", func(t *testing.T) {
		out, in := s.dialOut(t, caller, carrier, "912345", "trunk.example.com")
		want(t, 200)(out.Bye(within(t, patience)))
		ended(t, in)
	})
	t.Run("refused-again", func(t *testing.T) {
		out, in := s.dialOut(t, caller, carrier, "912346", "trunk.example.com")
		want(t, 200)(in.Bye(within(t, patience)))
		ended(t, out)
	})
	t.Run("silent", func(t *testing.T) {
		out, in := s.dialOut(t, caller, standby, "812347", "silent.example.com")
		want(t, 200)(in.Bye(within(t, patience)))
		ended(t, out)
	})
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
func (s *site) dialOut(t *testing.T, caller, carrier *phone.Phone, number, host string) (out, in *phone.Call) {
	t.Helper()
	begun := time.Now()
	out = must[*phone.Call](t)(caller.Call(within(t, 4*patience), "sip:"+number+"@"+s.pbx.Domain()))
	in = must[*phone.Call](t)(carrier.Incoming(within(t, 2*patience)))
	t.Logf("the carrier's phone rang after %v", time.Since(begun).Round(time.Millisecond))
	if uri := in.Invite.RequestURI(); !strings.HasPrefix(uri, "sip:"+number[1:]+"@"+host) {
		t.Errorf("the carrier got an INVITE to %q", uri)
	}
	if from := in.Invite.Source.Addr(); from != lab.EdgeWAN {
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
