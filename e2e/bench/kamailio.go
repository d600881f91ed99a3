//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// kamailioCommon is the edge that people build with Kamailio: pike and a ban table in front of
// everything. The ban check and pike are active and see every request; their thresholds are above
// any load of the benchmark.
const kamailioCommon = `#!KAMAILIO
debug=0
log_stderror=yes
fork=yes
children=@CHILDREN@
disable_tcp=yes
auto_aliases=no
dns=no
rev_dns=no
listen=udp:@LISTEN@
loadmodule "kex.so"
loadmodule "pv.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "htable.so"
loadmodule "pike.so"
modparam("htable", "htable", "ipban=>size=14;autoexpire=300;")
modparam("pike", "sampling_time_unit", 2)
modparam("pike", "reqs_density_per_unit", 100000000)
modparam("pike", "remove_latency", 4)

request_route {
	if ($sht(ipban=>$si) != $null) {
		exit;
	}
	if (!pike_check_req()) {
		$sht(ipban=>$si) = 1;
		exit;
	}
	if (!mf_process_maxfwd_header("10")) {
		sl_send_reply("483", "Too Many Hops");
		exit;
	}
	force_rport();
@ROUTE@
}
`

// kamailioStateful relays by transaction.
const kamailioStateful = `	if (is_method("CANCEL")) {
		if (t_check_trans()) {
			t_relay();
		}
		exit;
	}
	if (has_totag()) {
		if (!loose_route()) {
			$du = "sip:@PBX@";
		}
		t_relay();
		exit;
	}
	t_check_trans();
	if (is_method("INVITE|SUBSCRIBE")) {
		record_route();
	}
	$du = "sip:@PBX@";
	if (!t_relay()) {
		sl_reply_error();
	}
`

// kamailioStateless forwards.
const kamailioStateless = `	if (has_totag()) {
		if (!loose_route()) {
			$du = "sip:@PBX@";
		}
		forward();
		exit;
	}
	if (is_method("INVITE|SUBSCRIBE")) {
		record_route();
	}
	$du = "sip:@PBX@";
	forward();
`

// kamailio makes a subject of a route and a number of worker processes. Memory and receive buffer
// are far above Debian's defaults, so that neither limits it.
func kamailio(name, route string, children, receiveBuffer int) subject {
	return subject{name: name, command: func(l *lab, listen, pbx netip.AddrPort) ([]string, error) {
		conf := strings.NewReplacer("@ROUTE@", route).Replace(kamailioCommon)
		conf = strings.NewReplacer(
			"@CHILDREN@", fmt.Sprint(children), "@LISTEN@", listen.String(), "@PBX@", pbx.String()).Replace(conf)
		run := filepath.Join(l.dir, strings.ReplaceAll(name, " ", "-"))
		if err := os.MkdirAll(run, 0o755); err != nil {
			return nil, fmt.Errorf("make Kamailio's folder: %w", err)
		}
		path := filepath.Join(run, "kamailio.cfg")
		if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
			return nil, fmt.Errorf("write Kamailio's configuration: %w", err)
		}
		return []string{l.kamailio, "-f", path, "-DD", "-E", "-m", "1024", "-M", "32", "-b", fmt.Sprint(receiveBuffer),
			"-Y", run, "-w", run}, nil
	}}
}
