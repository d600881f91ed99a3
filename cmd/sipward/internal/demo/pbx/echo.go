package pbx

import (
	"fmt"
	"net"
	"net/netip"
)

// echo sends every datagram on its port back to where it came from.
type echo struct {
	conn *net.UDPConn
	done chan struct{}
}

func newEcho(addr netip.Addr) (*echo, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		return nil, fmt.Errorf("listen for media: %w", err)
	}
	e := &echo{conn: conn, done: make(chan struct{})}
	go e.run()
	return e, nil
}

func (e *echo) addr() netip.AddrPort { return e.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

func (e *echo) run() {
	defer close(e.done)
	b := make([]byte, 2048)
	for {
		n, from, err := e.conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return // closed
		}
		_, _ = e.conn.WriteToUDPAddrPort(b[:n], from) // a lost sound is no error
	}
}

// stop closes the port and waits for the goroutine.
func (e *echo) stop() {
	_ = e.conn.Close()
	<-e.done
}
