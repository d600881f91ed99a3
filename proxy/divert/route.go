package divert

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// rulePriority comes before the rules of most others, because theirs would send on what
// we are to take.
const rulePriority = 50

// routeProtocol marks our routes, as far as people look (rtnetlink(7) leaves it to them).
const routeProtocol = unix.RTPROT_STATIC

var routeFamilies = [...]struct {
	number  int
	option  string
	dst     string
	present func() bool
}{
	{netlink.FAMILY_V4, "-4", "0.0.0.0/0", func() bool { return true }},
	{netlink.FAMILY_V6, "-6", "::/0", func() bool { _, err := os.Stat("/proc/net/if_inet6"); return err == nil }},
}

func (c *Config) routeCommands() (lines []string) {
	for _, f := range routeFamilies {
		rule := fmt.Sprintf("pref %d fwmark %#x lookup %d", rulePriority, c.Mark, c.Table)
		lines = append(lines,
			fmt.Sprintf("ip %s rule del %s 2>/dev/null || true", f.option, rule),
			fmt.Sprintf("ip %s rule add %s", f.option, rule),
			fmt.Sprintf("ip %s route replace local default dev lo table %d", f.option, c.Table))
	}
	return lines
}

// rules returns the rules of ip(8) that use our mark or our table: ours, and others'.
func (c *Config) rules(family int) (ours, others []netlink.Rule, err error) {
	all, err := netlink.RuleList(family)
	if err != nil {
		return nil, nil, fmt.Errorf("list the routing rules: %w", err)
	}
	for _, r := range all {
		switch same := r.Mark == c.Mark; {
		case same && r.Table == c.Table && r.Priority == rulePriority:
			ours = append(ours, r)
		case same, r.Table == c.Table:
			others = append(others, r)
		}
	}
	return ours, others, nil
}

// routes returns the routes in our table: ours, and others'.
func (c *Config) routes(family int) (ours, others []netlink.Route, err error) {
	all, err := netlink.RouteListFiltered(family, &netlink.Route{Table: c.Table}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, nil, fmt.Errorf("list the routes of table %d: %w", c.Table, err)
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return nil, nil, fmt.Errorf("find the loopback interface: %w", err)
	}
	for _, r := range all {
		everything := r.Dst == nil
		if r.Dst != nil {
			ones, _ := r.Dst.Mask.Size()
			everything = ones == 0
		}
		if r.Type == unix.RTN_LOCAL && everything && r.LinkIndex == lo.Index {
			ours = append(ours, r)
		} else {
			others = append(others, r)
		}
	}
	return ours, others, nil
}

// checkRoutes finds out whether mark and table are free.
func (c *Config) checkRoutes() error {
	for _, f := range routeFamilies {
		if !f.present() {
			continue
		}
		_, rules, err := c.rules(f.number)
		if err != nil {
			return err
		}
		for _, r := range rules {
			return fmt.Errorf("the routing rule %q: %w; choose another transparent.mark or transparent.table", describe(r), ErrConflict)
		}
		_, routes, err := c.routes(f.number)
		if err != nil {
			return err
		}
		for _, r := range routes {
			return fmt.Errorf("routing table %d has the route %q: %w; choose another transparent.table", c.Table, r.String(), ErrConflict)
		}
	}
	return nil
}

func describe(r netlink.Rule) string {
	text := fmt.Sprintf("%d:", r.Priority)
	if r.Mark != 0 {
		text += fmt.Sprintf(" fwmark %#x", r.Mark)
	}
	return fmt.Sprintf("%s lookup %d", text, r.Table)
}

// addRoutes adds what is missing, and reports whether anything was.
func (c *Config) addRoutes() (added bool, err error) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return false, fmt.Errorf("find the loopback interface: %w", err)
	}
	for _, f := range routeFamilies {
		if !f.present() {
			continue
		}
		routes, _, err := c.routes(f.number)
		if err != nil {
			return added, err
		}
		if len(routes) == 0 {
			_, dst, _ := net.ParseCIDR(f.dst) // constant
			route := &netlink.Route{Family: f.number, Table: c.Table, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, LinkIndex: lo.Index, Dst: dst, Protocol: routeProtocol}
			if err := netlink.RouteAdd(route); err != nil {
				return added, fmt.Errorf("add the local route to table %d: %w", c.Table, err)
			}
			added = true
		}
		rules, _, err := c.rules(f.number)
		if err != nil {
			return added, err
		}
		if len(rules) == 0 {
			rule := netlink.NewRule()
			rule.Family, rule.Priority, rule.Mark, rule.Table = f.number, rulePriority, c.Mark, c.Table
			if err := netlink.RuleAdd(rule); err != nil {
				return added, fmt.Errorf("add the routing rule for mark %#x: %w", c.Mark, err)
			}
			added = true
		}
	}
	return added, nil
}

// removeRoutes removes ours, however many there are.
func (c *Config) removeRoutes() (err error) {
	for _, f := range routeFamilies {
		if !f.present() {
			continue
		}
		rules, _, e := c.rules(f.number)
		err = errors.Join(err, e)
		for _, r := range rules {
			r.Family = f.number
			err = errors.Join(err, netlink.RuleDel(&r))
		}
		routes, _, e := c.routes(f.number)
		err = errors.Join(err, e)
		for _, r := range routes {
			err = errors.Join(err, netlink.RouteDel(&r))
		}
	}
	if err != nil {
		return fmt.Errorf("remove the routes: %w", err)
	}
	return nil
}
