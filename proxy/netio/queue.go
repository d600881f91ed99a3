package netio

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// QueueFill returns how full the receive queue of a worker's socket is: 0 empty, 1 so
// full that the kernel drops.
func (u *UDP) QueueFill(listener, worker int) float64 {
	// SO_MEMINFO (socket(7)): nine numbers, the first the bytes that are queued, the
	// second how many there may be.
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(u.groups[listener][worker].fd),
		unix.SOL_SOCKET, unix.SO_MEMINFO, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 || info[1] == 0 {
		return 0
	}
	return float64(info[0]) / float64(info[1])
}
