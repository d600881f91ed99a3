#!/bin/sh
# Installs the peers that the end-to-end tests talk to: SIPp, baresip, Kamailio, an unmodified Asterisk, nsd, TFTP servers and
# clients; and Chromium, for the tests of the dashboard.
#
#   e2e/setup.sh
#
# Run again at will: what is there is left alone. As root with apt it installs; otherwise it says what is missing and
# ends well, and the tests skip what they cannot run. Nothing that it installs is left running.
#
#   E2E_CACHE   where Asterisk's tree is kept, and what else is not installed (default /var/cache/sipward-test)
#   E2E_MIRROR  where other releases of Debian than this one come from        (default: debootstrap's, and apt's)
set -eu

cache=${E2E_CACHE:-/var/cache/sipward-test}
packages="iproute2 nftables iptables ipset tcpdump bind9-dnsutils sip-tester baresip-core kamailio kamailio-tls-modules openssl debootstrap nsd dnsmasq-base dnsperf tftp-hpa tftpd-hpa atftp libwrap0 curl chromium"
tools="ip nft iptables ipset tcpdump dig sipp baresip kamailio openssl debootstrap nsd dnsmasq dnsperf tftp in.tftpd atftp curl chromium"

PATH=$PATH:/usr/sbin:/sbin
export PATH DEBIAN_FRONTEND=noninteractive

say() { echo "e2e/setup.sh: $*"; }

missing() {
	for tool in $tools; do
		command -v "$tool" >/dev/null || printf '%s ' "$tool"
	done
	ls /usr/lib/*/kamailio/modules/tls.so >/dev/null 2>&1 || printf 'kamailio-tls '
}

# no_services ROOT: keeps packages installed there from starting their daemons, as Debian provides for.
no_services() {
	[ -e "$1/usr/sbin/policy-rc.d" ] && return 1
	printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
	chmod 755 "$1/usr/sbin/policy-rc.d"
}

install_packages() {
	if no_services ''; then
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	fi
	say "installing $packages"
	apt-get -qq update
	apt-get -qq install -y --no-install-recommends $packages >/dev/null
	# They are started by the tests, never at boot. (systemctl also works offline; without it there is nothing to do.)
	if command -v systemctl >/dev/null; then
		systemctl disable -q kamailio nftables nsd tftpd-hpa 2>/dev/null || true
	fi
}

install_asterisk() {
	say "installing Asterisk of Debian bullseye into $cache/asterisk"
	rm -rf "$cache"/asterisk.new.*
	new=$cache/asterisk.new.$$
	debootstrap --variant=minbase --include=asterisk,asterisk-modules,asterisk-config \
		bullseye "$new" ${E2E_MIRROR:-} >"$cache/asterisk.log" 2>&1 || {
		tail -n 20 "$cache/asterisk.log"
		rm -rf "$new"
		say "debootstrap did not succeed"
		return 1
	}
	rm -rf "$new"/var/cache/apt/archives/*.deb "$new"/var/lib/apt/lists/*
	# The rename makes it whole at once: a tree that has its final name is complete.
	mv -T "$new" "$cache/asterisk"
}

# A second TFTP server cannot be installed beside the first; it needs no more than its file.
install_atftpd() {
	say "unpacking atftpd into $cache/atftpd"
	rm -rf "$cache"/atftpd.new.*
	new=$cache/atftpd.new.$$
	mkdir -p "$new"
	(cd "$new" && apt-get -qq -o APT::Sandbox::User=root download atftpd && dpkg-deb -x atftpd_*.deb . && rm atftpd_*.deb) || {
		rm -rf "$new"
		say "atftpd could not be had"
		return 1
	}
	mv -T "$new" "$cache/atftpd"
}

# SIPp of this Debian knows no TLS, and that of trixie cannot write with it (wolfSSL does not tell it its socket). That of forky
# is unpacked beside it, with the libraries that it is made for.
install_sipp_tls() {
	say "unpacking SIPp with TLS, of Debian forky, into $cache/sipp-tls"
	rm -rf "$cache"/sipp-tls.new.*
	new=$cache/sipp-tls.new.$$
	mirror=${E2E_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)}
	mkdir -p "$new/apt/lists/partial" "$new/apt/archives/partial"
	echo "deb $mirror forky main" >"$new/apt/sources.list"
	options="-o Dir::Etc::sourcelist=$new/apt/sources.list -o Dir::Etc::sourceparts=- -o Dir::State::lists=$new/apt/lists \
		-o Dir::State::status=/dev/null -o Dir::Cache=$new/apt -o APT::Sandbox::User=root"
	(
		apt-get -qq $options update &&
			apt-get -qq $options -y --no-install-recommends --download-only install sip-tester &&
			for deb in "$new"/apt/archives/*.deb; do dpkg-deb -x "$deb" "$new" || exit 1; done &&
			rm -rf "$new"/apt "$new"/usr/share "$new"/usr/lib/python3* &&
			cd "$new" && ln -s usr/lib/*/ld-linux*.so.* loader &&
			./loader --library-path "$(dirname "$(readlink loader)")" usr/bin/sipp -v | grep -q TLS
	) || {
		rm -rf "$new"
		say "SIPp with TLS could not be had"
		return 1
	}
	mv -T "$new" "$cache/sipp-tls"
}

if [ "$(id -u)" != 0 ]; then
	say "not root: nothing installed (missing: $(missing)); the end-to-end tests will be skipped"
	exit 0
fi
if [ -n "$(missing)" ]; then
	if ! command -v apt-get >/dev/null; then
		say "no apt-get here; install by hand: $(missing)"
		exit 0
	fi
	install_packages
fi

mkdir -p "$cache"
# One at a time: a second run waits for the first and finds its work done.
exec 9>"$cache/lock"
flock 9
if [ ! -x "$cache/asterisk/usr/sbin/asterisk" ]; then
	rm -rf "$cache/asterisk"
	install_asterisk
fi
if [ ! -x "$cache/atftpd/usr/sbin/atftpd" ]; then
	rm -rf "$cache/atftpd"
	install_atftpd
fi
if [ ! -e "$cache/sipp-tls/loader" ]; then
	rm -rf "$cache/sipp-tls"
	install_sipp_tls || say "the tests with SIPp over TLS and WebSocket will be skipped"
fi
# The tests' networks have no DNS for it, and waiting for one takes half a minute at each start.
sed -i 's/^hosts:.*/hosts: files/' "$cache/asterisk/etc/nsswitch.conf"
still=$(missing)
if [ -n "$still" ]; then
	say "still missing: $still"
	exit 1
fi
say "ready: $(sipp -v 2>&1 | sed -n 's/^ *\(SIPp [^ ]*\).*/\1/p' | head -n 1) $(kamailio -v | sed -n 's/^version: //p' | head -n 1)"
