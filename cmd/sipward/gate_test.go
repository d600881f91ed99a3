package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sipward/admin"
)

const (
	// beSipward has a process of the test binary be sipward. Neither name may begin
	// with SIPWARD_, which is what configurations use.
	beSipward = "TEST_BE_SIPWARD"
	// inside names the test that a process of the test binary runs in a network
	// namespace.
	inside = "TEST_INSIDE_NAMESPACE"
)

// The sources of the tests in a namespace, all on its loopback interface.
var sources = []string{"192.0.2.7", "192.0.2.8"}

// namespaced runs the test that calls it in a network namespace of its own, because
// loopback addresses are never banned. It returns true inside.
func namespaced(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		if err := loopbackUp(sources); err != nil {
			t.Fatal(err)
		}
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), inside+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	switch {
	case errors.As(err, &ended):
		t.Fatalf("in its namespace: %v\n%s", err, out)
	case errors.Is(err, fs.ErrPermission):
		t.Skipf("no right to make a network namespace (needs root or user namespaces): %v", err)
	case err != nil:
		t.Fatal(err)
	}
	return false
}

// loopbackUp gives the loopback interface further addresses.
func loopbackUp(addresses []string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	up, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	up.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, up); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	for i, a := range addresses {
		alias, err := unix.NewIfreq(fmt.Sprint("lo:", i+1))
		if err != nil {
			return err
		}
		ip := netip.MustParseAddr(a).As4()
		if err := alias.SetInet4Addr(ip[:]); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, alias); err != nil {
			return fmt.Errorf("add %s to lo: %w", a, err)
		}
	}
	return nil
}

// pbx counts what reaches the PBX, by Call-ID.
type pbx struct {
	conn *net.UDPConn
	seen chan string
}

func newPBX(t *testing.T) *pbx {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 3), Port: 5060})
	if err != nil {
		t.Fatal(err)
	}
	p := &pbx{conn: c, seen: make(chan string, 1000)}
	done := make(chan struct{})
	go p.read(done)
	t.Cleanup(func() { c.Close(); <-done })
	return p
}

func (p *pbx) read(done chan<- struct{}) {
	defer close(done)
	buf := make([]byte, 65536)
	for {
		n, err := p.conn.Read(buf)
		if err != nil {
			return
		}
		_, rest, _ := strings.Cut(string(buf[:n]), "Call-ID: ")
		id, _, _ := strings.Cut(rest, "\r\n")
		select {
		case p.seen <- id:
		default:
		}
	}
}

// A sender sends OPTIONS from one address to a sipward.
type sender struct {
	t    *testing.T
	r    *running
	conn *net.UDPConn
}

var nextCall atomic.Int64

func (r *running) from(address string) *sender {
	r.t.Helper()
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(address)}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: r.port})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return &sender{r.t, r, c}
}

func (s *sender) send() (callID string) { return s.sendAs("phone 1.0") }

// sendAs sends with a User-Agent.
func (s *sender) sendAs(agent string) (callID string) {
	s.t.Helper()
	n := nextCall.Add(1)
	callID = fmt.Sprintf("call-%d-%d@example.com", os.Getpid(), n)
	_, err := fmt.Fprintf(s.conn, "OPTIONS sip:pbx@example.com SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK-a%d;rport\r\n"+
		"Max-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=a%d\r\nTo: <sip:pbx@example.com>\r\nCall-ID: %s\r\nCSeq: 1 OPTIONS\r\nUser-Agent: %s\r\nContent-Length: 0\r\n\r\n",
		s.conn.LocalAddr(), n, n, callID, agent)
	if err != nil {
		s.t.Fatal(err)
	}
	return callID
}

// reaches wants a message to come to the PBX.
func (s *sender) reaches(p *pbx) {
	s.t.Helper()
	s.arrives(p, s.send())
}

func (s *sender) arrives(p *pbx, id string) {
	s.t.Helper()
	end := time.After(10 * time.Second)
	for {
		select {
		case got := <-p.seen:
			if got == id {
				return
			}
		case <-end:
			s.t.Fatalf("what %s sends does not reach the PBX", s.conn.LocalAddr())
		}
	}
}

// stopped wants a message to be dropped for a reason, at the gate.
func (s *sender) stopped(p *pbx, reason string) {
	s.t.Helper()
	count := func() uint64 {
		st, err := admin.NewClient(s.r.socket).Status(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		return st.Reasons[reason]
	}
	before := count()
	id := s.send()
	for end := time.Now().Add(30 * time.Second); count() == before; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("what %s sends is not dropped for the reason %s", s.conn.LocalAddr(), reason)
		}
	}
	for {
		select {
		case got := <-p.seen:
			if got == id {
				s.t.Fatalf("what %s sends reaches the PBX", s.conn.LocalAddr())
			}
		default:
			return
		}
	}
}

