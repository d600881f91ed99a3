//go:build linux

package lab

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Counter counts packets that arrive at a host for certain addresses, whatever their protocol and port.
type Counter struct {
	ns   *Namespace
	name string
}

// Count starts to count. Addresses are all of one family.
func (n *Namespace) Count(name string, addrs ...netip.Addr) (*Counter, error) {
	family, list := "ip", make([]string, len(addrs))
	for i, a := range addrs {
		list[i] = a.String()
		if a.Is6() {
			family = "ip6"
		}
	}
	cmd := n.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf("table inet e2e_%[1]s {\n counter c {}\n chain in {\n  type filter hook prerouting priority -350;\n"+
		"  iifname != \"lo\" %[2]s daddr { %[3]s } counter name c\n }\n}\n", name, family, strings.Join(list, ", ")))
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("count packets in %s: %w: %s", n.Name, err, out)
	}
	return &Counter{ns: n, name: name}, nil
}

// Packets is how many have come so far.
func (c *Counter) Packets() (int, error) {
	out, err := c.ns.Output("nft", "-j", "list", "counter", "inet", "e2e_"+c.name, "c")
	if err != nil {
		return 0, err
	}
	var v struct {
		Nftables []struct {
			Counter *struct{ Packets int }
		}
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		return 0, fmt.Errorf("read a packet count: %w", err)
	}
	for _, o := range v.Nftables {
		if o.Counter != nil {
			return o.Counter.Packets, nil
		}
	}
	return 0, fmt.Errorf("read a packet count: %s", out)
}

// Forger sends UDP datagrams from addresses that are not its own: whole frames, to the edge.
type Forger struct {
	fd    int
	to    unix.SockaddrLinklayer
	frame []byte
}

// Forger opens a packet socket in the wan.
func (l *Lab) Forger() (*Forger, error) {
	f := &Forger{}
	mac, err := l.mac(l.Edge, "wan0")
	if err != nil {
		return nil, err
	}
	err = l.WAN.Do(func() error {
		own, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		// Protocol 0: it sends only, and is not bothered with what arrives.
		if f.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		f.to = unix.SockaddrLinklayer{Ifindex: own.Index, Protocol: htons(unix.ETH_P_IP), Halen: 6}
		copy(f.to.Addr[:], mac)
		f.frame = append(append(append(f.frame, mac...), own.HardwareAddr...), 0x08, 0x00)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	return f, nil
}

func (l *Lab) mac(ns *Namespace, link string) (mac net.HardwareAddr, err error) {
	err = ns.Do(func() error {
		i, err := net.InterfaceByName(link)
		if err == nil {
			mac = i.HardwareAddr
		}
		return err
	})
	return mac, err
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// Close closes the packet socket.
func (f *Forger) Close() { _ = unix.Close(f.fd) }

// Send sends one datagram. IPv4 only; without a UDP checksum, which IPv4 allows.
func (f *Forger) Send(from, to netip.AddrPort, payload []byte) error {
	b := append(f.frame[:14], 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(28+len(payload)))
	b = append(b, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0)
	src, dst := from.Addr().As4(), to.Addr().As4()
	b = append(append(b, src[:]...), dst[:]...)
	binary.BigEndian.PutUint16(b[24:], checksum(b[14:34]))
	b = binary.BigEndian.AppendUint16(b, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	b = append(append(b, 0, 0), payload...)
	f.frame = b
	for {
		err := unix.Sendto(f.fd, b, 0, &f.to)
		if err != unix.ENOBUFS && err != unix.EINTR {
			return err
		}
		time.Sleep(50 * time.Microsecond) // the device's queue is full
	}
}

// checksum of an IPv4 header (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
