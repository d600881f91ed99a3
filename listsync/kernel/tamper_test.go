//go:build linux

package kernel_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sipward/listsync/kernel"
)

// TestRepairs: somebody else changes what is the mirror's.
func TestRepairs(t *testing.T) {
	bad := netip.MustParseAddr(bad4)
	acts := map[kernel.Backend]map[string]string{
		kernel.BackendIPSet: {
			"flush the set":         "ipset flush sipward-ban4",
			"delete an entry":       "ipset del sipward-ban4 " + bad4,
			"shorten an entry":      "ipset -exist add sipward-ban4 " + bad4 + " timeout 10",
			"add entries":           "ipset add sipward-ban4 " + other4 + "; ipset add sipward-ban6 2001:db8:2:67::/64 timeout 500",
			"delete the rule":       "iptables -t raw -F SIPWARD",
			"delete the jump":       "iptables -t raw -D PREROUTING -j SIPWARD; ip6tables -t raw -D PREROUTING -j SIPWARD",
			"double the jump":       "iptables -t raw -A PREROUTING -j SIPWARD",
			"add a rule":            "iptables -t raw -I SIPWARD -j RETURN",
			"delete all rules":      "iptables -t raw -F; iptables -t raw -X; ip6tables -t raw -F; ip6tables -t raw -X",
			"delete rule and set":   "iptables -t raw -F; iptables -t raw -X; ip6tables -t raw -F; ip6tables -t raw -X; ipset destroy",
			"put another set there": "iptables -t raw -F; iptables -t raw -X; ipset destroy sipward-ban4; ipset create sipward-ban4 hash:net maxelem 7 timeout 0",
		},
		kernel.BackendNFTables: {
			"flush the set":           "nft flush set inet sipward-lists ban4.32.g1",
			"delete an entry":         "nft delete element inet sipward-lists ban4.32.g1 { " + bad4 + " }",
			"shorten an entry":        "nft delete element inet sipward-lists ban4.32.g1 { " + bad4 + " }; nft add element inet sipward-lists ban4.32.g1 { " + bad4 + " timeout 10s }",
			"add entries":             "nft add element inet sipward-lists ban4.32.g1 { " + other4 + " }; nft add element inet sipward-lists ban6.64.g1 { 2001:db8:2:67:: timeout 500s }",
			"delete the rules":        "nft flush chain inet sipward-lists guard4",
			"delete the jump":         "nft flush chain inet sipward-lists prerouting",
			"add a rule":              "nft insert rule inet sipward-lists guard4 accept",
			"flush the table":         "nft flush table inet sipward-lists",
			"delete the table":        "nft delete table inet sipward-lists",
			"delete the ruleset":      "nft flush ruleset",
			"put another table there": "nft delete table inet sipward-lists; nft add table inet sipward-lists; nft add chain inet sipward-lists prerouting '{ type filter hook input priority 7; }'; nft add chain inet sipward-lists guard4 '{ type filter hook output priority 0; }'",
		},
	}
	each(t, func(t *testing.T, b kernel.Backend) {
		p := newPeer(t, bad4, other4, bad6, other6)
		sip := listen(t, protected)
		for what, act := range acts[b] {
			t.Run(what, func(t *testing.T) {
				l := start(t, config(b), &bans{}).up()
				l.bans.add(bad4+"/32", time.Hour)
				l.bans.add("2001:db8:2:66::/64", 0)
				l.settled()
				run(t, "sh", "-ec", act)
				if err := l.Check(t.Context()); err != nil {
					l.until("it follows again", func() bool { return l.Status().Repairs > 0 })
				}
				p.expect(sip, "after the repair", []string{other4, other6}, []string{bad4, bad6})
				if err := l.Check(t.Context()); err != nil {
					t.Error("compare again:", err)
				}
				if s := l.Status(); s.Repairs != 1 || s.Reason != "" {
					t.Errorf("status %+v, want 1 repair", s)
				}
				if k := l.kinds(); !slices.Equal(k, []kernel.EventKind{kernel.EventUp, kernel.EventRepaired}) {
					t.Errorf("events %v", l.events)
				}
				// And whatever changes next gets through.
				l.bans.put(netip.PrefixFrom(bad, 32), time.Minute)
				l.bans.add(other4+"/32", time.Minute)
				l.settled()
				p.expect(sip, "next ban", []string{other6}, []string{bad4, other4, bad6})
			})
		}
	})
}

// A change that fails makes the mirror look at once, not at the next comparison.
func TestErrorRepairsAtOnce(t *testing.T) {
	acts := map[kernel.Backend]string{
		kernel.BackendIPSet:    "iptables -t raw -F; iptables -t raw -X; ip6tables -t raw -F; ip6tables -t raw -X; ipset destroy",
		kernel.BackendNFTables: "nft delete table inet sipward-lists",
	}
	each(t, func(t *testing.T, b kernel.Backend) {
		p := newPeer(t, bad4, other4, bad6)
		sip := listen(t, protected)
		l := start(t, config(b), &bans{}).up()
		l.bans.add(bad4+"/32", time.Hour)
		l.settled()
		run(t, "sh", "-ec", acts[b])
		l.bans.add("2001:db8:2:66::/64", time.Hour)
		l.until("it is repaired", func() bool { return l.Status().Repairs == 1 })
		p.expect(sip, "after the repair", []string{other4}, []string{bad4, bad6})
	})
}

