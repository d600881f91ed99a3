//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"text/tabwriter"

	"sipward/e2e/bench/load"
)

// Hosts of the routed benchmark: namespaces in a row.
const (
	hostWAN  = "wan"
	hostEdge = "edge"
	hostPBX  = "pbx"
)

var (
	pbxAddress  = netip.MustParseAddrPort("203.0.113.2:5060")
	edgeAddress = netip.MustParseAddrPort("198.51.100.1:5060")
)

// routedSources is how many addresses 198.51.100.[100-249] has.
const routedSources = 150

// hosts are network namespaces; nil is the machine itself.
type hosts struct{ prefix string }

// on is a command on one of them.
func (h *hosts) on(host string, argv ...string) []string {
	if h == nil {
		return argv
	}
	return append([]string{"ip", "netns", "exec", h.prefix + host}, argv...)
}

const topology = `netns add %[1]swan
netns add %[1]sedge
netns add %[1]spbx
link add wan0 netns %[1]sedge type veth peer name eth0 netns %[1]swan
link add pbx0 netns %[1]sedge type veth peer name eth0 netns %[1]spbx
`

// lines of ip(8) on each host.
var addresses = map[string]string{
	hostWAN:  "link set lo up\naddr add 198.51.100.254/24 dev eth0\nlink set eth0 up\nroute add default via 198.51.100.1\nroute add local 198.51.100.64/26 dev lo\nroute add local 198.51.100.128/26 dev lo\nroute add local 198.51.100.192/27 dev lo\nroute add local 198.51.100.224/28 dev lo\nroute add local 198.51.100.240/29 dev lo\nroute add local 198.51.100.248/31 dev lo\n",
	hostEdge: "link set lo up\naddr add 198.51.100.1/24 dev wan0\naddr add 203.0.113.1/24 dev pbx0\nlink set wan0 up\nlink set pbx0 up\n",
	hostPBX:  "link set lo up\naddr add 203.0.113.2/24 dev eth0\nlink set eth0 up\nroute add default via 203.0.113.1\n",
}

func newHosts() (*hosts, error) {
	h := &hosts{prefix: fmt.Sprintf("sipward-bench-%d-", os.Getpid())}
	if err := ip("", fmt.Sprintf(topology, h.prefix)); err != nil {
		return h, err
	}
	for host, lines := range addresses {
		if err := ip(h.prefix+host, lines); err != nil {
			return h, err
		}
	}
	for _, setting := range []string{"net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"} {
		argv := h.on(hostEdge, "sysctl", "-qw", setting)
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return h, fmt.Errorf("set %s: %w: %s", setting, err, out)
		}
	}
	return h, nil
}

func ip(namespace, lines string) error {
	args := []string{"-batch", "-"}
	if namespace != "" {
		args = append([]string{"-n", namespace}, args...)
	}
	cmd := exec.Command("ip", args...)
	cmd.Stdin = strings.NewReader(lines)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the network: %w: %s", err, out)
	}
	return nil
}

func (h *hosts) remove() {
	if h == nil {
		return
	}
	for host := range addresses {
		_ = exec.Command("ip", "netns", "del", h.prefix+host).Run() // all that is left to do
	}
}

// routedSubjects: what a message costs when nobody looks at it, and in both of sipward's modes. A router's work is done in the
// names of those who send through it, so all parts are measured together.
func routedSubjects() []subject {
	return []subject{
		{name: "forwarding", listen: pbxAddress, command: func(*lab, netip.AddrPort, netip.AddrPort) ([]string, error) {
			return []string{"sleep", "infinity"}, nil // the kernel does the work
		}},
		{name: "transparent", listen: pbxAddress, command: func(l *lab, _, pbx netip.AddrPort) ([]string, error) {
			return sipwardWith(l, "mode: transparent\ntransparent: {inside: [pbx0]}", pbx)
		}},
		{name: "proxy", listen: edgeAddress, command: func(l *lab, _, pbx netip.AddrPort) ([]string, error) {
			return sipwardWith(l, `listen: {outside: ["udp://198.51.100.1:5060"], inside: ["udp://203.0.113.1:5060"]}`, pbx)
		}},
	}
}

// routedRates are those at which the costs are compared.
var routedRates = []int{lowRate, 20_000}

// measureRouted measures all three and prints a table.
func (l *lab) measureRouted(o options) (err error) {
	if l.hosts, err = newHosts(); err != nil {
		return errors.Join(err, errors.New("it needs root and ip(8)"))
	}
	defer l.hosts.remove()
	responder, err := l.startResponder()
	if err != nil {
		return err
	}
	defer l.stop(responder)
	var all []*Series
	for _, s := range routedSubjects() {
		if !o.wants(s.name) {
			continue
		}
		proc, target, err := l.startSubject(s)
		if err != nil {
			return err
		}
		b := &bench{lab: l, name: s.name, target: target, proc: proc, step: o.step}
		series, err := b.routedSeries(o)
		l.stop(proc)
		if err != nil {
			return err
		}
		all = append(all, series...)
	}
	printRouted(all)
	return nil
}

func (b *bench) routedSeries(o options) ([]*Series, error) {
	var all []*Series
	for _, load := range []struct {
		flow    load.Flow
		sources int
	}{{load.Register, 1}, {load.Credentials, routedSources}} {
		s := &Series{Subject: b.name, Flow: load.flow, Sources: load.sources}
		for _, rate := range routedRates {
			if _, err := b.pass(load.flow, load.sources, rate, &s.Points); err != nil {
				return nil, err
			}
		}
		var err error
		s.Max, err = search(30_000, maxRate, 1.4, o.resolution, func(rate int) (bool, error) {
			return b.pass(load.flow, load.sources, rate, &s.Points)
		})
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func printRouted(all []*Series) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "edge\tload\tloss-free/s")
	for _, rate := range routedRates {
		fmt.Fprintf(w, "\tprocess µs at %d/s\tall parts µs", rate)
	}
	fmt.Fprintln(w)
	for _, s := range all {
		fmt.Fprintf(w, "%s\t%s\t%d", s.Subject, kind(s), s.Max)
		for _, rate := range routedRates {
			if p := s.at(rate); p != nil {
				fmt.Fprintf(w, "\t%.1f\t%.1f", p.CPU, p.Whole)
			} else {
				fmt.Fprint(w, "\t–\t–")
			}
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // to standard output
}
