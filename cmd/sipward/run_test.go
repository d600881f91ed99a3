package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sipward/admin"
	"sipward/proxy/certs/certstest"
)

// A running sipward of a test, started by its command line.
type running struct {
	t      *testing.T
	dir    string
	config string
	socket string
	port   int // of UDP and TCP
	stop   context.CancelFunc
	done   chan int
	notify *notifySocket
	log    io.Writer // what it logs; nil: to the test's own stderr
}

const minimal = `
listen:
  outside: [udp://127.0.0.1:0, tcp://127.0.0.1:0]
pbx:
  - address: 127.0.0.3:5060
health: {probe: "off"}
lists: {deny: [192.0.2.1]}
`

// noKernel keeps the tests from the kernel of the machine that they run on.
const noKernel = "kernel: {backend: none, name: sipwardtest}\n"

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// start runs a sipward with the minimal configuration and further YAML.
func start(t *testing.T, more ...string) *running {
	t.Helper()
	r := prepare(t, more...)
	r.begin()
	t.Cleanup(r.end)
	return r
}

// prepare writes the configuration of a sipward that does not run yet.
func prepare(t *testing.T, more ...string) *running {
	t.Helper()
	dir := t.TempDir()
	r := &running{t: t, dir: dir, config: filepath.Join(dir, "sipward.yaml"), socket: filepath.Join(dir, "control.sock"), port: freePort(t)}
	r.notify = listenNotify(t, filepath.Join(dir, "notify"))
	text := strings.ReplaceAll(minimal, ":0", fmt.Sprint(":", r.port))
	if !slices.ContainsFunc(more, func(s string) bool { return strings.Contains(s, "kernel:") }) {
		more = append(more, noKernel)
	}
	r.write(fmt.Sprintf("%scontrol: {socket: %s}\nstate_dir: %s\n%s", text, r.socket, dir, strings.Join(more, "\n")))
	return r
}

