package conf

import (
	"net/netip"
	"slices"
	"strings"
)

// check looks at keys together: what is right alone can be wrong beside the
// others.
func (d *decoder) check(c *Config) {
	d.checkTransparent(c)
	if c.Mode == ModeProxy && d.clean("mode", "listen.outside", "listen.inside") {
		before := len(d.problems)
		d.checkListeners(c)
		d.bad["listen.inside"] = len(d.problems) > before
	}
	d.checkPBX(c)
	if d.clean("trunks", "lists.allow", "lists.deny") {
		d.checkLists(c)
	}
	d.checkTCP(c)
	d.checkTLS(c)
	d.checkWeb(c)
	d.checkTFTP(c)
	d.checkDNS(c)
	d.checkNotify(c)
	d.checkSchedules(c)
	d.checkPaths(c)
	d.checkControl(c)
	if d.clean("health.interval", "health.timeout") && c.Health.Timeout > c.Health.Interval {
		d.fail(d.at("health.timeout", "health.interval"), "health.timeout", "%s is longer than health.interval (%s), so probes would overtake each other; make it shorter",
			showDuration(c.Health.Timeout), showDuration(c.Health.Interval))
	}
}

// at returns where the first of the keys is written that is not a default.
func (d *decoder) at(keys ...string) origin {
	for _, k := range keys {
		if n := d.values[k]; n != nil && !n.at.isDefault() {
			return n.at
		}
	}
	return origin{}
}

// bound is a listener and where it is written.
type bound struct {
	Listener
	key string
	at  origin
}

func (d *decoder) bound(key string, listeners []Listener) []bound {
	all := make([]bound, len(listeners))
	for i, l := range listeners {
		all[i] = bound{l, key, d.values[key].itemAt(i)}
	}
	return all
}

func (d *decoder) checkListeners(c *Config) {
	if len(c.Listen.Outside) == 0 {
		d.fail(d.at("listen.outside"), "listen.outside", "the list is empty; write the addresses that phones send to, or remove the key for all addresses")
		return
	}
	outside, inside := d.bound("listen.outside", c.Listen.Outside), d.bound("listen.inside", c.Listen.Inside)
	all := slices.Concat(outside, inside)
	for i, b := range all {
		for _, a := range all[:i] {
			d.checkPair(a, b)
		}
	}
}

// checkPair finds two listeners that cannot both be bound.
func (d *decoder) checkPair(a, b bound) {
	if a.Transport.Datagrams() != b.Transport.Datagrams() || a.Addr.Port() != b.Addr.Port() || a.Addr.Addr().Is4() != b.Addr.Addr().Is4() {
		return
	}
	if b.at.isDefault() {
		a, b = b, a
	}
	at := b.at
	other := a.String()
	if a.at.isDefault() {
		other += ", a default of " + a.key + ","
	}
	switch {
	case a.Addr == b.Addr && a.Transport != b.Transport:
		d.fail(at, b.key, "%s and %s cannot both have the port; use another one", b, other)
	case a.Addr == b.Addr && a.key == b.key:
		d.fail(at, b.key, "%s is listed twice; remove one of them", b)
	case a.Addr == b.Addr:
		d.fail(at, b.key, "%s is in listen.outside, too; give the inside an address or port of its own, or remove listen.inside so that the outside serves both", b)
	case a.Addr.Addr().IsUnspecified() || b.Addr.Addr().IsUnspecified():
		d.fail(at, b.key, "%s and %s cannot both have the port, because one is all addresses and the other one of them; list each address, or use another port", b, other)
	}
}

func speaks(listeners []Listener, t Transport) bool {
	return slices.ContainsFunc(listeners, func(l Listener) bool { return l.Transport == t })
}

func (d *decoder) checkPBX(c *Config) {
	if !d.clean("pbx") {
		return
	}
	if len(c.PBX) == 0 {
		d.fail(d.at("pbx"), "pbx", `pbx is missing: sipward must know what it protects; write "pbx: [{address: ADDRESS:PORT}]"`)
		return
	}
	n := d.values["pbx"]
	if c.Mode == ModeProxy && d.clean("mode", "listen.outside", "listen.inside") {
		d.checkOnward(c)
	}
	weights := 0
	for i, p := range c.PBX {
		weights += p.Weight
		key := itemKey("pbx", i) + ".address"
		for j, q := range c.PBX[:i] {
			if p.Address == q.Address {
				d.fail(n.itemAt(i), key, "%s is already %s; remove one of them", p.Address, itemKey("pbx", j))
			}
		}
		if c.Mode == ModeProxy && d.clean("listen.outside", "listen.inside") {
			d.checkReach(c, p, key, n.itemAt(i))
		}
	}
	if weights == 0 {
		d.fail(n.itemAt(0), "pbx[0].weight", "every PBX has weight 0, which makes it a reserve; give at least one a weight of 1 or more")
	}
}

// checkReach finds a PBX that sipward cannot send to, or that is sipward.
func (d *decoder) checkReach(c *Config, p PBX, key string, at origin) {
	addr := p.Address.Addr()
	for _, l := range slices.Concat(c.Listen.Outside, c.Listen.Inside) {
		self := l.Addr.Addr() == addr || l.Addr.Addr().IsUnspecified() && addr.IsLoopback() && l.Addr.Addr().Is4() == addr.Is4()
		if self && l.Addr.Port() == p.Address.Port() {
			d.fail(at, key, "%s is sipward's own address (%s), so messages would go in circles; move the PBX to another port or address", p.Address, l)
			return
		}
	}
	told := map[Transport]bool{}
	for _, l := range c.Listen.Outside {
		on, ok := p.Onward(l.Transport)
		if ok && !told[on] {
			told[on] = true
			if !d.checkWay(c, addr, on, key, at) {
				return
			}
		}
	}
}

