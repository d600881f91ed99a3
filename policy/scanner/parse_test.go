package scanner_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sipward/policy/scanner"
)

// TestMistakes holds the message and the place of every mistake.
func TestMistakes(t *testing.T) {
	sig := func(s string) string { return "signatures:\n- " + s + "\n" }
	many := strings.Repeat("- {id: x, field: server, match: present, score: 1}\n", 2000)
	for _, c := range []struct{ file, want string }{
		{"", ""},
		{"# nothing\n", ""},
		{"signatures:\n", ""},
		{"signatures: []\nchange: []\n", ""},
		{"- a", `t.yaml:1:1: the file is a list, but it must have the keys "signatures" and "change"`},
		{"hello", `t.yaml:1:1: the file is a text, but it must have the keys "signatures" and "change"`},
		{"signature: []", `t.yaml:1:1: unknown key "signature"; did you mean "signatures"?`},
		{"other: []", `t.yaml:1:1: unknown key "other"; known are signatures, change`},
		{"signatures: 5", `t.yaml:1:13: signatures must be a list, with "- " before each item`},
		{sig("x"), `t.yaml:2:3: here must be a section with keys, not a text`},
		{"signatures: []\n---\nchange: []\n", `t.yaml:3:7: a second document begins here; put everything into one, without "---" in between`},
		{"signatures:\n\t- x", `t.yaml:2:1: the line is indented with a tab, which YAML does not allow; use spaces`},
		{"signatures:\n# \x00\n", `t.yaml:2:3: there is a byte here that is not text in UTF-8; remove it`},
		{"signatures:\n# \xff\n", `t.yaml:2:3: there is a byte here that is not text in UTF-8; remove it`},
		{strings.Repeat("# x\n", 70000), `t.yaml:1:1: the file is larger than 256 KiB, too large for a file of signatures`},
		{"# x\na: " + strings.Repeat("x", 2000), `t.yaml:2:1: the line is longer than 2000 bytes; break it, with one item a line`},
		{"a: " + strings.Repeat("[", 50), `t.yaml:1:16: too many levels of nesting`},
		{"a: " + strings.Repeat("- ", 50), `t.yaml:1:26: too many levels of nesting`},
		{sig("{id: x, field: server, match: present, score: 1, score: 2}"), `t.yaml:2:52: this is not YAML: mapping key "score" already defined at [2:42]; look for quotes and brackets that are not closed, and put values with : # { } [ ] in quotes`},
		{sig("&x {id: x}"), `t.yaml:2:3: anchors, tags and other special forms of YAML are not used here; write the plain value`},
		{sig("{id: X, field: server, match: present, score: 1}"), `t.yaml:2:8: a signature needs an id of small letters, digits and hyphens, no longer than 64 characters`},
		{sig("{field: server, match: present, score: 1}"), `t.yaml:2:4: a signature needs an id of small letters, digits and hyphens, no longer than 64 characters`},
		{sig("{id: x, field: server, match: present}"), `t.yaml:2:4: a signature needs a score`},
		{sig("{id: x, field: server, match: present, score: 101}"), `t.yaml:2:49: score must be a number from 1 to 100; to switch a signature off, change it with "disable: true"`},
		{sig("{id: x, field: server, match: present, score: 0}"), `t.yaml:2:49: score must be a number from 1 to 100; to switch a signature off, change it with "disable: true"`},
		{sig("{id: x, field: servers, match: present, score: 1}"), `t.yaml:2:18: unknown field "servers"; did you mean "server"?`},
		{sig("{id: x, field: server, match: regexp, value: a, score: 1}"), `t.yaml:2:33: unknown match "regexp"; known are equal, prefix, suffix, contains, token, shape, present, absent`},
		{sig("{id: x, match: present, score: 1}"), `t.yaml:2:4: here must be a field and a match`},
		{sig("{id: x, field: server, match: equal, score: 1}"), `t.yaml:2:4: match: equal needs a value`},
		{sig("{id: x, field: server, match: present, value: a, score: 1}"), `t.yaml:2:42: match: present has no value`},
		{sig("{id: x, field: server, match: absent, exact_case: true, score: 1}"), `t.yaml:2:4: match: absent knows no exact_case`},
		{sig("{id: x, field: server, match: equal, value: [], score: 1}"), `t.yaml:2:47: the list of values is empty`},
		{sig("{id: x, field: server, match: equal, value: [a, {b: c}], score: 1}"), `t.yaml:2:52: a value must be a text, not a section with keys; put it in quotes when it has a colon`},
		{sig("{id: x, field: server, match: equal, value: '', score: 1}"), `t.yaml:2:47: a value must not be empty`},
		{sig("{id: x, field: server, match: contains, value: ab, score: 1}"), `t.yaml:2:50: "ab" is too short for contains: innocent phones would match; use token, prefix or equal`},
		{sig("{id: x, field: server, match: equal, value: \"a\\nb\", score: 1}"), `t.yaml:2:47: a value must be one line without control characters`},
		{sig("{id: x, field: server, match: equal, value: " + strings.Repeat("a", 129) + ", score: 1}"), `t.yaml:2:47: a value may have no more than 128 bytes`},
		{sig("{id: x, field: server, match: shape, value: digit, score: 1}"), `t.yaml:2:47: unknown shape "digit"; did you mean "digits"?`},
		{sig("{id: x, field: server, match: equal, value: a, exact_case: maybe, score: 1}"), `t.yaml:2:62: exact_case must be true or false`},
		{sig("{id: x, all: [{field: server, match: present}], score: 1}"), `t.yaml:2:11: all must have at least two conditions; for one, write field, match and value without it`},
		{sig("{id: x, all: [a, b], score: 1}"), "t.yaml:2:17: a condition is a section with field, match and value, not a text\nt.yaml:2:20: a condition is a section with field, match and value, not a text"},
		{sig("{id: x, field: server, all: [{field: server, match: present}, {field: server, match: present}], score: 1}"), `t.yaml:2:11: field stands beside all; write it into one of the conditions there`},
		{sig("{id: x, all: [{field: server, match: present, not: true}, {field: method, match: present, not: true}], score: 1}"), `t.yaml:2:4: at least one condition must be without "not"`},
		{sig("{id: x, field: server, match: present, score: 1}\n- {id: x, field: server, match: present, score: 1}"), `t.yaml:3:8: the id "x" is given twice`},
		{sig("{id: x, field: server, match: equal, value: abc, score: 1, examples: {hit: [abcd], miss: [xabc, Abc]}}"), "t.yaml:2:79: x should match this example and does not\nt.yaml:2:99: x should not match this example and does"},
		{sig("{id: x, field: server, match: equal, value: abc, score: 1, examples: [abc]}"), `t.yaml:2:72: examples must have the keys hit and miss`},
		{sig("{id: x, field: server, match: present, score: 1, examples: {hit: [[a]]}}"), `t.yaml:2:69: an example must be a section of fields, not a list`},
		{sig("{id: x, field: contact-host, match: present, score: 1, examples: {hit: [a]}}"), `t.yaml:2:75: contact-host is cut out of contact; give that one in the example`},
		{sig("{id: x, field: request-host, match: present, score: 1, examples: {hit: [{request-user: a}]}}"), `t.yaml:2:76: request-user is cut out of request-uri; give that one in the example`},
		{sig("{id: x, field: challenge, match: present, score: 1, examples: {hit: [yes]}}"), `t.yaml:2:72: challenge is qop or no-qop`},
		{"change: [{id: a}]", `t.yaml:1:11: a change needs an id, and either a score or "disable: true"`},
		{"change: [{id: a, score: 5, disable: true}]", `t.yaml:1:11: a change needs an id, and either a score or "disable: true"`},
		{"change: [{id: a, disable: false}]", `t.yaml:1:27: disable can only be true; leave the entry out to keep the signature as it is`},
		{"change: [{id: a, score: 5}, {id: a, score: 6}]", `t.yaml:1:34: the signature "a" is changed twice`},
		{"change: [{id: x, score: 5}]\n" + sig("{id: x, field: server, match: present, score: 1}"), `t.yaml:1:15: the signature "x" is in this file; change it there`},
		{"signatures:\n" + many, "100 lines"},
	} {
		_, err := scanner.Parse("t.yaml", []byte(c.file))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if c.want == "100 lines" {
			if n := strings.Count(got, "\n") + 1; n != 100 {
				t.Errorf("%d lines of errors", n)
			}
			continue
		}
		if got != c.want {
			t.Errorf("%.200q:\n got %s\nwant %s", c.file, got, c.want)
		}
	}
}

