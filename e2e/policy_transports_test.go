//go:build linux

package e2e_test

import (
	"fmt"
	"testing"

	"sipward/e2e/lab"
	"sipward/proxy/certs/certstest"
)

// TestPolicyTransports: on TLS, WebSocket and DTLS nobody gets further than on UDP and TCP, and nobody else suffers for him.
func TestPolicyTransports(t *testing.T) {
	lab.Need(t, "kamailio")
	t.Parallel()
	s := &site{Lab: labs.New(t)}
	s.pbx = s.StartKamailio(t, lab.PBX1)
	s.start(t, s.secured(t, certstest.NewAuthority(t, "ours"), lab.Config{Extra: "register: {hit_count: 10}\ninvite: {rate_limit: 30}\n"}))
	for i, w := range newWires {
		n, accounts := 40+8*i, 2001+20*i
		t.Run(w.String(), func(t *testing.T) {
			t.Run("guess", func(t *testing.T) { s.testGuess(t, w, 100, lab.Phone(n)) })
			t.Run("accounts", func(t *testing.T) { s.testAccountScan(t, w, lab.Phone(n+1)) })
			t.Run("friendly-scanner", func(t *testing.T) { s.testFriendlyScanner(t, w, lab.Phone(n+2)) })
			t.Run("allowed", func(t *testing.T) { s.testAllowed(t, w, lab.Phone(n+3)) })
			t.Run("at-once", func(t *testing.T) { s.testCallsAtOnce(t, w, n+4) })
			t.Run("stale", func(t *testing.T) {
				phones := s.staffOn(t, w, lab.Phone(n+6), accounts, 20)
				allRegister(t, phones[:19])
				s.testStalePassword(t, w, lab.Phone(n+6), fmt.Sprint(accounts+19), phones[:19])
			})
		})
	}
}
