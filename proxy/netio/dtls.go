package netio

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
)

// DTLSConfig is the configuration of all DTLS listeners.
type DTLSConfig struct {
	// Conns has the caps and times of associations, which count as connections do.
	// MessageTimeout, WriteTimeout and WriteQueue do not matter, nor does Transparent.
	Conns TCPConfig
	// TLS has the certificates, and asks for those of clients; GetConfigForClient and
	// GetCertificate may change them. Session tickets and versions do not matter: it
	// is DTLS 1.2.
	TLS *tls.Config
	// FirstListener is the index of the first listener. The others follow.
	FirstListener int
	// ReceiveBuffer is the size in bytes of a listener's queue; see UDPConfig.
	ReceiveBuffer int
}

// DTLS is all DTLS listeners and associations of the process. An association is a
// [Conn], and each of its records is a message in full.
//
// A listener's socket belongs to one goroutine. It asks the handler's Accept before
// anything else, answers a client's first datagram with a cookie (RFC 6347 §4.2.1),
// and has no memory of the client before the cookie has come back. So Accept is asked
// about addresses that may be forged.
type DTLS struct {
	cfg      DTLSConfig
	udp      *UDP
	conns    *TCP // without listeners: the associations
	buffers  bufferPool
	layout   layout
	stale    atomic.Int64 // staleAfter, but for tests
	counters dtlsCounters
}

// DTLSStats counts what all DTLS listeners and associations have done.
type DTLSStats struct {
	TCPStats           // of the associations
	Cookies     uint64 // HelloVerifyRequests sent
	BadCookies  uint64 // ClientHellos with a cookie that was forged, or has become old
	BadHellos   uint64 // ClientHellos that are malformed, or in fragments
	Strays      uint64 // datagrams, or all that was in one, of no use to any association
	Oversize    uint64 // datagrams of more than 8,192 bytes
	QueueDrops  uint64 // datagrams that their association had no room for
	Moves       uint64 // associations whose other side went on at another address
	Replaced    uint64 // associations that their other side has begun anew, or their source another for
	KernelDrops uint64 // datagrams that the kernel dropped because a listener's queue was full
}

type dtlsCounters struct {
	cookies, badCookies, badHellos, strays, oversize, queueDrops, moves, replaced atomic.Uint64
}

// ListenDTLS binds addrs, whose indices are their positions there, counted from
// FirstListener.
func ListenDTLS(cfg DTLSConfig, addrs []netip.AddrPort) (*DTLS, error) {
	d := &DTLS{cfg: cfg, buffers: newBufferPool(maxRecord)}
	d.stale.Store(int64(staleAfter))
	var err error
	if d.layout, err = findLayout(); err != nil {
		return nil, err
	}
	if d.conns, err = ListenTCP(cfg.Conns, nil); err != nil {
		return nil, fmt.Errorf("listen dtls: %w", err)
	}
	if d.udp, err = ListenUDP(UDPConfig{Workers: 1, ReceiveBuffer: cfg.ReceiveBuffer}, addrs); err != nil {
		return nil, fmt.Errorf("listen dtls: %w", err)
	}
	return d, nil
}

// LocalAddr is the address of a listener, counted from 0, with its real port when 0
// was asked for.
func (d *DTLS) LocalAddr(listener int) netip.AddrPort { return d.udp.LocalAddr(listener) }

// Run serves until ctx ends. Then it takes leave of every association, waits for their
// goroutines and returns nil. It returns an error when a socket cannot be read any more.
func (d *DTLS) Run(ctx context.Context, h StreamHandler) error {
	reading, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	var wait sync.WaitGroup
	wait.Go(func() {
		ended <- d.udp.Run(reading, func(listener, _ int, out *Output) DatagramHandler {
			return newDTLSListener(d, h, listener, out)
		})
	})
	var err error
	select {
	case <-ctx.Done():
	case err = <-ended:
	}
	d.conns.Close() // while there is a socket to take leave by
	stop()
	wait.Wait()
	return err
}

// Close gives up listeners that were never run. Run closes them itself; end its
// context instead.
func (d *DTLS) Close() {
	d.conns.Close()
	d.udp.Close()
}

// ByID finds an open association, or nil.
func (d *DTLS) ByID(id uint64) *Conn { return d.conns.ByID(id) }

// CloseSource is TCP's for associations.
func (d *DTLS) CloseSource(match func(netip.Addr) bool) int { return d.conns.CloseSource(match) }

// CloseAll is TCP's for associations.
func (d *DTLS) CloseAll() { d.conns.CloseAll() }

// Stats returns the counters of all listeners and associations.
func (d *DTLS) Stats() DTLSStats {
	k := &d.counters
	st := DTLSStats{
		TCPStats:   d.conns.Stats(),
		Cookies:    k.cookies.Load(),
		BadCookies: k.badCookies.Load(),
		BadHellos:  k.badHellos.Load(),
		Strays:     k.strays.Load(),
		Oversize:   k.oversize.Load(),
		QueueDrops: k.queueDrops.Load(),
		Moves:      k.moves.Load(),
		Replaced:   k.replaced.Load(),
	}
	for _, u := range d.udp.Stats() {
		st.KernelDrops += u.KernelDrops
	}
	return st
}
