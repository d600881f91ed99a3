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
	s.trust = &tls.Config{RootCAs: ca.Pool(), ServerName: edgeName}
	certificate, key := s.certify(t, ca, certstest.Options{DNS: []string{edgeName}})
	for _, w := range newWires {
		scheme := map[wire]string{tlsWire: "tls", wsWire: "ws", wssWire: "wss", dtlsWire: "dtls"}[w]
		for _, host := range []netip.Addr{lab.EdgeWAN, lab.EdgeWAN6} {
			cfg.Outside = append(cfg.Outside, fmt.Sprintf("%s://%v", scheme, netip.AddrPortFrom(host, w.over.Port())))
		}
	}
	cfg.Extra += fmt.Sprintf("tls: {certificates: [{certificate: %q, key: %q}]}\n", certificate, key)
	return cfg
}

// certify gives sipward a certificate, in the place of the one that it has. It is read when sipward starts, and when its file
// changes.
func (s *site) certify(t *testing.T, by *certstest.Authority, o certstest.Options) (certificate, key string) {
	t.Helper()
	s.shown = by.Issue(t, o)
	return s.shown.Write(t, s.Dir(), "sipward")
}
