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
