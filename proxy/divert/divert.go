// Package divert makes the rules, routes and marks by which the kernel leads other
// hosts' SIP packets to the transparent sockets of this one (package netio), and takes
// them away again.
//
// All rules stand in one nftables table of its own. Where sipward shall fail open the
// table has the owner flag: it ends with the netlink socket that has made it, and so with
// the process, however that ends. Where it shall fail closed the table stays, and drops what nobody takes.
// The rule of `ip rule` and the routes do nothing without the table's marks, so those that
// a killed process leaves behind are harmless; the next start uses them.
//
// Marks: packets that are led to us carry Config.Mark, so that the routing table
// Config.Table delivers them locally; packets that we send carry Config.OwnMark.
package divert

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
)

// Placement is where sipward stands.
type Placement uint8

// The placements.
const (
	Router Placement = iota // on the path between the PBXes and everybody else
	Host                    // on the PBXes' own host
)

// Config says what is to be led where.
type Config struct {
	// Name is that of the nftables table; empty: DefaultName.
	Name      string
	Placement Placement
	// PBXes are the addresses and ports that are protected.
	PBXes []netip.AddrPort
	// Outside are the interfaces that phones and carriers are behind; none: all but Inside.
	Outside []string
	// Inside are the interfaces that the PBXes are behind. Router only, at least one.
	Inside []string
	// CarrierPorts are TCP ports on which PBXes connect to carriers.
	CarrierPorts []uint16
	// Port is the port of the sockets that take what comes from outside; the next one is
	// of those that take what comes from PBXes.
	Port uint16
	// Mark and OwnMark are not 0, and differ.
	Mark, OwnMark uint32
	// Table is the number of the routing table.
	Table int
	// DNS is where questions of the PBXes to other resolvers are led, the first of each
	// family and transport; empty: they are left alone.
	DNS []Resolver
	// FailClosed lets nothing pass when nobody takes it.
	FailClosed bool
	Log        *slog.Logger
}

// Resolver is a socket of this host that answers DNS.
type Resolver struct {
	TCP  bool
	Addr netip.AddrPort
}

// DefaultName is the name of the nftables table.
const DefaultName = "sipward-transparent"

// ErrConflict says that something of the same name or number belongs to somebody else.
var ErrConflict = errors.New("in use by somebody else")

// ErrUnsupported says that the kernel cannot do it.
var ErrUnsupported = errors.New("not supported by this kernel")

func (c Config) checked() (Config, error) {
	if c.Name == "" {
		c.Name = DefaultName
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	switch {
	case len(c.PBXes) == 0:
		return c, errors.New("divert: no PBX is configured")
	case c.Placement == Router && len(c.Inside) == 0:
		return c, errors.New("divert: a router needs the interfaces that the PBXes are behind")
	case c.Mark == 0 || c.OwnMark == 0 || c.Mark == c.OwnMark:
		return c, fmt.Errorf("divert: the marks %#x and %#x must differ, and not be 0", c.Mark, c.OwnMark)
	case c.Port == 0 || c.Port == 1<<16-1:
		return c, fmt.Errorf("divert: port %d and the next one cannot be used", c.Port)
	}
	for _, name := range append(append([]string(nil), c.Inside...), c.Outside...) {
		if name == "" || len(name) > maxInterface || strings.ContainsAny(name, "/ \"") {
			return c, fmt.Errorf("divert: %q is not the name of an interface", name)
		}
	}
	return c, nil
}

// maxInterface is the length of the longest name of an interface.
const maxInterface = 15

// near returns the interfaces from which nothing comes that the outside has sent.
func (c *Config) near() []string { return append([]string{"lo"}, c.Inside...) }
