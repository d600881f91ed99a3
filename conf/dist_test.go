package conf_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestServiceUnit has systemd read the unit: no unknown setting, and an
// exposure that stays as low as it is. It needs no running systemd.
func TestServiceUnit(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed (Debian: systemd)")
	}
	// verify wants the programs to exist.
	text := strings.ReplaceAll(string(readFile(t, "../dist/sipward.service")), "/usr/local/bin/sipward", "/bin/true")
	unit := filepath.Join(t.TempDir(), "sipward.service")
	if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"verify", "--man=no", unit},
		{"security", "--offline=true", "--no-pager", "--threshold=20", unit},
	} {
		out, err := exec.Command(tool, args...).CombinedOutput()
		if err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %s: %v\n%s", args[0], err, out)
		}
	}
}
