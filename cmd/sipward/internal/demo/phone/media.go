package phone

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// media is one RTP port (RFC 3550) that speaks PCMU.
type media struct {
	conn *net.UDPConn
	peer netip.AddrPort
	wg   sync.WaitGroup
}

func newMedia(addr netip.Addr) (*media, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		return nil, fmt.Errorf("listen for media: %w", err)
	}
	return &media{conn: conn}, nil
}

func (m *media) close() {
	_ = m.conn.Close()
	m.wg.Wait()
}

// offer describes this port (RFC 4566).
func (m *media) offer() []byte {
	a := m.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return fmt.Appendf(nil, "v=0\r\no=- 1 1 IN IP4 %s\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\nm=audio %d RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n",
		a.Addr(), a.Addr(), a.Port())
}

// connect reads the other side's port from its description.
func (m *media) connect(sdp []byte) error {
	var host, port string
	for line := range strings.Lines(string(sdp)) {
		f := strings.Fields(line)
		switch {
		case len(f) == 3 && f[0] == "c=IN":
			host = f[2]
		case len(f) > 3 && f[0] == "m=audio":
			port = f[1]
		}
	}
	addr, err := netip.ParseAddr(host)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err = errors.Join(err, perr); err != nil {
		return fmt.Errorf("read media address: %w", err)
	}
	m.peer = netip.AddrPortFrom(addr, uint16(n))
	return nil
}

// speak sends packets of 20 ms and counts those that come back within half a second of the last.
func (m *media) speak(ctx context.Context, packets int) (heard int, err error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	p := make([]byte, 12+160)
	p[0] = 0x80 // version 2; payload type 0 is PCMU
	for i := range packets {
		binary.BigEndian.PutUint16(p[2:], uint16(i))
		binary.BigEndian.PutUint32(p[4:], uint32(i*160))
		if _, err := m.conn.WriteToUDPAddrPort(p, m.peer); err != nil {
			return heard, fmt.Errorf("speak: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return heard, ctx.Err()
		}
	}
	if err := m.conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		return heard, fmt.Errorf("listen: %w", err)
	}
	b := make([]byte, 2048)
	for heard < packets {
		if _, _, err := m.conn.ReadFromUDPAddrPort(b); errors.Is(err, os.ErrDeadlineExceeded) {
			return heard, nil
		} else if err != nil {
			return heard, fmt.Errorf("listen: %w", err)
		}
		heard++
	}
	return heard, nil
}

// echo sends back what comes, until close.
func (m *media) echo() {
	m.wg.Go(func() {
		b := make([]byte, 2048)
		for {
			n, from, err := m.conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return // closed
			}
			_, _ = m.conn.WriteToUDPAddrPort(b[:n], from)
		}
	})
}
