//go:build linux

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// build builds the binary once for all labs: with the race detector if E2E_RACE is set. E2E_BINARY names one
// that exists.
func (r *Run) build() (string, error) {
	if bin := os.Getenv("E2E_BINARY"); bin != "" {
		return filepath.Abs(bin)
	}
	bin := filepath.Join(r.dir, "sipward")
	args := []string{"build", "-o", bin}
	if os.Getenv("E2E_RACE") != "" {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "sipward/cmd/sipward")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build sipward: %w: %s", err, out)
	}
	return bin, nil
}

// Sipward is one configured sipward, on the edge or on the PBX host.
type Sipward struct {
	*Process
	lab    *Lab
	host   *Namespace
	bin    string
	conf   string
	socket string

	// Wrap is a program, with its arguments, that Restart runs sipward with.
	Wrap []string
}

// Config is a sipward configuration of a lab. Zero values are the lab's defaults.
type Config struct {
	PBX   []string // addresses with port; default: the first PBX
	Extra string   // further YAML at the top level
	// In proxy mode: where phones send to, beside UDP and TCP on port 5060; where the PBX does, instead of them; and more
	// lines about each PBX.
	Outside, Inside []string
	PBXMore         string
	UDPOnly         bool // the PBXes speak nothing else
	// Placement is that of transparent mode: "router", or "host" for the PBX host. Empty: proxy mode.
	Placement string
	Fail      string // of transparent mode; default: open
	More      string // further lines of its section
}

// StartSipward writes a configuration and starts sipward.
func (l *Lab) StartSipward(t *testing.T, cfg Config) *Sipward {
	t.Helper()
	s := l.NewSipward(t, cfg)
	s.Restart(t)
	return s
}

// NewSipward writes a configuration, and starts nothing.
func (l *Lab) NewSipward(t *testing.T, cfg Config) *Sipward {
	t.Helper()
	bin, err := l.run.bin()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(l.dir, "sipward-")
	if err != nil {
		t.Fatal(err)
	}
	s := &Sipward{lab: l, host: l.Edge, bin: bin, conf: filepath.Join(dir, "sipward.yaml"), socket: filepath.Join(dir, "control.sock")}
	if cfg.Placement == "host" {
		s.host = l.PBX
	}
	if err := os.WriteFile(s.conf, []byte(cfg.yaml(dir, s.socket)), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, err := s.CLI("status")
			t.Logf("──── sipward status\n%s%v", out, err)
		}
	})
	return s
}

// inspect fails the test if sipward has said of itself that something in it is broken.
func (p *Process) inspect(t *testing.T) {
	text := p.Log()
	for _, sign := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
		if at := strings.Index(text, sign); at >= 0 {
			t.Errorf("sipward: %s", text[at:min(len(text), at+8000)])
		}
	}
}

func (c Config) yaml(dir, socket string) string {
	pbx := c.PBX
	if len(pbx) == 0 {
		pbx = []string{PBX1.String() + ":5060"}
	}
	var b strings.Builder
	switch c.Placement {
	case "router":
		b.WriteString("mode: transparent\ntransparent:\n  inside: [pbx0]\n" + c.fail())
	case "host":
		b.WriteString("mode: transparent\nplacement: host\ntransparent:\n  outside: [eth0]\n" + c.fail())
	default:
		inside := c.Inside
		if len(inside) == 0 {
			inside = []string{"udp://203.0.113.1:5060", "udp://[2001:db8:2::1]:5060"}
			if !c.UDPOnly {
				inside = append(inside, "tcp://203.0.113.1:5060", "tcp://[2001:db8:2::1]:5060")
			}
		}
		fmt.Fprintf(&b, "listen:\n  outside: [%s]\n  inside: [%s]\n",
			quoted(append([]string{"udp://198.51.100.1:5060", "tcp://198.51.100.1:5060", "udp://[2001:db8:1::1]:5060", "tcp://[2001:db8:1::1]:5060"}, c.Outside...)),
			quoted(inside))
	}
	b.WriteString("pbx:\n")
	for _, p := range pbx {
		fmt.Fprintf(&b, "  - address: %q\n%s", p, c.PBXMore)
		if c.UDPOnly {
			b.WriteString("    transports: [udp]\n")
		}
	}
	fmt.Fprintf(&b, "resolver: {nameservers: [%q]}\n", DNS.String()+":53")
	fmt.Fprintf(&b, "control: {socket: %q}\nstate_dir: %q\n", socket, filepath.Join(dir, "state"))
	b.WriteString("shutdown: {drain: 1s}\nlists: {}\n")
	if !strings.Contains(c.Extra, "kernel:") {
		b.WriteString("kernel: {backend: none}\n") // what user space does is to be seen
	}
	if !strings.Contains(c.Extra, "log:") {
		b.WriteString("log: {level: debug}\n")
	}
	b.WriteString(c.Extra)
	return b.String()
}

