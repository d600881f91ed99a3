//go:build linux

package e2e_test

import (
	"fmt"
	"maps"
	"slices"
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
	s.start(t, transparentConfig(placement, extra))
	return s
}

func transparentConfig(placement, extra string) lab.Config {
	return lab.Config{Placement: placement, Extra: extra, PBX: []string{"203.0.113.2:5060", "[2001:db8:2::2]:5060"}}
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

// TestTransparent is the matrix of calls, with phones that speak to Asterisk's own address. What phones and Asterisk
// send is recorded on both sides of sipward, and is the same.
func TestTransparent(t *testing.T) {
	placements(t, func(t *testing.T, placement string) {
		s := transparent(t, placement, "")
		outside, inside := s.bothSides(t, placement)
		s.suite(t)
		for _, w := range []wire{udp, tcp, udp6, tcp6} {
			t.Run(w.String()+"-own-contact", func(t *testing.T) {
				p := s.registered(t, w, "1005", 5)
				if in := s.contacts(t, "1005", 1); in[0] != p.Contact() {
					t.Errorf("Asterisk knows the phone as %q, want its own %q", in[0], p.Contact())
				}
			})
		}
		s.sameBytes(t, outside, inside)
	})
}

// bothSides records what passes outside and inside of sipward.
func (s *site) bothSides(t *testing.T, placement string) (outside, inside *lab.Capture) {
	t.Helper()
	host, iface := s.PBX, "eth0"
	if placement == "host" {
		iface = "lo"
	}
	outside = must[*lab.Capture](t)(s.WAN.Capture("eth0", 5060))
	t.Cleanup(outside.Stop)
	inside = must[*lab.Capture](t)(host.Capture(iface, 5060))
	t.Cleanup(inside.Stop)
	return outside, inside
}

// sameBytes compares what was recorded.
func (s *site) sameBytes(t *testing.T, outside, inside *lab.Capture) {
	t.Helper()
	var messages, bytes, streams int
	lab.Poll(t, patience, "the same has passed outside and inside", func() error {
		out, in := outside.Payloads(), inside.Payloads()
		messages, bytes, streams = 0, 0, 0
		for f := range in {
			if out[f] == nil {
				return fmt.Errorf("inside alone: %v: %.300q", f, in[f])
			}
		}
		for f, want := range out {
			got := in[f]
			for i := range max(len(want), len(got)) {
				switch {
				case i >= len(got):
					return fmt.Errorf("%v: only outside: %.300q", f, want[i])
				case i >= len(want):
					return fmt.Errorf("%v: only inside: %.300q", f, got[i])
				case got[i] != want[i]:
					return fmt.Errorf("%v: outside %q, inside %q", f, want[i], got[i])
				}
				messages++
				bytes += len(got[i])
			}
			if f.TCP {
				streams++
			}
		}
		return nil
	})
	t.Logf("%d datagrams and %d directions of TCP connections, %d bytes, are the same on both sides", messages-streams, streams, bytes)
	if messages < 100 || streams < 20 {
		t.Error("that is not all that was sent")
	}
	families := map[bool]int{}
	for f := range maps.Keys(outside.Payloads()) {
		families[f.Src.Addr().Is4()]++
	}
	if len(families) != 2 {
		t.Errorf("one of the families was not recorded: %v", slices.Collect(maps.Keys(families)))
	}
	through := int(s.reasons(t, "pass"))
	if through < messages-streams {
		t.Errorf("sipward has seen %d messages, %d datagrams have passed", through, messages-streams)
	}
}
