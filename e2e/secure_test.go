//go:build linux

package e2e_test

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"testing"

	"sipward/e2e/lab"
	"sipward/e2e/phone"
	"sipward/proxy/certs/certstest"
)

// Transports that a PBX need not know.
var (
	tlsWire  = wire{over: phone.TLS}
	wsWire   = wire{over: phone.WS}
	wssWire  = wire{over: phone.WSS}
	dtlsWire = wire{over: phone.DTLS}
)

// newWires are the transports that need more than a socket.
var newWires = []wire{tlsWire, wsWire, wssWire, dtlsWire}

// edgeName is what the certificate of sipward is for.
const edgeName = "sip.example.com"

// secured adds those transports to a configuration, with a certificate of that authority, which phones trust.
func (s *site) secured(t *testing.T, ca *certstest.Authority, cfg lab.Config) lab.Config {
	t.Helper()
	if direct {
		t.Skip("the PBX itself does not speak these transports")
	}
	cert, key := ca.Issue(t, certstest.Options{DNS: []string{edgeName}}).Write(t, s.Dir(), "sipward")
	s.trust = &tls.Config{RootCAs: ca.Pool(), ServerName: edgeName}
	for _, w := range newWires {
		for _, host := range []netip.Addr{lab.EdgeWAN, lab.EdgeWAN6} {
			cfg.Outside = append(cfg.Outside, fmt.Sprintf("%v://%v", w, netip.AddrPortFrom(host, w.over.Port())))
		}
	}
	cfg.Extra += fmt.Sprintf("tls: {certificates: [{certificate: %q, key: %q}]}\n", cert, key)
	return cfg
}
