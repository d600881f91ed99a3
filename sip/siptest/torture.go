package siptest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TortureFile is one message of RFC 4475.
type TortureFile struct {
	Name  string // as in the RFC: wsinv, badinv01 …
	Valid bool   // filed under "valid" by sipgo: the messages of §3.1.1
	Data  []byte
}

// Torture returns the torture messages that the sipgo module ships. They are
// read from the module cache: they are not ours to copy.
func Torture(tb testing.TB) []TortureFile {
	tb.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/emiago/sipgo").Output()
	if err != nil {
		tb.Fatalf("find the sipgo module: %v", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "sip", "testdata", "torture")
	paths, err := filepath.Glob(filepath.Join(dir, "*valid", "*.dat"))
	if err != nil || len(paths) == 0 {
		tb.Fatalf("no torture messages under %s: %v", dir, err)
	}
	files := make([]TortureFile, 0, len(paths))
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			tb.Fatalf("read a torture message: %v", err)
		}
		files = append(files, TortureFile{
			Name:  strings.TrimSuffix(filepath.Base(path), ".dat"),
			Valid: filepath.Base(filepath.Dir(path)) == "valid",
			Data:  data,
		})
	}
	return files
}
