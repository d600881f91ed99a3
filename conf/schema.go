package conf

import (
	"io/fs"
	"log/slog"
	"net/netip"
	"time"
)

// key is one key of the configuration.
type key struct {
	name string // dotted path
	typ  string // as documented
	def  string // the default as it is written in YAML; empty: there is none
	// restart says that a changed value is used only after a restart.
	restart bool
	shape   shape
	parts   []part
	read    func(*decoder, *Config, *node)
	value   func(*Config) any
}

// variable returns the name of the environment variable of the key.
func (k key) variable() string { return variablePrefix + variableName(k.name) }

type applies bool

const (
	onReload  applies = false
	onRestart applies = true
)

// bind makes a key of a field of Config.
func bind[T any](name, def string, when applies, k kind[T], field func(*Config) *T) key {
	return key{
		name: name, typ: k.name, def: def, restart: bool(when), shape: k.shape, parts: k.parts,
		read:  func(d *decoder, c *Config, n *node) { *field(c) = k.read(d, name, n) },
		value: func(c *Config) any { return *field(c) },
	}
}

const defaultOutside = `["udp://0.0.0.0:5060", "tcp://0.0.0.0:5060", "udp://[::]:5060", "tcp://[::]:5060"]`

// schema lists every key in the order of the reference file. A key is read
// after those above it.
func schema() []key {
	var keys []key
	for _, part := range [][]key{pathKeys(), guardKeys(), transportKeys(), serviceKeys()} {
		keys = append(keys, part...)
	}
	return keys
}

// pathKeys say where messages come from and where they go.
func pathKeys() []key {
	mode := oneOf([]string{"transparent"}, choice[Mode]{"proxy", ModeProxy})
	probe := oneOf(nil, choice[Probe]{"options", ProbeOptions}, choice[Probe]{"tcp", ProbeTCP}, choice[Probe]{"off", ProbeOff})
	listeners := listOf("list of udp://ADDRESS:PORT and tcp://ADDRESS:PORT", listener())
	advertise := bind("listen.advertise", "{}", onRestart, advertiseKind(), func(c *Config) *map[Listener]Advertised { return &c.Listen.Advertise })
	advertise.read = func(d *decoder, c *Config, n *node) {
		c.Listen.Advertise = readAdvertise(d, advertise.name, n, c.Listen.Outside)
	}
	count := wholeNumber(1, 100)
	return []key{
		bind("mode", "proxy", onRestart, mode, func(c *Config) *Mode { return &c.Mode }),
		bind("listen.outside", defaultOutside, onRestart, listeners, func(c *Config) *[]Listener { return &c.Listen.Outside }),
		bind("listen.inside", "[]", onRestart, listeners, func(c *Config) *[]Listener { return &c.Listen.Inside }),
		advertise,
		bind("pbx", "", onReload, listOf("list of sections", pbxItem()), func(c *Config) *[]PBX { return &c.PBX }),
		bind("health.probe", "options", onReload, probe, func(c *Config) *Probe { return &c.Health.Probe }),
		bind("health.interval", "5s", onReload, duration(100*time.Millisecond, time.Hour), func(c *Config) *time.Duration { return &c.Health.Interval }),
		bind("health.timeout", "2s", onReload, duration(50*time.Millisecond, time.Minute), func(c *Config) *time.Duration { return &c.Health.Timeout }),
		bind("health.fall", "2", onReload, count, func(c *Config) *int { return &c.Health.Fall }),
		bind("health.rise", "1", onReload, count, func(c *Config) *int { return &c.Health.Rise }),
		bind("path", "false", onReload, trueOrFalse(), func(c *Config) *bool { return &c.Path }),
	}
}

// guardKeys say who is let in.
func guardKeys() []key {
	prefixes := listOf("list of addresses and prefixes", prefix())
	files := listOf("list of files", path("file"))
	// What the design gives the guards and this version does not have yet.
	later := []string{"ban", "reject", "notify"}
	drop := choice[Action]{"drop", ActionDrop}
	watch := choice[Action]{"watch", ActionWatch}
	return []key{
		bind("trunks", "[]", onReload, prefixes, func(c *Config) *[]netip.Prefix { return &c.Trunks }),
		bind("lists.allow", "[]", onReload, prefixes, func(c *Config) *[]netip.Prefix { return &c.Lists.Allow }),
		bind("lists.deny", "[]", onReload, prefixes, func(c *Config) *[]netip.Prefix { return &c.Lists.Deny }),
		bind("lists.allow_files", "[]", onReload, files, func(c *Config) *[]string { return &c.Lists.AllowFiles }),
		bind("lists.deny_files", "[]", onReload, files, func(c *Config) *[]string { return &c.Lists.DenyFiles }),
		bind("flood.rate", "100", onReload, wholeNumber(1, 1_000_000), func(c *Config) *int { return &c.Flood.Rate }),
		bind("flood.burst", "400", onReload, wholeNumber(1, 10_000_000), func(c *Config) *int { return &c.Flood.Burst }),
		bind("flood.action", "drop", onReload, oneOf(append(later, "watch"), drop), func(c *Config) *Action { return &c.Flood.Action }),
		bind("malformed.count", "20", onReload, wholeNumber(1, 1_000_000), func(c *Config) *int { return &c.Malformed.Count }),
		bind("malformed.period", "60s", onReload, duration(time.Second, 24*time.Hour), func(c *Config) *time.Duration { return &c.Malformed.Period }),
		bind("malformed.action", "drop", onReload, oneOf(later, drop, watch), func(c *Config) *Action { return &c.Malformed.Action }),
		bind("ipv6_source_prefix", "64", onRestart, wholeNumber(32, 128), func(c *Config) *int { return &c.IPv6SourcePrefix }),
	}
}

// transportKeys bound what the sockets may cost.
func transportKeys() []key {
	short := duration(100*time.Millisecond, 5*time.Minute)
	return []key{
		bind("tcp.max_connections", "10000", onRestart, wholeNumber(1, 1_000_000), func(c *Config) *int { return &c.TCP.MaxConnections }),
		bind("tcp.max_per_source", "100", onRestart, wholeNumber(1, 1_000_000), func(c *Config) *int { return &c.TCP.MaxPerSource }),
		bind("tcp.max_header", "16KiB", onRestart, size(1<<10, 1<<20), func(c *Config) *int { return &c.TCP.MaxHeader }),
		bind("tcp.max_message", "64KiB", onRestart, size(1<<10, 16<<20), func(c *Config) *int { return &c.TCP.MaxMessage }),
		bind("tcp.message_timeout", "10s", onRestart, short, func(c *Config) *time.Duration { return &c.TCP.MessageTimeout }),
		bind("tcp.idle_timeout", "65m", onRestart, duration(time.Second, 24*time.Hour), func(c *Config) *time.Duration { return &c.TCP.IdleTimeout }),
		bind("tcp.write_timeout", "5s", onRestart, short, func(c *Config) *time.Duration { return &c.TCP.WriteTimeout }),
		bind("tcp.dial_timeout", "3s", onRestart, short, func(c *Config) *time.Duration { return &c.TCP.DialTimeout }),
		bind("udp.workers", "0", onRestart, wholeNumber(0, 256), func(c *Config) *int { return &c.UDP.Workers }),
		bind("udp.batch", "64", onRestart, wholeNumber(1, 1024), func(c *Config) *int { return &c.UDP.Batch }),
		bind("udp.receive_buffer", "4MiB", onRestart, size(64<<10, 1<<30), func(c *Config) *int { return &c.UDP.ReceiveBuffer }),
	}
}

// serviceKeys are about sipward itself.
func serviceKeys() []key {
	level := oneOf(nil, choice[slog.Level]{"debug", slog.LevelDebug}, choice[slog.Level]{"info", slog.LevelInfo},
		choice[slog.Level]{"warn", slog.LevelWarn}, choice[slog.Level]{"error", slog.LevelError})
	format := oneOf(nil, choice[LogFormat]{"text", LogText}, choice[LogFormat]{"json", LogJSON})
	nameservers := listOf("list of ADDRESS:PORT", nameserver())
	return []key{
		bind("resolver.nameservers", "[]", onRestart, nameservers, func(c *Config) *[]netip.AddrPort { return &c.Resolver.Nameservers }),
		bind("resolver.timeout", "2s", onRestart, duration(100*time.Millisecond, 30*time.Second), func(c *Config) *time.Duration { return &c.Resolver.Timeout }),
		bind("resolver.cache_entries", "4096", onRestart, wholeNumber(1, 1_000_000), func(c *Config) *int { return &c.Resolver.CacheEntries }),
		bind("state_dir", "/var/lib/sipward", onRestart, path("folder"), func(c *Config) *string { return &c.StateDir }),
		bind("token_key_file", "", onRestart, path("file"), func(c *Config) *string { return &c.TokenKeyFile }),
		bind("control.socket", "/run/sipward/sipward.sock", onRestart, path("file"), func(c *Config) *string { return &c.Control.Socket }),
		bind("control.mode", "0660", onRestart, fileMode(), func(c *Config) *fs.FileMode { return &c.Control.Mode }),
		bind("control.group", `""`, onRestart, group(), func(c *Config) *string { return &c.Control.Group }),
		bind("log.level", "info", onReload, level, func(c *Config) *slog.Level { return &c.Log.Level }),
		bind("log.format", "text", onRestart, format, func(c *Config) *LogFormat { return &c.Log.Format }),
		bind("shutdown.drain", "5s", onReload, duration(0, 5*time.Minute), func(c *Config) *time.Duration { return &c.Shutdown.Drain }),
	}
}
