//go:build linux

package kernel_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// inside is set in the process that runs in a network namespace of its own.
const inside = "SIPWARD_KERNEL_TEST_INSIDE"

// TestMain starts this program again in a new network namespace: whatever the
// tests do to ipset, iptables and nftables, they do it to nobody.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 && os.Getenv(inside) == "" {
		os.Exit(m.Run()) // tests that need the kernel skip
	}
	if os.Getenv(inside) == "" {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			fmt.Fprintln(os.Stderr, "no network namespace:", err)
			os.Exit(m.Run())
		}
		self, err := os.Executable()
		if err == nil {
			err = syscall.Exec(self, os.Args, append(os.Environ(), inside+"=1"))
		}
		fmt.Fprintln(os.Stderr, "start again:", err)
		os.Exit(1)
	}
	if os.Geteuid() != 0 { // TestCapabilities has started it
		goleak.VerifyTestMain(m)
		return
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "set lo up: %v: %s\n", err, out)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// needKernel skips the test, with the reason, where it cannot have a kernel's
// network for itself.
func needKernel(t testing.TB, tools ...string) {
	t.Helper()
	skip := t.Skipf
	if os.Getenv("E2E_REQUIRE") == "1" {
		skip = t.Fatalf
	}
	if os.Getenv(inside) == "" {
		skip("not root, or no network namespaces: the kernel's sets cannot be used")
	}
	for _, tool := range append([]string{"ip", "ipset", "nft", "iptables", "ip6tables"}, tools...) {
		if _, err := exec.LookPath(tool); err != nil {
			skip("no %s here (e2e/setup.sh installs it)", tool)
		}
	}
}

// run runs a program in the namespace and returns what it says.
func run(t testing.TB, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("run %q: %v: %s", argv, err, out)
	}
	return string(out)
}
