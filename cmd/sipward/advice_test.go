package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestAdvice: what the system says of each mistake of a newcomer leads to what he can do.
func TestAdvice(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, inUse := net.ListenPacket("udp", taken.LocalAddr().String())
	_, missing := os.Open(filepath.Join(t.TempDir(), "nowhere"))
	for _, c := range []struct {
		err  error
		want string
	}{
		{inUse, "ss -lntup"},
		{&net.OpError{Op: "listen", Net: "udp", Err: os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)}, "ip address"},
		{&os.PathError{Op: "mkdir", Path: "/var/lib/sipward", Err: syscall.EACCES}, "state_dir"},
		{&net.OpError{Op: "listen", Net: "unix", Err: os.NewSyscallError("bind", syscall.EACCES)}, "control.socket"},
		{&net.OpError{Op: "listen", Net: "udp", Err: os.NewSyscallError("bind", syscall.EACCES)}, "CAP_NET_BIND_SERVICE"},
		{os.NewSyscallError("setsockopt", syscall.EPERM), "CAP_NET_ADMIN"},
		{missing, ""},
		{errors.New("something else"), ""},
	} {
		err := fmt.Errorf("start: %w", c.err)
		got := withAdvice(err)
		if !errors.Is(got, c.err) || !strings.Contains(got.Error(), c.want) || c.want == "" && got.Error() != err.Error() {
			t.Errorf("%v: %v, want %q", err, got, c.want)
		}
	}
	if err := withAdvice(nil); err != nil {
		t.Error(err)
	}
}
