package conf_test

import (
	"strings"
	"testing"

	"sipward/conf"
)

func TestDiff(t *testing.T) {
	old := mustParse(t, "lists: {deny: []}\n")
	changed := mustParse(t, `
listen: {outside: [udp://198.51.100.1], advertise: {198.51.100.1: sip.example.com}}
pbx: [{address: 203.0.113.2, transports: [tls, udp], tls: {name: pbx.example.com, ca: /ca.pem}}, {address: 203.0.113.3, weight: 0}]
tls: {min_version: 1.3}
health: {interval: 90s}
trunks: [192.0.2.0/24, 2001:db8::1]
register: {action: reject 403, block_time: 2h}
honey: {numbers: [900]}
breaker: {good_share: 5%}
tcp: {max_message: 128KiB, idle_timeout: 1d}
control: {mode: 0600, group: voip}
log: {level: debug}
`)
	var got []string
	for _, c := range conf.Diff(old, changed) {
		when := "reload "
		if c.Restart {
			when = "restart "
		}
		got = append(got, when+c.String())
	}
	want := []string{
		"restart listen.outside: [udp://0.0.0.0:5060, tcp://0.0.0.0:5060, udp://[::]:5060, tcp://[::]:5060] → [udp://198.51.100.1:5060]",
		"restart listen.advertise: {} → {udp://198.51.100.1:5060: sip.example.com}",
		"reload pbx: [203.0.113.2:5060 weight 1] → [203.0.113.2:5060 weight 1 transports [tls, udp] tls port 5061 name pbx.example.com ca /ca.pem, 203.0.113.3:5060 weight 0]",
		"reload health.interval: 5s → 1m30s",
		"reload trunks: [] → [192.0.2.0/24, 2001:db8::1/128]",
		"reload register.block_time: 1h → 2h",
		"reload register.action: ban → reject 403",
		"reload scanner.block_time: 1h → 2h",
		"reload honey.numbers: [] → [900]",
		"reload breaker.good_share: 10% → 5%",
		"restart tcp.max_message: 64KiB → 128KiB",
		"restart tcp.idle_timeout: 65m → 1d",
		"reload tls.min_version: 1.2 → 1.3",
		"restart control.mode: 0660 → 0600",
		`restart control.group: "" → voip`,
		"reload log.level: info → debug",
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
	if same := conf.Diff(changed, changed); len(same) != 0 {
		t.Errorf("nothing changed, and yet %v", same)
	}
}
