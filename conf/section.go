package conf

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// defaultWeight makes PBXes that say nothing share alike.
const defaultWeight = 1

// pbxItem reads one PBX: a section with address and weight, or the same in one
// line, as the environment needs it: ADDRESS or ADDRESS;weight=N.
func pbxItem() kind[PBX] {
	weight := wholeNumber(0, 1000)
	address := scalar("address, with or without port", parsePBXAddress)
	fields := map[string]func(*decoder, string, *node, *PBX){
		"address": func(d *decoder, key string, n *node, p *PBX) { p.Address = address.read(d, key, n) },
		"weight":  func(d *decoder, key string, n *node, p *PBX) { p.Weight = weight.read(d, key, n) },
	}
	names := []string{"address", "weight"}
	parts := []part{{"address", address.name, ""}, {"weight", weight.name, strconv.Itoa(defaultWeight)}}
	return kind[PBX]{name: "section", shape: shapeMap, parts: parts, read: func(d *decoder, key string, n *node) PBX {
		p := PBX{Weight: defaultWeight}
		if n.shape == shapeScalar {
			n = pbxFields(n)
		}
		if n.shape != shapeMap {
			d.fail(n.at, key, `this is %s where a PBX belongs; write "address: ADDRESS:PORT"`, n.shape)
			return p
		}
		given, unknown := false, false
		for _, f := range n.fields {
			read, ok := fields[f.name]
			if !ok {
				d.fail(f.at, join(key, f.name), "unknown key; %s", suggest(f.name, names))
				unknown = true
				continue
			}
			given = given || f.name == "address"
			read(d, join(key, f.name), f.value, &p)
		}
		if !given && !unknown {
			d.fail(n.at, join(key, "address"), `the address is missing; add "address: ADDRESS:PORT"`)
		}
		return p
	}}
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
