package main

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sipward/admin"
	"sipward/policy/ban"
)

func TestListCommands(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "deny.txt")
	if err := os.WriteFile(file, []byte("\n198.51.100.0/24 # scanners\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := prepare(t)
	r.write(strings.Replace(r.text(), "lists: {deny: [192.0.2.1]}",
		"lists: {allow: [192.0.2.10], deny: [192.0.2.1], deny_files: ["+file+"]}\ntrunks: [203.0.113.64/28]", 1))
	r.begin()
	t.Cleanup(r.end)

	r.cli(0, words("list"), "allow list: 1 entry", "deny list: 2 entries", "bans: 0 sources", "192.0.2.10", "config", file+":2", "scanners")
	r.cli(0, []string{"allow", "192.0.2.20", "--comment", "head office"}, "192.0.2.20 is on the allow list.")
	out := r.cli(0, words("list allow"), "192.0.2.20", "command", "head office")
	if strings.Contains(out, "deny") || strings.Contains(out, "bans") {
		t.Errorf("list allow shows more:\n%s", out)
	}
	r.cli(0, words("deny 2001:db8::/32"), "2001:db8::/32 is on the deny list.")
	r.cli(0, words("deny 192.0.2.1"), "was on the deny list already (config)")
	r.cli(0, words("allow 198.51.100.7"), "stays on the deny list ("+file+":2), but the allow list beats it")
	r.cli(0, words("explain 198.51.100.7"), "let in (allow-list)", "allow list  198.51.100.7, from command", "deny list", file+":2")
	r.cli(0, words("explain 198.51.100.8"), "DROPPED (deny-list)", "remove that line; sipward takes note of it")
	r.cli(0, words("explain 192.0.2.1"), "DROPPED (deny-list)", "sipward deny --remove 192.0.2.1", "remove it from lists.deny")

	// What cannot be done says why, and what to do.
	r.cli(exitRefused, words("allow 0.0.0.0/0"), "everybody")
	r.cli(exitRefused, words("ban 0.0.0.0/0"), "wider than /8")
	r.cli(exitRefused, words("deny 0.0.0.0/0"), "shut out")
	r.cli(exitRefused, words("deny 192.0.2.10"), "on the allow list (config)", "--force")
	r.cli(exitRefused, words("deny 192.0.2.0/24"), "192.0.2.10 is on the allow list")
	r.cli(exitRefused, words("deny 203.0.113.64"), "one of your trunks")
	r.cli(0, words("deny 192.0.2.10 --force"), "192.0.2.10 is on the allow list (config) and is let in all the same")
	r.cli(exitRefused, words("allow --remove 192.0.2.10"), "was not put on the allow list by command", "remove it from lists.allow in the configuration")
	r.cli(exitRefused, words("deny --remove 198.51.100.77"), "198.51.100.0/24 is on the deny list", "remove that line")
	r.cli(exitRefused, words("allow --remove 192.0.2.99"), "was not put on the allow list by command")
	r.cli(exitRefused, []string{"allow", "192.0.2.77", "--comment", "a\nb"}, "one line")
	r.cli(0, words("allow --remove 198.51.100.7"), "198.51.100.7 is taken off the allow list.")
	r.cli(0, words("deny --remove 192.0.2.1"), "192.0.2.1 is on the deny list (config)", "is taken off the deny list")
	r.cli(0, words("explain 198.51.100.7"), "DROPPED (deny-list)")

	// All of it is for programs, too.
	var l struct {
		Allow []admin.Entry
		Deny  []admin.Entry
		Bans  []admin.Ban
	}
	out = r.cli(0, words("list --json"))
	if err := json.Unmarshal([]byte(out), &l); err != nil || len(l.Allow) != 2 || len(l.Deny) != 4 || l.Bans == nil {
		t.Errorf("%v\n%s", err, out)
	}
	var change admin.EntryChange
	out = r.cli(0, words("deny 192.0.2.200 --json"))
	if err := json.Unmarshal([]byte(out), &change); err != nil || change.Entry.Prefix.String() != "192.0.2.200/32" {
		t.Errorf("%v\n%s", err, out)
	}

	// Who repeats a command without its comment keeps it.
	r.cli(0, words("allow 192.0.2.20"), "was on the allow list already")
	r.cli(0, words("list allow"), "192.0.2.20", "head office")

	// Reload and restart keep what commands did.
	r.cli(0, words("reload"), "Reloaded.")
	r.cli(0, words("list allow"), "192.0.2.20", "head office")
	r.end()
	r.begin()
	r.cli(0, words("list allow"), "192.0.2.20", "command", "head office")
	r.cli(0, words("status"), "2 allowed, 5 denied, 1 trunks")
}

// TestFilesAreReloaded changes a list file and wants it in force without a word.
func TestFilesAreReloaded(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "deny.txt")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("198.51.100.1\n")
	r := prepare(t)
	r.write(strings.Replace(r.text(), "lists: {deny: [192.0.2.1]}", "lists: {deny_files: ["+file+"]}", 1))
	r.begin()
	t.Cleanup(r.end)
	r.cli(0, words("deny 192.0.2.99"))
	await := func(want int) {
		t.Helper()
		var got int
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			s, err := admin.NewClient(r.socket).Status(t.Context())
			if got = s.Deny; err == nil && got == want {
				return
			}
		}
		t.Errorf("%d denied, want %d", got, want)
	}
	await(2)
	write("198.51.100.1\n198.51.100.2\n")
	await(3)
	// A wrong line changes nothing, and a missing file neither.
	write("198.51.100.1\nnonsense\n")
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * pollFiles)
	await(3)
	write("198.51.100.1\n198.51.100.2\n198.51.100.3\n")
	await(4)
}

