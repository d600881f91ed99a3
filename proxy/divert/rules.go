package divert

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
)

// chain is a base chain of the table.
type chain struct {
	name     string
	typ      nftables.ChainType
	hook     *nftables.ChainHook
	hookName string
	priority int32
	rules    []rule
}

// Names of the sets; those of addresses end with 4 or 6.
const (
	setPBX      = "pbx"      // address and port
	setHost     = "pbxhost"  // address
	setFlows    = "flows"    // clients with a connection through us; host only
	setNear     = "near"     // interfaces that the outside is not behind
	setInside   = "inside"   // interfaces
	setOutside  = "outside"  // interfaces
	setCarriers = "carriers" // TCP ports
)

// The priorities. Connection tracking comes after raw (-300); destination NAT (-100) has
// been undone before we look, so that a PBX behind NAT is known by its own address.
const (
	priorityRaw    = -300
	priorityMangle = -150
	priorityNAT    = -100
	priorityDivert = -99
)

// flowTime is how long a connection is remembered that nothing comes over; the sockets
// ask their peers once a minute whether they are there.
const flowTime = 10 * time.Minute

var transports = [...]string{"udp", "tcp"}

// sets returns the sets of the table.
func (c *Config) sets() []set {
	interfaces := func(name string, names []string) set {
		s := set{name: name, typ: "ifname", key: nftables.TypeIFName, order: binaryutil.NativeEndian}
		for _, n := range names {
			key := make([]byte, maxInterface+1)
			copy(key, n)
			s.elements = append(s.elements, element{strconv.Quote(n), key})
		}
		return s
	}
	all := []set{interfaces(setNear, c.near())}
	if len(c.Outside) > 0 {
		all = append(all, interfaces(setOutside, c.Outside))
	}
	if c.Placement == Router {
		all = append(all, interfaces(setInside, c.Inside))
	}
	ports := set{name: setCarriers, typ: "inet_service", key: nftables.TypeInetService}
	for _, p := range c.CarrierPorts {
		ports.elements = append(ports.elements, element{strconv.Itoa(int(p)), bigPort(p)})
	}
	all = append(all, ports)
	for i := range families {
		all = append(all, c.addresses(&families[i])...)
	}
	return all
}

// addresses returns the sets of one family.
func (c *Config) addresses(f *family) []set {
	typ := map[string]string{"4": "ipv4_addr", "6": "ipv6_addr"}[f.digit]
	both := nftables.MustConcatSetType(f.keyType, nftables.TypeInetService)
	sockets := set{name: setPBX + f.digit, typ: typ + " . inet_service", key: both, concat: true}
	hosts := set{name: setHost + f.digit, typ: typ, key: f.keyType}
	for _, p := range c.PBXes {
		if p.Addr().Is4() != (f.digit == "4") {
			continue
		}
		addr := p.Addr().AsSlice()
		key := binary.BigEndian.AppendUint16(slices.Clone(addr), p.Port())
		sockets.elements = append(sockets.elements, element{fmt.Sprintf("%s . %d", p.Addr(), p.Port()), append(key, 0, 0)})
		if h := (element{p.Addr().String(), addr}); !slices.ContainsFunc(hosts.elements, func(e element) bool { return e.text == h.text }) {
			hosts.elements = append(hosts.elements, h)
		}
	}
	if c.Placement == Router {
		return []set{sockets, hosts}
	}
	return []set{sockets, hosts, {name: setFlows + f.digit, typ: typ + " . inet_service", key: both, concat: true, dynamic: true}}
}

// fromOutside matches what may come from phones and carriers.
func (c *Config) fromOutside() term {
	if len(c.Outside) > 0 {
		return arrives(setOutside, true)
	}
	return arrives(setNear, false)
}

func (c *Config) chains() []chain {
	all := c.routerChains
	if c.Placement == Host {
		all = c.hostChains
	}
	return append(all(), c.dnsChains()...)
}

