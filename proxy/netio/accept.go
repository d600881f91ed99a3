package netio

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// How long a connection may be silent before the kernel asks whether the
// other side is still there, and how long anything may stay unacknowledged.
const (
	keepAliveIdle     = 60 // seconds
	keepAliveInterval = 15 // seconds
	keepAliveProbes   = 4
	userTimeout       = 60_000 // milliseconds

	backlog = 4096 // the kernel cuts it to net.core.somaxconn
)

// tcpListener accepts on its descriptor itself: a connection that is refused
// costs three system calls and no memory.
type tcpListener struct {
	StreamListener
	index    int
	f        *os.File
	raw      syscall.RawConn
	addr     netip.AddrPort
	wildcard bool
	original bool // connections were opened to others

	// the result of accept1, which only acceptAll calls
	fd    int
	from  sockaddr
	errno unix.Errno
}

func listenTCP(index int, what StreamListener, transparent *Transparent) (*tcpListener, error) {
	addr := unmapped(what.Addr)
	if what.TLS != nil {
		what.TLS = oneRecord(what.TLS)
	}
	if !addr.Addr().IsValid() {
		return nil, fmt.Errorf("listen tcp: no address given for listener %d", index)
	}
	family := unix.AF_INET6
	if addr.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, fmt.Errorf("listen tcp %s: %w", addr, sockErr("socket", err))
	}
	l := &tcpListener{StreamListener: what, index: index, wildcard: addr.Addr().IsUnspecified(), original: transparent != nil}
	if transparent != nil {
		err = transparent.makeStream(fd, addr.Addr().Is4())
	}
	if err == nil {
		err = l.bind(fd, addr)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen tcp %s: %w", addr, err)
	}
	l.f = os.NewFile(uintptr(fd), "listener")
	if l.raw, err = l.f.SyscallConn(); err != nil {
		l.f.Close()
		return nil, fmt.Errorf("listen tcp %s: %w", addr, err)
	}
	return l, nil
}

func (l *tcpListener) bind(fd int, addr netip.AddrPort) error {
	// A port with connections in TIME_WAIT can be bound again. A port that
	// another listener holds cannot.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return sockErr("setsockopt", err)
	}
	if addr.Addr().Is6() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return sockErr("setsockopt", err)
		}
	}
	if err := setTCPOptions(fd); err != nil {
		return err
	}
	if err := unix.Bind(fd, unixAddr(addr)); err != nil {
		return err
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return sockErr("getsockname", err)
	}
	l.addr = netip.AddrPortFrom(addr.Addr(), sockPort(sa))
	return nil
}

// setTCPOptions is for a listening socket, from which the accepted ones have
// them, and for one that will be connected.
func setTCPOptions(fd int) error {
	return setOptions(fd, []option{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveIdle},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAliveInterval},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveProbes},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeout},
	})
}

// dialOptions prepares a socket that will be connected from local.
func (t *TCP) dialOptions(local netip.AddrPort) func(_, _ string, rc syscall.RawConn) error {
	return func(_, _ string, rc syscall.RawConn) error {
		var err error
		ctrlErr := rc.Control(func(fd uintptr) {
			if local.Port() == 0 {
				// Leaves the choice of a port to connect, which may give one port to
				// connections that differ in their target.
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			}
			err = setTCPOptions(int(fd))
			if t.cfg.Transparent != nil && err == nil {
				err = t.cfg.Transparent.makeStream(int(fd), local.Addr().Is4())
			}
		})
		return errors.Join(ctrlErr, err)
	}
}

// acceptAll never gives up before everything is closed: when descriptors or
// memory run out it waits for better times.
func (t *TCP) acceptAll(l *tcpListener, h StreamHandler) {
	defer t.wg.Done()
	accept1 := l.accept1
	var wait time.Duration
	for {
		if err := l.raw.Read(accept1); err != nil {
			return // closed
		}
		if l.errno != 0 {
			t.counters.acceptErrors.Add(1)
			if aboutOne(l.errno) {
				continue
			}
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			if !t.pause(wait) {
				return
			}
			continue
		}
		wait = 0
		remote := unzoned(l.from.decode(uint32(len(l.from))))
		t.admit(l, h, l.fd, remote)
	}
}

