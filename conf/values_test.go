package conf_test

import (
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"sipward/conf"
)

func mustParse(t *testing.T, text string, environ ...string) *conf.Config {
	t.Helper()
	if !strings.Contains(text, "pbx:") {
		text += minimal
	}
	c, err := conf.Parse("/etc/sipward/sipward.yaml", []byte(text), environ)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return c
}

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, s := range texts {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

func listener(t conf.Transport, addr string) conf.Listener {
	return conf.Listener{Transport: t, Addr: netip.MustParseAddrPort(addr)}
}

// TestValues reads the ways in which values may be written.
func TestValues(t *testing.T) {
	udp, tcp, tls := conf.TransportUDP, conf.TransportTCP, conf.TransportTLS
	for _, c := range []struct {
		text string
		get  func(*conf.Config) any
		want any
	}{
		{"listen: {outside: [udp://198.51.100.1, tcp://198.51.100.1:5080]}\n", func(c *conf.Config) any { return c.Listen.Outside },
			[]conf.Listener{listener(udp, "198.51.100.1:5060"), listener(tcp, "198.51.100.1:5080")}},
		{"listen:\n  outside:\n  - udp://[::]\n  - udp://0.0.0.0:5060\n", func(c *conf.Config) any { return c.Listen.Outside },
			[]conf.Listener{listener(udp, "[::]:5060"), listener(udp, "0.0.0.0:5060")}},
		{"listen: {outside: ['udp://[::ffff:198.51.100.1]:5060']}\n", func(c *conf.Config) any { return c.Listen.Outside },
			[]conf.Listener{listener(udp, "198.51.100.1:5060")}},
		{"pbx: [{address: 203.0.113.2:5070, weight: 3}, 203.0.113.3, 203.0.113.4;weight=0]\n", func(c *conf.Config) any { return c.PBX },
			[]conf.PBX{plainPBX("203.0.113.2:5070", 3), plainPBX("203.0.113.3:5060", 1), plainPBX("203.0.113.4:5060", 0)}},
		{"pbx:\n- address: 2001:db8::2\n- address: \"[2001:db8::3]\"\n- address: \"[2001:db8::4]:5070\"\n", func(c *conf.Config) any { return c.PBX },
			[]conf.PBX{plainPBX("[2001:db8::2]:5060", 1), plainPBX("[2001:db8::3]:5060", 1), plainPBX("[2001:db8::4]:5070", 1)}},
		{"pbx: [203.0.113.2;transports=udp+tls;tls.port=5071;tls.name=PBX.Example.com;weight=2]\ntls: {certificates: [{certificate: a.pem, key: k/a.key}, /b.pem;key=/b.key]}\nlisten: {outside: [udp://198.51.100.1, tls://198.51.100.1, 'tls://[2001:db8::1]:5062']}\n",
			func(c *conf.Config) any { return []any{c.PBX, c.TLS.Certificates, c.Listen.Outside} }, []any{
				[]conf.PBX{{
					Address: netip.MustParseAddrPort("203.0.113.2:5060"), Weight: 2, Transports: []conf.Transport{udp, tls},
					TLS: conf.PBXTLS{Port: 5071, Name: "pbx.example.com"},
				}},
				[]conf.Certificate{{"/etc/sipward/a.pem", "/etc/sipward/k/a.key"}, {"/b.pem", "/b.key"}},
				[]conf.Listener{listener(udp, "198.51.100.1:5060"), listener(tls, "198.51.100.1:5061"), listener(tls, "[2001:db8::1]:5062")},
			}},
		{"pbx: [{address: 203.0.113.2, transports: [tls], tls: {pins: ['sha256:" + strings.Repeat("AB:", 31) + "CD', sha256:" + strings.Repeat("01", 32) + "]}}]\nlisten: {outside: [tls://198.51.100.1]}\ntls: {acme: {domains: [SIP.example.com], agree: true, challenge: tls-alpn-01}, min_version: 1.3}\n",
			func(c *conf.Config) any {
				return []any{c.PBX[0].TLS.Pins[0].String(), c.PBX[0].TLS.Pins[1][31], c.TLS.ACME.Domains, c.TLS.ACME.Challenge, c.TLS.MinVersion}
			}, []any{"sha256:" + strings.Repeat("ab", 31) + "cd", byte(1), []string{"sip.example.com"}, conf.ChallengeTLS, conf.TLS13}},
		{"trunks: [192.0.2.1, 192.0.2.0/28, 2001:db8::/32, '::ffff:192.0.2.128/121', ::ffff:198.51.100.7]\n", func(c *conf.Config) any { return c.Trunks },
			prefixes("192.0.2.1/32", "192.0.2.0/28", "2001:db8::/32", "192.0.2.128/25", "198.51.100.7/32")},
		{"lists: {deny: [0.0.0.0/0, '::/0']}\n", func(c *conf.Config) any { return c.Lists.Deny }, prefixes("0.0.0.0/0", "::/0")},
		{"lists: {deny_files: [deny.txt, ../lists/x.txt, /srv/deny.txt]}\n", func(c *conf.Config) any { return c.Lists.DenyFiles },
			[]string{"/etc/sipward/deny.txt", "/etc/lists/x.txt", "/srv/deny.txt"}},
		{"lists:\n  allow:\n    # - 192.0.2.1\n  deny: [192.0.2.9]\n", func(c *conf.Config) any { return len(c.Lists.Allow) + 10*len(c.Lists.Deny) }, 10},
		{"lists: &l\nlog: {level: debug}\n", func(c *conf.Config) any { return c.Log.Level }, slog.LevelDebug},
		{"health: {interval: 1m30s, timeout: 1.5s}\n", func(c *conf.Config) any { return [2]time.Duration{c.Health.Interval, c.Health.Timeout} },
			[2]time.Duration{90 * time.Second, 1500 * time.Millisecond}},
		{"tcp: {idle_timeout: 1d}\n", func(c *conf.Config) any { return c.TCP.IdleTimeout }, 24 * time.Hour},
		{"shutdown: {drain: 0}\n", func(c *conf.Config) any { return c.Shutdown.Drain }, time.Duration(0)},
		{"tcp: {max_header: 2048, max_message: 1MiB}\n", func(c *conf.Config) any { return [2]int{c.TCP.MaxHeader, c.TCP.MaxMessage} }, [2]int{2048, 1 << 20}},
		{"udp: {receive_buffer: 65536B}\n", func(c *conf.Config) any { return c.UDP.ReceiveBuffer }, 65536},
		{"control: {mode: 0600}\n", func(c *conf.Config) any { return c.Control.Mode }, fs.FileMode(0o600)},
		{"control: {mode: 0o660}\n", func(c *conf.Config) any { return c.Control.Mode }, fs.FileMode(0o660)},
		{"control: {mode: \"770\", group: voip}\n", func(c *conf.Config) any { return c.Control.Mode }, fs.FileMode(0o770)},
		{"flood: {rate: \"5\"}\n", func(c *conf.Config) any { return c.Flood.Rate }, 5},
		{"path: true\n", func(c *conf.Config) any { return c.Path }, true},
		{"health: {probe: off}\n", func(c *conf.Config) any { return c.Health.Probe }, conf.ProbeOff},
		{"malformed: {action: watch}\n", func(c *conf.Config) any { return c.Malformed.Action }, conf.Action{Kind: conf.ActionWatch}},
		{"malformed: {action: reject 488}\n", func(c *conf.Config) any { return c.Malformed.Action }, conf.Action{Kind: conf.ActionReject, Code: 488}},
		{"register: {action: off, block_threshold: 0}\n", func(c *conf.Config) any { return c.Register }, conf.Register{HitCount: 10, MonitPeriod: time.Minute, BlockTime: time.Hour}},
		{"register: {block_time: 30d}\n", func(c *conf.Config) any { return c.Scanner.BlockTime }, 30 * 24 * time.Hour},
		{"register: {block_time: 2h}\nscanner: {block_time: 3h}\n", func(c *conf.Config) any { return c.Scanner.BlockTime }, 3 * time.Hour},
		{"invite: {action: 'reject  486'}\n", func(c *conf.Config) any { return c.Invite.Action }, conf.Action{Kind: conf.ActionReject, Code: 486}},
		{"honey: {accounts: [0011, admin@example.com, test@2001:db8::1], numbers: [+44900, '*21']}\n", func(c *conf.Config) any { return c.Honey },
			conf.Honey{Accounts: []string{"0011", "admin@example.com", "test@2001:db8::1"}, Numbers: []string{"+44900", "*21"}, Action: conf.Action{Kind: conf.ActionBan}}},
		{"scanner: {signatures: [own.yaml], disable: [sipvicious-tag]}\n", func(c *conf.Config) any { return append(c.Scanner.Signatures, c.Scanner.Disable...) },
			[]string{"/etc/sipward/own.yaml", "sipvicious-tag"}},
		{"breaker: {good_share: 25%, bans_per_minute: 0}\n", func(c *conf.Config) any { return c.Breaker }, conf.Breaker{GoodShare: 25}},
		{"overload: {strangers: 5000}\nuniform_answers: false\n", func(c *conf.Config) any { return c.Overload.Strangers }, 5000},
		{"overload: {kernel_strangers: auto}\n", func(c *conf.Config) any { return c.Overload.KernelStrangers }, conf.KernelLimitAuto},
		{"overload: {kernel_strangers: 5000}\n", func(c *conf.Config) any { return c.Overload.KernelStrangers }, conf.KernelLimit(5000)},
		{"kernel: {backend: nftables, scope: all, manage_rule: false, max_entries: 2000, interval: 5s, on_exit: remove, name: edge2}\n", func(c *conf.Config) any { return c.Kernel },
			conf.Kernel{Backend: conf.KernelNFTables, Scope: conf.KernelAll, MaxEntries: 2000, Interval: 5 * time.Second, OnExit: conf.KernelRemove, Name: "edge2"}},
		{"resolver: {nameservers: [127.0.0.1, '[::1]:5353', 2001:db8::35]}\n", func(c *conf.Config) any { return fmt.Sprint(c.Resolver.Nameservers) },
			"[127.0.0.1:53 [::1]:5353 [2001:db8::35]:53]"},
		{"state_dir: state\n", func(c *conf.Config) any { return c.TokenKeyFile }, "/etc/sipward/state/token.key"},
		{"token_key_file: /run/credentials/token\n", func(c *conf.Config) any { return c.TokenKeyFile }, "/run/credentials/token"},
		{"\ufeffpath: true\n", func(c *conf.Config) any { return c.Path }, true},
		{"flood:\r\n  rate: 7\r\n", func(c *conf.Config) any { return c.Flood.Rate }, 7},
		{"lists: {deny: [::1, 2001:db8::1, '2001:db8::2', fe80::/10, ::/0, 192.0.2.1]}\n", func(c *conf.Config) any { return c.Lists.Deny },
			prefixes("::1/128", "2001:db8::1/128", "2001:db8::2/128", "fe80::/10", "::/0", "192.0.2.1/32")},
		{"lists: {deny: [2001:db8::1], allow: [\n 2001:db8:0::/48\n ,2001:db8:1::/48]}\n", func(c *conf.Config) any { return c.Lists.Allow },
			prefixes("2001:db8::/48", "2001:db8:1::/48")},
		{"---\nflood: {rate: 7}\n", func(c *conf.Config) any { return c.Flood.Rate }, 7},
		{"trunks: &t [192.0.2.1]\nlists: {allow: *t}\n", func(c *conf.Config) any { return c.Lists.Allow }, prefixes("192.0.2.1/32")},
		{"flood: &f {rate: 7, burst: 8}\nmalformed: {count: 3}\n", func(c *conf.Config) any { return c.Flood.Burst }, 8},
		{"health: {<<: {fall: 3, rise: 4}, rise: 5}\n", func(c *conf.Config) any { return [2]int{c.Health.Fall, c.Health.Rise} }, [2]int{3, 5}},
	} {
		if got := c.get(mustParse(t, c.text)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q gives %v, want %v", c.text, got, c.want)
		}
	}
}

func TestAdvertise(t *testing.T) {
	text := `listen:
  outside: [udp://10.0.0.5, tcp://10.0.0.5, udp://10.0.0.6, "udp://[2001:db8::1]:5060"]
  advertise:
    10.0.0.5: sip.example.com
    udp://10.0.0.6:5060: 198.51.100.6:5070
    "[2001:db8::1]": 2001:db8:1::1
`
	got := mustParse(t, text).Listen.Advertise
	want := map[conf.Listener]string{
		listener(conf.TransportUDP, "10.0.0.5:5060"):      "sip.example.com",
		listener(conf.TransportTCP, "10.0.0.5:5060"):      "sip.example.com",
		listener(conf.TransportUDP, "10.0.0.6:5060"):      "198.51.100.6:5070",
		listener(conf.TransportUDP, "[2001:db8::1]:5060"): "[2001:db8:1::1]",
	}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	for l, text := range want {
		if got[l].String() != text {
			t.Errorf("%s is advertised as %s, want %s", l, got[l], text)
		}
	}
}

// TestEnvironment sets values of each shape, over those of the file.
func TestEnvironment(t *testing.T) {
	c := mustParse(t, "flood: {rate: 5, burst: 6}\ntrunks: [192.0.2.1]\nlog: {level: warn}\n",
		"SIPWARD_FLOOD__RATE=7",
		"SIPWARD_TRUNKS=192.0.2.0/28, 2001:db8::/32",
		"SIPWARD_LISTS__ALLOW=",
		"SIPWARD_LISTEN__OUTSIDE=udp://10.0.0.5,udp://[2001:db8::1]:5060",
		"SIPWARD_LISTEN__ADVERTISE=10.0.0.5=198.51.100.1,udp://[2001:db8::1]:5060=2001:db8::9",
		"SIPWARD_PBX=203.0.113.9;weight=2,[2001:db8::2]:5070",
		"SIPWARD_TOKEN_KEY_FILE=keys/token",
		"SIPWARD_INVITE__ACTION=reject 486",
		"SIPWARD_HONEY__ACCOUNTS=admin, test",
		"SIPWARD_SERVICE_HOST=10.1.2.3",
		"SIPWARD_SERVICE_PORT_SIP=5060",
		"SIPWARD_PORT=udp://10.1.2.3:5060",
		"SIPWARD_PORT_5060_UDP_ADDR=10.1.2.3",
		"PATH=/bin",
	)
	for _, got := range []struct{ got, want any }{
		{c.Flood.Rate, 7},
		{c.Flood.Burst, 6},
		{c.Trunks, prefixes("192.0.2.0/28", "2001:db8::/32")},
		{c.Listen.Outside, []conf.Listener{listener(conf.TransportUDP, "10.0.0.5:5060"), listener(conf.TransportUDP, "[2001:db8::1]:5060")}},
		{c.Listen.OutsideIsDefault, false},
		{len(c.Listen.Advertise), 2},
		{c.PBX, []conf.PBX{plainPBX("203.0.113.9:5060", 2), plainPBX("[2001:db8::2]:5070", 1)}},
		{c.TokenKeyFile, "/etc/sipward/keys/token"},
		{c.Log.Level, slog.LevelWarn},
		{c.Invite.Action, conf.Action{Kind: conf.ActionReject, Code: 486}},
		{c.Honey.Accounts, []string{"admin", "test"}},
	} {
		if !reflect.DeepEqual(got.got, got.want) {
			t.Errorf("got %v, want %v", got.got, got.want)
		}
	}
}

func TestInsideOrOutside(t *testing.T) {
	c := mustParse(t, "listen: {outside: [udp://198.51.100.1]}\n")
	if got := c.InsideOrOutside(); !reflect.DeepEqual(got, c.Listen.Outside) {
		t.Errorf("without inside it is %v", got)
	}
	c = mustParse(t, "listen: {outside: [udp://198.51.100.1], inside: [udp://203.0.113.1]}\n")
	if got := c.InsideOrOutside(); !reflect.DeepEqual(got, c.Listen.Inside) {
		t.Errorf("with inside it is %v", got)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sipward.yaml")
	if _, err := conf.Load(file, nil); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a missing file gives %v", err)
	}
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(minimal + "state_dir: state\n")
	c, err := conf.Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.StateDir != filepath.Join(dir, "state") {
		t.Errorf("state_dir is %s", c.StateDir)
	}
	write(strings.Repeat("#", 1<<20) + "\n")
	if _, err := conf.Load(file, nil); err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Errorf("a large file gives %v", err)
	}
}
