package netio

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Packet is one packet of a received batch.
type Packet struct {
	Data  []byte         // the worker's buffer: valid until Datagrams returns
	Src   netip.AddrPort // unmapped; the zone of a link-local address is its interface's index
	Local netip.Addr     // the address that it was sent to

	// On transparent listeners only:

	LocalPort uint16 // the port that it was sent to
	TOS       uint8  // type of service (IPv4) or traffic class (IPv6)
	Fragment  uint16 // the size of its largest fragment in bytes with the IP header; 0: it came whole
}

// DatagramHandler takes what one worker receives on one listener. It is never
// called concurrently with itself, nor with the same worker's handlers of
// other listeners. When they have returned the worker sends what is in its
// Output. An empty datagram is delivered like any other.
type DatagramHandler interface {
	Datagrams(pkts []Packet)
}

// ErrClosed is returned for what was closed, or is about to be.
var ErrClosed = errors.New("netio: closed")

// UDPConfig is the configuration of all UDP listeners.
type UDPConfig struct {
	// Workers is the number of sockets of each listener, and of goroutines
	// that read them. Each takes its share of the flows (see UDP.Steer), so
	// that with more of them fewer packets share a wake-up. Zero means
	// DefaultWorkers.
	Workers int
	// Batch is the most packets that one system call moves. Zero means 64.
	Batch int
	// ReceiveBuffer and SendBuffer are the sizes in bytes of a socket's
	// queues. Zero means 4 MiB, negative the system's default.
	ReceiveBuffer int
	SendBuffer    int
	// Coalesce is the longest that a packet waits for others to share its
	// wake-up, on a socket that gets more than one packet in that time; on one
	// that gets more than 32 it is twice as long. Zero means 1 ms, negative
	// that none ever waits.
	Coalesce time.Duration
	// Transparent makes the listeners take datagrams that were sent to others,
	// and send in others' names; nil: ordinary listeners.
	Transparent *Transparent
}

// DefaultWorkers is one worker for every two CPUs that Go uses: a worker
// carries more than 100,000 packets a second, and others need the CPU, too.
// Where there are two CPUs there are two, so that PBXes have one of their own.
func DefaultWorkers() int {
	cpus := runtime.GOMAXPROCS(0)
	return max(cpus/2, min(cpus, 2))
}

func (c UDPConfig) withDefaults() UDPConfig {
	if c.Workers <= 0 {
		c.Workers = DefaultWorkers()
	}
	if c.Batch <= 0 {
		c.Batch = 64
	}
	if c.ReceiveBuffer == 0 {
		c.ReceiveBuffer = 4 << 20
	}
	if c.SendBuffer == 0 {
		c.SendBuffer = 4 << 20
	}
	if c.Coalesce == 0 {
		c.Coalesce = time.Millisecond
	}
	return c
}

// UDP is all UDP listeners of the process.
type UDP struct {
	cfg    UDPConfig
	groups [][]*udpSocket // by listener, then by worker

	stopping atomic.Bool

	mu      sync.RWMutex // held for reading while a descriptor is in use outside Run
	running bool
	closed  bool
}

// ListenUDP binds addrs; a listener's index is its position there. It fails
// when any of them is taken, by whomever.
func ListenUDP(cfg UDPConfig, addrs []netip.AddrPort) (*UDP, error) {
	u := &UDP{cfg: cfg.withDefaults()}
	for _, a := range addrs {
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		if !a.Addr().IsValid() {
			u.closeSockets()
			return nil, fmt.Errorf("listen udp: no address given for listener %d", len(u.groups))
		}
		group, err := bindGroup(a, u.cfg.Workers, u.cfg)
		if err != nil {
			u.closeSockets()
			return nil, err
		}
		u.groups = append(u.groups, group)
	}
	return u, nil
}

// LocalAddr is the address of a listener, with its real port when 0 was
// asked for.
func (u *UDP) LocalAddr(listener int) netip.AddrPort { return u.groups[listener][0].addr }

