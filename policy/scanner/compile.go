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

// hits is what is known of a message: the fields that have been looked at, and
// which of their atoms hold.
type hits struct {
	looked fieldSet
	atoms  [maxAtoms / 64]uint64
}

func (h *hits) set(atom uint16) { h.atoms[atom>>6] |= 1 << (atom & 63) }

func (h *hits) has(atom uint16) bool { return h.atoms[atom>>6]&(1<<(atom&63)) != 0 }

// program is a set of signatures in the form in which they are matched.
// Conditions that are the same in several signatures are one atom.
type program struct {
	// early are the fields that are looked at in each message: what decides alone,
	// begins a combination or costs nothing. The others wait until a combination
	// asks for them, which few messages come to.
	early   fieldSet
	entries [fieldCount]entry
	fields  [fieldCount]*matcher
	qop     [2][]byte       // the values of the field challenge: without and with qop
	fieldOf []field         // by atom
	live    []uint64        // the atoms that singles or leads have something for: all of early fields
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

// light says that the matcher asks no more than whether there is a value.
func (f *matcher) light() bool {
	return len(f.equal)+len(f.prefix.needles)+len(f.suffix.needles)+len(f.shapes) == 0 && f.scan == nil
}

// entry returns what a value must have for the matcher to find something in it.
func (f *matcher) entry() (e entry) {
	if len(f.absent) > 0 {
		e.lengths = 1
	}
	if len(f.present) > 0 {
		e.from(1)
		e.first.fill()
	}
	for _, needles := range f.equal {
		for _, n := range needles {
			e.length(len(n.text))
			e.first.add(n.text[0])
		}
	}
	for _, n := range f.prefix.needles {
		e.from(len(n.text))
		e.first.add(n.text[0])
	}
	for _, n := range f.suffix.needles {
		e.from(len(n.text))
		e.first.fill()
	}
	if f.scan != nil {
		e.from(f.scan.least)
		e.first.fill()
	}
	for _, s := range f.shapes {
		s.shape.enter(&e)
	}
	return e
}

type shapeAtom struct {
	shape shape
	atom  uint16
}

// ends holds needles that a value may begin or end with.
type ends struct {
	bytes   byteSet // those that they have at that end
	needles []needle
}

func (e *ends) add(c byte, n needle) {
	e.bytes.add(c)
	e.needles = append(e.needles, n)
}

// builder collects atoms and what the matchers need for them.
type builder struct {
	*program
	atomOf  map[string]uint16
	inside  [fieldCount][]needle // needles of the automatons
	text    int
	several []combination
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
	if n := len(b.fieldOf); n > maxAtoms {
		rep.fail(place{}, "there are %d different conditions, and no more than %d are possible", n, maxAtoms)
		return nil
	}
	if b.text > maxText {
		rep.fail(place{}, "the values of contains and token have %d characters together, and no more than %d are possible", b.text, maxText)
		return nil
	}
	for f, m := range b.fields {
		if m != nil {
			m.scan = newAutomaton(b.inside[f])
			b.entries[f] = m.entry()
		}
	}
	for _, c := range b.several {
		b.begin(c)
	}
	for f, m := range b.fields {
		if m != nil && m.light() {
			b.early |= field(f).set()
		}
	}
	b.live = make([]uint64, (len(b.fieldOf)+63)/64)
	for atom := range b.fieldOf {
		if len(b.singles[atom])+len(b.leads[atom]) > 0 {
			b.live[atom/64] |= 1 << (atom % 64)
		}
	}
	return b.program
}

// begin chooses the condition that a combination is begun by: one of a field that
// is looked at anyway, if it has any.
func (b *builder) begin(c combination) {
	lead := c.must[0]
	for _, atom := range c.must {
		if b.early.has(b.fieldOf[atom]) {
			lead = atom
			break
		}
	}
	b.early |= b.fieldOf[lead].set()
	b.leads[lead] = append(b.leads[lead], c)
}

func (b *builder) add(index uint16, sig *Signature) {
	s := scored{signature: index, score: uint16(sig.Score)}
	if !sig.Combination() {
		c := &sig.Conditions[0]
		s.field = field(slices.Index(fieldNames(), c.Field))
		atom := b.atom(c)
		b.singles[atom] = append(b.singles[atom], s)
		b.early |= s.field.set()
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
	b.several = append(b.several, co)
}

// atom returns the number of a condition.
func (b *builder) atom(c *Condition) uint16 {
	key := fmt.Sprintf("%s %s %t %q", c.Field, c.Match, c.ExactCase, c.Values)
	if atom, ok := b.atomOf[key]; ok {
		return atom
	}
	f := field(slices.Index(fieldNames(), c.Field))
	atom := uint16(len(b.fieldOf))
	b.atomOf[key] = atom
	b.fieldOf = append(b.fieldOf, f)
	b.singles = append(b.singles, nil)
	b.leads = append(b.leads, nil)
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
