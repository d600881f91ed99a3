//go:build linux

package lab

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
)

// Counter counts packets that arrive at a host for certain addresses, whatever their protocol and port.
type Counter struct {
	ns   *Namespace
	name string
}

// Count starts to count. Addresses are all of one family.
func (n *Namespace) Count(name string, addrs ...netip.Addr) (*Counter, error) {
	return n.CountMatching(name, "", addrs...)
}

// CountMatching counts only what an expression of nft's matches.
func (n *Namespace) CountMatching(name, match string, addrs ...netip.Addr) (*Counter, error) {
	family, list := "ip", make([]string, len(addrs))
	for i, a := range addrs {
		list[i] = a.String()
		if a.Is6() {
			family = "ip6"
		}
	}
	cmd := n.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf("table inet e2e_%[1]s {\n counter c {}\n chain in {\n  type filter hook prerouting priority -350;\n"+
		"  iifname != \"lo\" %[2]s daddr { %[3]s } %[4]s counter name c\n }\n}\n", name, family, strings.Join(list, ", "), match))
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