// nudgeEvery is how often each worker looks at its sockets even if nothing wakes it.
const nudgeEvery = 100 * time.Millisecond

// Run reads all listeners until ctx ends, and closes them. newHandler is
// called once for each listener and worker before anything is read. The
// handlers of one worker share its Output, and are called one after the other.
// Run returns nil on cancel, and an error when a socket cannot be read any
// more; the workers have ended then.
func (u *UDP) Run(ctx context.Context, newHandler func(listener, worker int, out *Output) DatagramHandler) error {
	u.mu.Lock()
	if u.closed || u.running {
		u.mu.Unlock()
		return ErrClosed
	}
	u.running = true
	u.mu.Unlock()
	defer u.closeAll()

	workers, err := u.newWorkers(newHandler)
	defer func() {
		for _, w := range workers {
			w.close()
		}
	}()
	if err != nil {
		return err
	}
	ended := make(chan error, len(workers))
	for _, w := range workers {
		go w.run(ended)
	}
	left := len(workers)
	nudge := time.NewTicker(nudgeEvery)
	defer nudge.Stop()
	for running := true; running; {
		select {
		case <-ctx.Done():
			running = false
		case err = <-ended:
			left--
			running = false
		case <-nudge.C:
			for _, w := range workers {
				w.pace.nudge()
			}
		}
	}
	u.stopping.Store(true)
	for _, w := range workers {
		w.pace.stop()
	}
	for range left {
		if e := <-ended; err == nil {
			err = e
		}
	}
	return err
}

func (u *UDP) newWorkers(newHandler func(int, int, *Output) DatagramHandler) ([]*udpWorker, error) {
	var workers []*udpWorker
	for i := range u.cfg.Workers {
		w, err := u.newWorker(i)
		if err != nil {
			return workers, err
		}
		workers = append(workers, w)
		for l := range w.inputs {
			w.inputs[l].h = newHandler(l, i, w.out)
		}
	}
	return workers, nil
}

// newWorker makes the i-th worker, without its handlers.
func (u *UDP) newWorker(i int) (*udpWorker, error) {
	w := &udpWorker{stopping: &u.stopping}
	var fds []int
	var writers []batchWriter
	for _, group := range u.groups {
		s := group[i]
		r, err := newUDPReader(s, u.cfg.Batch)
		if err != nil {
			w.close()
			return nil, err
		}
		w.inputs = append(w.inputs, input{r: r})
		if s.raw != nil {
			writers = append(writers, newRawWriter(s, u.cfg.Batch, u.cfg.Transparent.MTU))
		} else {
			writers = append(writers, newUDPWriter(s, u.cfg.Batch))
		}
		fds = append(fds, s.fd)
	}
	w.out = newOutput(u.cfg.Batch, writers)
	pace, err := newPacer(fds, u.cfg.Coalesce)
	if err != nil {
		w.close()
		return nil, err
	}
	w.pace = pace
	return w, nil
}

// WriteTo sends one message from any goroutine, at once or not at all. local
// is used as in Output.Push.
func (u *UDP) WriteTo(listener int, b []byte, dst netip.AddrPort, local netip.Addr) error {
	u.mu.RLock()
	defer u.mu.RUnlock()
	s := u.groups[listener][0]
	if u.closed {
		return fmt.Errorf("write udp %s: %w", s.addr, ErrClosed)
	}
	if err := s.writeTo(b, dst, local); err != nil {
		return fmt.Errorf("write udp %s to %s: %w", s.addr, dst, err)
	}
	return nil
}

// Close gives up listeners that were never run. Run closes them itself; end
// its context instead.
func (u *UDP) Close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.running && !u.closed {
		u.closed = true
		u.closeSockets()
	}
}

// closeAll ends Run: nothing reads the sockets any more.
func (u *UDP) closeAll() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	u.closeSockets()
}

func (u *UDP) closeSockets() {
	for _, group := range u.groups {
		for _, s := range group {
			_, _, drops := s.meminfo()
			s.counters.noteDrops(drops)
			s.close()
		}
	}
}