func TestForeignObjectsAreUntouched(t *testing.T) {
	each(t, func(t *testing.T, b kernel.Backend) {
		undo := func() {
			_ = exec.Command("sh", "-c", "iptables -t raw -F PREROUTING; iptables -t raw -F SIPWARD2; iptables -t raw -X SIPWARD2; ipset destroy theirs; ipset destroy sipward2-ban4; nft delete table inet theirs; nft delete table ip sipward-lists").Run()
		}
		t.Cleanup(undo)
		run(t, "sh", "-ec", `ipset create theirs hash:ip; ipset add theirs 192.0.2.7
			ipset create sipward2-ban4 hash:net; ipset add sipward2-ban4 192.0.2.8
			iptables -t raw -N SIPWARD2
			iptables -t raw -A PREROUTING -m set --match-set theirs src -j DROP
			iptables -t raw -A PREROUTING -j SIPWARD2
			nft add table inet theirs; nft add set inet theirs ban4.32.g1 '{ type ipv4_addr; }'
			nft add element inet theirs ban4.32.g1 '{ 192.0.2.9 }'
			nft add table ip sipward-lists; nft add chain ip sipward-lists guard4`)
		theirs := func() string {
			return run(t, "ipset", "list", "theirs") + run(t, "ipset", "list", "sipward2-ban4") +
				run(t, "nft", "list", "table", "inet", "theirs") + run(t, "nft", "list", "table", "ip", "sipward-lists") +
				run(t, "sh", "-c", "iptables -t raw -S | grep -v -E 'SIPWARD($|-| )'")
		}
		// The count of references of a set is part of the listing; ours adds none.
		before := theirs()
		cfg := config(b)
		cfg.RemoveOnExit = true
		l := start(t, cfg, &bans{}).up()
		l.bans.add(bad4+"/32", time.Hour)
		l.LimitStrangers(100)
		l.settled()
		if err := l.Sync(t.Context()); err != nil {
			t.Error("Sync:", err)
		}
		during := theirs()
		if err := l.Clear(t.Context()); err != nil {
			t.Error("Clear:", err)
		}
		l.stop()
		for when, now := range map[string]string{"while it ran": during, "after": theirs()} {
			if now != before {
				t.Errorf("%s, what others have was changed; before:\n%s\nnow:\n%s", when, before, now)
			}
		}
	})
}

func TestFullSet(t *testing.T) {
	each(t, func(t *testing.T, b kernel.Backend) {
		p := newPeer(t, bad4, other4)
		sip := listen(t, protected)
		cfg := config(b)
		cfg.MaxEntries = 10
		l := start(t, cfg, &bans{}).up()
		for i := range 9 {
			l.bans.add(fmt.Sprintf("192.0.2.%d/32", i), time.Hour)
		}
		l.bans.add(bad4+"/32", time.Hour)
		for i := range 5 {
			l.bans.add(fmt.Sprintf("192.0.2.%d/32", 100+i), time.Minute)
		}
		l.bans.add(other4+"/32", 2*time.Hour)
		l.settled()
		p.expect(sip, "full", []string{other4}, []string{bad4})
		if k := l.kinds(); !slices.Equal(k, []kernel.EventKind{kernel.EventUp, kernel.EventFull}) {
			t.Errorf("events %v", l.events)
		}
		if s := l.Status().Sets[4]; s.Entries != 10 || s.Over != 6 {
			t.Errorf("status %+v, want 10 entries and 6 over", s)
		}
		l.bans.remove(bad4 + "/32")
		l.settled() // makes room for the one that lasts longest
		p.expect(sip, "room", []string{bad4}, []string{other4})

		// Others fill it.
		set, cmd := "", ""
		switch b {
		case kernel.BackendIPSet:
			cmd = "ipset flush sipward-ban4; for i in $(seq 10); do ipset add sipward-ban4 198.18.0.$i; done"
		default:
			set = run(t, "sh", "-c", "nft list table inet sipward-lists | grep -o 'ban4.32.g[0-9]*' | head -1")
			cmd = "nft add element inet sipward-lists " + strings.TrimSpace(set) + " { 198.18.0.0, 198.18.0.1, 198.18.0.2, 198.18.0.3, 198.18.0.4 }"
		}
		run(t, "sh", "-ec", cmd)
		l.settled()
		p.expect(sip, "filled by others", []string{bad4}, []string{other4})
		if out := dump(t); strings.Contains(out, "198.18.") {
			t.Errorf("what others have put in is still there:\n%s", out)
		}

		for i := range 9 {
			l.bans.remove(fmt.Sprintf("192.0.2.%d/32", i))
		}
		l.settled()
		l.until("it is told that all fit", func() bool { k := l.kinds(); return k[len(k)-1] == kernel.EventRoom })
		if n := len(slices.DeleteFunc(l.kinds(), func(k kernel.EventKind) bool { return k != kernel.EventFull && k != kernel.EventRoom })); n != 2 {
			t.Errorf("events %v", l.events)
		}
	})
}

