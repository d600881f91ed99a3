//go:build linux

package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Need skips the test, with the reason, where the machine lacks what it takes: root, and these tools ("asterisk" is the
// tree that e2e/setup.sh makes, "atftpd" and "sipp-tls" what it unpacks, "kamailio-tls" a module). With E2E_REQUIRE=1, as in CI, it
// fails instead, but for want of "sipp-tls": that is of a later release of Debian, which not every mirror has.
func Need(t *testing.T, tools ...string) {
	t.Helper()
	missing := func(what string) {
		t.Helper()
		if os.Getenv("E2E_REQUIRE") == "1" {
			t.Fatalf("%s, and E2E_REQUIRE=1 asks for every test", what)
		}
		t.Skip(what)
	}
	if os.Geteuid() != 0 {
		missing("not root: network namespaces cannot be made")
	}
	for _, tool := range append([]string{"ip", "nft"}, tools...) {
		if tool == "asterisk" {
			if _, err := os.Stat(filepath.Join(asteriskRoot(), "usr/sbin/asterisk")); err != nil {
				missing("no Asterisk in " + asteriskRoot() + " (e2e/setup.sh installs it)")
			}
			continue
		}
		switch tool {
		case "atftpd":
			tool = atftpd()
		case "sipp-tls":
			if tool = sippTLS()[0]; !exists(tool) {
				t.Skip("no SIPp with TLS here (e2e/setup.sh unpacks it)")
			}
		case "kamailio-tls":
			if found, _ := filepath.Glob("/usr/lib/*/kamailio/modules/tls.so"); len(found) == 0 {
				missing("no TLS module of Kamailio here (e2e/setup.sh installs it)")
			}
			continue
		}
		if _, err := exec.LookPath(tool); err != nil {
			missing("no " + tool + " here (e2e/setup.sh installs it)")
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