func TestBanCommands(t *testing.T) {
	r := prepare(t)
	r.write(strings.Replace(r.text(), "lists: {deny: [192.0.2.1]}", "lists: {allow: [192.0.2.10], deny: [192.0.2.1]}\ntrunks: [203.0.113.64/28]", 1))
	r.begin()
	t.Cleanup(r.end)

	r.cli(0, []string{"ban", "192.0.2.7", "--for", "1h", "--reason", "calls premium numbers"}, "192.0.2.7 is banned until", "(1h)")
	r.cli(0, words("ban 2001:db8:1:2:3::1"), "2001:db8:1:2::/64 is banned for ever.")
	r.cli(0, words("ban 2001:db8::1/128"), "2001:db8::1 is banned for ever.")
	r.cli(0, words("list bans"), "bans: 3 sources", "192.0.2.7", "manual", "command: calls premium numbers", "for ever")
	r.cli(0, words("explain 192.0.2.7"), "DROPPED (ban)", "calls premium numbers", "ordered by", "sipward unban 192.0.2.7")
	r.cli(0, words("explain 2001:db8:1:2::99"), "DROPPED (ban)", "of the source 2001:db8:1:2::/64", "sipward unban 2001:db8:1:2::/64")
	r.cli(0, words("explain 192.0.2.8"), "let in (pass)", "stranger")
	r.cli(0, words("ban 192.0.2.7 --for 10m"), "banned already, and for longer", "sipward unban 192.0.2.7")
	r.cli(0, words("ban 192.0.2.7"), "192.0.2.7 is banned for ever.")
	r.cli(0, words("status"), "3 by command", "store")

	// What must not be banned.
	r.cli(exitRefused, words("ban 192.0.2.10"), "192.0.2.10 is on the allow list (config) and is let in all the same", "--force")
	r.cli(exitRefused, words("ban 192.0.2.0/24"), "192.0.2.10 is on the allow list")
	r.cli(exitRefused, words("ban 203.0.113.65"), "one of your trunks")
	r.cli(exitRefused, words("ban 127.0.0.3 --force"), "talks to itself")
	r.cli(exitRefused, words("ban ::1 --force"), "talks to itself")
	for _, p := range []string{"0.0.0.0/0", "::/0", "64.0.0.0/2", "2000::/3"} {
		r.cli(exitRefused, words("ban --force "+p))
	}
	r.cli(0, words("ban 192.0.2.10 --force"), "let in all the same", "192.0.2.10 is banned for ever.")
	r.cli(0, words("explain 192.0.2.10"), "let in (allow-list)")
	r.cli(exitRefused, []string{"ban", "192.0.2.9", "--reason", strings.Repeat("x", 600)}, "500 bytes")

	// Lifting.
	r.cli(exitRefused, words("unban 192.0.2.99"), "192.0.2.99 is not banned", "sipward explain 192.0.2.99")
	r.cli(exitRefused, words("unban 192.0.2.1"), "is on the deny list (config)")
	r.cli(0, words("ban 198.51.100.0/24"))
	r.cli(exitRefused, words("unban 198.51.100.5"), "sipward unban 198.51.100.0/24")
	r.cli(0, words("ban 198.51.100.6"))
	r.cli(0, words("unban 198.51.100.6"), "198.51.100.6 is no longer banned", "198.51.100.0/24 is banned, and 198.51.100.6 is in it")
	r.cli(0, words("ban 198.51.100.7"))
	r.cli(0, words("unban 198.51.100.0/24"), "no longer banned", "bans inside 198.51.100.0/24: 1 stay")
	r.cli(0, words("unban 2001:db8:1:2::77"), "2001:db8:1:2::/64 is no longer banned")
	r.cli(0, words("unban 2001:db8::1"), "2001:db8::1 is no longer banned")

	var done admin.Banned
	out := r.cli(0, words("ban 192.0.2.50 --for 90m --json"))
	if err := json.Unmarshal([]byte(out), &done); err != nil || done.Ban.Kind != "manual" || time.Until(done.Ban.Until).Round(time.Minute) != 90*time.Minute {
		t.Errorf("%v\n%s", err, out)
	}
	var x admin.Explanation
	out = r.cli(0, words("explain 192.0.2.50 --json"))
	if err := json.Unmarshal([]byte(out), &x); err != nil || x.Verdict != "drop" || len(x.Bans) != 1 || x.Bans[0].Evidence == nil || x.Bans[0].Evidence.By == "" {
		t.Errorf("%v\n%s", err, out)
	}
	var lifted admin.Unbanned
	out = r.cli(0, words("unban 192.0.2.50 --json"))
	if err := json.Unmarshal([]byte(out), &lifted); err != nil || len(lifted.Removed) != 1 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestWrongUseOfCommands: exit code 2, without asking sipward anything.
func TestWrongUseOfCommands(t *testing.T) {
	for _, line := range []string{
		"ban", "ban 192.0.2.1 192.0.2.2", "ban nonsense", "ban 192.0.2.1/24", "ban 192.0.2.1 --for 1", "ban 192.0.2.1 --for 99y",
		"unban", "unban phone.example.com", "allow", "allow 192.0.2", "allow --remove", "allow --remove 192.0.2.1 --comment x", "allow 192.0.2.1 --force",
		"deny --for 1h 192.0.2.1", "list all", "list allow deny", "explain", "explain 192.0.2.0/24", "explain phone",
	} {
		if code, out := command(t, words(line)...); code != exitUsage || !strings.HasPrefix(out, "sipward: usage: ") {
			t.Errorf("sipward %s: exit code %d\n%s", line, code, out)
		}
	}
	none := filepath.Join(t.TempDir(), "none.sock")
	for _, line := range []string{"list", "ban 192.0.2.1", "unban 192.0.2.1", "allow 192.0.2.1", "deny --remove 192.0.2.1", "explain 192.0.2.1", "reload", "status"} {
		if code, out := command(t, append(words(line), "--socket", none)...); code != exitUnreachable {
			t.Errorf("sipward %s: exit code %d\n%s", line, code, out)
		}
	}
}

// TestSignatures: a configuration names signature files of its own.
func TestSignatures(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	check := func(code int, scanner string, want ...string) {
		t.Helper()
		path := write("sipward.yaml", "pbx: [{address: 203.0.113.2}]\nscanner: "+scanner+"\n")
		got, out := command(t, "check", "--config", path)
		if got != code {
			t.Errorf("%s: exit code %d\n%s", scanner, got, out)
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: no %q in\n%s", scanner, w, out)
			}
		}
	}
	write("own.yaml", "signatures:\n- {id: my-tool, field: user-agent, match: equal, value: mytool, score: 100}\n")
	write("wrong.yaml", "signatures:\n- {id: my-tool, feild: user-agent}\n")
	check(0, "{signatures: [own.yaml], disable: [my-tool]}")
	check(exitRefused, "{signatures: [wrong.yaml]}", "wrong.yaml:2:", "feild")
	check(exitRefused, "{signatures: [missing.yaml]}", "missing.yaml")
	check(exitRefused, "{disable: [no-such-signature]}", `scanner.disable: there is no signature "no-such-signature"`)
}

