package conf

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// defaultWeight makes PBXes that say nothing share alike.
const defaultWeight = 1

// pbxItem reads one PBX: a section, or the same in one line, as the environment needs it:
// ADDRESS or ADDRESS;weight=N;transports=udp+tls;tls.name=NAME.
func pbxItem() kind[PBX] {
	transports := oneOf(nil, choice[Transport]{"udp", TransportUDP}, choice[Transport]{"tcp", TransportTCP}, choice[Transport]{"tls", TransportTLS})
	start := PBX{Weight: defaultWeight, Transports: []Transport{TransportUDP, TransportTCP}, TLS: PBXTLS{Port: sipsPort}}
	return inOneLine("address", item("a PBX", start, checkItem,
		in("address", "", scalar("address, with or without port", parsePBXAddress), func(p *PBX) *netip.AddrPort { return &p.Address }),
		in("weight", strconv.Itoa(defaultWeight), wholeNumber(0, 1000), func(p *PBX) *int { return &p.Weight }),
		in("transports", "[udp, tcp]", listOf("list of udp, tcp and tls", transports), func(p *PBX) *[]Transport { return &p.Transports }),
		in("tls", "", pbxTLS(start.TLS), func(p *PBX) *PBXTLS { return &p.TLS }),
	))
}

func checkItem(d *decoder, key string, n *node, given []string, p *PBX) {
	if !slices.Contains(given, "address") {
		d.fail(n.at, join(key, "address"), `the address is missing; add "address: ADDRESS:PORT"`)
	}
	if len(p.Transports) == 0 {
		d.fail(n.fieldAt("transports"), join(key, "transports"), "the list is empty; write what the PBX speaks, such as [udp], or remove the key")
	}
	switch speaks := slices.Contains(p.Transports, TransportTLS); {
	case !speaks && slices.Contains(given, "tls"):
		d.fail(n.fieldAt("tls"), join(key, "tls"), `the PBX is not spoken to over TLS; write "transports: [udp, tls]" beside it, or remove this`)
	case speaks && slices.Contains(p.Transports, TransportTCP) && p.TLS.Port == int(p.Address.Port()):
		d.fail(n.fieldAt("tls"), join(key, "tls.port"), "%d is its port for TCP, too; take tcp out of its transports, or write the port of TLS", p.TLS.Port)
	}
}

// inOneLine lets an item be written in one line, too: FIRST;name=value;section.name=value,
// with + between the items of a list.
func inOneLine[T any](first string, k kind[T]) kind[T] {
	read := k.read
	k.read = func(d *decoder, key string, n *node) T {
		if n.shape == shapeScalar {
			n = fieldsOf(n, first, k.parts)
		}
		return read(d, key, n)
	}
	return k
}

// fieldsOf takes the one-line form apart.
func fieldsOf(n *node, first string, parts []part) *node {
	value, params, _ := strings.Cut(n.text, ";")
	all := &node{shape: shapeMap, at: n.at}
	scalar := func(text string) *node { return &node{shape: shapeScalar, at: n.at, text: strings.TrimSpace(text)} }
	all.fields = append(all.fields, field{name: first, at: n.at, value: scalar(value)})
	for param := range strings.SplitSeq(params, ";") {
		if param = strings.TrimSpace(param); param == "" {
			continue
		}
		name, text, _ := strings.Cut(param, "=")
		v := scalar(text)
		if i := slices.IndexFunc(parts, func(p part) bool { return p.name == name }); i >= 0 && parts[i].list {
			v = &node{shape: shapeList, at: n.at}
			for item := range strings.SplitSeq(text, "+") {
				v.items = append(v.items, scalar(item))
			}
		}
		into := all
		if section, inner, nested := strings.Cut(name, "."); nested {
			into, name = all.section(section), inner
		}
		into.fields = append(into.fields, field{name: name, at: n.at, value: v})
	}
	return all
}

// section returns the section of that name in a section, a new one if there is none.
func (n *node) section(name string) *node {
	for _, f := range n.fields {
		if f.name == name && f.value.shape == shapeMap {
			return f.value
		}
	}
	s := &node{shape: shapeMap, at: n.at}
	n.fields = append(n.fields, field{name: name, at: n.at, value: s})
	return s
}

func parsePBXAddress(text string) (netip.AddrPort, error) {
	if strings.Contains(text, "://") {
		return netip.AddrPort{}, fmt.Errorf("%s names a transport; write the address alone, and under transports what the PBX speaks", quote(text))
	}
	if rest, ok := strings.CutPrefix(text, "address:"); ok {
		return netip.AddrPort{}, fmt.Errorf(`%s has no space after its first colon; write "address: %s"`, quote(text), shorten(rest))
	}
	host, _, _ := splitPort(text)
	if looksLikeName(host) {
		return netip.AddrPort{}, fmt.Errorf("%s is a host name; write its address, because what comes from a PBX is trusted and whoever answers for the name in DNS would be", quote(text))
	}
	a, err := parseAddrPort(text, sipPort)
	if err == nil && a.Addr().IsUnspecified() {
		err = errors.New("a wildcard is not the address of a PBX; write where it listens, 127.0.0.1 if that is this machine")
	}
	return a, err
}

// advertiseKind documents listen.advertise; readAdvertise reads it.
func advertiseKind() kind[map[Listener]Advertised] {
	return kind[map[Listener]Advertised]{name: "section of LISTENADDRESS: ADDRESS", shape: shapeMap}
}

// readAdvertise reads what phones are told, by outside listener. A key is a
// listener's URL, or an address alone for every listener that has it.
func readAdvertise(d *decoder, key string, n *node, outside []Listener) map[Listener]Advertised {
	switch n.shape {
	case shapeScalar:
		d.fail(n.at, key, `this is one value where a section belongs; write {"0.0.0.0": %s}, with the listen address that it is for`, quote(n.text))
	case shapeList:
		d.fail(n.at, key, `this is a list where a section belongs; write "LISTENADDRESS: ADDRESS" lines`)
	}
	value := scalar("address or host name, with or without port", parseAdvertised)
	all := map[Listener]Advertised{}
	for _, f := range n.fields {
		if f.value.shape == shapeScalar && strings.Contains(f.value.text, ": ") {
			d.fail(f.at, key, "between braces, a listen address with colons needs quotes; write {%q: ADDRESS}", "udp://198.51.100.1:5060")
			continue
		}
		told := value.read(d, key+"["+quote(f.name)+"]", f.value)
		match, err := listenerMatch(f.name)
		if err != nil {
			d.fail(f.at, key, "%v", err)
			continue
		}
		found := false
		for _, l := range outside {
			if match(l) {
				all[l], found = told, true
			}
		}
		if !found && d.clean("listen.outside") {
			d.fail(f.at, key, "%s is not among listen.outside; write one of %s", quote(f.name), show(outside))
		}
	}
	return all
}

// listenerMatch reads a key of listen.advertise.
func listenerMatch(text string) (func(Listener) bool, error) {
	if strings.Contains(text, "://") {
		want, err := parseListener(text, outsideTransports)
		return func(l Listener) bool { return l == want }, err
	}
	want, err := parseAddr(strings.Trim(text, "[]"))
	return func(l Listener) bool { return l.Addr.Addr() == want }, err
}
