package report_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sipward/report"
)

// childPath tells a copy of the test binary that it is the one to be killed.
const childPath = "JOURNAL_TEST_CHILD"

// childOfKillTest records acts and reports on standard output each that had returned,
// until it is killed. It does not return when this process is the child.
func childOfKillTest() {
	path := os.Getenv(childPath)
	if path == "" {
		return
	}
	j, err := report.Open(report.Config{Path: path, Node: "edge1"})
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		if err := j.Record(report.Act{Time: noon, Action: report.ActionCommand, Text: fmt.Sprint(i)}); err != nil {
			panic(err)
		}
		fmt.Println(i)
	}
}

// TestKill kills a process in the middle of its work: what it had recorded is there.
func TestKill(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "journal.db")
	child := exec.Command(exe)
	child.Env = append(os.Environ(), childPath+"="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	last := -1
	for in := bufio.NewScanner(out); in.Scan(); {
		if _, err := fmt.Sscan(in.Text(), &last); err != nil {
			t.Fatalf("%q: %v", in.Text(), err)
		}
		if last == 100 {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = child.Wait() // it was killed
	if last < 100 {
		t.Fatalf("the child ended by itself after %d", last)
	}
	j := open(t, report.Config{Path: path})
	there := map[string]bool{}
	for _, a := range ask(t, j, "last=24h&acts=true").Acts {
		there[a.Text] = true
	}
	for i := range last + 1 {
		if !there[fmt.Sprint(i)] {
			t.Errorf("act %d had been recorded and is lost", i)
		}
	}
	if h := j.Health(); h.SetAside != "" || h.Error != "" || len(there) > last+2 {
		t.Errorf("%+v, %d acts, %v", h, len(there), time.Now())
	}
}
