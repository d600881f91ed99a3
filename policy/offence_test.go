package policy_test

import (
	"net/netip"
	"testing"
	"time"

	"sipward/policy"
)

// TestOffence: what another protocol's front holds against a source has the
// consequences that it would have with SIP.
func TestOffence(t *testing.T) {
	stranger, proven := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8")
	s := newSim(t, simConfig())
	o := policy.Offence{
		Source: stranger, Reason: policy.ReasonEnumeration, Count: 30, Period: time.Minute, Detail: "names of files that do not exist",
		StandIn: time.Minute,
	}
	s.e.Exhibit(stranger, o.Reason, "RRQ", "0004f2000001.cfg", false, s.now)
	if until := s.e.Charge(&o, s.now); until != 0 {
		t.Errorf("banned, and refused until %d", until)
	}
	r, ok := s.bans.Lookup(stranger, s.now)
	if !ok || r.Proven || time.Duration(r.Until-r.Start) != 5*time.Minute {
		t.Errorf("the ban on unproven evidence: %+v, %v", r, ok)
	}
	if x := s.e.Explain(stranger, s.now).Exhibits; len(x) != 1 || x[0].Method != "RRQ" || x[0].Detail != "0004f2000001.cfg" {
		t.Errorf("exhibits: %+v", x)
	}
	o.Source, o.Proven = proven, true
	s.e.Charge(&o, s.now)
	if r, ok := s.bans.Lookup(proven, s.now); !ok || !r.Proven || time.Duration(r.Until-r.Start) != time.Hour {
		t.Errorf("the ban on proven evidence: %+v, %v", r, ok)
	}
	o.Source, o.Action = netip.MustParseAddr("192.0.2.9"), policy.Action{Kind: policy.ActionDrop}
	if until := s.e.Charge(&o, s.now); until != s.now+int64(time.Minute) {
		t.Errorf("with drop it is refused until %d, now is %d", until, s.now)
	}
}