// TestDamagedState: a database that cannot be read does not keep sipward from
// starting, and is not thrown away.
func TestDamagedState(t *testing.T) {
	r := prepare(t)
	if err := os.WriteFile(filepath.Join(r.dir, storeName), []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	r.begin()
	t.Cleanup(r.end)
	r.cli(0, words("status"), "was damaged; the old one is "+filepath.Join(r.dir, storeName)+".corrupt-")
	r.cli(0, words("ban 192.0.2.7"))
	r.cli(0, words("list bans"), "192.0.2.7")
}

// TestBanOfGoodSources: who shuts out those who are registered is told so, for a prefix, too.
func TestBanOfGoodSources(t *testing.T) {
	r := prepare(t)
	remember(t, filepath.Join(r.dir, storeName), "203.0.113.5", "203.0.113.77", "198.51.100.9")
	r.begin()
	t.Cleanup(r.end)
	r.cli(0, words("deny 203.0.113.0/24"), "2 sources in good standing are in it")
	r.cli(0, words("deny --remove 203.0.113.0/24"))
	r.cli(0, words("ban 203.0.113.0/26"), "One source in good standing is in it")
	r.cli(0, words("ban 198.51.100.9"), "It is in good standing", "It was registered before")
	r.cli(0, words("deny 198.51.100.9"), "It is in good standing", "It was registered before")
	if out := r.cli(0, words("ban 192.0.2.0/24")); strings.Contains(out, "good standing") {
		t.Error(out)
	}
}

// remember writes down that an account has registered from addresses.
func remember(t *testing.T, path string, addresses ...string) {
	t.Helper()
	store, err := ban.Open(ban.StoreConfig{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	now := time.Now().UnixNano()
	table, err := ban.New(ban.Config{Store: store}, now)
	if err != nil {
		t.Fatal(err)
	}
	places, err := ban.NewPlaces(ban.PlacesConfig{Store: store}, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		places.Add([]byte("1001@example.com"), netip.MustParseAddr(a), now)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := table.Run(ended); err != nil { // it writes what waits
		t.Fatal(err)
	}
}

// TestNodeInNotifications: what tells of an attack calls this sipward what the journal does.
func TestNodeInNotifications(t *testing.T) {
	dir := t.TempDir()
	program, out := filepath.Join(dir, "told"), filepath.Join(dir, "out")
	if err := os.WriteFile(program, []byte("#!/bin/sh\ncat >"+out+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := start(t, "node: edge7", "notify: {channels: [{name: ops, type: command, run: ["+program+"]}]}")
	r.cli(0, words("notify test ops"))
	if text, err := os.ReadFile(out); err != nil || !strings.Contains(string(text), `"node":"edge7"`) {
		t.Errorf("%v: %s", err, text)
	}
}
