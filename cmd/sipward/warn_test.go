package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sipward/admin/logtest"
)

// TestWidePrefixes: an exemption for so many that it can only be a slip is a warning with its
// place wherever it is made, and one for everybody is refused.
func TestWidePrefixes(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("allow.txt", "# ours\n192.0.2.0/24\n128.0.0.0/1\n")
	write("c.yaml", `pbx: [{address: 203.0.113.2}]
trunks: [10.0.0.0/8, "2000::/3"]
lists:
  allow: [0.0.0.0/1, 11.0.0.0/8, "fd00::/8", "fe80::/10", "2a00::/16"]
  deny: [0.0.0.0/0]
  allow_files: [allow.txt]
dns: {listen: ["udp://203.0.113.1:53"], upstreams: [127.0.0.1:5353], allow_from: [64.0.0.0/2]}
`)
	code, out := command(t, "check", "--config", "c.yaml")
	var got []string
	for line := range strings.Lines(out) {
		if text, ok := strings.CutPrefix(line, "WARNING  "); ok {
			where, _, _ := strings.Cut(text, ": a noticeable part of the internet ")
			got = append(got, where)
		}
	}
	want := "c.yaml:4:11: lists.allow[0]: 0.0.0.0/1 is wider than /8|" + filepath.Join(dir, "allow.txt") + ":3: 128.0.0.0/1 is wider than /8|" +
		"c.yaml:2:22: trunks[1]: 2000::/3 is wider than /16|c.yaml:7:83: dns.allow_from[0]: 64.0.0.0/2 is wider than /8"
	if strings.Join(got, "|") != want || code != 0 {
		t.Errorf("exit code %d\n%s\nthe warnings are\n%s, want\n%s", code, out, strings.Join(got, "|"), want)
	}
	write("allow.txt", "192.0.2.0/24\n::/0 # oops\n")
	if code, out := command(t, "check", "--config", "c.yaml"); code != exitRefused || !strings.Contains(out, "allow.txt:2: ::/0 is everybody") {
		t.Errorf("everybody in a file: exit code %d\n%s", code, out)
	}

	// The same while it runs.
	file := filepath.Join(dir, "allow.txt")
	write(file, "192.0.2.0/24\n")
	r := prepare(t)
	log := new(logtest.Buffer)
	r.log = log
	r.write(strings.Replace(r.text(), "lists: {", "lists: {allow_files: ["+file+"], ", 1))
	r.begin()
	t.Cleanup(r.end)
	if text := log.String(); strings.Contains(text, "noticeable") {
		t.Error(text)
	}
	r.cli(0, words("allow 32.0.0.0/3"), "Note: 32.0.0.0/3 is wider than /8", "32.0.0.0/3 is on the allow list.")
	r.cli(0, words("allow --remove 32.0.0.0/3"))
	if out := r.cli(0, words("allow 11.0.0.0/8")); strings.Contains(out, "Note") {
		t.Error(out)
	}
	write(file+".new", "64.0.0.0/2\n")
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	log.Await(t, file+":1: 64.0.0.0/2 is wider than /8", patience)
	r.write(strings.Replace(r.text(), "lists: {", "trunks: [0.0.0.0/4]\nlists: {", 1))
	r.cli(0, words("reload"), "sipward.yaml:7:10: trunks[0]: 0.0.0.0/4 is wider than /8", file+":1: 64.0.0.0/2 is wider than /8", "Reloaded.")
	r.cli(0, words("reload --json"), `"warnings": [`)
}