func TestMerge(t *testing.T) {
	set := scanner.Default()
	own := parse(t, `
signatures:
- {id: our-own, field: user-agent, match: token, value: nastyphone, score: 100}
change:
- {id: ua-sipsak, score: 20}
- {id: ua-sipcli, disable: true}
`)
	merged, err := set.Merge(own)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		agent          string
		before, merged int
	}{
		{"nastyphone/1", 0, 100}, {"sipsak 0.9.6", 100, 20}, {"sipcli/v1.8", 100, 0}, {"friendly-scanner", 100, 100}, {"Zoiper rev.1812", 20, 20},
	} {
		m := scanner.Message{UserAgent: b(c.agent)}
		if got := set.Match(&m).Score; got != c.before {
			t.Errorf("%s: the default set gives %d, not %d", c.agent, got, c.before)
		}
		if got := merged.Match(&m).Score; got != c.merged {
			t.Errorf("%s: the merged set gives %d, not %d", c.agent, got, c.merged)
		}
	}
	if len(merged.Signatures()) != len(set.Signatures())+1 {
		t.Errorf("%d signatures", len(merged.Signatures()))
	}
	if s, ok := merged.Signature("our-own"); !ok || s.Origin != "t.yaml:3" {
		t.Errorf("our-own: %+v", s)
	}
	if s, ok := merged.Signature("ua-sipcli"); !ok || s.Score != 0 || s.Origin == "" {
		t.Errorf("ua-sipcli: %+v", s)
	}
	if same, err := set.Merge(nil); err != nil || same != set {
		t.Error("merging nothing makes another set")
	}
	var none *scanner.Set
	if alone, err := none.Merge(parse(t, "signatures: [{id: x, field: server, match: present, score: 9}]")); err != nil || alone.Match(&scanner.Message{Server: b("x")}).Score != 9 {
		t.Errorf("merged into nothing: %v", err)
	}
}

