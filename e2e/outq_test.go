//go:build linux

package e2e_test

import "golang.org/x/sys/unix"

// outq is how many written bytes the peer's kernel has not acknowledged (tcp(7), SIOCOUTQ).
func outq(fd uintptr) (int, error) { return unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }
