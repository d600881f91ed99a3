package conf

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const tftpPort = 69

// TFTP relays files to phones, and guards that. Listen empty: there is none.
type TFTP struct {
	// Listen holds the addresses that phones ask for files at; all are UDP.
	Listen []Listener
	// Upstream is the TFTP server inside. The zero AddrPort: none.
	Upstream netip.AddrPort
	// Serve is the folder of the built-in server, instead of Upstream. Empty: none.
	Serve string
	// Threshold is how many requests of a source within Period are still allowed.
	Threshold int
	Period    time.Duration
	// LimitedRate is how many pass in a minute while a source is limited.
	LimitedRate int
	// Action is never ActionReject.
	Action Action
	// Missing is how many distinct files that do not exist are too many within Period.
	// Zero: they do not count. What is done then is Enumeration.Action.
	Missing int
	// AllowWrite lets phones write files.
	AllowWrite bool
	// AllowAbsolute lets file names begin with a slash.
	AllowAbsolute bool
	// MaxTransfers and MaxPerSource cap the transfers at a time.
	MaxTransfers, MaxPerSource int
	// Strangers is how many requests in a second all strangers may make together.
	// Zero: no limit.
	Strangers int
	// IdleTimeout is how long a client may be silent in the midst of a file.
	IdleTimeout time.Duration
}

func tftpKeys() []key {
	unanswered := action(reasons{ActionReject: "TFTP has no such status, and who asks too often may be forged"},
		ActionBan, ActionDrop, ActionNotify, ActionWatch)
	return []key{
		bind("tftp.listen", "[]", onRestart, tftpListeners(), func(c *Config) *[]Listener { return &c.TFTP.Listen }),
		bind("tftp.upstream", `""`, onRestart, tftpServer(), func(c *Config) *netip.AddrPort { return &c.TFTP.Upstream }),
		bind("tftp.serve", `""`, onRestart, orNone(path("folder")), func(c *Config) *string { return &c.TFTP.Serve }),
		bind("tftp.threshold", "100", onReload, wholeNumber(1, 1000), func(c *Config) *int { return &c.TFTP.Threshold }),
		bind("tftp.period", "1m", onReload, duration(time.Second, time.Hour), func(c *Config) *time.Duration { return &c.TFTP.Period }),
		bind("tftp.limited_rate", "10", onReload, wholeNumber(0, 1000), func(c *Config) *int { return &c.TFTP.LimitedRate }),
		bind("tftp.action", "drop", onReload, unanswered, func(c *Config) *Action { return &c.TFTP.Action }),
		bind("tftp.missing", "30", onReload, wholeNumber(0, 128), func(c *Config) *int { return &c.TFTP.Missing }),
		bind("tftp.allow_write", "false", onReload, trueOrFalse(), func(c *Config) *bool { return &c.TFTP.AllowWrite }),
		bind("tftp.allow_absolute", "false", onReload, trueOrFalse(), func(c *Config) *bool { return &c.TFTP.AllowAbsolute }),
		bind("tftp.max_transfers", "500", onReload, wholeNumber(1, 10_000), func(c *Config) *int { return &c.TFTP.MaxTransfers }),
		bind("tftp.max_per_source", "100", onReload, wholeNumber(1, 10_000), func(c *Config) *int { return &c.TFTP.MaxPerSource }),
		bind("tftp.strangers", "100", onReload, wholeNumber(0, 100_000), func(c *Config) *int { return &c.TFTP.Strangers }),
		bind("tftp.idle_timeout", "30s", onReload, duration(time.Second, 10*time.Minute), func(c *Config) *time.Duration { return &c.TFTP.IdleTimeout }),
	}
}