// checkWay finds that no listener of a transport can be used to speak to a PBX; that there is
// none at all is for checkOnward to say.
func (d *decoder) checkWay(c *Config, addr netip.Addr, t Transport, key string, at origin) bool {
	where := "listen.inside"
	if len(c.Listen.Inside) == 0 {
		where = "listen.outside"
	}
	family := "IPv6"
	if addr.Is4() {
		family = "IPv4"
	}
	some, ok, loopback := false, false, false
	for _, l := range c.InsideOrOutside() {
		if some = some || l.Transport == t; l.Transport != t || l.Addr.Addr().Is4() != addr.Is4() {
			continue
		}
		only := l.Addr.Addr().IsLoopback() && !addr.IsLoopback()
		ok, loopback = ok || !only, loopback || only
	}
	switch {
	case ok, !some:
		return true
	case loopback:
		d.fail(at, key, "%s cannot be reached from a loopback address, and %s has no other %s address for %s; add one", addr, where, family, t)
	default:
		d.fail(at, key, "%s is %s, but %s has no %s address for %s; add one", addr, family, where, family, t)
	}
	return false
}

// checkOnward finds what comes in and could not go on to the PBXes, and inside listeners
// that nothing goes on by.
func (d *decoder) checkOnward(c *Config) {
	inside := d.bound("listen.inside", c.Listen.Inside)
	used, told := map[Transport]bool{}, map[Transport]bool{}
	for _, b := range d.bound("listen.outside", c.Listen.Outside) {
		for i, p := range c.PBX {
			on, ok := p.Onward(b.Transport)
			if !ok {
				d.fail(d.values["pbx"].itemAt(i), itemKey("pbx", i)+".transports", "the PBX speaks no udp, but %s is in listen.outside and what comes by %s goes on by udp; add udp, or remove that address",
					b.Listener, b.Transport)
				return
			}
			used[on] = true
			if told[on] || speaks(c.InsideOrOutside(), on) {
				continue
			}
			told[on] = true
			key := "listen.inside"
			if len(inside) == 0 {
				key = "listen.outside"
			}
			d.fail(d.at(key, "pbx"), key, "there is no %s address here, but %s is in listen.outside and what comes by %s goes on by %s; add %s://ADDRESS:PORT",
				on, b.Listener, b.Transport, on, on)
		}
	}
	for _, b := range inside {
		if !used[b.Transport] {
			d.fail(b.at, b.key, "%s has no counterpart: nothing that comes to listen.outside goes on by %s; add a %s address there or remove this", b, b.Transport, b.Transport)
		}
	}
}

func (d *decoder) checkLists(c *Config) {
	for key, list := range map[string][]netip.Prefix{"lists.allow": c.Lists.Allow, "trunks": c.Trunks} {
		for i, p := range list {
			if p.Bits() == 0 {
				d.fail(d.values[key].itemAt(i), itemKey(key, i), "%s is everybody, which would switch the protection off; write the prefixes that you trust", p)
			}
		}
	}
	for i, p := range c.Lists.Deny {
		if j := slices.Index(c.Lists.Allow, p); j >= 0 {
			d.fail(d.values["lists.deny"].itemAt(i), itemKey("lists.deny", i), "%s is %s, too, which always wins; remove one of them", p, itemKey("lists.allow", j))
		}
	}
}

func (d *decoder) checkTCP(c *Config) {
	t := c.TCP
	if d.clean("tcp.max_connections", "tcp.max_per_source") && t.MaxPerSource > t.MaxConnections {
		d.fail(d.at("tcp.max_per_source", "tcp.max_connections"), "tcp.max_per_source", "%d is more than tcp.max_connections (%d); make it smaller", t.MaxPerSource, t.MaxConnections)
	}
	if d.clean("tcp.max_header", "tcp.max_message") && t.MaxHeader > t.MaxMessage {
		d.fail(d.at("tcp.max_header", "tcp.max_message"), "tcp.max_header", "%s is more than tcp.max_message (%s), which includes it; make it smaller", showSize(t.MaxHeader), showSize(t.MaxMessage))
	}
	if d.clean("tcp.message_timeout", "tcp.idle_timeout") && t.MessageTimeout >= t.IdleTimeout {
		d.fail(d.at("tcp.message_timeout", "tcp.idle_timeout"), "tcp.message_timeout", "%s is not below tcp.idle_timeout (%s); make it shorter", showDuration(t.MessageTimeout), showDuration(t.IdleTimeout))
	}
}

// maxSocketPath is the longest name of a unix socket on Linux (unix(7)).
const maxSocketPath = 107

func (d *decoder) checkPaths(c *Config) {
	if n := len(c.Control.Socket); n > maxSocketPath {
		d.fail(d.at("control.socket"), "control.socket", "the path has %d characters, and the system allows a socket %d; use a shorter one", n, maxSocketPath)
	}
	for _, f := range []string{"lists.allow_files", "lists.deny_files"} {
		seen := map[string]bool{}
		list := c.Lists.AllowFiles
		if strings.HasPrefix(f, "lists.deny") {
			list = c.Lists.DenyFiles
		}
		for i, p := range list {
			if seen[p] {
				d.fail(d.values[f].itemAt(i), itemKey(f, i), "%s is listed twice; remove one of them", quote(p))
			}
			seen[p] = true
		}
	}
}
