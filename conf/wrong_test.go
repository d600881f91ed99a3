package conf_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sipward/conf"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// TestWrongFiles reads each testdata/wrong/NAME.yaml, with the environment of
// NAME.env if there is one, and compares the complaints with NAME.txt.
func TestWrongFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/wrong/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 40 {
		t.Fatalf("%d wrong files, want at least 40", len(files))
	}
	for _, file := range files {
		base := strings.TrimSuffix(file, ".yaml")
		t.Run(filepath.Base(base), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			env, err := os.ReadFile(base + ".env")
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			_, err = conf.Parse(filepath.Base(file), text, strings.Split(string(env), "\n"))
			var problems conf.Errors
			if !errors.As(err, &problems) {
				t.Fatalf("error is %v (%T), want conf.Errors", err, err)
			}
			checkGolden(t, base+".txt", err.Error()+"\n")
		})
	}
}

func checkGolden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestManyProblems keeps the answer to a file that is something else readable.
func TestManyProblems(t *testing.T) {
	text := minimal + "trunks:\n" + strings.Repeat("  - x\n", 1000)
	_, err := conf.Parse("many.yaml", []byte(text), nil)
	lines := strings.Split(err.Error(), "\n")
	if want := "many.yaml:202:5: 800 more problems are not shown; mend these first"; len(lines) != 201 || lines[200] != want {
		t.Errorf("%d lines that end in %q, want 201 and %q", len(lines), lines[len(lines)-1], want)
	}
}

// TestProblem: where a key is written that others find something wrong with.
func TestProblem(t *testing.T) {
	c, err := conf.Parse("p.yaml", []byte("listen: {outside: [tls://198.51.100.1]}\npbx:\n- address: 203.0.113.2\n  transports: [tls]\n  tls:\n    ca: ca.pem\ntls:\n  certificates:\n  - {certificate: a.pem, key: a.key}\n  - b.pem;key=b.key\n"),
		[]string{"SIPWARD_TLS__MIN_VERSION=1.3"})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"tls.certificates[0].key":         "p.yaml:9:31: tls.certificates[0].key: x",
		"tls.certificates[1].certificate": "p.yaml:10:5: tls.certificates[1].certificate: x",
		"tls.certificates[7].certificate": "p.yaml:9:3: tls.certificates[7].certificate: x",
		"pbx[0].tls.ca":                   "p.yaml:6:9: pbx[0].tls.ca: x",
		"pbx[0].weight":                   "p.yaml:3:3: pbx[0].weight: x",
		"tls.client_ca":                   "p.yaml:1:1: tls.client_ca: x",
		"tls.min_version":                 "environment variable SIPWARD_TLS__MIN_VERSION: tls.min_version: x",
	} {
		if got := c.Problem(key, "x").Error(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
