package scanner

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The ways to match.
const (
	matchEqual    = "equal"
	matchPrefix   = "prefix"
	matchSuffix   = "suffix"
	matchContains = "contains"
	matchToken    = "token"
	matchShape    = "shape"
	matchPresent  = "present"
	matchAbsent   = "absent"
)

func matchNames() []string {
	return []string{matchEqual, matchPrefix, matchSuffix, matchContains, matchToken, matchShape, matchPresent, matchAbsent}
}

const (
	maxSignatures = 1000
	maxValue      = 128
	// minContains keeps a single letter from matching every phone.
	minContains = 3
	maxID       = 64
)

// Parse reads a file of signatures; name stands in the errors. Every example in the
// file is tried. The error is of type [Errors] and holds all mistakes.
//
// Changes to signatures of another file take effect when the set is merged into
// that one.
func Parse(name string, text []byte) (*Set, error) {
	rep := &report{file: name, lines: bytes.Count(text, []byte("\n")) + 1}
	s := &Set{name: name, places: map[string]place{}}
	if root := readYAML(rep, text); root != nil {
		p := &reader{report: rep, set: s}
		p.file(root)
	}
	if err := rep.err(); err != nil {
		return nil, err
	}
	s.program = compile(s.signatures, rep)
	if err := rep.err(); err != nil {
		return nil, err
	}
	for i := range s.signatures {
		s.try(&s.signatures[i], rep)
	}
	if err := rep.err(); err != nil {
		return nil, err
	}
	return s, nil
}

// try holds a signature against its examples.
func (s *Set) try(sig *Signature, rep *report) {
	matches := func(e *Example) bool {
		return slices.ContainsFunc(s.Explain(&e.Message), func(m Signature) bool { return m.ID == sig.ID })
	}
	for i := range sig.Hits {
		if e := &sig.Hits[i]; !matches(e) {
			rep.fail(e.at, "%s should match this example and does not", sig.ID)
		}
	}
	for i := range sig.Misses {
		if e := &sig.Misses[i]; matches(e) {
			rep.fail(e.at, "%s should not match this example and does", sig.ID)
		}
	}
}

// reader turns the nodes of a file into signatures.
type reader struct {
	*report
	set *Set
}

func (r *reader) file(root *node) {
	if root.kind != kindSection {
		r.fail(root.at, `the file is %s, but it must have the keys "signatures" and "change"`, root.kind)
		return
	}
	for _, k := range r.known(root, "signatures", "change") {
		for _, item := range r.list(k) {
			if item.kind != kindSection {
				r.fail(item.at, "here must be a section with keys, not %s", item.kind)
			} else if k.name == "change" {
				r.change(item)
			} else {
				r.signature(item)
			}
		}
	}
	if n := len(r.set.signatures); n > maxSignatures {
		r.fail(place{}, "there are %d signatures, and no more than %d are possible", n, maxSignatures)
	}
	for _, c := range r.set.changes {
		if _, here := r.set.places[c.id]; here {
			r.fail(c.at, "the signature %s is in this file; change it there", quote(c.id))
		}
	}
}

// known returns the keys of a section that belong there and come once.
func (r *reader) known(n *node, names ...string) []key {
	var keys []key
	for _, k := range n.keys {
		if !slices.Contains(names, k.name) {
			r.fail(k.at, "unknown key %s; %s", quote(k.name), suggest(k.name, names))
		} else if slices.ContainsFunc(keys, func(other key) bool { return other.name == k.name }) {
			r.fail(k.at, "the key %s comes twice", k.name)
		} else {
			keys = append(keys, k)
		}
	}
	return keys
}

func (r *reader) list(k key) []*node {
	switch k.value.kind {
	case kindList:
		return k.value.items
	case kindNothing: // every item is commented out
		return nil
	}
	r.fail(k.value.at, "%s must be a list, with \"- \" before each item", k.name)
	return nil
}

