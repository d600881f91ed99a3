//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// Names of the subjects, which flags, tables and bars use.
const (
	nameStateful1 = "kamailio stateful 1"
	nameStateful2 = "kamailio stateful 2"
	nameStateless = "kamailio stateless"
	nameBare      = "bare"
	nameSipward   = "sipward"
)

// subjects are the edges, in the order of measuring.
func subjects(receiveBuffer int) []subject {
	return []subject{
		kamailio(nameStateful1, kamailioStateful, 1, receiveBuffer),
		kamailio(nameStateful2, kamailioStateful, 2, receiveBuffer),
		kamailio(nameStateless, kamailioStateless, 1, receiveBuffer),
		{name: nameBare, command: func(l *lab, listen, pbx netip.AddrPort) ([]string, error) {
			return []string{l.self, "bare", "-listen", listen.String(), "-upstream", pbx.String(),
				"-receive-buffer", fmt.Sprint(receiveBuffer)}, nil
		}},
		{name: nameSipward, command: sipwardCommand},
	}
}

// sipwardConfig has every check of the packet path on. Only the thresholds are out of reach, as
// they are for Kamailio's pike. The journal is off: the others keep none; docs/bench.md says what it costs.
const sipwardConfig = `%s
pbx:
  - address: %s
flood: {rate: 1000000, burst: 1000000}
overload: {strangers: 0}
register: {hit_count: 10000, action: watch}
invite: {rate_limit: 100000}
enumeration: {accounts: 100000}
control: {socket: %s}
kernel: {backend: none, name: sipwardbench}
report: {enabled: false}
state_dir: %s
`

func sipwardCommand(l *lab, listen, pbx netip.AddrPort) ([]string, error) {
	return sipwardWith(l, fmt.Sprintf("listen: {outside: [\"udp://%s\"]}", listen), pbx)
}

func sipwardWith(l *lab, mode string, pbx netip.AddrPort) ([]string, error) {
	state := filepath.Join(l.dir, "sipward-state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, fmt.Errorf("make sipward's folder: %w", err)
	}
	path := filepath.Join(l.dir, "sipward.yaml")
	conf := fmt.Sprintf(sipwardConfig, mode, pbx, filepath.Join(state, "sipward.sock"), state)
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		return nil, fmt.Errorf("write sipward's configuration: %w", err)
	}
	return []string{l.sipward, "run", "--config", path}, nil
}
