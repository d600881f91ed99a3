package admin

import (
	"fmt"
	"net"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// Peer is the process that a request came from. The kernel vouches for it.
type Peer struct {
	PID      int32
	UID, GID uint32
	// User is the name of the UID, or the number when it has none.
	User string
}

func (p Peer) String() string {
	if p.User == "" {
		return "unknown"
	}
	return fmt.Sprintf("%s (uid %d, pid %d)", p.User, p.UID, p.PID)
}

func peerOf(c net.Conn) (Peer, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return Peer{}, fmt.Errorf("admin: no unix socket: %T", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Peer{}, err
	}
	if failed != nil {
		return Peer{}, failed
	}
	p := Peer{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid}
	p.User = strconv.FormatUint(uint64(p.UID), 10)
	if u, err := user.LookupId(p.User); err == nil {
		p.User = u.Username
	}
	return p, nil
}
