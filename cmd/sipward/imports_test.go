package main_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// layer is the table of who may import whom: a package may import packages of its
// own top folder where siblings allows it, and of the folders named in below.
var layers = map[string][]string{
	"sip":      {},
	"conf":     {},
	"policy":   {},
	"proxy":    {"policy", "sip"},
	"tftp":     {"policy"},
	"dns":      {"policy"},
	"listsync": {"policy"},
	"report":   {"policy"},
	"notify":   {"policy"},
	"admin":    {"report", "notify", "listsync", "policy"},
	"cmd":      {"admin", "report", "notify", "listsync", "proxy", "tftp", "dns", "policy", "sip", "conf"},
	"e2e":      {"admin", "listsync", "proxy", "sip"}, // of proxy the certificates for tests
}

// stdlibOnly lists the folders whose packages import nothing but the standard
// library and each other.
var stdlibOnly = []string{"sip"}

type listed struct {
	ImportPath, Dir  string
	Imports, GoFiles []string
}

func list(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-pgo=off", "-json=ImportPath,Dir,Imports,GoFiles", "sipward/...").Output()
	if err != nil {
		t.Fatal("go list:", err)
	}
	var all []listed
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func top(path string) string {
	rest, _ := strings.CutPrefix(path, "sipward/")
	folder, _, _ := strings.Cut(rest, "/")
	return folder
}

// TestImports holds the import table of docs/design.md against what is imported.
func TestImports(t *testing.T) {
	packages := list(t)
	if len(packages) < 10 {
		t.Fatalf("go list found %d packages of sipward", len(packages))
	}
	for _, p := range packages {
		from := top(p.ImportPath)
		below, known := layers[from]
		if !known {
			t.Errorf("%s is in no layer; add its folder to the table and to docs/design.md", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, "sipward/") {
				if slices.Contains(stdlibOnly, from) && strings.Contains(strings.Split(imp, "/")[0], ".") {
					t.Errorf("%s imports %s; it may import the standard library only", p.ImportPath, imp)
				}
				continue
			}
			to := top(imp)
			if to != from && !slices.Contains(below, to) {
				t.Errorf("%s imports %s; the layers do not allow it", p.ImportPath, imp)
			}
			if to == "conf" && from != "conf" && p.ImportPath != "sipward/cmd/sipward" {
				t.Errorf("%s imports %s; only cmd/sipward may", p.ImportPath, imp)
			}
		}
	}
}

// TestFlagsAndEnvironment: only cmd reads them.
func TestFlagsAndEnvironment(t *testing.T) {
	for _, p := range list(t) {
		if f := top(p.ImportPath); f == "cmd" || f == "e2e" {
			continue
		}
		for _, imp := range p.Imports {
			if imp == "flag" || imp == "github.com/spf13/cobra" || imp == "github.com/spf13/pflag" {
				t.Errorf("%s imports %s", p.ImportPath, imp)
			}
		}
		for _, name := range p.GoFiles {
			src, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			for _, call := range []string{"os.Getenv(", "os.LookupEnv(", "os.Environ("} {
				if strings.Contains(string(src), call) {
					t.Errorf("%s calls %s…)", filepath.Join(p.ImportPath, name), call)
				}
			}
		}
	}
}