// dnsChains lead what the PBXes ask other resolvers to ours. On their host that is whatever
// leaves it but for what we ask ourselves.
func (c *Config) dnsChains() []chain {
	ch := chain{name: "dns", typ: nftables.ChainTypeNAT, hook: nftables.ChainHookPrerouting, hookName: "prerouting", priority: priorityNAT}
	if c.Placement == Host {
		ch.hook, ch.hookName = nftables.ChainHookOutput, "output"
	}
	for i := range families {
		f := &families[i]
		for _, p := range transports {
			n := slices.IndexFunc(c.DNS, func(r Resolver) bool { return r.TCP == (p == "tcp") && r.Addr.Addr().Is4() == (f.digit == "4") })
			if n < 0 {
				continue
			}
			match := rule{arrives(setInside, true), f.is(p), f.host(from, setHost)}
			if c.Placement == Host {
				match = rule{marked(c.OwnMark, false), f.is(p)}
			}
			ch.rules = append(ch.rules, append(match, asksDNS(p), notForUs(), f.toResolver(c.DNS[n].Addr)))
		}
	}
	if len(ch.rules) == 0 {
		return nil
	}
	return []chain{ch}
}

// routerChains: between us and the PBXes connections are not tracked, because they have
// the same addresses and ports as those between the phones and us.
func (c *Config) routerChains() []chain {
	in := chain{name: "untrack_in", typ: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, hookName: "prerouting", priority: priorityRaw}
	out := chain{name: "untrack_out", typ: nftables.ChainTypeFilter, hook: nftables.ChainHookOutput, hookName: "output", priority: priorityRaw}
	lead := chain{name: "divert", typ: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, hookName: "prerouting", priority: priorityDivert}
	for i := range families {
		f := &families[i]
		for _, p := range transports {
			in.rules = append(in.rules, rule{arrives(setInside, true), f.is(p), f.socket(from, p, setPBX), notForUs(), untracked()})
			out.rules = append(out.rules, rule{marked(c.OwnMark, true), f.is(p), f.socket(to, p, setPBX), untracked()})
			lead.rules = append(lead.rules, c.taken(f, c.Port, c.fromOutside(), f.is(p), f.socket(to, p, setPBX))...)
			lead.rules = append(lead.rules, c.taken(f, c.Port+1, arrives(setInside, true), f.is(p), f.socket(from, p, setPBX), notForUs())...)
		}
		// Connections that the PBXes open.
		in.rules = append(in.rules, rule{arrives(setInside, true), f.is("tcp"), f.host(from, setHost), port(to, "tcp", setCarriers), notForUs(), untracked()})
		out.rules = append(out.rules, rule{marked(c.OwnMark, true), f.is("tcp"), f.host(to, setHost), port(from, "tcp", setCarriers), untracked()})
		lead.rules = append(lead.rules, rule{c.fromOutside(), f.is("tcp"), f.host(to, setHost), port(from, "tcp", setCarriers), hasSocket(), setMark(c.Mark), accept()})
		lead.rules = append(lead.rules, c.taken(f, c.Port+1, arrives(setInside, true), f.is("tcp"), f.host(from, setHost), port(to, "tcp", setCarriers), notForUs())...)
	}
	return []chain{in, out, lead}
}

// taken is the rules that hand what matches to the sockets on a port.
func (c *Config) taken(f *family, p uint16, match ...term) []rule {
	rules := []rule{append(slices.Clip(rule(match)), f.toSocket(p), setMark(c.Mark), accept())}
	if c.FailClosed {
		rules = append(rules, append(slices.Clip(rule(match)), drop()))
	}
	return rules
}

