package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sipward/conf"
	"sipward/listsync/kernel"
)

// TestKernelCommands drives what sipward has put into the kernel, in a network namespace
// of the test's own.
func TestKernelCommands(t *testing.T) {
	if !namespaced(t) {
		return
	}
	r := start(t, "kernel: {backend: nftables, name: edge2}")
	status := func(args ...string) (s kernel.Status) {
		t.Helper()
		if err := json.Unmarshal([]byte(r.cli(0, append(words("kernel"), append(args, "--json")...))), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	for end := time.Now().Add(30 * time.Second); status("status").Reason != ""; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the kernel does not follow: %+v", status("status"))
		}
	}
	r.cli(0, words("ban 192.0.2.7 --for 1h"))
	r.cli(0, words("deny 192.0.2.8"))
	r.cli(0, words("allow 192.0.2.9"))
	s := status("sync")
	entries := map[string]int{}
	for _, x := range s.Sets {
		entries[x.Name] = x.Entries
	}
	// The allow list has the PBX, too, and the deny list the entry of the configuration.
	if s.Resyncs != 2 || entries["ban4"] != 3 || entries["allow4"] != 2 {
		t.Errorf("after a sync: %+v", s)
	}
	r.cli(0, words("kernel status"), "nftables", "ban4", "3 entries")
	r.cli(0, words("status"), "kernel", "nftables")
	if tables := nftTables(t); !slices.Contains(tables, "table inet edge2-lists") {
		t.Errorf("the tables are %q", tables)
	}
	r.cli(0, words("kernel clear"), "NOT FOLLOWING", "cleared by command")
	if tables := nftTables(t); len(tables) != 0 {
		t.Errorf("after clear the tables are %q", tables)
	}
	r.cli(0, words("kernel sync"))
	r.end()
	r.cli(exitUnreachable, words("kernel clear"), "--offline")
	if tables := nftTables(t); !slices.Contains(tables, "table inet edge2-lists") {
		t.Errorf("after the end the tables are %q", tables)
	}
	if code, out := command(t, "kernel", "clear", "--offline", "--name", "edge2"); code != 0 {
		t.Errorf("clear --offline: exit %d: %s", code, out)
	}
	if tables := nftTables(t); len(tables) != 0 {
		t.Errorf("after clear --offline the tables are %q", tables)
	}
}

// TestKernelIsTold: what becomes of the mirror is told to administrators, and is among the
// notices.
func TestKernelIsTold(t *testing.T) {
	if !namespaced(t) {
		return
	}
	r := prepare(t)
	told := filepath.Join(r.dir, "told")
	r.write(strings.Replace(r.text(), noKernel, "kernel: {backend: nftables, name: edge3, interval: 1s}\n", 1) + fmt.Sprintf(`
notify:
  channels: [{name: note, type: command, run: [/bin/sh, -c, "cat >> %s"]}]
  rules: [{severity: info, channels: [note]}]
`, told))
	r.begin()
	t.Cleanup(r.end)
	until := func(phase, kind, text string) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			all, _ := os.ReadFile(told) // which is not there before the first
			for line := range strings.Lines(string(all)) {
				if strings.Contains(line, `"phase":"`+phase+`"`) && strings.Contains(line, `"kind":"`+kind+`"`) && strings.Contains(line, text) {
					return
				}
			}
			if time.Now().After(end) {
				t.Fatalf("no %s of %s with %q among\n%s", phase, kind, text, all)
			}
		}
	}
	r.await(words("status"), "kernel-up: Bans are mirrored")
	r.cli(0, words("kernel clear"))
	until("begin", "kernel-down", "cleared by command")
	r.cli(0, words("kernel sync"))
	until("end", "kernel-down", "Bans are mirrored into the kernel's nftables.")
	if out, err := exec.Command("nft", "delete", "table", "inet", "edge3-lists").CombinedOutput(); err != nil {
		t.Skipf("nft (e2e/setup.sh installs it): %v: %s", err, out)
	}
	until("begin", "kernel-repaired", "It is repaired.")
	r.cli(0, words("status"), "kernel-repaired: Somebody had changed")
	r.cli(0, words("report --acts --action notice"), "kernel-repaired: Somebody had changed")
}

// nftTables lists the tables as others see them, where there is the program for it.
func nftTables(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("nft", "list", "tables").CombinedOutput()
	if err != nil {
		t.Skipf("nft list tables (e2e/setup.sh installs it): %v: %s", err, out)
	}
	return slices.DeleteFunc(strings.Split(string(out), "\n"), func(l string) bool { return l == "" })
}

func TestKernelOff(t *testing.T) {
	r := start(t)
	r.cli(0, words("kernel status"), "none", "switched off")
	r.cli(exitRefused, words("kernel sync"), "switched off by configuration")
	r.cli(0, words("status"), "switched off")
}

func TestKernelConfig(t *testing.T) {
	c, err := conf.Parse("test", []byte(`pbx: [{address: 203.0.113.2}]
listen:
  outside: ["udp://198.51.100.1:5060", "udp://[2001:db8::1]:5060", "tcp://198.51.100.1:5062"]
  inside: ["udp://203.0.113.1:5070", "tcp://203.0.113.1:5062"]
kernel: {backend: ipset, scope: all, manage_rule: false, max_entries: 2000, on_exit: remove, name: edge2}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := kernelConfig(c)
	ports := []kernel.Port{{Protocol: 17, Port: 5060}, {Protocol: 6, Port: 5062}, {Protocol: 17, Port: 5070}}
	if !slices.Equal(got.Ports, ports) || got.Backend != kernel.BackendIPSet || got.Scope != kernel.ScopeAll ||
		!got.NoRules || got.MaxEntries != 2000 || !got.RemoveOnExit || got.Name != "edge2" {
		t.Errorf("the mirror's configuration is %+v", got)
	}
}
