package scanner

import (
	"fmt"
	"slices"
	"strings"
)

func (r *reader) conditionAt(n *node) Condition {
	if n.kind != kindSection {
		r.fail(n.at, "a condition is a section with field, match and value, not %s", n.kind)
		return Condition{}
	}
	return r.condition(n.at, r.known(n, "field", "match", "value", "exact_case", "not"))
}

func (r *reader) condition(at place, keys []key) Condition {
	var c Condition
	var values *key
	for _, k := range keys {
		switch k.name {
		case "field":
			c.Field = r.oneOf(k, fieldNames())
		case "match":
			c.Match = r.oneOf(k, matchNames())
		case "value":
			values = &k
		case "exact_case":
			c.ExactCase = r.boolOf(k)
		case "not":
			c.Not = r.boolOf(k)
		}
	}
	if !hasKey(keys, "field") || !hasKey(keys, "match") {
		r.fail(at, "here must be a field and a match")
		return c
	}
	if c.Field == "" || c.Match == "" {
		return c
	}
	if c.ExactCase && (c.Match == matchShape || c.Match == matchPresent || c.Match == matchAbsent) {
		r.fail(at, "match: %s knows no exact_case", c.Match)
	}
	valueless := c.Match == matchPresent || c.Match == matchAbsent
	switch {
	case valueless && values != nil:
		r.fail(values.at, "match: %s has no value", c.Match)
	case !valueless && values == nil:
		r.fail(at, "match: %s needs a value", c.Match)
	case values != nil:
		c.Values = r.values(*values, c.Match)
	}
	return c
}

func hasKey(keys []key, name string) bool {
	return slices.ContainsFunc(keys, func(k key) bool { return k.name == name })
}

func (r *reader) oneOf(k key, names []string) string {
	name := r.textOf(k)
	if name != "" && !slices.Contains(names, name) {
		r.fail(k.value.at, "unknown %s %s; %s", k.name, quote(name), suggest(name, names))
		return ""
	}
	return name
}

// values reads one text or a list of them.
func (r *reader) values(k key, match string) []string {
	items := []*node{k.value}
	if k.value.kind == kindList {
		items = k.value.items
		if len(items) == 0 {
			r.fail(k.value.at, "the list of values is empty")
		}
	}
	var values []string
	for _, item := range items {
		if v, ok := r.value(item, match); ok {
			values = append(values, v)
		}
	}
	return values
}

func (r *reader) value(n *node, match string) (string, bool) {
	switch {
	case n.kind != kindText:
		r.fail(n.at, "a value must be a text, not %s; put it in quotes when it has a colon", n.kind)
	case n.text == "":
		r.fail(n.at, "a value must not be empty")
	case len(n.text) > maxValue:
		r.fail(n.at, "a value may have no more than %d bytes", maxValue)
	case strings.ContainsFunc(n.text, func(c rune) bool { return c < ' ' }):
		r.fail(n.at, "a value must be one line without control characters")
	case match == matchContains && len(n.text) < minContains:
		r.fail(n.at, "%s is too short for contains: innocent phones would match; use token, prefix or equal", quote(n.text))
	case match == matchShape && !slices.Contains(shapeNames(), n.text):
		r.fail(n.at, "unknown shape %s; %s", quote(n.text), suggest(n.text, shapeNames()))
	default:
		return n.text, true
	}
	return "", false
}

// examples reads what a signature must and must not match.
func (r *reader) examples(sig *Signature, k key) {
	if k.value.kind != kindSection {
		r.fail(k.value.at, "examples must have the keys hit and miss")
		return
	}
	for _, k := range r.known(k.value, "hit", "miss") {
		for _, item := range r.list(k) {
			e, ok := r.example(sig, item)
			if !ok {
				continue
			}
			if k.name == "hit" {
				sig.Hits = append(sig.Hits, e)
			} else {
				sig.Misses = append(sig.Misses, e)
			}
		}
	}
}

// example reads a section of fields, or for a signature with one condition the
// value of its field alone.
func (r *reader) example(sig *Signature, n *node) (Example, bool) {
	e := Example{at: n.at}
	switch {
	case n.kind == kindText && !sig.Combination():
		if sig.Conditions[0].Field == "" {
			return e, false // reported where the field should be
		}
		err := e.Message.set(sig.Conditions[0].Field, n.text)
		if err != nil {
			r.fail(n.at, "%v", err)
		}
		return e, err == nil
	case n.kind != kindSection:
		r.fail(n.at, "an example must be a section of fields, not %s", n.kind)
		return e, false
	}
	for _, k := range r.known(n, append(fieldNames(), "who")...) {
		text := r.textOf(k)
		if k.name == "who" {
			e.Who = text
		} else if err := e.Message.set(k.name, text); err != nil {
			r.fail(k.at, "%v", err)
		}
	}
	return e, true
}

// set fills in a field of an example.
func (m *Message) set(name, text string) error {
	f := field(slices.Index(fieldNames(), name))
	if f == fieldChallenge {
		if text != challengeQOP && text != challengeNoQOP {
			return fmt.Errorf("challenge is %s or %s", challengeQOP, challengeNoQOP)
		}
		m.ChallengeKnown, m.ChallengeHadQOP = true, text == challengeQOP
		return nil
	}
	slot := m.slot(f)
	if slot == nil {
		whole, _, _ := strings.Cut(name, "-")
		if whole == "request" {
			whole = "request-uri"
		}
		return fmt.Errorf("%s is cut out of %s; give that one in the example", name, whole)
	}
	*slot = []byte(text)
	return nil
}