// hostChains: what leaves a PBX is turned round to come in through the loopback
// interface. Connections from outside are redirected to another port: on one host two
// sockets cannot have the same addresses and ports, the PBX's and ours.
func (c *Config) hostChains() []chain {
	nat := chain{name: "to_port", typ: nftables.ChainTypeNAT, hook: nftables.ChainHookPrerouting, hookName: "prerouting", priority: priorityNAT}
	lead := chain{name: "divert", typ: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, hookName: "prerouting", priority: priorityDivert}
	untrack := chain{name: "untrack_out", typ: nftables.ChainTypeFilter, hook: nftables.ChainHookOutput, hookName: "output", priority: priorityRaw}
	turn := chain{name: "turn", typ: nftables.ChainTypeRoute, hook: nftables.ChainHookOutput, hookName: "output", priority: priorityMangle}
	for i := range families {
		f := &families[i]
		nat.rules = append(nat.rules, rule{c.fromOutside(), f.is("tcp"), f.socket(to, "tcp", setPBX), opens(), toPort(c.Port)})
		lead.rules = append(lead.rules, c.taken(f, c.Port, c.fromOutside(), f.is("udp"), f.socket(to, "udp", setPBX))...)
		for _, p := range transports {
			lead.rules = append(lead.rules, c.taken(f, c.Port+1, arrives(setNear, true), marked(c.Mark, true), f.is(p))...)
			untrack.rules = append(untrack.rules, rule{marked(c.OwnMark, true), f.is(p), f.socket(to, p, setPBX), untracked()})
		}
		untrack.rules = append(untrack.rules, rule{marked(c.OwnMark, true), f.is("tcp"), f.host(to, setHost), port(from, "tcp", setCarriers), untracked()})
		turn.rules = append(turn.rules, rule{marked(c.OwnMark, true), f.is("tcp"), f.socket(to, "tcp", setPBX), f.remembers(from, "tcp", setFlows, flowTime)})
		for _, match := range c.leavesPBX(f) {
			untrack.rules = append(untrack.rules, append(slices.Clip(match), untracked()))
			turn.rules = append(turn.rules, append(slices.Clip(match), setMark(c.Mark)))
		}
	}
	return []chain{nat, lead, untrack, turn}
}

// leavesPBX matches, on the PBX's host, what it sends and we are to see.
func (c *Config) leavesPBX(f *family) []rule {
	foreign := marked(c.OwnMark, false)
	return []rule{
		{foreign, f.is("udp"), f.socket(from, "udp", setPBX), notForUs()},
		{foreign, f.is("tcp"), f.socket(from, "tcp", setPBX), f.socket(to, "tcp", setFlows)},
		{foreign, f.is("tcp"), f.host(from, setHost), port(to, "tcp", setCarriers), notForUs()},
	}
}

// Script returns the rules, the rule of ip(8) and the routes as a shell script.
func (r *Rules) Script() string {
	c := &r.cfg
	var b strings.Builder
	b.WriteString("#!/bin/sh -e\n")
	for _, line := range c.routeCommands() {
		b.WriteString(line + "\n")
	}
	fmt.Fprintf(&b, "nft -f - <<'END'\ntable inet %[1]s\ndelete table inet %[1]s\n%sEND\n", c.Name, c.table())
	return b.String()
}

// table returns the table as nft(8) reads it.
func (c *Config) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", c.Name)
	for _, s := range c.sets() {
		fmt.Fprintf(&b, "\tset %s {\n\t\ttype %s\n", s.name, s.typ)
		if s.dynamic {
			fmt.Fprintf(&b, "\t\tsize %d\n\t\tflags dynamic,timeout\n", maxFlows)
		}
		if len(s.elements) > 0 {
			texts := make([]string, len(s.elements))
			for i, e := range s.elements {
				texts[i] = e.text
			}
			fmt.Fprintf(&b, "\t\telements = { %s }\n", strings.Join(texts, ", "))
		}
		b.WriteString("\t}\n")
	}
	for _, ch := range c.chains() {
		fmt.Fprintf(&b, "\tchain %s {\n\t\ttype %s hook %s priority %d; policy accept;\n", ch.name, ch.typ, ch.hookName, ch.priority)
		for _, r := range ch.rules {
			fmt.Fprintf(&b, "\t\t%s\n", r)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// maxFlows is how many connections to PBXes are remembered on their host.
const maxFlows = 1 << 17

// hostsOf drops the ports.
func hostsOf(pbxes []netip.AddrPort) (hosts []netip.Addr) {
	for _, p := range pbxes {
		if !slices.Contains(hosts, p.Addr()) {
			hosts = append(hosts, p.Addr())
		}
	}
	return hosts
}
