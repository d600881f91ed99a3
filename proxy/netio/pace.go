package netio

import (
	"encoding/binary"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pacer says when a worker's sockets are to be read.
//
// Waking for a packet costs more than everything else that is done for it, so
// sockets that are busy are read on the ticks of a timer, as a network card
// moderates its interrupts: what comes between two ticks shares one wake-up.
// Sockets that are not busy are read as soon as something is there.
//
// Both waits are the runtime poller's, through an epoll instance of our own
// that can silence the sockets while the timer rules. A thread that blocks in
// the system call would be cheaper to wake, but the scheduler takes its P
// away after 20 µs and has to give it back, which costs three times as much.
type pacer struct {
	socks    []int
	timer    int
	epfd     int
	ep       *os.File // owns epfd
	raw      syscall.RawConn
	interval time.Duration // between two ticks; 0: never wait for one
	busy     bool
	tick     atomic.Int64 // the interval in force (ns), see adapt

	// The current window: wake-ups while idle, ticks and packets while busy.
	since   time.Time
	count   int
	packets int
}

const (
	// busyAfter wake-ups at more than one for each interval mean busy.
	busyAfter = 8
	// idleAfter ticks with less than one packet for two of them end that.
	idleAfter = 16
	// manyPackets on each tick make the next ones twice as long, as long as there are as
	// many on these.
	manyPackets = 32
)

func newPacer(socks []int, interval time.Duration) (*pacer, error) {
	p := &pacer{socks: socks, timer: -1, epfd: -1, interval: max(interval, 0)}
	p.tick.Store(int64(p.interval))
	if err := p.open(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *pacer) open() (err error) {
	if p.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return sockErr("epoll_create1", err)
	}
	if err := unix.SetNonblock(p.epfd, true); err != nil { // makes the runtime poll it
		return sockErr("fcntl", err)
	}
	p.ep = os.NewFile(uintptr(p.epfd), "epoll")
	if p.raw, err = p.ep.SyscallConn(); err != nil {
		return err
	}
	if p.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return sockErr("timerfd_create", err)
	}
	if err := p.watch(unix.EPOLL_CTL_ADD, unix.EPOLLIN, p.timer); err != nil {
		return err
	}
	return p.watch(unix.EPOLL_CTL_ADD, unix.EPOLLIN, p.socks...)
}

func (p *pacer) watch(op int, events uint32, fds ...int) error {
	for _, fd := range fds {
		ev := unix.EpollEvent{Events: events, Fd: int32(fd)}
		if err := unix.EpollCtl(p.epfd, op, fd, &ev); err != nil {
			return sockErr("epoll_ctl", err)
		}
	}
	return nil
}

func (p *pacer) close() {
	if p.timer >= 0 {
		unix.Close(p.timer)
	}
	if p.ep != nil {
		p.ep.Close()
	} else if p.epfd >= 0 {
		unix.Close(p.epfd)
	}
}

// stop makes wait return, now and ever after.
func (p *pacer) stop() { _ = p.ep.SetReadDeadline(time.Unix(1, 0)) }

// wait calls try at once, and again on every tick or when something has come,
// until try returns true.
func (p *pacer) wait(try func(uintptr) bool) error { return p.raw.Read(try) }

// ticked reports whether the time to read has come, while busy. Reading the
// timer starts it again.
func (p *pacer) ticked() bool {
	var expired [8]byte
	_, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(p.timer), uintptr(unsafe.Pointer(&expired)), 8)
	if errno != 0 {
		return false
	}
	p.count += int(min(binary.NativeEndian.Uint64(expired[:]), idleAfter))
	return true
}

// note takes how many packets a round of reading has found.
func (p *pacer) note(packets int) {
	switch {
	case p.interval == 0:
	case p.busy:
		p.packets += packets
		if p.count < idleAfter {
			return
		}
		if p.packets < p.count/2 {
			p.setBusy(false)
		} else {
			p.adapt(p.packets / p.count)
		}
		p.count, p.packets = 0, 0
	case packets > 0:
		now := time.Now()
		if p.count == 0 || now.Sub(p.since) > busyAfter*p.interval {
			p.since, p.count = now, 0
		}
		if p.count++; p.count > busyAfter {
			p.setBusy(true)
			p.count, p.packets = 0, 0
		}
	}
}

// setBusy changes what the poller reports: the timer or the sockets. If it
// cannot, things stay as they are. What is in a socket when it is watched again may not be
// reported: an epoll instance does not report again what still stands in its list of ready
// descriptors (EPOLL_CTL_MOD). So the sockets are to be read once more then.
func (p *pacer) setBusy(busy bool) {
	if !busy {
		if p.watch(unix.EPOLL_CTL_MOD, unix.EPOLLIN, p.socks...) == nil {
			p.busy = false
			p.setTimer(unix.ItimerSpec{})
		}
		return
	}
	p.busy = p.setTick(p.interval) && p.watch(unix.EPOLL_CTL_MOD, 0, p.socks...) == nil
}

// adapt chooses the length of the next ticks by the packets that came with each of the last:
// what is in the caches serves the longer batches, and there are fewer wake-ups.
func (p *pacer) adapt(packets int) {
	next := p.interval
	if packets >= manyPackets {
		next *= 2
	}
	if int64(next) != p.tick.Load() {
		p.setTick(next)
	}
}

func (p *pacer) setTick(d time.Duration) bool {
	p.tick.Store(int64(d))
	tick := unix.NsecToTimespec(int64(d))
	return p.setTimer(unix.ItimerSpec{Interval: tick, Value: tick})
}

// nudge wakes the worker once; it may be called from any goroutine. No wake-up is known to get
// lost (see udpWorker.receive), but into a full queue nothing comes that would be reported:
// one that got lost all the same must not be the last one.
func (p *pacer) nudge() {
	if p.interval > 0 {
		tick := unix.NsecToTimespec(p.tick.Load())
		p.setTimer(unix.ItimerSpec{Interval: tick, Value: tick})
	}
}

func (p *pacer) setTimer(spec unix.ItimerSpec) bool {
	return unix.TimerfdSettime(p.timer, 0, &spec, nil) == nil
}
