package conf

import (
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
	for _, part := range [][]key{
		pathKeys(), transparentKeys(), listKeys(), answerKeys(), requestKeys(), loadKeys(), kernelKeys(), transportKeys(), tlsKeys(), webKeys(),
		tftpKeys(), dnsKeys(), reportKeys(), notifyKeys(),
		serviceKeys(), controlKeys(),
		logKeys(),
	} {
		keys = append(keys, part...)
	}
	return keys
}

// pathKeys say where messages come from and where they go.
func pathKeys() []key {
	mode := oneOf(nil, choice[Mode]{"proxy", ModeProxy}, choice[Mode]{"transparent", ModeTransparent})
	probe := oneOf(nil, choice[Probe]{"options", ProbeOptions}, choice[Probe]{"tcp", ProbeTCP}, choice[Probe]{"off", ProbeOff})
	advertise := bind("listen.advertise", "{}", onRestart, advertiseKind(), func(c *Config) *map[Listener]Advertised { return &c.Listen.Advertise })
	advertise.read = func(d *decoder, c *Config, n *node) {
		c.Listen.Advertise = readAdvertise(d, advertise.name, n, c.Listen.Outside)
	}
	count := wholeNumber(1, 100)
	return []key{
		bind("mode", "proxy", onRestart, mode, func(c *Config) *Mode { return &c.Mode }),
		bind("listen.outside", defaultOutside, onRestart, listeners(outsideTransports), func(c *Config) *[]Listener { return &c.Listen.Outside }),
		bind("listen.inside", "[]", onRestart, listeners(insideTransports), func(c *Config) *[]Listener { return &c.Listen.Inside }),
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

// transparentKeys are about transparent mode.
func transparentKeys() []key {
	placement := oneOf(nil, choice[Placement]{"router", PlacementRouter}, choice[Placement]{"host", PlacementHost})
	fail := oneOf(nil, choice[Fail]{"open", FailOpen}, choice[Fail]{"closed", FailClosed})
	interfaces := listOf("list of interfaces", word("name of an interface", interfaceRule))
	ports := listOf("list of TCP ports", wholeNumber(1, 65535))
	return []key{
		bind("placement", "router", onRestart, placement, func(c *Config) *Placement { return &c.Placement }),
		bind("transparent.inside", "[]", onRestart, interfaces, func(c *Config) *[]string { return &c.Transparent.Inside }),
		bind("transparent.outside", "[]", onRestart, interfaces, func(c *Config) *[]string { return &c.Transparent.Outside }),
		bind("transparent.carrier_ports", "[5060]", onRestart, ports, func(c *Config) *[]int { return &c.Transparent.CarrierPorts }),
		bind("transparent.fail", "open", onRestart, fail, func(c *Config) *Fail { return &c.Transparent.Fail }),
		bind("transparent.manage_rules", "true", onRestart, trueOrFalse(), func(c *Config) *bool { return &c.Transparent.ManageRules }),
		bind("transparent.port", "15060", onRestart, wholeNumber(1, 65534), func(c *Config) *int { return &c.Transparent.Port }),
		bind("transparent.mark", "0x5150", onRestart, mark(), func(c *Config) *uint32 { return &c.Transparent.Mark }),
		bind("transparent.own_mark", "0x5151", onRestart, mark(), func(c *Config) *uint32 { return &c.Transparent.OwnMark }),
		bind("transparent.table", "5150", onRestart, wholeNumber(1, 1<<31-1), func(c *Config) *int { return &c.Transparent.Table }),
	}
}

// listKeys say who is known.
func listKeys() []key {
	prefixes := listOf("list of addresses and prefixes", prefix())
	files := listOf("list of files", path("file"))
	return []key{
		bind("trunks", "[]", onReload, prefixes, func(c *Config) *[]netip.Prefix { return &c.Trunks }),
		bind("lists.allow", "[]", onReload, prefixes, func(c *Config) *[]netip.Prefix { return &c.Lists.Allow }),
		bind("lists.deny", "[]", onReload, prefixes, func(c *Config) *[]netip.Prefix { return &c.Lists.Deny }),
		bind("lists.allow_files", "[]", onReload, files, func(c *Config) *[]string { return &c.Lists.AllowFiles }),
		bind("lists.deny_files", "[]", onReload, files, func(c *Config) *[]string { return &c.Lists.DenyFiles }),
		bind("ipv6_source_prefix", "64", onRestart, wholeNumber(32, 128), func(c *Config) *int { return &c.IPv6SourcePrefix }),
	}
}

// answerKeys are about the guards that judge by what the PBX answers.
func answerKeys() []key {
	all := action(nil, ActionBan, ActionDrop, ActionReject, ActionNotify, ActionWatch)
	period := duration(time.Second, 24*time.Hour)
	blockTime := duration(time.Second, MaxBlockTime)
	return []key{
		bind("register.hit_count", "10", onReload, wholeNumber(1, 10_000), func(c *Config) *int { return &c.Register.HitCount }),
		bind("register.monit_period", "60s", onReload, period, func(c *Config) *time.Duration { return &c.Register.MonitPeriod }),
		bind("register.block_time", "1h", onReload, blockTime, func(c *Config) *time.Duration { return &c.Register.BlockTime }),
		bind("register.block_threshold", "5", onReload, wholeNumber(0, 1000), func(c *Config) *int { return &c.Register.BlockThreshold }),
		bind("register.action", "ban", onReload, all, func(c *Config) *Action { return &c.Register.Action }),
		bind("enumeration.accounts", "15", onReload, wholeNumber(2, 100_000), func(c *Config) *int { return &c.Enumeration.Accounts }),
		bind("enumeration.period", "60s", onReload, period, func(c *Config) *time.Duration { return &c.Enumeration.Period }),
		bind("enumeration.action", "ban", onReload, all, func(c *Config) *Action { return &c.Enumeration.Action }),
		bind("distinct_sources.count", "20", onReload, wholeNumber(1, 100_000), func(c *Config) *int { return &c.DistinctSources.Count }),
		bind("distinct_sources.window", "10m", onReload, period, func(c *Config) *time.Duration { return &c.DistinctSources.Window }),
		bind("distinct_sources.action", "known-places", onReload, action(nil, ActionKnownPlaces), func(c *Config) *Action { return &c.DistinctSources.Action }),
		bind("unproven_block_time", "5m", onReload, duration(time.Second, 24*time.Hour), func(c *Config) *time.Duration { return &c.UnprovenBlockTime }),
		bind("uniform_answers", "true", onReload, trueOrFalse(), func(c *Config) *bool { return &c.UniformAnswers }),
		bind("digest_leak_shield", "true", onReload, trueOrFalse(), func(c *Config) *bool { return &c.DigestLeakShield }),
	}
}

// requestKeys are about the guards that judge by the request alone.
func requestKeys() []key {
	all := action(nil, ActionBan, ActionDrop, ActionReject, ActionNotify, ActionWatch)
	neverBan := action(reasons{ActionBan: "the guard never bans by itself, because many calls at once are no proof of bad intent"},
		ActionDrop, ActionReject, ActionNotify, ActionWatch)
	silent := action(reasons{ActionReject: "who attacks gets no answer, because each one tells him that there is something to attack"},
		ActionBan, ActionDrop, ActionNotify, ActionWatch)
	blockTime := duration(time.Second, MaxBlockTime)
	ids := listOf("list of ids", word("id of a signature", signatureRule))
	users := listOf("list of user names, with or without @domain", word("user name", userRule))
	return []key{
		bind("invite.rate_limit", "30", onReload, wholeNumber(1, 100_000), func(c *Config) *int { return &c.Invite.RateLimit }),
		bind("invite.action", "reject 503", onReload, neverBan, func(c *Config) *Action { return &c.Invite.Action }),
		bind("scanner.action", "ban", onReload, silent, func(c *Config) *Action { return &c.Scanner.Action }),
		bind("scanner.block_time", "", onReload, blockTime, func(c *Config) *time.Duration { return &c.Scanner.BlockTime }),
		bind("scanner.signatures", "[]", onReload, listOf("list of files", path("file")), func(c *Config) *[]string { return &c.Scanner.Signatures }),
		bind("scanner.disable", "[]", onReload, ids, func(c *Config) *[]string { return &c.Scanner.Disable }),
		bind("honey.accounts", "[]", onReload, users, func(c *Config) *[]string { return &c.Honey.Accounts }),
		bind("honey.numbers", "[]", onReload, listOf("list of numbers", word("number", numberRule)), func(c *Config) *[]string { return &c.Honey.Numbers }),
		bind("honey.action", "ban", onReload, silent, func(c *Config) *Action { return &c.Honey.Action }),
		bind("malformed.count", "20", onReload, wholeNumber(1, 1_000_000), func(c *Config) *int { return &c.Malformed.Count }),
		bind("malformed.period", "60s", onReload, duration(time.Second, 24*time.Hour), func(c *Config) *time.Duration { return &c.Malformed.Period }),
		bind("malformed.action", "drop", onReload, all, func(c *Config) *Action { return &c.Malformed.Action }),
	}
}

// loadKeys are about how much there may be of everything.
func loadKeys() []key {
	unread := action(reasons{ActionReject: "what is over the limit is not read, so it cannot be answered"},
		ActionBan, ActionDrop, ActionNotify, ActionWatch)
	return []key{
		bind("flood.rate", "100", onReload, wholeNumber(1, 1_000_000), func(c *Config) *int { return &c.Flood.Rate }),
		bind("flood.burst", "400", onReload, wholeNumber(1, 10_000_000), func(c *Config) *int { return &c.Flood.Burst }),
		bind("flood.action", "drop", onReload, unread, func(c *Config) *Action { return &c.Flood.Action }),
		bind("overload.strangers", "2000", onReload, wholeNumber(0, 10_000_000), func(c *Config) *int { return &c.Overload.Strangers }),
		bind("overload.kernel_strangers", "0", onReload, kernelLimit(), func(c *Config) *KernelLimit { return &c.Overload.KernelStrangers }),
		bind("breaker.bans_per_minute", "300", onReload, wholeNumber(0, 1_000_000), func(c *Config) *int { return &c.Breaker.BansPerMinute }),
		bind("breaker.good_share", "10%", onReload, percent(), func(c *Config) *Percent { return &c.Breaker.GoodShare }),
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
	nameservers := listOf("list of ADDRESS:PORT", nameserver())
	return []key{
		bind("resolver.nameservers", "[]", onRestart, nameservers, func(c *Config) *[]netip.AddrPort { return &c.Resolver.Nameservers }),
		bind("resolver.timeout", "2s", onRestart, duration(100*time.Millisecond, 30*time.Second), func(c *Config) *time.Duration { return &c.Resolver.Timeout }),
		bind("resolver.cache_entries", "4096", onRestart, wholeNumber(1, 1_000_000), func(c *Config) *int { return &c.Resolver.CacheEntries }),
		bind("state_dir", "/var/lib/sipward", onRestart, path("folder"), func(c *Config) *string { return &c.StateDir }),
		bind("token_key_file", "", onRestart, path("file"), func(c *Config) *string { return &c.TokenKeyFile }),
	}
}

// logKeys are about what sipward tells, and how it ends.
func logKeys() []key {
	level := oneOf(nil, choice[slog.Level]{"debug", slog.LevelDebug}, choice[slog.Level]{"info", slog.LevelInfo},
		choice[slog.Level]{"warn", slog.LevelWarn}, choice[slog.Level]{"error", slog.LevelError})
	format := oneOf(nil, choice[LogFormat]{"text", LogText}, choice[LogFormat]{"json", LogJSON})
	return []key{
		bind("log.level", "info", onReload, level, func(c *Config) *slog.Level { return &c.Log.Level }),
		bind("log.format", "text", onRestart, format, func(c *Config) *LogFormat { return &c.Log.Format }),
		bind("shutdown.drain", "5s", onReload, duration(0, 5*time.Minute), func(c *Config) *time.Duration { return &c.Shutdown.Drain }),
	}
}
