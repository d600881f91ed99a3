package divert

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
)

// State is what of a table there is in the kernel.
type State string

// The states of the table.
const (
	Absent     State = "absent"
	Owned      State = "owned"      // a running sipward's; it ends with it
	Persistent State = "persistent" // stays until it is removed
)

// Status is what is in force, as the kernel tells.
type Status struct {
	Table     string   `json:"table"`
	State     State    `json:"state"`
	Routes    bool     `json:"routes"`    // the routing rules and routes are all there
	Conflicts []string `json:"conflicts"` // what others have that is in the way
	Hints     []string `json:"hints"`     // what may keep calls from passing
}

// Status asks the kernel.
func (r *Rules) Status() (Status, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &r.cfg
	s := Status{Table: "inet " + c.Name, State: Absent, Routes: true, Conflicts: []string{}, Hints: []string{}}
	set, err := openRuleset(c)
	if err != nil {
		return s, err
	}
	defer set.close()
	table, err := set.find()
	if err != nil {
		return s, err
	}
	if table != nil {
		s.State = Persistent
		if owned(table) {
			s.State = Owned
		}
	}
	for _, f := range routeFamilies {
		if !f.present() {
			continue
		}
		rules, _, err1 := c.rules(f.number)
		routes, _, err2 := c.routes(f.number)
		if err := errors.Join(err1, err2); err != nil {
			return s, err
		}
		s.Routes = s.Routes && len(rules) > 0 && len(routes) > 0
	}
	if err := c.checkRoutes(); err != nil {
		s.Conflicts = append(s.Conflicts, err.Error())
	}
	s.Hints = c.hints(s.Hints)
	return s, nil
}

// hints looks for the usual mistakes.
func (c *Config) hints(hints []string) []string {
	for _, name := range append(append([]string(nil), c.Inside...), c.Outside...) {
		if _, err := net.InterfaceByName(name); err != nil {
			hints = append(hints, fmt.Sprintf("there is no interface %s now", name))
		}
	}
	local := localAddrs()
	for _, h := range hostsOf(c.PBXes) {
		here := local[h.String()]
		switch {
		case c.Placement == Host && !here:
			hints = append(hints, fmt.Sprintf("%s is not an address of this host; is sipward a router?", h))
		case c.Placement == Router && here:
			hints = append(hints, fmt.Sprintf("%s is an address of this host; the placement is then host", h))
		case c.Placement == Router && h.Is4() && !sysctlOn("net/ipv4/ip_forward"):
			hints = append(hints, "net.ipv4.ip_forward is 0, so neither media nor calls that fail open pass")
		case c.Placement == Router && h.Is6() && !sysctlOn("net/ipv6/conf/all/forwarding"):
			hints = append(hints, "net.ipv6.conf.all.forwarding is 0, so neither media nor calls that fail open pass")
		}
	}
	return hints
}

func localAddrs() map[string]bool {
	local := map[string]bool{}
	addrs, _ := net.InterfaceAddrs() // a hint less, if it fails
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			local[n.IP.String()] = true
		}
	}
	return local
}

// sysctlOn reports whether a setting is on, or cannot be read.
func sysctlOn(name string) bool {
	b, err := os.ReadFile("/proc/sys/" + name)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	return err != nil || strings.TrimSpace(string(b)) != "0"
}
