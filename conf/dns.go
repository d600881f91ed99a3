package conf

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const dnsTLSPort = 853

// DNSProtection is how far the answers of DNS are mistrusted.
type DNSProtection string

// The protections.
const (
	DNSStrict DNSProtection = "strict"
	DNSOn     DNSProtection = "on"
	DNSOff    DNSProtection = "off"
)

// DNS answers the questions of PBXes. Listen empty: it does not.
type DNS struct {
	// Listen holds the addresses that PBXes ask.
	Listen []Listener
	// Upstreams are the resolvers that are asked, in this order. Not empty if Listen is
	// not.
	Upstreams     []DNSUpstream
	DNSProtection DNSProtection
	// AllowFrom is who may ask beside the PBXes and this machine.
	AllowFrom []netip.Prefix
	// StrangerAction is what is done about all others: ActionBan, ActionDrop or
	// ActionReject.
	StrangerAction Action
	// Rate is questions per second of a source, Burst how many may come at once.
	Rate, Burst int
	// Action is what is done about those over the limit.
	Action Action
	// PrivateNames are domains that may have private addresses with DNSStrict, and are
	// asked for although RFC 6761 says that they do not exist.
	PrivateNames []string
	// Timeout is how long a question may take, TryTimeout one upstream; not above it.
	Timeout, TryTimeout time.Duration
	// CacheEntries and CacheSize, in bytes, cap the cache.
	CacheEntries, CacheSize int
	// ServeStale is how long an answer out of date may be given when there is no other.
	// Zero: never.
	ServeStale time.Duration
	// MaxInFlight caps the questions that wait for upstreams.
	MaxInFlight int
	// MaxConnections and MaxPerSource cap the TCP connections.
	MaxConnections, MaxPerSource int
	// IdleTimeout is how long one of them may be silent.
	IdleTimeout time.Duration
	// Redirect leads what PBXes ask others to the front, in transparent mode.
	Redirect bool
}

// DNSUpstream is a resolver that is asked.
type DNSUpstream struct {
	Address netip.AddrPort
	// TLS and TCP say how; neither: over UDP, and over TCP what does not fit.
	TLS, TCP bool
	// Name is what its certificate must be for. Empty: its address.
	Name string
}

func (u DNSUpstream) String() string {
	switch {
	case u.TLS && u.Name != "":
		return "tls://" + u.Address.String() + "#" + u.Name
	case u.TLS:
		return "tls://" + u.Address.String()
	case u.TCP:
		return "tcp://" + u.Address.String()
	}
	return u.Address.String()
}