func TestClearAndSync(t *testing.T) {
	each(t, func(t *testing.T, b kernel.Backend) {
		p := newPeer(t, bad4, other4)
		sip := listen(t, protected)
		l := start(t, config(b), &bans{}).up()
		l.bans.add(bad4+"/32", time.Hour)
		l.settled()
		if err := l.Clear(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.bans.add(other4+"/32", time.Hour)
		time.Sleep(50 * time.Millisecond) // it must not come back by itself
		p.expect(sip, "cleared", []string{bad4, other4}, nil)
		if s := l.Status(); s.Backend != kernel.BackendNone || !strings.Contains(s.Reason, "sync") {
			t.Errorf("status %+v", s)
		}
		if err := l.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.expect(sip, "synced", nil, []string{bad4, other4})
	})
}

// With the rules in the administrator's hands there are sets, or chains, for
// his own.
func TestNoRules(t *testing.T) {
	own := map[kernel.Backend]string{
		kernel.BackendIPSet:    "iptables -t raw -A PREROUTING -m set --match-set sipward-ban4 src -j DROP",
		kernel.BackendNFTables: "nft add chain inet sipward-lists own '{ type filter hook prerouting priority raw; }'; nft add rule inet sipward-lists own meta nfproto ipv4 udp dport 5060 goto guard4",
	}
	each(t, func(t *testing.T, b kernel.Backend) {
		t.Cleanup(func() { _ = exec.Command("iptables", "-t", "raw", "-F").Run() })
		p := newPeer(t, bad4, other4)
		sip := listen(t, protected)
		first := start(t, config(b), &bans{}).up() // whose rules must go
		first.stop()
		if b == kernel.BackendIPSet {
			run(t, "iptables", "-t", "raw", "-F")
		}
		cfg := config(b)
		cfg.NoRules = true
		l := start(t, cfg, &bans{}).up()
		l.bans.add(bad4+"/32", time.Hour)
		l.settled()
		p.expect(sip, "without rules", []string{bad4, other4}, nil)
		run(t, "sh", "-ec", own[b])
		p.expect(sip, "with own rules", []string{other4}, []string{bad4})
		if err := l.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.bans.remove(bad4 + "/32")
		l.bans.add("203.0.113.67/32", time.Hour)
		l.settled()
		p.expect(sip, "after a sync", []string{bad4}, []string{other4})
		run(t, "iptables", "-t", "raw", "-F")
	})
}

const role = "SIPWARD_KERNEL_TEST_ROLE"

// TestWithoutRoot is run again by TestCapabilities in a process that is nobody.
func TestWithoutRoot(t *testing.T) {
	want := os.Getenv(role)
	if want == "" {
		t.Skip("part of TestCapabilities")
	}
	backend, may, _ := strings.Cut(want, " ")
	l := start(t, config(kernel.Backend(backend)), &bans{})
	if may == "may" {
		l.up()
		l.bans.add(bad4+"/32", time.Hour)
		l.LimitStrangers(10)
		l.settled()
		return
	}
	l.until("it has given up", func() bool { return l.Status().Reason != "not started" })
	if s := l.Status(); !strings.Contains(s.Reason, "CAP_NET_ADMIN") || s.Backend != kernel.BackendNone {
		t.Errorf("status %+v", s)
	}
	l.bans.add(bad4+"/32", time.Hour) // goes nowhere and harms nobody
	time.Sleep(300 * time.Millisecond)
	if k := l.kinds(); len(k) != 1 || k[0] != kernel.EventDown {
		t.Errorf("events %v, want one", l.events)
	}
}

func TestCapabilities(t *testing.T) {
	for _, b := range []kernel.Backend{kernel.BackendAuto, kernel.BackendIPSet, kernel.BackendNFTables} {
		for _, may := range []string{"may", "may-not"} {
			t.Run(string(b)+" "+may, func(t *testing.T) {
				needKernel(t)
				cmd := exec.Command("/proc/self/exe", "-test.run=^TestWithoutRoot$", "-test.v")
				cmd.Env = append(os.Environ(), role+"="+string(b)+" "+may)
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
				if may == "may" {
					cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN}
				}
				if may == "may" && b == kernel.BackendIPSet { // iptables asks for it
					cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW}
				}
				cmd.Dir = "/"
				out, err := cmd.CombinedOutput()
				if err != nil || strings.Contains(string(out), "SKIP") {
					t.Errorf("%v: %s", err, out)
				}
			})
		}
	}
}
