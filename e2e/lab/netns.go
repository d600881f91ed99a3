//go:build linux

package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sipward/e2e/phone"
)

// Namespace is a host of the lab.
type Namespace struct {
	Name string
	fd   int
}

var _ phone.Network = (*Namespace)(nil)

func newNamespace(name string) (*Namespace, error) {
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("add namespace %s: %w: %s", name, err, out)
	}
	fd, err := unix.Open("/run/netns/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open namespace %s: %w", name, err)
	}
	ns := &Namespace{Name: name, fd: fd}
	if err := ns.Run("ip", "link", "set", "lo", "up"); err != nil {
		return nil, err
	}
	return ns, ns.Sysctl(map[string]string{
		"net/ipv4/conf/all/rp_filter":     "0",
		"net/ipv4/conf/default/rp_filter": "0",
		"net/ipv4/ip_forward":             "0",
	})
}

func (n *Namespace) remove() {
	_ = unix.Close(n.fd)
	_ = exec.Command("ip", "netns", "del", n.Name).Run()
}

// Do calls f on a thread inside the namespace. Sockets that f opens stay there; what f starts in other goroutines does not.
func (n *Namespace) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- fmt.Errorf("note the namespace of the thread: %w", err)
			return
		}
		defer home.Close()
		if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter namespace %s: %w", n.Name, err)
			return
		}
		err = f()
		// A thread that cannot return stays locked, and ends with its goroutine. One that can must not end: it may be the
		// parent of processes that shall die with it (Pdeathsig is about threads).
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// Sysctl writes kernel settings of the namespace; names have slashes.
func (n *Namespace) Sysctl(settings map[string]string) error {
	return n.Do(func() error {
		for name, value := range settings {
			if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0o644); err != nil {
				return fmt.Errorf("set %s in %s: %w", name, n.Name, err)
			}
		}
		return nil
	})
}

// ListenUDP implements phone.Network.
func (n *Namespace) ListenUDP(local netip.AddrPort) (conn *net.UDPConn, err error) {
	err = n.Do(func() error {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(local))
		return err
	})
	return conn, err
}

// DialTCP implements phone.Network.
func (n *Namespace) DialTCP(local, remote netip.AddrPort, timeout time.Duration) (conn *net.TCPConn, err error) {
	err = n.Do(func() error {
		conn, err = phone.Host{}.DialTCP(local, remote, timeout)
		return err
	})
	return conn, err
}

// ListenTCP implements phone.Network.
func (n *Namespace) ListenTCP(local netip.AddrPort) (l *net.TCPListener, err error) {
	err = n.Do(func() error {
		l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(local))
		return err
	})
	return l, err
}

// Command is a command to be run inside the namespace. It does not see the variables that steer these tests: sipward
// takes what begins with SIPWARD_ for its configuration.
func (n *Namespace) Command(argv ...string) *exec.Cmd {
	cmd := exec.Command("ip", append([]string{"netns", "exec", n.Name}, argv...)...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "SIPWARD_") })
	return cmd
}

// Output runs a command inside the namespace and gives what it printed.
func (n *Namespace) Output(argv ...string) (string, error) {
	out, err := n.Command(argv...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("run %q in %s: %w: %s", argv, n.Name, err, out)
	}
	return string(out), nil
}

// Run runs a command inside the namespace.
func (n *Namespace) Run(argv ...string) error {
	_, err := n.Output(argv...)
	return err
}

// ipBatch runs lines of ip(8) commands in one process.
func ipBatch(ns, lines string) error {
	args := []string{"-batch", "-"}
	if ns != "" {
		args = append([]string{"-n", ns}, args...)
	}
	cmd := exec.Command("ip", args...)
	cmd.Stdin = strings.NewReader(lines)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run ip -batch in %q: %w: %s", ns, err, out)
	}
	return nil
}

// Loss makes the host lose that share of what arrives on a device ("": on all), in percent, until the function that it
// gives is called. (The kernels of many CI machines lack netem; nftables' random numbers do the same for arriving packets.)
func (n *Namespace) Loss(device string, percent int) (func(), error) {
	match := `iifname != "lo"`
	if device != "" {
		match = fmt.Sprintf("iifname %q", device)
	}
	rules := fmt.Sprintf("table inet e2e_loss {\n chain in {\n  type filter hook prerouting priority -300;\n"+
		"  %s numgen random mod 100 < %d drop\n }\n}\n", match, percent)
	cmd := n.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("add loss in %s: %w: %s", n.Name, err, out)
	}
	return func() { _ = n.Run("nft", "delete", "table", "inet", "e2e_loss") }, nil
}