func dnsKeys() []key {
	protection := oneOf(nil, choice[DNSProtection]{"strict", DNSStrict}, choice[DNSProtection]{"on", DNSOn}, choice[DNSProtection]{"off", DNSOff})
	listeners := listOf("list of udp://ADDRESS:PORT and tcp://ADDRESS:PORT", scalar("URL udp://ADDRESS:PORT or tcp://ADDRESS:PORT", parseDNSListener))
	upstreams := listOf("list of ADDRESS, tcp://ADDRESS and tls://ADDRESS#NAME", scalar("ADDRESS, tcp://ADDRESS or tls://ADDRESS#NAME, with or without port", parseDNSUpstream))
	names := listOf("list of domains", word("domain", domainRule))
	return []key{
		bind("dns.listen", "[]", onRestart, listeners, func(c *Config) *[]Listener { return &c.DNS.Listen }),
		bind("dns.upstreams", "[]", onReload, upstreams, func(c *Config) *[]DNSUpstream { return &c.DNS.Upstreams }),
		bind("dns.dns_protection", `"on"`, onReload, protection, func(c *Config) *DNSProtection { return &c.DNS.DNSProtection }),
		bind("dns.allow_from", "[]", onReload, listOf("list of addresses and prefixes", prefix()), func(c *Config) *[]netip.Prefix { return &c.DNS.AllowFrom }),
		bind("dns.stranger_action", "drop", onReload, dnsAction(strangerRule), func(c *Config) *Action { return &c.DNS.StrangerAction }),
		bind("dns.rate", "1000", onReload, wholeNumber(1, 1_000_000), func(c *Config) *int { return &c.DNS.Rate }),
		bind("dns.burst", "2000", onReload, wholeNumber(1, 10_000_000), func(c *Config) *int { return &c.DNS.Burst }),
		bind("dns.action", "drop", onReload, dnsAction(nil), func(c *Config) *Action { return &c.DNS.Action }),
		bind("dns.private_names", "[]", onReload, names, func(c *Config) *[]string { return &c.DNS.PrivateNames }),
		bind("dns.timeout", "4s", onReload, duration(100*time.Millisecond, 30*time.Second), func(c *Config) *time.Duration { return &c.DNS.Timeout }),
		bind("dns.try_timeout", "1s", onReload, duration(50*time.Millisecond, 30*time.Second), func(c *Config) *time.Duration { return &c.DNS.TryTimeout }),
		bind("dns.cache_entries", "10000", onRestart, wholeNumber(1, 10_000_000), func(c *Config) *int { return &c.DNS.CacheEntries }),
		bind("dns.cache_size", "8MiB", onRestart, size(1<<20, 1<<30), func(c *Config) *int { return &c.DNS.CacheSize }),
		bind("dns.serve_stale", "0", onReload, duration(0, 7*24*time.Hour), func(c *Config) *time.Duration { return &c.DNS.ServeStale }),
		bind("dns.max_in_flight", "1024", onRestart, wholeNumber(1, 100_000), func(c *Config) *int { return &c.DNS.MaxInFlight }),
		bind("dns.max_connections", "256", onRestart, wholeNumber(1, 100_000), func(c *Config) *int { return &c.DNS.MaxConnections }),
		bind("dns.max_per_source", "64", onRestart, wholeNumber(1, 100_000), func(c *Config) *int { return &c.DNS.MaxPerSource }),
		bind("dns.idle_timeout", "10s", onRestart, duration(time.Second, time.Hour), func(c *Config) *time.Duration { return &c.DNS.IdleTimeout }),
		bind("dns.redirect", "false", onRestart, trueOrFalse(), func(c *Config) *bool { return &c.DNS.Redirect }),
	}
}

// dnsAction reads what is done about questions. To reject one has no code: DNS has REFUSED
// for that. without says which actions there are not, and why.
func dnsAction(without reasons) kind[Action] {
	kinds := []ActionKind{ActionOff, ActionBan, ActionDrop, ActionReject, ActionNotify, ActionWatch}
	kinds = slices.DeleteFunc(kinds, func(k ActionKind) bool { return without[k] != "" })
	choices := make([]choice[Action], len(kinds))
	for i, k := range kinds {
		choices[i] = choice[Action]{k.String(), Action{Kind: k}}
	}
	known := oneOf(nil, choices...)
	return scalar(known.name, func(text string) (Action, error) {
		for _, c := range choices {
			if c.word == text {
				return c.value, nil
			}
		}
		if kind, code, _ := strings.Cut(text, " "); kind == ActionReject.String() && code != "" {
			return Action{}, fmt.Errorf("%s has a status, and DNS has but one for that, REFUSED; write reject alone", quote(text))
		}
		for k, why := range without {
			if text == k.String() {
				return Action{}, fmt.Errorf("%s is not for this key: %s; write %s", quote(text), why, known.name)
			}
		}
		return Action{}, fmt.Errorf("%s is not known here; write %s", quote(text), known.name)
	})
}

const openResolver = "a resolver that answers everybody is used to attack others"

var strangerRule = reasons{ActionOff: openResolver, ActionNotify: openResolver, ActionWatch: openResolver}

// parseDNSListener reads where PBXes ask. All addresses would be those of the outside, too.
func parseDNSListener(text string) (Listener, error) {
	l, err := parseListenerOn(text, plainTransports, on(dnsPort))
	if err == nil && l.Addr.Addr().IsUnspecified() {
		err = fmt.Errorf("%s is all addresses, those of the outside among them; write the one that the PBXes ask", quote(text))
	}
	return l, err
}

