package ban_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sipward/policy/ban"
)

// childPath tells a copy of the test binary that it is the one to be killed.
const childPath = "SIPWARD_BAN_TEST_CHILD"

// childOfKillTest bans and reports on standard output what it has banned, until
// it is killed. It does not return when this process is the child.
func childOfKillTest() {
	path := os.Getenv(childPath)
	if path == "" {
		return
	}
	store, err := ban.Open(ban.StoreConfig{Path: path})
	if err != nil {
		panic(err)
	}
	table, err := ban.New(ban.Config{Store: store, Threshold: 3}, start)
	if err != nil {
		panic(err)
	}
	go table.Run(context.Background())
	// Two blocks of one source, the second of which is over: two steps.
	for _, at := range []int64{start - 5*hour, start - 3*hour} {
		if _, err := table.Add(block("203.0.113.1/32", at, hour), at); err != nil {
			panic(err)
		}
	}
	for i := 0; ; i++ {
		if _, err := table.Add(block(nth(i), start, hour), start); err != nil {
			panic(err)
		}
		fmt.Println("dynamic", nth(i), time.Now().UnixNano())
		if i%20 == 0 {
			manual := strings.Replace(nth(i), "10.", "11.", 1)
			if _, err := table.Add(command(manual, 0), start); err != nil {
				panic(err)
			}
			fmt.Println("manual", manual, time.Now().UnixNano())
		}
		time.Sleep(time.Millisecond)
	}
}

// TestKill kills a process with SIGKILL in the middle of its work and looks at
// what a new one finds.
func TestKill(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := dbPath(t)
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
	type line struct {
		kind, prefix string
		at           int64
	}
	var lines []line
	lastManual := int64(0)
	in := bufio.NewScanner(out)
	for in.Scan() {
		var l line
		if _, err := fmt.Sscan(in.Text(), &l.kind, &l.prefix, &l.at); err != nil {
			t.Fatalf("%q: %v", in.Text(), err)
		}
		lines = append(lines, l)
		if l.kind == "manual" {
			lastManual = l.at
		}
		if len(lines) == 400 {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = child.Wait() // it was killed

	table, store := withStore(t, path, ban.Config{Threshold: 3})
	if h := store.Health(); !h.OK() || h.SetAside != "" {
		t.Fatalf("%+v", h)
	}
	lost := 0
	for _, l := range lines {
		switch there := table.Banned(pfx(l.prefix).Addr(), start); {
		case there:
		case l.kind == "manual":
			t.Errorf("the command for %s had returned, but its ban is lost", l.prefix)
		case l.at < lastManual: // a command writes what was before it, too
			t.Errorf("%s was banned before a command had returned, and is lost", l.prefix)
		default:
			lost++
		}
	}
	last := lines[len(lines)-1].at
	t.Logf("%d bans, %d of the last %v lost", len(lines), lost, time.Duration(last-lastManual))
	if in := mustAdd(t, table, block("203.0.113.1/32", start, hour), start); in.Kind != ban.Permanent || in.Blocks != 3 {
		t.Errorf("the ladder does not go on: %+v", in)
	}
}