// TestBanAtTheGate follows a source's packets on real sockets: banned, denied,
// allowed, and what a restart and a kill -9 leave of it.
func TestBanAtTheGate(t *testing.T) {
	if !namespaced(t) {
		return
	}
	p := newPBX(t)
	r := start(t)
	bad, good := r.from(sources[0]), r.from(sources[1])
	bad.reaches(p)

	r.cli(0, words("ban 192.0.2.7"))
	bad.stopped(p, "ban")
	good.reaches(p)
	r.cli(0, words("unban 192.0.2.7"))
	bad.reaches(p)

	stream := r.connect(sources[0])
	r.cli(0, words("deny 192.0.2.0/29"))
	closed(t, stream)
	bad.stopped(p, "deny-list")
	good.reaches(p)
	r.cli(0, words("allow 192.0.2.7"))
	bad.reaches(p) // allow beats deny
	r.cli(0, words("ban 192.0.2.7 --force"))
	bad.reaches(p) // and bans
	r.cli(0, words("allow --remove 192.0.2.7"))
	r.cli(0, words("deny --remove 192.0.2.0/29"))
	bad.stopped(p, "ban")

	// A ban with an end ends by itself.
	r.cli(0, words("unban 192.0.2.7"))
	r.cli(0, words("ban 192.0.2.7 --for 2s"))
	bad.stopped(p, "ban")
	for end := time.Now().Add(20 * time.Second); len(mustBans(t, r)) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the ban does not end")
		}
	}
	bad.reaches(p)

	// A restart keeps bans and lists.
	r.cli(0, words("ban 192.0.2.7 --for 1h"))
	r.cli(0, words("deny 192.0.2.8"))
	r.end()
	r.begin()
	bad.stopped(p, "ban")
	good.stopped(p, "deny-list")
	r.cli(0, words("deny --remove 192.0.2.8"))
	good.reaches(p)
}

func mustBans(t *testing.T, r *running) []admin.Ban {
	t.Helper()
	bans, err := admin.NewClient(r.socket).Bans(t.Context(), admin.BanQuery{})
	if err != nil {
		t.Fatal(err)
	}
	return bans
}

// process is a sipward that can be killed.
func (r *running) process() *exec.Cmd {
	r.t.Helper()
	cmd := exec.Command(os.Args[0], "run", "--config", r.config)
	cmd.Env = append(os.Environ(), beSipward+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.notify.expect("READY=1")
	return cmd
}

// TestKill: what a command has said is done is still so after kill -9.
func TestKill(t *testing.T) {
	if !namespaced(t) {
		return
	}
	p := newPBX(t)
	r := prepare(t)
	for i, change := range []struct {
		command string
		reason  string // why 192.0.2.7 is stopped; empty: it is not
	}{
		{"ban 192.0.2.7", "ban"},
		{"unban 192.0.2.7", ""},
		{"deny 192.0.2.7", "deny-list"},
		{"deny --remove 192.0.2.7", ""},
		{"ban 192.0.2.7 --for 1h", "ban"},
		{"allow 192.0.2.7", ""},
	} {
		first := r.process()
		r.cli(0, words(change.command))
		if err := first.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		first.Wait() //nolint:errcheck // it was killed
		second := r.process()
		s := r.from(sources[0])
		if change.reason == "" {
			s.reaches(p)
		} else {
			s.stopped(p, change.reason)
		}
		if err := second.Process.Signal(unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := second.Wait(); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// TestGuardBans: a guard's ban is explained, ends what is open, is kept by a restart
// and lifted by a command.
func TestGuardBans(t *testing.T) {
	if !namespaced(t) {
		return
	}
	p := newPBX(t)
	r := start(t)
	bad := r.from(sources[0])
	bad.reaches(p)
	stream := r.connect(sources[0])
	bad.sendAs("friendly-scanner")
	var bans []admin.Ban
	for end := time.Now().Add(20 * time.Second); len(bans) == 0; bans = mustBans(t, r) {
		if time.Now().After(end) {
			t.Fatal("the scanner is not banned")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if b := bans[0]; len(bans) != 1 || b.Guard != "scanner" || b.Proven || b.Kind != "dynamic" {
		t.Errorf("bans: %+v", bans)
	}
	closed(t, stream)
	bad.stopped(p, "ban")
	r.cli(0, words("explain 192.0.2.7"), "DROPPED (ban)", "dynamic, unproven, by scanner", "User-Agent: friendly-scanner", "sipward unban 192.0.2.7")
	r.cli(0, words("list bans"), "bans: 1 source", "dynamic, unproven")
	r.cli(0, words("status"), "1 for a time (1 of them unproven)", "scanner: ban  messages stopped 1, bans in force 1", "notice")
	r.end()
	r.begin()
	bad.stopped(p, "ban")
	r.cli(0, words("explain 192.0.2.7"), "User-Agent: friendly-scanner")
	r.cli(0, words("unban 192.0.2.7"), "192.0.2.7 is no longer banned (dynamic, unproven, scanner:")
	bad.reaches(p)

	// A guard that watches lets pass and tells; one that is off does not look.
	text := r.text()
	r.write(text + "scanner: {action: watch}\n")
	r.cli(0, words("reload"), "changed: scanner.action: ban → watch")
	bad.arrives(p, bad.sendAs("friendly-scanner"))
	r.cli(0, words("status"), "scanner: watch", "would have acted 1 time")
	r.write(text + "scanner: {action: off}\n")
	r.cli(0, words("reload"), "changed: scanner.action: watch → off")
	bad.arrives(p, bad.sendAs("sipvicious"))
	r.write(text + "scanner: {disable: [ua-friendly-scanner]}\n")
	r.cli(0, words("reload"), "changed: scanner.disable", "changed: scanner.action: off → ban")
	bad.arrives(p, bad.sendAs("friendly-scanner"))
	if bans := mustBans(t, r); len(bans) != 0 {
		t.Errorf("bans: %+v", bans)
	}
}

// closed wants sipward to close a connection.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the connection of a source that is shut out: %v", err)
	}
}

// connect opens a TCP connection, on which reading gives up after a while.
func (r *running) connect(address string) net.Conn {
	r.t.Helper()
	c, err := net.DialTCP("tcp", &net.TCPAddr{IP: net.ParseIP(address)}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: r.port})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) { // until it is accepted
		s, err := admin.NewClient(r.socket).Status(r.t.Context())
		if err == nil && s.TCP.Open > 0 {
			return c
		}
		if time.Now().After(end) {
			r.t.Fatalf("the connection is not accepted: %v", err)
		}
	}
}
