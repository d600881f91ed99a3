package demo

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

const (
	sipPort   = 5060
	portTries = 20
)

// freePort finds a port that is free for both transports, 5060 if possible: a PBX may run on this
// machine already.
func freePort(addr netip.Addr) (netip.AddrPort, error) {
	var err error
	for port := uint16(sipPort); port < sipPort+2*portTries; port += 2 {
		a := netip.AddrPortFrom(addr, port)
		if err = tryPort(a); err == nil {
			return a, nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("find a port for the demo (tried %d to %d on %s): %w", sipPort, sipPort+2*(portTries-1), addr, err)
}

func tryPort(a netip.AddrPort) error {
	u, err := net.ListenPacket("udp", a.String())
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", a.String())
	if err == nil {
		err = l.Close()
	}
	return errors.Join(err, u.Close())
}
