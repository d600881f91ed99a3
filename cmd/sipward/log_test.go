package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// In the journal each line has its priority and no time of its own; elsewhere it is the
// other way round.
func TestJournal(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		for _, journal := range []bool{true, false} {
			r := prepare(t, "log: {level: debug, format: "+format+"}")
			f, err := os.Create(filepath.Join(r.dir, "stderr"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var st syscall.Stat_t
			if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(os.Args[0], "run", "--config", r.config)
			cmd.Env = append(os.Environ(), beSipward+"=1")
			if journal {
				cmd.Env = append(cmd.Env, fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino))
			}
			cmd.Stderr = f
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			r.notify.expect("READY=1")
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			want := map[bool]map[string]string{
				true:  {"text": `^<6>level=INFO msg=`, "json": `^<6>\{"level":"INFO","msg":`},
				false: {"text": `^time=\S+ level=[A-Z]+ msg=`, "json": `^\{"time":`},
			}[journal][format]
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			if len(lines) < 2 {
				t.Errorf("%d lines", len(lines))
			}
			for _, l := range lines {
				if !regexp.MustCompile(want).MatchString(l) && !strings.HasPrefix(l, "<4>") && !strings.HasPrefix(l, "<7>") {
					t.Errorf("%s, journal %t: %s", format, journal, l)
				}
			}
		}
	}
}
