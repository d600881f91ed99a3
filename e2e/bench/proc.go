//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clockTick is USER_HZ, the unit of /proc/PID/stat on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// treeCPU is utime+stime of a process and all its living descendants, threads included (proc(5)).
func treeCPU(root int) (time.Duration, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, fmt.Errorf("list processes: %w", err)
	}
	parent := make(map[int]int)
	used := make(map[int]time.Duration)
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			continue // gone meanwhile
		}
		pid, ppid, cpu, err := parseStat(b)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", p, err)
		}
		parent[pid], used[pid] = ppid, cpu
	}
	if _, ok := used[root]; !ok {
		return 0, fmt.Errorf("measure process %d: it is gone", root)
	}
	var sum time.Duration
	for pid := range used {
		for p := pid; p > 0; p = parent[p] {
			if p == root {
				sum += used[pid]
				break
			}
		}
	}
	return sum, nil
}

// benchCPU is what this program and all that it has started have used, ended children included.
func benchCPU() (time.Duration, error) {
	living, err := treeCPU(os.Getpid())
	if err != nil {
		return 0, err
	}
	var ended unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &ended); err != nil {
		return 0, fmt.Errorf("read the CPU time of ended processes: %w", err)
	}
	return living + time.Duration(ended.Utime.Nano()+ended.Stime.Nano()), nil
}

// parseStat reads one line of /proc/PID/stat. The command's name may hold anything, so the fields
// are counted from its last bracket.
func parseStat(b []byte) (pid, ppid int, cpu time.Duration, err error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open {
		return 0, 0, 0, fmt.Errorf("malformed stat line %.40q", b)
	}
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 13 {
		return 0, 0, 0, fmt.Errorf("stat line of %d fields", len(f))
	}
	var n [4]int
	for i, s := range []string{strings.TrimSpace(string(b[:open])), f[1], f[11], f[12]} {
		if n[i], err = strconv.Atoi(s); err != nil {
			return 0, 0, 0, fmt.Errorf("malformed stat field: %w", err)
		}
	}
	return n[0], n[1], time.Duration(n[2]+n[3]) * clockTick, nil
}

// udpDrops sums the receive-queue drops of the IPv4 UDP sockets on a port of the process's host.
func udpDrops(p *process, port uint16) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/udp", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read UDP drops: %w", err)
	}
	sum := 0
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 13 || !strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
			continue
		}
		n, err := strconv.Atoi(f[12])
		if err != nil {
			return 0, fmt.Errorf("read UDP drops: %w", err)
		}
		sum += n
	}
	return sum, nil
}

// machineTime is the busy and the whole CPU time of the machine since its start.
func machineTime() (busy, all time.Duration, err error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, fmt.Errorf("read CPU times: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, s := range strings.Fields(line)[1:] {
		if i > 7 { // guest times are within user and nice
			break
		}
		n, err := strconv.Atoi(s)
		if err != nil {
			return 0, 0, fmt.Errorf("read CPU times: %w", err)
		}
		all += time.Duration(n) * clockTick
		if i != 3 && i != 4 { // idle, iowait
			busy += time.Duration(n) * clockTick
		}
	}
	return busy, all, nil
}

// cpuModel names the processor, as far as the machine says.
func cpuModel() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown CPU"
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}