func TestMergeMistakes(t *testing.T) {
	own := parse(t, `
signatures:
- {id: ua-gulp, field: user-agent, match: present, score: 1}
change:
- {id: ua-sipsac, score: 20}
- {id: something-else, score: 20}
`)
	_, err := scanner.Default().Merge(own)
	var problems scanner.Errors
	if !errors.As(err, &problems) || len(problems) != 3 {
		t.Fatal(err)
	}
	gulp, _ := scanner.Default().Signature("ua-gulp")
	want := `t.yaml:3:8: the id "ua-gulp" is taken by the signature at ` + gulp.Origin + `; choose another one, or use it under "change"
t.yaml:5:8: there is no signature "ua-sipsac" to change; did you mean "ua-sipsak"?
t.yaml:6:8: there is no signature "something-else" to change; the known ones are in docs/signatures.md`
	if err.Error() != want {
		t.Errorf("%v\nnot\n%s", err, want)
	}
}

// TestLimits holds what bounds the memory of a set.
func TestLimits(t *testing.T) {
	var signatures, conditions, text strings.Builder
	for i := range 1001 {
		fmt.Fprintf(&signatures, "- {id: a%d, field: server, match: equal, value: a%d, score: 1}\n", i, i)
	}
	for i := range 600 {
		fmt.Fprintf(&conditions, "- {id: a%d, all: [{field: server, match: equal, value: a%d}, {field: method, match: equal, value: b%d}], score: 1}\n", i, i, i)
		fmt.Fprintf(&text, "- {id: a%d, field: server, match: contains, value: %s%d, score: 1}\n", i, strings.Repeat("a", 60), i)
	}
	for _, c := range []struct{ text, want string }{
		{signatures.String(), "t.yaml:1:1: there are 1001 signatures, and no more than 1000 are possible"},
		{conditions.String(), "t.yaml:1:1: there are 1200 different conditions, and no more than 1024 are possible"},
		{text.String(), "t.yaml:1:1: the values of contains and token have 37690 characters together, and no more than 32768 are possible"},
	} {
		if _, err := scanner.Parse("t.yaml", []byte("signatures:\n"+c.text)); err == nil || err.Error() != c.want {
			t.Errorf("%.300v", err)
		}
	}
}
