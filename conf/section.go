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

// pbxItem reads one PBX: a section with address and weight, or the same in one
// line, as the environment needs it: ADDRESS or ADDRESS;weight=N.
func pbxItem() kind[PBX] {
	k := item("a PBX", PBX{Weight: defaultWeight}, checkItem,
		in("address", "", scalar("address, with or without port", parsePBXAddress), func(p *PBX) *netip.AddrPort { return &p.Address }),
		in("weight", strconv.Itoa(defaultWeight), wholeNumber(0, 1000), func(p *PBX) *int { return &p.Weight }),
	)
	read := k.read
	k.read = func(d *decoder, key string, n *node) PBX {
		if n.shape == shapeScalar {
			n = pbxFields(n)
		}
		return read(d, key, n)
	}
	return k
}

func checkItem(d *decoder, key string, n *node, given []string, _ *PBX) {
	if !slices.Contains(given, "address") {
		d.fail(n.at, join(key, "address"), `the address is missing; add "address: ADDRESS:PORT"`)
	}
}

// pbxFields takes the one-line form apart.
func pbxFields(n *node) *node {
	address, params, _ := strings.Cut(n.text, ";")
	m := &node{shape: shapeMap, at: n.at, fields: []field{{
		name: "address", at: n.at, value: &node{shape: shapeScalar, at: n.at, text: strings.TrimSpace(address)},
	}}}
	for param := range strings.SplitSeq(params, ";") {
		if param = strings.TrimSpace(param); param == "" {
			continue
		}
		name, value, _ := strings.Cut(param, "=")
		m.fields = append(m.fields, field{name: name, at: n.at, value: &node{shape: shapeScalar, at: n.at, text: value}})
	}
	return m
}

func parsePBXAddress(text string) (netip.AddrPort, error) {
	if strings.Contains(text, "://") {
		return netip.AddrPort{}, fmt.Errorf("%s names a transport; write the address alone, because sipward speaks to the PBX what the phone speaks to it", quote(text))
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
		want, err := parseListener(text)
		return func(l Listener) bool { return l == want }, err
	}
	want, err := parseAddr(strings.Trim(text, "[]"))
	return func(l Listener) bool { return l.Addr.Addr() == want }, err
}