// tftpListeners reads one address to listen on, or a list of them.
func tftpListeners() kind[[]Listener] {
	one := scalar("URL udp://ADDRESS:PORT", func(text string) (Listener, error) {
		if strings.HasPrefix(text, "tcp://") {
			return Listener{}, fmt.Errorf("TFTP is spoken over UDP alone; write udp://%s", shorten(strings.TrimPrefix(text, "tcp://")))
		}
		return parseListenerOn(text, plainTransports, on(tftpPort))
	})
	k := listOf("udp://ADDRESS:PORT, or list of them", one)
	list := k.read
	k.read = func(d *decoder, key string, n *node) []Listener {
		if n.shape == shapeScalar && n.text != "" {
			return []Listener{one.read(d, key, n)}
		}
		return list(d, key, n)
	}
	return k
}

// tftpServer reads the address of a TFTP server, or nothing.
func tftpServer() kind[netip.AddrPort] {
	return scalar("address, with or without port", func(text string) (netip.AddrPort, error) {
		if text == "" {
			return netip.AddrPort{}, nil
		}
		a, err := parseAddrPort(text, tftpPort)
		if err == nil && a.Addr().IsUnspecified() {
			err = fmt.Errorf("%s is not the address of a server; write where it listens, 127.0.0.1 with its port if that is this machine", quote(text))
		}
		return a, err
	})
}

// orNone makes a kind that may be empty.
func orNone(k kind[string]) kind[string] {
	read := k.read
	k.read = func(d *decoder, key string, n *node) string {
		if n.shape == shapeScalar && n.text == "" {
			return ""
		}
		return read(d, key, n)
	}
	return k
}

func (d *decoder) checkTFTP(c *Config) {
	t := &c.TFTP
	if d.clean("tftp.threshold", "tftp.limited_rate") && t.LimitedRate > t.Threshold {
		d.fail(d.at("tftp.limited_rate", "tftp.threshold"), "tftp.limited_rate", "%d is more than tftp.threshold (%d), so it would limit nobody; make it smaller", t.LimitedRate, t.Threshold)
	}
	if d.clean("tftp.max_transfers", "tftp.max_per_source") && t.MaxPerSource > t.MaxTransfers {
		d.fail(d.at("tftp.max_per_source", "tftp.max_transfers"), "tftp.max_per_source", "%d is more than tftp.max_transfers (%d); make it smaller", t.MaxPerSource, t.MaxTransfers)
	}
	if !d.clean("tftp.listen", "tftp.upstream", "tftp.serve") {
		return
	}
	served := t.Upstream.IsValid() || t.Serve != ""
	switch {
	case len(t.Listen) == 0 && served:
		d.fail(d.at("tftp.upstream", "tftp.serve"), "tftp.listen", `nobody can ask for files; write "listen: udp://ADDRESS:69" beside it, or remove this`)
	case len(t.Listen) > 0 && !served:
		d.fail(d.at("tftp.listen"), "tftp.upstream", `it is not said where the files are; write "upstream: ADDRESS" of a TFTP server, or "serve: FOLDER"`)
	case t.Upstream.IsValid() && t.Serve != "":
		d.fail(d.at("tftp.serve"), "tftp.serve", "there is tftp.upstream, too; remove one of them")
	case slices.ContainsFunc(t.Listen, func(l Listener) bool { return l.Addr == t.Upstream }):
		d.fail(d.at("tftp.upstream"), "tftp.upstream", "%s is sipward's own address (tftp.listen), so requests would go in circles; move the server to another port or address", t.Upstream)
	}
	d.checkTFTPListeners(c)
}

// checkTFTPListeners finds those that cannot be bound.
func (d *decoder) checkTFTPListeners(c *Config) {
	n := d.values["tftp.listen"]
	for i, l := range c.TFTP.Listen {
		b := bound{l, itemKey("tftp.listen", i), n.itemAt(i)}
		if slices.Contains(c.TFTP.Listen[:i], l) {
			d.fail(b.at, b.key, "%s is listed twice; remove one of them", l)
		}
		if c.Mode != ModeProxy || !d.clean("listen.outside", "listen.inside") {
			continue
		}
		for _, s := range slices.Concat(c.Listen.Outside, c.Listen.Inside) {
			if s == l {
				d.fail(b.at, b.key, "%s is where SIP is listened for; use another port", l)
			}
		}
	}
}
