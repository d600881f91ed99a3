package policy_test

import (
	"net/netip"
	"testing"
	"time"

	"sipward/policy"
	"sipward/policy/ban"
	"sipward/policy/iplist"
)

func dnsEngine(t *testing.T, rule policy.DNS) (*policy.Engine, *ban.Table) {
	t.Helper()
	bans, err := ban.New(ban.Config{}, int64(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	rule.Clients = iplist.New([]iplist.Entry{{Prefix: netip.MustParsePrefix("203.0.113.0/24")}})
	return policy.New(policy.Config{DNS: rule, Bans: bans, Sources: 1024}), bans
}

// TestQuestionActions: what each action makes of questions over the limit, and of those of
// strangers.
func TestQuestionActions(t *testing.T) {
	client, stranger := netip.MustParseAddrPort("203.0.113.2:1024"), netip.MustParseAddrPort("198.51.100.7:1024")
	for _, tt := range []struct {
		kind      policy.ActionKind
		transport policy.Transport
		over      policy.Verdict
		stranger  policy.Verdict
		banned    bool
		would     bool
	}{
		{policy.ActionDrop, policy.UDP, policy.Drop, policy.Drop, false, false},
		{policy.ActionReject, policy.UDP, policy.Reject, policy.Reject, false, false},
		{policy.ActionBan, policy.UDP, policy.Drop, policy.Drop, true, false},
		{policy.ActionBan, policy.TCP, policy.Drop, policy.Drop, true, false},
		{policy.ActionWatch, policy.UDP, policy.Pass, policy.Drop, false, true},
		{policy.ActionNotify, policy.UDP, policy.Pass, policy.Drop, false, true},
	} {
		t.Run(tt.kind.String()+" "+tt.transport.String(), func(t *testing.T) {
			a := policy.Action{Kind: tt.kind}
			e, bans := dnsEngine(t, policy.DNS{Rate: 10, Burst: 5, Action: a, Strangers: a})
			now := int64(time.Hour)
			for i := range 5 {
				if d := e.Question(client, tt.transport, now); d.Verdict != policy.Pass || d.Reason != policy.ReasonDNSAsked {
					t.Fatalf("question %d: %+v", i, d)
				}
			}
			if d := e.Question(client, tt.transport, now); d.Verdict != tt.over || (d.Would == policy.ReasonDNSLimit) != tt.would {
				t.Errorf("over the limit: %+v", d)
			}
			for range 5 {
				e.Question(client, tt.transport, now)
			}
			if got := bans.Banned(client.Addr(), now); got != tt.banned {
				t.Errorf("the client is banned: %v", got)
			}
			d := e.Question(stranger, tt.transport, now)
			if d.Verdict != tt.stranger || d.Reason != policy.ReasonDNSStranger {
				t.Errorf("a stranger: %+v", d)
			}
			r, got := bans.Lookup(stranger.Addr(), now)
			if got != tt.banned || got && (r.Proven != tt.transport.Connected() || r.Guard != "dns-stranger") {
				t.Errorf("the stranger's ban: %v %+v", got, r)
			}
		})
	}
}

// TestQuestionOfTheBanned: lists and bans are those of SIP, but a client is not held to the
// flood limit of SIP.
func TestQuestionOfTheBanned(t *testing.T) {
	e, bans := dnsEngine(t, policy.DNS{})
	client := netip.MustParseAddrPort("203.0.113.2:1024")
	now := int64(time.Hour)
	for range 10_000 {
		if d := e.Question(client, policy.UDP, now); d.Verdict != policy.Pass {
			t.Fatalf("%+v", d)
		}
	}
	if _, err := bans.Add(ban.Record{Prefix: netip.MustParsePrefix("203.0.113.2/32"), Kind: ban.Manual, Start: now, Reason: "ban"}, now); err != nil {
		t.Fatal(err)
	}
	if d := e.Question(client, policy.UDP, now); d.Verdict != policy.Drop || d.Reason != policy.ReasonBan {
		t.Errorf("%+v", d)
	}
}
