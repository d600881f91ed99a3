package demo

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// The ports that are tried first.
const (
	sipPort   = 5060
	pagePort  = 8060
	portTries = 20
)

// freePort finds a port that is free for what try binds, the first one if possible: there may be a
// PBX on this machine already, or another demonstration.
func freePort(addr netip.Addr, first uint16, try func(netip.AddrPort) error) (netip.AddrPort, error) {
	var err error
	for port := first; port < first+2*portTries; port += 2 {
		a := netip.AddrPortFrom(addr, port)
		if err = try(a); err == nil {
			return a, nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("find a port for the demo (tried %d to %d on %s): %w", first, first+2*(portTries-1), addr, err)
}

// trySIP binds both transports.
func trySIP(a netip.AddrPort) error {
	u, err := net.ListenPacket("udp", a.String())
	if err != nil {
		return err
	}
	return errors.Join(tryPage(a), u.Close())
}

func tryPage(a netip.AddrPort) error {
	l, err := net.Listen("tcp", a.String())
	if err != nil {
		return err
	}
	return l.Close()
}
