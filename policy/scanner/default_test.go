package scanner_test

import (
	"slices"
	"testing"

	"sipward/policy/scanner"
)

// TestDefaultExamples runs every example of every default signature, and holds the
// file to its own rules.
func TestDefaultExamples(t *testing.T) {
	set := scanner.Default()
	signatures := set.Signatures()
	if len(signatures) < 40 {
		t.Fatalf("only %d signatures", len(signatures))
	}
	for _, sig := range signatures {
		if len(sig.Hits) == 0 || len(sig.Misses) == 0 {
			t.Errorf("%s: %d examples that it must match and %d that it must not", sig.ID, len(sig.Hits), len(sig.Misses))
		}
		if sig.Source == "" || sig.Note == "" {
			t.Errorf("%s: no source or no note", sig.ID)
		}
		if !sig.Combination() && sig.Score > 50 && sig.Score < scanner.Threshold {
			t.Errorf("%s: a score of %d is neither a hint nor enough", sig.ID, sig.Score)
		}
		if sig.Combination() && sig.Conditions[0].Not {
			t.Errorf("%s: begins with what must not be", sig.ID)
		}
		for i := range sig.Hits {
			m := &sig.Hits[i].Message
			if !explained(set, m, sig.ID) {
				t.Errorf("%s: does not match %+v", sig.ID, m)
			}
			got := set.Match(m)
			if got.Score < sig.Score || sig.Score == scanner.Threshold && !got.Sure {
				t.Errorf("%s: %+v", sig.ID, got)
			}
		}
		for i := range sig.Misses {
			m := &sig.Misses[i].Message
			if explained(set, m, sig.ID) {
				t.Errorf("%s: matches %+v", sig.ID, m)
			}
			if got := set.Match(m); got.Scanner() {
				t.Errorf("%s: a message of %s is a scanner's: %+v", sig.ID, sig.Misses[i].Who, got)
			}
		}
	}
}

func explained(set *scanner.Set, m *scanner.Message, id string) bool {
	return slices.ContainsFunc(set.Explain(m), func(s scanner.Signature) bool { return s.ID == id })
}

// TestSharedNames holds that names which real clients carry only add to a score.
func TestSharedNames(t *testing.T) {
	set := scanner.Default()
	for _, agent := range []string{"eyeBeam release 1011d stamp 40820", "CSipSimple_mako-22/r2457", "Zoiper rev.1812", "Z 5.6.6 v2.10.20.5", "Asterisk PBX", "Cisco-SIPGateway/IOS-12.x", "PortSIP VoIP SDK 11.2"} {
		got := set.Match(&scanner.Message{UserAgent: []byte(agent)})
		if got.Score < 20 || got.Score > 40 || got.Sure {
			t.Errorf("%s: %+v", agent, got)
		}
	}
	// Two such names in one field do not add up.
	got := set.Match(&scanner.Message{UserAgent: []byte("eyeBeam SIPp")})
	if got.Score != 30 || got.Signature != "ua-eyebeam" {
		t.Errorf("two names: %+v", got)
	}
}

func TestMatchNeverAllocates(t *testing.T) {
	set := scanner.Default()
	for _, c := range slices.Concat(realMessages, attacks) {
		if n := testing.AllocsPerRun(100, func() { set.Match(&c.msg) }); n != 0 {
			t.Errorf("%s: %v allocations", c.who, n)
		}
	}
}
