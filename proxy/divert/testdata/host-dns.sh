#!/bin/sh -e
ip -4 rule del pref 50 fwmark 0x5150 lookup 5150 2>/dev/null || true
ip -4 rule add pref 50 fwmark 0x5150 lookup 5150
ip -4 route replace local default dev lo table 5150
ip -6 rule del pref 50 fwmark 0x5150 lookup 5150 2>/dev/null || true
ip -6 rule add pref 50 fwmark 0x5150 lookup 5150
ip -6 route replace local default dev lo table 5150
nft -f - <<'END'
table inet sipward-transparent
delete table inet sipward-transparent
table inet sipward-transparent {
	set near {
		type ifname
		elements = { "lo" }
	}
	set outside {
		type ifname
		elements = { "eth0" }
	}
	set carriers {
		type inet_service
		elements = { 5060 }
	}
	set pbx4 {
		type ipv4_addr . inet_service
		elements = { 203.0.113.2 . 5060, 203.0.113.2 . 5080 }
	}
	set pbxhost4 {
		type ipv4_addr
		elements = { 203.0.113.2 }
	}
	set flows4 {
		type ipv4_addr . inet_service
		size 131072
		flags dynamic,timeout
	}
	set pbx6 {
		type ipv6_addr . inet_service
		elements = { 2001:db8:2::2 . 5060 }
	}
	set pbxhost6 {
		type ipv6_addr
		elements = { 2001:db8:2::2 }
	}
	set flows6 {
		type ipv6_addr . inet_service
		size 131072
		flags dynamic,timeout
	}
	chain to_port {
		type nat hook prerouting priority -100; policy accept;
		iifname @outside meta nfproto ipv4 meta l4proto tcp ip daddr . tcp dport @pbx4 tcp flags & (fin | syn | rst | ack) == syn dnat to :15060
		iifname @outside meta nfproto ipv6 meta l4proto tcp ip6 daddr . tcp dport @pbx6 tcp flags & (fin | syn | rst | ack) == syn dnat to :15060
	}
	chain divert {
		type filter hook prerouting priority -99; policy accept;
		iifname @outside meta nfproto ipv4 meta l4proto udp ip daddr . udp dport @pbx4 tproxy ip to 127.0.0.1:15060 meta mark set 0x00005150 accept
		iifname @near meta mark 0x00005150 meta nfproto ipv4 meta l4proto udp tproxy ip to 127.0.0.1:15061 meta mark set 0x00005150 accept
		iifname @near meta mark 0x00005150 meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:15061 meta mark set 0x00005150 accept
		iifname @outside meta nfproto ipv6 meta l4proto udp ip6 daddr . udp dport @pbx6 tproxy ip6 to [::1]:15060 meta mark set 0x00005150 accept
		iifname @near meta mark 0x00005150 meta nfproto ipv6 meta l4proto udp tproxy ip6 to [::1]:15061 meta mark set 0x00005150 accept
		iifname @near meta mark 0x00005150 meta nfproto ipv6 meta l4proto tcp tproxy ip6 to [::1]:15061 meta mark set 0x00005150 accept
	}
	chain untrack_out {
		type filter hook output priority -300; policy accept;
		meta mark 0x00005151 meta nfproto ipv4 meta l4proto udp ip daddr . udp dport @pbx4 notrack
		meta mark 0x00005151 meta nfproto ipv4 meta l4proto tcp ip daddr . tcp dport @pbx4 notrack
		meta mark 0x00005151 meta nfproto ipv4 meta l4proto tcp ip daddr @pbxhost4 tcp sport @carriers notrack
		meta mark != 0x00005151 meta nfproto ipv4 meta l4proto udp ip saddr . udp sport @pbx4 fib daddr type != local notrack
		meta mark != 0x00005151 meta nfproto ipv4 meta l4proto tcp ip saddr . tcp sport @pbx4 ip daddr . tcp dport @flows4 notrack
		meta mark != 0x00005151 meta nfproto ipv4 meta l4proto tcp ip saddr @pbxhost4 tcp dport @carriers fib daddr type != local notrack
		meta mark 0x00005151 meta nfproto ipv6 meta l4proto udp ip6 daddr . udp dport @pbx6 notrack
		meta mark 0x00005151 meta nfproto ipv6 meta l4proto tcp ip6 daddr . tcp dport @pbx6 notrack
		meta mark 0x00005151 meta nfproto ipv6 meta l4proto tcp ip6 daddr @pbxhost6 tcp sport @carriers notrack
		meta mark != 0x00005151 meta nfproto ipv6 meta l4proto udp ip6 saddr . udp sport @pbx6 fib daddr type != local notrack
		meta mark != 0x00005151 meta nfproto ipv6 meta l4proto tcp ip6 saddr . tcp sport @pbx6 ip6 daddr . tcp dport @flows6 notrack
		meta mark != 0x00005151 meta nfproto ipv6 meta l4proto tcp ip6 saddr @pbxhost6 tcp dport @carriers fib daddr type != local notrack
	}
	chain turn {
		type route hook output priority -150; policy accept;
		meta mark 0x00005151 meta nfproto ipv4 meta l4proto tcp ip daddr . tcp dport @pbx4 update @flows4 { ip saddr . tcp sport timeout 10m }
		meta mark != 0x00005151 meta nfproto ipv4 meta l4proto udp ip saddr . udp sport @pbx4 fib daddr type != local meta mark set 0x00005150
		meta mark != 0x00005151 meta nfproto ipv4 meta l4proto tcp ip saddr . tcp sport @pbx4 ip daddr . tcp dport @flows4 meta mark set 0x00005150
		meta mark != 0x00005151 meta nfproto ipv4 meta l4proto tcp ip saddr @pbxhost4 tcp dport @carriers fib daddr type != local meta mark set 0x00005150
		meta mark 0x00005151 meta nfproto ipv6 meta l4proto tcp ip6 daddr . tcp dport @pbx6 update @flows6 { ip6 saddr . tcp sport timeout 10m }
		meta mark != 0x00005151 meta nfproto ipv6 meta l4proto udp ip6 saddr . udp sport @pbx6 fib daddr type != local meta mark set 0x00005150
		meta mark != 0x00005151 meta nfproto ipv6 meta l4proto tcp ip6 saddr . tcp sport @pbx6 ip6 daddr . tcp dport @flows6 meta mark set 0x00005150
		meta mark != 0x00005151 meta nfproto ipv6 meta l4proto tcp ip6 saddr @pbxhost6 tcp dport @carriers fib daddr type != local meta mark set 0x00005150
	}
	chain dns {
		type nat hook output priority -100; policy accept;
		meta mark != 0x00005151 meta nfproto ipv4 meta l4proto udp udp dport 53 fib daddr type != local dnat ip to 127.0.0.1:5353
		meta mark != 0x00005151 meta nfproto ipv4 meta l4proto tcp tcp dport 53 fib daddr type != local dnat ip to 127.0.0.1:5353
	}
}
END
