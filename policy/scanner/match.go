package scanner

import (
	"cmp"
	"math/bits"
	"slices"
)

// Match is what the signatures say about a message.
type Match struct {
	// Score adds up the highest score of each field and the highest one of the
	// combinations: names that say the same about one field do not add up.
	Score int
	// Signature is the ID of the signature with the highest score, empty when
	// none matches.
	Signature string
	// Sure says that this signature reaches the threshold alone; else a score
	// that does is a sum of hints.
	Sure bool
}

// Scanner says that the message is one of an attack tool.
func (m Match) Scanner() bool { return m.Score >= Threshold }

// Match judges a message. It allocates nothing.
func (s *Set) Match(m *Message) Match {
	if s == nil {
		return Match{}
	}
	var h hits
	s.program.run(m, &h)
	if !h.any {
		return Match{}
	}
	return s.score(&h)
}

// Explain returns the signatures that match a message, the highest score first.
func (s *Set) Explain(m *Message) []Signature {
	if s == nil {
		return nil
	}
	var h hits
	s.program.run(m, &h)
	var matching []Signature
	s.program.each(&h, func(hit scored, _ bool) {
		matching = append(matching, s.signatures[hit.signature])
	})
	slices.SortStableFunc(matching, func(a, b Signature) int { return cmp.Compare(b.Score, a.Score) })
	return matching
}

// score adds up. Of signatures with the same score the first in the file names
// the match.
func (s *Set) score(h *hits) Match {
	var byField [fieldCount]uint16
	var combined, best uint16
	first := -1
	s.program.each(h, func(hit scored, combination bool) {
		if combination {
			combined = max(combined, hit.score)
		} else {
			byField[hit.field] = max(byField[hit.field], hit.score)
		}
		if hit.score > best || hit.score == best && int(hit.signature) < first {
			best, first = hit.score, int(hit.signature)
		}
	})
	if first < 0 {
		return Match{}
	}
	sum := int(combined)
	for _, score := range byField {
		sum += int(score)
	}
	return Match{Score: sum, Signature: s.signatures[first].ID, Sure: best >= Threshold}
}

// each calls f for each signature that holds.
func (p *program) each(h *hits, f func(hit scored, combination bool)) {
	for word, rest := range h.bits {
		for ; rest != 0; rest &= rest - 1 {
			atom := word<<6 + bits.TrailingZeros64(rest)
			for _, hit := range p.singles[atom] {
				f(hit, false)
			}
			for i := range p.leads[atom] {
				if c := &p.leads[atom][i]; c.holds(h) {
					f(c.scored, true)
				}
			}
		}
	}
}

func (c *combination) holds(h *hits) bool {
	for _, atom := range c.must {
		if !h.has(atom) {
			return false
		}
	}
	for _, atom := range c.mustNot {
		if h.has(atom) {
			return false
		}
	}
	return true
}

// run notes the atoms that hold for a message.
func (p *program) run(m *Message, h *hits) {
	var cut parts
	if p.contact {
		cut.contactUser, cut.contactHost = splitURI(m.Contact)
	}
	if p.request {
		cut.requestUser, cut.requestHost = splitURI(m.RequestURI)
	}
	if m.ChallengeKnown {
		cut.challenge = p.qop[0]
		if m.ChallengeHadQOP {
			cut.challenge = p.qop[1]
		}
	}
	for i := range p.matchers {
		f := &p.matchers[i]
		f.run(m.value(f.field, &cut), h)
	}
}

func (f *matcher) run(v []byte, h *hits) {
	if len(v) == 0 {
		for _, atom := range f.absent {
			h.set(atom)
		}
		return
	}
	for _, atom := range f.present {
		h.set(atom)
	}
	if len(v) < len(f.equal) {
		note(f.equal[len(v)], v, h)
	}
	for _, n := range f.prefix.of(v[0]) {
		if len(n.text) <= len(v) && n.equal(v[:len(n.text)]) {
			h.set(n.atom)
		}
	}
	for _, n := range f.suffix.of(v[len(v)-1]) {
		if len(n.text) <= len(v) && n.equal(v[len(v)-len(n.text):]) {
			h.set(n.atom)
		}
	}
	if f.scan != nil {
		f.scan.scan(v[:min(len(v), maxScan)], h)
	}
	for _, s := range f.shapes {
		if s.shape.fits(v) {
			h.set(s.atom)
		}
	}
}

func note(needles []needle, v []byte, h *hits) {
	for i := range needles {
		if needles[i].equal(v) {
			h.set(needles[i].atom)
		}
	}
}