// aboutOne reports whether errno is about the one connection that was to be
// accepted: accept(2) hands its network errors on.
func aboutOne(errno unix.Errno) bool {
	switch errno {
	case unix.ECONNABORTED, unix.ENETDOWN, unix.EPROTO, unix.ENOPROTOOPT, unix.EHOSTDOWN,
		unix.ENONET, unix.EHOSTUNREACH, unix.EOPNOTSUPP, unix.ENETUNREACH:
		return true
	}
	return false
}

// pause waits for d, and returns false when everything is being closed.
func (t *TCP) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.done.Done():
		return false
	}
}

func (l *tcpListener) accept1(fd uintptr) bool {
	for {
		size := uint32(len(l.from))
		n, _, errno := unix.Syscall6(unix.SYS_ACCEPT4, fd, uintptr(unsafe.Pointer(&l.from)),
			uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		if errno != unix.EINTR {
			l.fd, l.errno = int(n), errno
			return errno != unix.EAGAIN
		}
	}
}

// admit takes the accepted descriptor fd, or refuses it.
func (t *TCP) admit(l *tcpListener, h StreamHandler, fd int, remote netip.AddrPort) {
	if !remote.IsValid() || !h.Accept(remote, l.index) {
		t.counters.refusedGate.Add(1)
		refuse(fd)
		return
	}
	exempt := t.cfg.Exempt(remote.Addr())
	source := t.cfg.SourceKey(remote.Addr())
	if !t.place(source, exempt, l.layered(), nil) {
		refuse(fd)
		return
	}
	local := l.addr
	if l.wildcard || l.original {
		local = unzoned(localAddr(fd, local))
	}
	if l.original && local.Port() == l.addr.Port() {
		local = redirectedFrom(fd, local)
	}
	f := os.NewFile(uintptr(fd), "tcp")
	c, err := t.newConn(f, h, l.index)
	if err == nil {
		c.remote, c.local, c.source, c.exempt = remote, local, source, exempt
		c.layer = l.layerFor(c)
		if t.start(c) {
			return
		}
	}
	t.limits.release(source, exempt)
	f.Close()
}

// place counts a connection that is accepted, unless the caps refuse it; layered says
// that it begins with a handshake. gives, if not nil, is asked last, and returns a connection
// that gives its place to it, or nil.
func (t *TCP) place(source netip.Addr, exempt, layered bool, gives func() *Conn) bool {
	if layered && !exempt && (t.shaking.full(source) || !t.cfg.MayShake(source)) {
		t.counters.refusedHandshake.Add(1)
		return false
	}
	if gives != nil {
		if c := gives(); c != nil {
			t.limits.leave(c)
		}
	}
	is := t.limits.acquire(source, exempt)
	if is == refusedTotal && t.makeRoom() {
		is = t.limits.acquire(source, exempt)
	}
	switch is {
	case refusedTotal:
		t.counters.refusedTotal.Add(1)
	case refusedSource:
		t.counters.refusedSource.Add(1)
	}
	return is == admitted
}

// makeRoom closes a stranger's connection, if there is one that need not stay.
func (t *TCP) makeRoom() bool {
	if t.cfg.Keep == nil {
		return false
	}
	c := t.limits.makeRoom(t.cfg.Keep)
	if c == nil {
		return false
	}
	t.counters.madeRoom.Add(1)
	c.Close(errMadeRoom)
	return true
}

// refuse closes fd with a reset: nothing of it stays in the kernel.
func refuse(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(fd)
}

func localAddr(fd int, or netip.AddrPort) netip.AddrPort {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return or
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(withScope(netip.AddrFrom16(sa.Addr).Unmap(), sa.ZoneId), uint16(sa.Port))
	}
	return or
}

// unzoned leaves out the interface of a link-local address: a connection keeps to
// its own, and lists and bans know addresses without.
func unzoned(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().WithZone(""), a.Port())
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