func (c Config) fail() string {
	if c.Fail == "" {
		return c.More
	}
	return "  fail: " + c.Fail + "\n" + c.More
}

func quoted(values []string) string {
	for i, v := range values {
		values[i] = `"` + v + `"`
	}
	return strings.Join(values, ", ")
}

// Restart starts sipward, for the first time or again with the same configuration and state, and waits until it serves.
func (s *Sipward) Restart(t *testing.T) {
	t.Helper()
	var err error
	argv := append(slices.Clone(s.Wrap), s.bin, "run", "--config", s.conf)
	if s.Process, err = s.lab.Start(s.host, "sipward", argv...); err != nil {
		t.Fatal(err)
	}
	p := s.Process
	t.Cleanup(func() { p.inspect(t) })
	Poll(t, 20*time.Second, "sipward serves", func() error {
		select {
		case <-s.Done():
			t.Fatalf("sipward ended: %v\n%s", s.Err(), s.Tail(4000))
		default:
		}
		_, err := s.CLI("status", "--json")
		return err
	})
}

// CLI runs another of sipward's commands against it.
func (s *Sipward) CLI(args ...string) (string, error) {
	return s.run(append(args, "--socket", s.socket)...)
}

// Tool runs one of sipward's commands that read the configuration and need no running sipward.
func (s *Sipward) Tool(args ...string) (string, error) {
	return s.run(append(args, "--config", s.conf)...)
}

func (s *Sipward) run(args ...string) (string, error) {
	out, err := s.host.Command(append([]string{s.bin}, args...)...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return string(out), fmt.Errorf("run sipward %q: %w", args, err)
	}
	return string(out), nil
}

// Status is what `sipward status --json` says.
func (s *Sipward) Status() (map[string]any, error) {
	out, err := s.CLI("status", "--json")
	if err != nil {
		return nil, err
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		return nil, fmt.Errorf("read sipward's status: %w: %q", err, out)
	}
	return v, nil
}

// Count is the number at a path of Status, 0 where there is none yet.
func (s *Sipward) Count(path ...string) (int64, error) {
	v, err := s.Status()
	if err != nil {
		return 0, err
	}
	var at any = v
	for _, name := range path {
		m, ok := at.(map[string]any)
		if !ok {
			return 0, fmt.Errorf("sipward's status has no %s", strings.Join(path, "."))
		}
		at = m[name]
	}
	n, _ := at.(float64)
	return int64(n), nil
}

// KillHard is kill -9: sipward gets no chance to say or save anything.
func (s *Sipward) KillHard() { s.Kill() }

// Crash kills sipward hard once what it has to remember is on disk, and starts it again.
func (s *Sipward) Crash(t *testing.T) {
	t.Helper()
	Poll(t, 20*time.Second, "all is on disk", func() error {
		if n, err := s.Count("store", "pending"); err != nil || n != 0 {
			return fmt.Errorf("%d changes wait: %v", n, err)
		}
		return nil
	})
	s.KillHard()
	s.Restart(t)
}

// Reload asks for the configuration to be read again.
func (s *Sipward) Reload() error { return s.Signal(syscall.SIGHUP) }

// ForgetKey removes the key of the flow tokens, so that the next start makes another.
func (s *Sipward) ForgetKey(t *testing.T) {
	t.Helper()
	if err := os.Remove(filepath.Join(filepath.Dir(s.conf), "state", "token.key")); err != nil {
		t.Fatal(err)
	}
}

// Edit replaces a text in the configuration file.
func (s *Sipward) Edit(t *testing.T, old, new string) {
	t.Helper()
	b, err := os.ReadFile(s.conf)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), old) {
		t.Fatalf("no %q in the configuration", old)
	}
	if err := os.WriteFile(s.conf, []byte(strings.Replace(string(b), old, new, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}
