// Package scanner recognises the messages of SIP attack tools. Signatures look at
// names that the tools give themselves and at the shapes of their tags, branches
// and Call-IDs; each gives a score, and [Threshold] together is a scanner.
//
// The signatures come from a file inside the program, default.yaml, and may be
// changed and added to by a file of one's own; docs/signatures.md describes the
// format. Both are compiled into a [Set], which does not change any more and may
// be used by any number of goroutines.
package scanner

import (
	_ "embed"
	"slices"
)

// Threshold is the score from which on a message is a scanner's.
const Threshold = 100

// Signature is one fact about the messages of attack tools.
type Signature struct {
	ID     string
	Score  int    // 1 to 100; 0: switched off
	Source string // where the fact is from
	Note   string // what it is and why the score harms nobody else
	Origin string // file and line
	// Conditions must hold all of them. One condition gives points to its field;
	// several are a combination.
	Conditions []Condition
	Hits       []Example // messages that it must match
	Misses     []Example // messages that come near and that it must not match
}

// Combination says that several conditions must come together.
func (s *Signature) Combination() bool { return len(s.Conditions) > 1 }

// Condition looks at one field of a message.
type Condition struct {
	Field     string
	Match     string   // equal, prefix, suffix, contains, token, shape, present or absent
	Values    []string // any of them; names of shapes when Match is shape
	ExactCase bool     // else ASCII letters match in either case
	Not       bool     // the condition must not hold
}

// Example is a message that a signature is tried on.
type Example struct {
	Who     string // sends such a message
	Message Message
	at      place
}

//go:embed default.yaml
var defaultFile []byte

// DefaultName is the name that errors and origins give to the embedded file.
const DefaultName = "default.yaml"

// Default returns the signatures that come with the program.
func Default() *Set {
	s, err := Parse(DefaultName, defaultFile)
	if err != nil {
		// A test holds that the file is right, and it is a part of the program.
		panic("scanner: embedded " + err.Error())
	}
	return s
}

// Set is an immutable set of signatures. The nil Set has none.
type Set struct {
	name       string
	signatures []Signature
	changes    []change // to signatures of another file
	places     map[string]place
	program    *program
}

// change is an entry under "change": it waits for the set that it is about.
type change struct {
	id    string
	at    place
	score int // 0: switch off
}

// Signatures returns all signatures, those that are switched off included. What
// the entries refer to must not be changed.
func (s *Set) Signatures() []Signature {
	if s == nil {
		return nil
	}
	return slices.Clone(s.signatures)
}

// Signature returns the signature with an ID.
func (s *Set) Signature(id string) (Signature, bool) {
	if s == nil {
		return Signature{}, false
	}
	i := slices.IndexFunc(s.signatures, func(sig Signature) bool { return sig.ID == id })
	if i < 0 {
		return Signature{}, false
	}
	return s.signatures[i], true
}

// Merge returns a set with the signatures of both and with own's changes made to
// those of s. Neither s nor own changes. The error is of type [Errors] and names
// places in own's file.
func (s *Set) Merge(own *Set) (*Set, error) {
	if own == nil {
		return s, nil
	}
	rep := &report{file: own.name}
	merged := &Set{name: own.name, signatures: s.Signatures(), places: own.places}
	index := map[string]int{}
	for i, sig := range merged.signatures {
		index[sig.ID] = i
	}
	for _, c := range own.changes {
		i, known := index[c.id]
		if !known {
			rep.fail(c.at, "there is no signature %s to change; %s", quote(c.id), suggest(c.id, s.ids()))
			continue
		}
		merged.signatures[i].Score = c.score
	}
	for _, sig := range own.signatures {
		if i, twice := index[sig.ID]; twice {
			rep.fail(own.places[sig.ID], "the id %s is taken by the signature at %s; choose another one, or use it under \"change\"", quote(sig.ID), merged.signatures[i].Origin)
			continue
		}
		merged.signatures = append(merged.signatures, sig)
	}
	merged.program = compile(merged.signatures, rep)
	if err := rep.err(); err != nil {
		return nil, err
	}
	return merged, nil
}

func (s *Set) ids() []string {
	var ids []string
	for _, sig := range s.Signatures() {
		ids = append(ids, sig.ID)
	}
	return ids
}
