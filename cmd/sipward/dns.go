package main

import (
	"context"
	"net/netip"

	"sipward/admin"
	"sipward/conf"
	"sipward/dns"
	"sipward/policy"
	"sipward/policy/event"
	"sipward/policy/iplist"
)

// names is what answers DNS: nil if that is off.
type names struct{ front *dns.Server }

// newNames binds the sockets of DNS.
func (e *edge) newNames(events *event.Bus) (*names, error) {
	c := e.config.conf
	d := &c.DNS
	if len(d.Listen) == 0 {
		return nil, nil
	}
	cfg := dns.Config{
		Settings:     dnsSettings(c),
		CacheEntries: d.CacheEntries, CacheBytes: d.CacheSize, MaxInFlight: d.MaxInFlight,
		MaxConns: d.MaxConnections, MaxPerSource: d.MaxPerSource, IdleTimeout: d.IdleTimeout,
		Workers: e.workers, Engine: e.engine, Events: events,
	}
	if d.Redirect {
		cfg.Mark = c.Transparent.OwnMark
	}
	for _, l := range d.Listen {
		to := dns.Listener{Transport: policy.UDP, Addr: l.Addr}
		if l.Transport == conf.TransportTCP {
			to.Transport = policy.TCP
		}
		cfg.Listen = append(cfg.Listen, to)
	}
	front, err := dns.New(cfg)
	if err != nil {
		return nil, err
	}
	return &names{front}, nil
}

func dnsSettings(c *conf.Config) dns.Settings {
	d := &c.DNS
	s := dns.Settings{
		Protection: map[conf.DNSProtection]dns.Protection{
			conf.DNSStrict: dns.Strict, conf.DNSOn: dns.On, conf.DNSOff: dns.Off,
		}[d.DNSProtection],
		PrivateNames: d.PrivateNames, ServeStale: d.ServeStale, Timeout: d.Timeout, Try: d.TryTimeout,
	}
	for _, u := range d.Upstreams {
		to := dns.Upstream{Address: u.Address, Name: u.Name}
		switch {
		case u.TLS:
			to.Transport = policy.TLS
		case u.TCP:
			to.Transport = policy.TCP
		}
		s.Upstreams = append(s.Upstreams, to)
	}
	return s
}

// dnsGuard maps the rules of who may ask.
func dnsGuard(c *conf.Config, pbx *iplist.Set) policy.DNS {
	d := &c.DNS
	clients := pbx.Entries()
	for _, p := range append(loopback(), d.AllowFrom...) {
		clients = append(clients, iplist.Entry{Prefix: p, Origin: originConfig})
	}
	return policy.DNS{
		Clients: iplist.New(clients), Strangers: action(d.StrangerAction),
		Rate: float64(limit(d.Rate, d.Action)), Burst: d.Burst, Action: action(d.Action),
	}
}

// dnsAction is off when there is no DNS.
func dnsAction(d conf.DNS) conf.Action {
	if len(d.Listen) == 0 {
		return conf.Action{}
	}
	return d.Action
}

// Run answers until ctx ends.
func (n *names) Run(ctx context.Context) error {
	if n == nil {
		return nil
	}
	return n.front.Run(ctx)
}

// close gives up what was never run.
func (n *names) close() {
	if n != nil {
		n.front.Close()
	}
}

// reload puts the settings of a configuration in force. Without an upstream, which is to
// come with the next start, those in use stay.
func (n *names) reload(c *conf.Config) {
	if n != nil && len(c.DNS.Upstreams) > 0 {
		n.front.Reload(dnsSettings(c))
	}
}

// cutOff closes the connections of a prefix and returns how many.
func (n *names) cutOff(p netip.Prefix) int {
	if n == nil {
		return 0
	}
	return n.front.CloseSource(p)
}

func (n *names) status(c *conf.Config) *admin.DNS {
	if n == nil {
		return nil
	}
	s := n.front.Stats()
	out := &admin.DNS{
		Listen: urls(c.DNS.Listen), Protection: string(c.DNS.DNSProtection),
		Hits: s.Hits, Misses: s.Misses, Stale: s.Stale, Failures: s.Failures,
		Entries: s.Entries, Bytes: s.Bytes, InFlight: s.InFlight, Connections: s.Connections, Refused: s.ConnectionsFull,
	}
	for _, u := range s.Upstreams {
		out.Upstreams = append(out.Upstreams, admin.DNSUpstream{
			Address: u.Upstream.String(), Up: u.Up, Since: u.Since, Why: u.Why,
			Asked: u.Asked, Failed: u.Failed, Foreign: u.Foreign,
		})
	}
	return out
}

// mayAsk says whether an address may ask, and why; empty if DNS is off.
func (n *names) mayAsk(c *conf.Config, pbx *iplist.Set, addr netip.Addr) string {
	if n == nil {
		return ""
	}
	entry, ok := dnsGuard(c, pbx).Clients.Lookup(addr)
	if !ok {
		return "may not ask (" + c.DNS.StrangerAction.String() + "): it is no PBX, not this machine, and not in dns.allow_from"
	}
	return "may ask: " + show(entry.Prefix) + " is a PBX, this machine, or in dns.allow_from"
}
