//go:build linux

package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

const namePrefix = "sipward-e2e"

var nameForm = regexp.MustCompile(`^` + namePrefix + `-(\d+)-(\d+)`)

// ownPrefix names this process: its id, and when it started, because ids are used again.
func ownPrefix() (string, error) {
	started, err := startTime(os.Getpid())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s-%d-%s", namePrefix, os.Getpid(), started), nil
}

// startTime is field 22 of /proc/PID/stat; the second field may hold spaces, but ends with the last parenthesis.
func startTime(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", fmt.Errorf("read the start time of process %d: %w", pid, err)
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 20 {
		return "", fmt.Errorf("read the start time of process %d: short stat", pid)
	}
	return fields[19], nil
}

// abandoned says whether something of that name is ours by its name and its process is gone.
func abandoned(name string) bool {
	m := nameForm.FindStringSubmatch(name)
	if m == nil {
		return false
	}
	pid, err := strconv.Atoi(m[1])
	if err != nil {
		return false
	}
	started, err := startTime(pid)
	return err != nil || started != m[2]
}

// removeRemains removes what killed runs have left: processes in their namespaces, the namespaces, directories.
func removeRemains() {
	spaces, _ := filepath.Glob("/run/netns/" + namePrefix + "-*")
	for _, path := range spaces {
		name := filepath.Base(path)
		if !abandoned(name) {
			continue
		}
		out, _ := exec.Command("ip", "netns", "pids", name).Output()
		for _, f := range strings.Fields(string(out)) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		_ = exec.Command("ip", "netns", "del", name).Run()
	}
	for _, pattern := range []string{filepath.Join(os.TempDir(), namePrefix+"-*"), filepath.Join(asteriskRoot(), "tmp", namePrefix+"-*")} {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			if abandoned(filepath.Base(dir)) {
				_ = os.RemoveAll(dir)
			}
		}
	}
}