// begin starts it, for the first time or again.
func (r *running) begin() {
	r.t.Helper()
	if r.done != nil {
		r.notify.expect("STOPPING=1") // of the last one, and forget what it said before
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	r.stop, r.done = cancel, make(chan int, 1)
	done, root := r.done, newRoot()
	if r.log != nil {
		root.SetErr(r.log)
	}
	go func() { done <- execute(ctx, root, []string{"run", "--config", r.config}) }()
	r.notify.expect("READY=1")
}

func (r *running) end() {
	r.stop()
	select {
	case code := <-r.done:
		if code != 0 {
			r.t.Errorf("exit code %d", code)
		}
	case <-time.After(30 * time.Second):
		r.t.Error("sipward does not end")
	}
	r.done <- 0
}

func (r *running) write(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) text() string {
	b, err := os.ReadFile(r.config)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// notifySocket is what systemd gives a service.
type notifySocket struct {
	t    *testing.T
	conn *net.UnixConn
	mu   sync.Mutex
	got  []string
}

func listenNotify(t *testing.T, path string) *notifySocket {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "300000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	n := &notifySocket{t: t, conn: c}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1024)
		for {
			k, err := c.Read(buf)
			if err != nil {
				return
			}
			n.mu.Lock()
			n.got = append(n.got, string(buf[:k]))
			n.mu.Unlock()
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return n
}

// expect waits for a message that begins so, and forgets it and all before it.
func (n *notifySocket) expect(prefix string) string {
	n.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		n.mu.Lock()
		for i, s := range n.got {
			if strings.HasPrefix(s, prefix) {
				n.got = n.got[i+1:]
				n.mu.Unlock()
				return s
			}
		}
		n.mu.Unlock()
	}
	n.t.Fatalf("systemd was not told %s", prefix)
	return ""
}

// cli runs a command that talks to it, and wants an exit code and pieces of the
// output.
func (r *running) cli(code int, args []string, want ...string) string {
	r.t.Helper()
	got, out := command(r.t, append(args, "--socket", r.socket)...)
	if got != code {
		r.t.Errorf("sipward %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, out)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			r.t.Errorf("sipward %s: no %q in\n%s", strings.Join(args, " "), w, out)
		}
	}
	return out
}

// await waits until the output of a command has pieces.
func (r *running) await(args []string, want ...string) {
	r.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, out := command(r.t, append(args, "--socket", r.socket)...)
		missing := slices.DeleteFunc(slices.Clone(want), func(w string) bool { return strings.Contains(out, w) })
		if len(missing) == 0 {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("sipward %s: no %q in\n%s", strings.Join(args, " "), missing, out)
		}
	}
}

// scrape returns the metrics.
func (r *running) scrape() string {
	r.t.Helper()
	unix := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.socket)
	}}}
	res, err := unix.Get("http://sipward/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

// words splits a command line at its spaces.
func words(line string) []string { return strings.Fields(line) }

// command runs a command line and returns its exit code and output.
func command(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	var buf bytes.Buffer
	root := newRoot()
	root.SetOut(&buf)
	root.SetErr(&buf)
	code = execute(t.Context(), root, args)
	return code, buf.String()
}

func TestMain(m *testing.M) {
	if os.Getenv(beSipward) != "" { // a test runs sipward as a process of its own
		main()
	}
	goleak.VerifyTestMain(m, certstest.Endless()...)
}

func TestLifecycle(t *testing.T) {
	r := start(t)
	r.notify.expect("WATCHDOG=1")

	code, out := command(t, "status", "--socket", r.socket, "--json")
	var s admin.Status
	if err := json.Unmarshal([]byte(out), &s); code != 0 || err != nil || s.Deny != 1 || s.PID != os.Getpid() {
		t.Fatalf("status: exit %d, %v\n%s", code, err, out)
	}
	if code, out = command(t, "status", "--socket", r.socket); code != 0 || !strings.Contains(out, "127.0.0.3:5060") {
		t.Errorf("status: exit %d\n%s", code, out)
	}

	// A wrong file changes nothing and says what is wrong.
	good := r.text()
	r.write(strings.Replace(good, "deny: [192.0.2.1]", "deni: [192.0.2.1, 192.0.2.2]", 1))
	if code, out = command(t, "reload", "--socket", r.socket); code != exitRefused || !strings.Contains(out, "deny") || !strings.Contains(out, "sipward.yaml:") {
		t.Errorf("reload of a wrong file: exit %d\n%s", code, out)
	}
	if s, err := admin.NewClient(r.socket).Status(t.Context()); err != nil || s.Deny != 1 {
		t.Errorf("after the wrong file: %d denied, %v", s.Deny, err)
	}

	// A right one takes effect; what needs a restart is named.
	r.write(strings.Replace(good, "deny: [192.0.2.1]", "deny: [192.0.2.1, 192.0.2.2]", 1) + "udp: {workers: 3}\n")
	code, out = command(t, "reload", "--socket", r.socket)
	if code != 0 || !strings.Contains(out, "changed: lists.deny") || !strings.Contains(out, "restart: udp.workers") {
		t.Errorf("reload: exit %d\n%s", code, out)
	}
	if !strings.Contains(r.notify.expect("RELOADING=1"), "MONOTONIC_USEC=") {
		t.Error("no time beside RELOADING")
	}
	r.notify.expect("READY=1")

	r.write(good)
	syscall.Kill(os.Getpid(), syscall.SIGHUP)
	r.notify.expect("READY=1")
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		s, err := admin.NewClient(r.socket).Status(t.Context())
		if err == nil && s.Deny == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after SIGHUP: %d denied, %v", s.Deny, err)
		}
	}

	r.end()
	r.notify.expect("STOPPING=1")
	if code, out = command(t, "status", "--socket", r.socket); code != exitUnreachable {
		t.Errorf("status of a stopped sipward: exit %d\n%s", code, out)
	}
}

