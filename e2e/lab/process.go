//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is a program that runs in a lab.
type Process struct {
	Name string

	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error
}

// Start runs a program in a namespace of the lab until it ends or the lab does. What it prints goes to its log.
func (l *Lab) Start(ns *Namespace, name string, argv ...string) (*Process, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.New("lab: closed")
	}
	p := &Process{Name: name, cmd: ns.Command(argv...), done: make(chan struct{})}
	p.log = filepath.Join(l.dir, fmt.Sprintf("%02d-%s.log", len(l.processes), name))
	f, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer f.Close()
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = f, f, l.dir
	// A group of its own, so that its children can be ended with it; and it does not survive a killed test.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	l.processes = append(l.processes, p)
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID is the program's process id (ip netns exec and chroot become the program).
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the program ended; read it after Done.
func (p *Process) Err() error { return p.err }

// Signal sends a signal to the program alone.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Freeze stops the program and its children where they are, until Thaw.
func (p *Process) Freeze() error { return syscall.Kill(-p.PID(), syscall.SIGSTOP) }

// Thaw lets them go on.
func (p *Process) Thaw() error { return syscall.Kill(-p.PID(), syscall.SIGCONT) }

// Kill ends the program and its children at once, and waits for it.
func (p *Process) Kill() {
	select {
	case <-p.done: // its id may belong to another by now
		return
	default:
	}
	_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
	<-p.done
}

// Stop asks the program to end, and ends it after the time given.
func (p *Process) Stop(within time.Duration) {
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(within):
	}
	p.Kill()
}

// Log is everything that the program has printed.
func (p *Process) Log() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Tail is the end of Log.
func (p *Process) Tail(n int) string {
	text := p.Log()
	if len(text) > n {
		text = "…" + text[len(text)-n:]
	}
	return text
}

// Memory gives the program's resident set in bytes: now, and at its highest.
func (p *Process) Memory() (now, peak int64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0, 0, fmt.Errorf("read memory of %s: %w", p.Name, err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "VmRSS:":
			now = kib << 10
		case "VmHWM:":
			peak = kib << 10
		}
	}
	return now, peak, nil
}

// Poll calls f until it gives nil, and fails the test with its last error when the time is over.
func Poll(t *testing.T, within time.Duration, what string, f func() error) {
	t.Helper()
	if err := Wait(within, f); err != nil {
		t.Fatalf("%s: not within %v: %v", what, within, err)
	}
}

// Wait is Poll without a test.
func Wait(within time.Duration, f func() error) error {
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		err := f()
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}
