package scanner

import (
	"fmt"
	"slices"
	"strings"
)

const (
	// maxAtoms is how many different conditions a set may have.
	maxAtoms = 1024
	// maxText bounds the memory of the automatons, which grows with the number of
	// characters that they look for.
	maxText = 32 << 10
	// maxScan is how much of a value is searched for texts that may stand
	// anywhere, so that a long header does not cost more than it is worth.
	maxScan = 512
)

// hits is the set of the atoms that hold for a message.
type hits [maxAtoms / 64]uint64

func (h *hits) set(atom uint16) { h[atom>>6] |= 1 << (atom & 63) }

func (h *hits) has(atom uint16) bool { return h[atom>>6]&(1<<(atom&63)) != 0 }

// program is a set of signatures in the form in which they are matched.
// Conditions that are the same in several signatures are one atom.
type program struct {
	// wants has a bit for each length of a value, the last one for 63 and more:
	// without it, nothing can match. Most fields of most messages end here.
	wants   [fieldCount]uint64
	fields  [fieldCount]*matcher
	contact bool            // some signature looks at a part of Contact
	request bool            // some signature looks at a part of the Request-URI
	qop     [2][]byte       // the values of the field challenge: without and with qop
	atoms   int             // number of atoms
	live    []uint64        // the atoms that singles or leads have something for
	singles [][]scored      // by atom: signatures that need nothing else
	leads   [][]combination // by atom: combinations that it begins
}

// scored is a signature of one condition.
type scored struct {
	signature uint16
	score     uint16
	field     field
}

// combination is a signature of several conditions.
type combination struct {
	scored
	must, mustNot []uint16
}

// matcher finds the atoms of one field.
type matcher struct {
	absent  []uint16
	present []uint16
	equal   [][]needle // by length
	prefix  ends
	suffix  ends
	scan    *automaton
	shapes  []shapeAtom
}

// wants returns the lengths of values that the matcher may find something in.
func (f *matcher) wants() uint64 {
	var w uint64
	if len(f.present)+len(f.prefix.needles)+len(f.suffix.needles)+len(f.shapes) > 0 || f.scan != nil {
		w = ^uint64(1)
	}
	if len(f.absent) > 0 {
		w |= 1
	}
	for n := range f.equal {
		if len(f.equal[n]) > 0 {
			w |= 1 << min(n, 63)
		}
	}
	return w
}

type shapeAtom struct {
	shape shape
	atom  uint16
}

// ends holds needles that a value may begin or end with.
type ends struct {
	bytes   [4]uint64 // the bytes, in lower case, that they have at that end
	needles []needle
}

func (e *ends) add(c byte, n needle) {
	c = lower(c)
	e.bytes[c>>6] |= 1 << (c & 63)
	e.needles = append(e.needles, n)
}

func (e *ends) may(c byte) bool {
	c = lower(c)
	return e.bytes[c>>6]&(1<<(c&63)) != 0
}

// builder collects atoms and what the matchers need for them.
type builder struct {
	*program
	atomOf map[string]uint16
	inside [fieldCount][]needle // needles of the automatons
	text   int
}

// compile makes the program of the signatures that are switched on. The
// signatures have been checked; only their number can be a problem.
func compile(signatures []Signature, rep *report) *program {
	b := &builder{program: &program{}, atomOf: map[string]uint16{}}
	b.qop = [2][]byte{[]byte(challengeNoQOP), []byte(challengeQOP)}
	for i := range signatures {
		if signatures[i].Score > 0 {
			b.add(uint16(i), &signatures[i])
		}
	}
	if b.atoms > maxAtoms {
		rep.fail(place{}, "there are %d different conditions, and no more than %d are possible", b.atoms, maxAtoms)
		return nil
	}
	if b.text > maxText {
		rep.fail(place{}, "the values of contains and token have %d characters together, and no more than %d are possible", b.text, maxText)
		return nil
	}
	for f, m := range b.fields {
		if m != nil {
			m.scan = newAutomaton(b.inside[f])
			b.wants[f] = m.wants()
		}
	}
	b.contact = b.fields[fieldContactUser] != nil || b.fields[fieldContactHost] != nil
	b.request = b.fields[fieldRequestUser] != nil || b.fields[fieldRequestHost] != nil
	b.live = make([]uint64, (b.atoms+63)/64)
	for atom := range b.atoms {
		if len(b.singles[atom])+len(b.leads[atom]) > 0 {
			b.live[atom/64] |= 1 << (atom % 64)
		}
	}
	return b.program
}

func (b *builder) add(index uint16, sig *Signature) {
	s := scored{signature: index, score: uint16(sig.Score)}
	if !sig.Combination() {
		c := &sig.Conditions[0]
		s.field = field(slices.Index(fieldNames(), c.Field))
		atom := b.atom(c)
		b.singles[atom] = append(b.singles[atom], s)
		return
	}
	co := combination{scored: s}
	for i := range sig.Conditions {
		c := &sig.Conditions[i]
		if c.Not {
			co.mustNot = append(co.mustNot, b.atom(c))
		} else {
			co.must = append(co.must, b.atom(c))
		}
	}
	lead := co.must[0]
	b.leads[lead] = append(b.leads[lead], co)
}

// atom returns the number of a condition.
func (b *builder) atom(c *Condition) uint16 {
	key := fmt.Sprintf("%s %s %t %q", c.Field, c.Match, c.ExactCase, c.Values)
	if atom, ok := b.atomOf[key]; ok {
		return atom
	}
	atom := uint16(b.atoms)
	b.atoms++
	b.atomOf[key] = atom
	b.singles = append(b.singles, nil)
	b.leads = append(b.leads, nil)
	f := field(slices.Index(fieldNames(), c.Field))
	if b.fields[f] == nil {
		b.fields[f] = &matcher{}
	}
	b.condition(f, c, atom)
	return atom
}

func (b *builder) condition(f field, c *Condition, atom uint16) {
	m := b.fields[f]
	switch c.Match {
	case matchAbsent:
		m.absent = append(m.absent, atom)
		return
	case matchPresent:
		m.present = append(m.present, atom)
		return
	}
	for _, v := range c.Values {
		if !c.ExactCase {
			v = asciiLower(v)
		}
		n := needle{text: v, exact: c.ExactCase, token: c.Match == matchToken, atom: atom}
		switch c.Match {
		case matchEqual:
			for len(m.equal) <= len(v) {
				m.equal = append(m.equal, nil)
			}
			m.equal[len(v)] = append(m.equal[len(v)], n)
		case matchPrefix:
			m.prefix.add(v[0], n)
		case matchSuffix:
			m.suffix.add(v[len(v)-1], n)
		case matchContains, matchToken:
			b.text += len(v)
			b.inside[f] = append(b.inside[f], n)
		case matchShape:
			m.shapes = append(m.shapes, shapeAtom{shape: shape(slices.Index(shapeNames(), v)), atom: atom})
		}
	}
}

func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
