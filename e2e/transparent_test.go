//go:build linux

package e2e_test

import (
	"testing"

	"sipward/e2e/lab"
)

// transparent makes a site with Asterisk on its own address, and sipward before it or on it.
func transparent(t *testing.T, placement, extra string) *site {
	t.Helper()
	lab.Need(t, "asterisk")
	if direct {
		t.Skip("it is sipward that is tested here")
	}
	s := &site{Lab: labs.New(t)}
	s.pbx = s.StartAsterisk(t)
	s.start(t, lab.Config{
		Placement: placement, Extra: extra,
		PBX: []string{"203.0.113.2:5060", "[2001:db8:2::2]:5060"},
	})
	return s
}

// placements runs a test in both.
func placements(t *testing.T, test func(t *testing.T, placement string)) {
	for _, p := range []string{"router", "host"} {
		t.Run(p, func(t *testing.T) {
			t.Parallel()
			test(t, p)
		})
	}
}

// TestTransparent is the matrix of calls, with phones that speak to Asterisk's own address.
func TestTransparent(t *testing.T) {
	placements(t, func(t *testing.T, placement string) {
		s := transparent(t, placement, "")
		s.suite(t)
	})
}
