package scanner_test

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"sipward/policy/scanner"
)

// FuzzParse feeds files. Whatever they are, there is a set that can be merged and
// used, or a list of complaints that say where.
func FuzzParse(f *testing.F) {
	text, err := os.ReadFile("default.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text[:3000])
	f.Add(text[:1500])
	f.Add([]byte("signatures:\n- {id: x, field: server, match: equal, value: [a, 'b'], score: 5, examples: {hit: [a, {server: b}], miss: [c]}}\nchange:\n- {id: ua-gulp, disable: true}\n"))
	f.Add([]byte("signatures:\n- id: y\n  all:\n  - {field: contact-host, match: token, value: a.b}\n  - {field: qop, match: absent, not: true}\n  score: 100\n"))
	for _, s := range []string{"a: [", "- ? x", "&a [*a]", "{<<: {a: b}}", "a: |\n  b\n", "---\n---\n", "a: !!int 5", "? [a]: b", "\"\\", "{: , }"} {
		f.Add([]byte(s))
	}
	defaults := scanner.Default()
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := scanner.Parse("f.yaml", text)
		if err != nil {
			checkErrors(t, err, text)
			return
		}
		merged, err := defaults.Merge(set)
		if err != nil {
			checkErrors(t, err, text)
			return
		}
		for _, s := range []*scanner.Set{set, merged} {
			for _, c := range realMessages[:5] {
				got := s.Match(&c.msg)
				if matching := s.Explain(&c.msg); (got.Score > 0) != (len(matching) > 0) || len(matching) > 0 && matching[0].ID != got.Signature {
					t.Fatalf("%+v, but %v", got, ids(matching))
				}
			}
		}
	})
}

func checkErrors(t *testing.T, err error, text []byte) {
	t.Helper()
	var problems scanner.Errors
	if !errors.As(err, &problems) || len(problems) == 0 {
		t.Fatalf("%T without a problem: %v", err, err)
	}
	lines := bytes.Count(text, []byte("\n")) + 1
	for _, p := range problems {
		if p.File != "f.yaml" || p.Line < 1 || p.Line > lines || p.Column < 1 || p.Text == "" {
			t.Errorf("%d lines, and a problem at %d:%d: %v", lines, p.Line, p.Column, p)
		}
	}
}

// FuzzMatch feeds messages. Nothing panics or allocates, and Explain agrees.
func FuzzMatch(f *testing.F) {
	set := scanner.Default()
	for _, c := range realMessages {
		m := &c.msg
		f.Add(m.UserAgent, m.FromDisplay, m.FromTag, m.CallID, m.Contact, m.ViaBranch, m.RequestURI, m.QOP)
	}
	for _, c := range attacks {
		m := &c.msg
		f.Add(m.UserAgent, m.FromDisplay, m.FromTag, m.CallID, m.Contact, m.ViaBranch, m.RequestURI, m.QOP)
	}
	f.Fuzz(func(t *testing.T, agent, display, tag, callID, contact, branch, uri, qop []byte) {
		m := scanner.Message{
			Method: agent, RequestURI: uri, UserAgent: agent, Server: agent, FromDisplay: display, FromUser: display, FromHost: branch, FromTag: tag,
			ToDisplay: display, ToUser: display, ToHost: branch, CallID: callID, Contact: contact, ViaHost: branch, ViaBranch: branch, Accept: agent,
			QOP: qop, CNonce: tag, ChallengeKnown: len(qop) > 0, ChallengeHadQOP: len(tag) > 0,
		}
		var got scanner.Match
		if n := testing.AllocsPerRun(1, func() { got = set.Match(&m) }); n > 0 {
			// The fuzzer's own goroutines allocate now and then; ours would each time.
			if n := testing.AllocsPerRun(100, func() { set.Match(&m) }); n > 0 {
				t.Fatalf("%v allocations", n)
			}
		}
		matching := set.Explain(&m)
		if (got.Score > 0) != (len(matching) > 0) {
			t.Fatalf("%+v, but %v", got, ids(matching))
		}
		if len(matching) > 0 && (matching[0].ID != got.Signature || got.Sure != (matching[0].Score >= scanner.Threshold) || got.Score < matching[0].Score) {
			t.Fatalf("%+v, but %v", got, ids(matching))
		}
	})
}