func parseDNSUpstream(text string) (u DNSUpstream, err error) {
	scheme, rest, given := strings.Cut(text, "://")
	if !given {
		scheme, rest = "udp", text
	}
	port := uint16(dnsPort)
	switch scheme {
	case "udp":
	case "tcp":
		u.TCP = true
	case "tls":
		u.TLS, port = true, dnsTLSPort
	default:
		return u, fmt.Errorf("%s is not how a resolver is asked; write ADDRESS, tcp://ADDRESS or tls://ADDRESS#NAME", quote(scheme))
	}
	address, name, named := strings.Cut(rest, "#")
	switch {
	case named && !u.TLS:
		return u, fmt.Errorf("%s has a name, which is for tls:// alone; write %s", quote(text), shorten(address))
	case named && !validHost(name):
		return u, fmt.Errorf("%s does not end in the name of a certificate; write tls://ADDRESS#dns.example.com", quote(text))
	}
	u.Name = name
	if u.Address, err = parseAddrPort(address, port); err == nil && u.Address.Addr().IsUnspecified() {
		err = fmt.Errorf("%s is not the address of a server; write where it listens", quote(text))
	}
	return u, err
}

// domainRule allows the name of a domain.
func domainRule(text string) error {
	if !validHost(strings.TrimPrefix(text, "_")) {
		return fmt.Errorf("%s is not a domain; write one such as corp.example.com", quote(text))
	}
	return nil
}

func (d *decoder) checkDNS(c *Config) {
	s := &c.DNS
	if d.clean("dns.timeout", "dns.try_timeout") && s.TryTimeout > s.Timeout {
		d.fail(d.at("dns.try_timeout", "dns.timeout"), "dns.try_timeout", "%s is longer than dns.timeout (%s), so no second upstream would ever be asked; make it shorter",
			showDuration(s.TryTimeout), showDuration(s.Timeout))
	}
	if d.clean("dns.max_connections", "dns.max_per_source") && s.MaxPerSource > s.MaxConnections {
		d.fail(d.at("dns.max_per_source", "dns.max_connections"), "dns.max_per_source", "%d is more than dns.max_connections (%d); make it smaller", s.MaxPerSource, s.MaxConnections)
	}
	if d.clean("dns.allow_from") {
		for i, p := range s.AllowFrom {
			if p.Bits() == 0 {
				d.fail(d.values["dns.allow_from"].itemAt(i), itemKey("dns.allow_from", i), "%s is everybody: %s; write the prefixes that may ask", p, openResolver)
			}
		}
	}
	if d.clean("dns.redirect", "mode") && s.Redirect && c.Mode != ModeTransparent {
		d.fail(d.at("dns.redirect"), "dns.redirect", "it is for transparent mode; in proxy mode, tell the PBX to ask dns.listen, in its /etc/resolv.conf")
	}
	if !d.clean("dns.listen", "dns.upstreams") {
		return
	}
	switch {
	case len(s.Listen) == 0 && (len(s.Upstreams) > 0 || s.Redirect):
		d.fail(d.at("dns.upstreams", "dns.redirect"), "dns.listen", `nobody can ask; write "listen: [udp://ADDRESS, tcp://ADDRESS]" beside it, or remove this`)
	case len(s.Listen) > 0 && len(s.Upstreams) == 0:
		d.fail(d.at("dns.listen"), "dns.upstreams", `it is not said who is to be asked; write "upstreams: [ADDRESS]" of a resolver`)
	}
	d.checkDNSListeners(c)
}

// checkDNSListeners finds what cannot be bound, and what would ask itself.
func (d *decoder) checkDNSListeners(c *Config) {
	s := &c.DNS
	n := d.values["dns.listen"]
	for i, l := range s.Listen {
		b := bound{l, itemKey("dns.listen", i), n.itemAt(i)}
		if slices.Contains(s.Listen[:i], l) {
			d.fail(b.at, b.key, "%s is listed twice; remove one of them", l)
		}
		if c.Mode == ModeProxy && d.clean("listen.outside", "listen.inside") && slices.Contains(slices.Concat(c.Listen.Outside, c.Listen.Inside), l) {
			d.fail(b.at, b.key, "%s is where SIP is listened for; use another port", l)
		}
	}
	for i, u := range s.Upstreams {
		if slices.ContainsFunc(s.Listen, func(l Listener) bool { return l.Addr == u.Address }) {
			d.fail(d.values["dns.upstreams"].itemAt(i), itemKey("dns.upstreams", i), "%s is sipward's own address (dns.listen), so questions would go in circles; write that of a resolver", u)
		}
	}
}