// textOf returns a text that is not empty.
func (r *reader) textOf(k key) string {
	switch {
	case k.value.kind != kindText:
		r.fail(k.value.at, "%s must be a text, not %s", k.name, k.value.kind)
		return ""
	case k.value.text == "":
		r.fail(k.value.at, "%s must not be empty", k.name)
	}
	return k.value.text
}

func (r *reader) boolOf(k key) bool {
	if k.value.kind != kindText || k.value.text != "true" && k.value.text != "false" {
		r.fail(k.value.at, "%s must be true or false", k.name)
	}
	return k.value.text == "true"
}

func (r *reader) scoreOf(k key) int {
	n, err := strconv.Atoi(k.value.text)
	if k.value.kind != kindText || err != nil || n < 1 || n > Threshold {
		r.fail(k.value.at, "score must be a number from 1 to %d; to switch a signature off, change it with \"disable: true\"", Threshold)
		return 1
	}
	return n
}

func (r *reader) change(n *node) {
	c := change{at: n.at}
	done := 0
	for _, k := range r.known(n, "id", "score", "disable") {
		switch k.name {
		case "id":
			c.id, c.at = r.textOf(k), k.value.at
		case "score":
			c.score = r.scoreOf(k)
			done++
		case "disable":
			if !r.boolOf(k) {
				r.fail(k.value.at, "disable can only be true; leave the entry out to keep the signature as it is")
			}
			done++
		}
	}
	if c.id == "" || done != 1 {
		r.fail(n.at, "a change needs an id, and either a score or \"disable: true\"")
		return
	}
	if slices.ContainsFunc(r.set.changes, func(other change) bool { return other.id == c.id }) {
		r.fail(c.at, "the signature %s is changed twice", quote(c.id))
	}
	r.set.changes = append(r.set.changes, c)
}

func (r *reader) signature(n *node) {
	sig := Signature{Origin: fmt.Sprintf("%s:%d", r.report.file, max(n.at.line, 1))}
	var condition []key
	var examples *key
	idAt := n.at
	for _, k := range r.known(n, "id", "field", "match", "value", "exact_case", "all", "score", "source", "note", "examples") {
		switch k.name {
		case "id":
			sig.ID, idAt = r.textOf(k), k.value.at
		case "all":
			for _, item := range r.list(k) {
				sig.Conditions = append(sig.Conditions, r.conditionAt(item))
			}
			if len(sig.Conditions) < 2 {
				r.fail(k.at, "all must have at least two conditions; for one, write field, match and value without it")
			}
		case "score":
			sig.Score = r.scoreOf(k)
		case "source":
			sig.Source = r.textOf(k)
		case "note":
			sig.Note = r.textOf(k)
		case "examples":
			examples = &k
		default:
			condition = append(condition, k)
		}
	}
	r.checkSignature(&sig, n.at, idAt, condition)
	if examples != nil && len(sig.Conditions) > 0 {
		r.examples(&sig, *examples)
	}
	r.set.signatures = append(r.set.signatures, sig)
}

func (r *reader) checkSignature(sig *Signature, at, idAt place, condition []key) {
	if !validID(sig.ID) {
		r.fail(idAt, "a signature needs an id of small letters, digits and hyphens, no longer than %d characters", maxID)
	} else if _, twice := r.set.places[sig.ID]; twice {
		r.fail(idAt, "the id %s is given twice", quote(sig.ID))
	} else {
		r.set.places[sig.ID] = idAt
	}
	if sig.Score == 0 {
		r.fail(at, "a signature needs a score")
	}
	switch {
	case len(condition) > 0 && len(sig.Conditions) > 0:
		r.fail(condition[0].at, "%s stands beside all; write it into one of the conditions there", condition[0].name)
	case len(sig.Conditions) == 0:
		sig.Conditions = []Condition{r.condition(at, condition)}
	case !slices.ContainsFunc(sig.Conditions, func(c Condition) bool { return !c.Not }):
		r.fail(at, "at least one condition must be without \"not\"")
	}
}

func validID(id string) bool {
	return id != "" && len(id) <= maxID && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