// TestSecondSipward: two on one folder, port or socket would spoil each other.
func TestSecondSipward(t *testing.T) {
	r := start(t)
	second := func(text string, want ...string) {
		t.Helper()
		config := filepath.Join(r.dir, "second.yaml")
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out := command(t, "run", "--config", config)
		for _, w := range want {
			if code != exitRefused || !strings.Contains(out, w) {
				t.Errorf("a second sipward: exit %d, want %q\n%s", code, w, out)
			}
		}
	}
	text := r.text()
	second(text, "state_dir "+r.dir+" is in use by another sipward")
	text = strings.Replace(text, "state_dir: "+r.dir, "state_dir: "+t.TempDir(), 1)
	second(text, "address already in use", "ss -lntup")
	text = strings.ReplaceAll(text, fmt.Sprint(":", r.port), fmt.Sprint(":", freePort(t)))
	second(text, "another sipward answers there")
	if _, err := admin.NewClient(r.socket).Status(t.Context()); err != nil {
		t.Errorf("the first one no longer answers: %v", err)
	}
}

func TestWrongUse(t *testing.T) {
	for _, args := range [][]string{{"run", "extra"}, {"run", "--nope"}, {"nope"}, {"status", "--socket"}, {"explain"}, {"explain", "192.0.2.0/24"}, {"explain", "192.0.2.1", "192.0.2.2"}} {
		if code, out := command(t, args...); code != exitUsage {
			t.Errorf("%v: exit %d, want %d\n%s", args, code, exitUsage, out)
		}
	}
}

// TestSocketVariable: what names the socket to sipward run names it to the commands.
func TestSocketVariable(t *testing.T) {
	r := start(t)
	t.Setenv(socketVariable, r.socket)
	if code, out := command(t, "status"); code != 0 || !strings.Contains(out, "127.0.0.3:5060") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if code, out := command(t, "status", "--socket", r.socket+"x"); code != exitUnreachable {
		t.Errorf("the flag is not heeded: exit %d\n%s", code, out)
	}
}

// TestSecondSignal: who waits in a system call does not hear of the first one.
func TestSecondSignal(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "check", "--config", fifo)
	cmd.Env = append(os.Environ(), beSipward+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		cmd.Process.Signal(syscall.SIGINT) //nolint:errcheck // it may have ended
		select {
		case <-ended:
			return
		default:
		}
	}
	cmd.Process.Kill()
	<-ended
	t.Error("it does not end")
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	list := write("deny.txt", "192.0.2.0/24 # scanners\nnonsense\n")
	good := write("good.yaml", "pbx: [{address: 203.0.113.2}]\nlists: {deny: [198.51.100.1]}\n")
	bad := write("bad.yaml", "pbx: [{address: 203.0.113.2}]\nlists: {deny_files: ["+list+"]}\n")
	if code, out := command(t, "check", "--config", good); code != 0 || !strings.Contains(out, "1 denied") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if code, out := command(t, "check", "--config", bad); code != exitRefused || !strings.Contains(out, "deny.txt:2") {
		t.Errorf("a wrong line in a list: exit %d\n%s", code, out)
	}
	for line, section := range []string{"lists: {deny_files: [nowhere]}", "lists: {allow_files: [.]}", "scanner: {signatures: [nowhere]}"} {
		config := write("nowhere.yaml", "pbx: [{address: 203.0.113.2}]"+strings.Repeat("\n", line+1)+section+"\n")
		code, out := command(t, "check", "--config", config)
		if want := fmt.Sprintf("nowhere.yaml:%d:", line+2); code != exitRefused || !strings.Contains(out, want) || !strings.Contains(out, "cannot be read") {
			t.Errorf("%s: exit %d, want %s\n%s", section, code, want, out)
		}
	}
	if code, out := command(t, "check", "--config", filepath.Join(dir, "missing.yaml")); code != exitRefused || !strings.Contains(out, "missing.yaml") {
		t.Errorf("a missing file: exit %d\n%s", code, out)
	}
}
