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
	var t tally
	t.count(s.program, &h)
	if t.best.score == 0 {
		return Match{}
	}
	return Match{Score: t.sum(), Signature: s.signatures[t.best.signature].ID, Sure: t.best.score >= Threshold}
}

// Explain returns the signatures that match a message, the highest score first.
func (s *Set) Explain(m *Message) []Signature {
	if s == nil {
		return nil
	}
	var h hits
	s.program.run(m, &h)
	var matching []Signature
	for atom := range s.program.atoms {
		if !h.has(uint16(atom)) {
			continue
		}
		for _, single := range s.program.singles[atom] {
			matching = append(matching, s.signatures[single.signature])
		}
		for _, c := range s.program.leads[atom] {
			if c.holds(&h) {
				matching = append(matching, s.signatures[c.signature])
			}
		}
	}
	slices.SortStableFunc(matching, func(a, b Signature) int { return cmp.Compare(b.Score, a.Score) })
	return matching
}

// tally adds up scores.
type tally struct {
	best     scored // of signatures with the same score, the first in the file
	combined uint16
	fields   [fieldCount]uint16
}

func (t *tally) count(p *program, h *hits) {
	for word, live := range p.live {
		for rest := h[word] & live; rest != 0; rest &= rest - 1 {
			atom := word<<6 + bits.TrailingZeros64(rest)
			for _, s := range p.singles[atom] {
				t.fields[s.field] = max(t.fields[s.field], s.score)
				t.better(s)
			}
			for i := range p.leads[atom] {
				if c := &p.leads[atom][i]; c.holds(h) {
					t.combined = max(t.combined, c.score)
					t.better(c.scored)
				}
			}
		}
	}
}

func (t *tally) better(s scored) {
	if s.score > t.best.score || s.score == t.best.score && s.signature < t.best.signature {
		t.best = s
	}
}

func (t *tally) sum() int {
	sum := int(t.combined)
	for _, score := range t.fields {
		sum += int(score)
	}
	return sum
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
	p.field(fieldMethod, m.Method, h)
	p.field(fieldRequestURI, m.RequestURI, h)
	p.field(fieldUserAgent, m.UserAgent, h)
	p.field(fieldServer, m.Server, h)
	p.field(fieldFromDisplay, unquoted(m.FromDisplay), h)
	p.field(fieldFromUser, m.FromUser, h)
	p.field(fieldFromHost, m.FromHost, h)
	p.field(fieldFromTag, m.FromTag, h)
	p.field(fieldToDisplay, unquoted(m.ToDisplay), h)
	p.field(fieldToUser, m.ToUser, h)
	p.field(fieldToHost, m.ToHost, h)
	p.field(fieldCallID, m.CallID, h)
	p.field(fieldContact, m.Contact, h)
	p.field(fieldViaHost, m.ViaHost, h)
	p.field(fieldViaBranch, m.ViaBranch, h)
	p.field(fieldAccept, m.Accept, h)
	p.field(fieldQOP, unquoted(m.QOP), h)
	p.field(fieldCNonce, m.CNonce, h)
	if p.contact {
		user, host := splitURI(m.Contact)
		p.field(fieldContactUser, user, h)
		p.field(fieldContactHost, host, h)
	}
	if p.request {
		user, host := splitURI(m.RequestURI)
		p.field(fieldRequestUser, user, h)
		p.field(fieldRequestHost, host, h)
	}
	if m.ChallengeKnown {
		value := p.qop[0]
		if m.ChallengeHadQOP {
			value = p.qop[1]
		}
		p.field(fieldChallenge, value, h)
	} else {
		p.field(fieldChallenge, nil, h)
	}
}

// field notes the atoms that hold for the value of a field.
func (p *program) field(f field, v []byte, h *hits) {
	if p.wants[f]&(1<<min(len(v), 63)) != 0 {
		p.fields[f].run(v, h)
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
	if f.prefix.may(v[0]) {
		for i := range f.prefix.needles {
			if n := &f.prefix.needles[i]; len(n.text) <= len(v) && n.equal(v[:len(n.text)]) {
				h.set(n.atom)
			}
		}
	}
	if f.suffix.may(v[len(v)-1]) {
		for i := range f.suffix.needles {
			if n := &f.suffix.needles[i]; len(n.text) <= len(v) && n.equal(v[len(v)-len(n.text):]) {
				h.set(n.atom)
			}
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
