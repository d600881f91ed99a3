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
	s.program.run(s.program.early, m, &h)
	if !s.program.alive(&h) {
		return Match{} // most messages
	}
	var t tally
	t.count(s.program, m, &h)
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
	s.program.run(everyField, m, &h)
	var matching []Signature
	for atom := range s.program.fieldOf {
		if !h.has(uint16(atom)) {
			continue
		}
		for _, single := range s.program.singles[atom] {
			matching = append(matching, s.signatures[single.signature])
		}
		for _, c := range s.program.leads[atom] {
			if s.program.holds(&c, m, &h) {
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

// alive says whether a signature may match, from the early fields.
func (p *program) alive(h *hits) bool {
	for word, live := range p.live {
		if h.atoms[word]&live != 0 {
			return true
		}
	}
	return false
}

func (t *tally) count(p *program, m *Message, h *hits) {
	for word, live := range p.live {
		for rest := h.atoms[word] & live; rest != 0; rest &= rest - 1 {
			atom := word<<6 + bits.TrailingZeros64(rest)
			for _, s := range p.singles[atom] {
				t.fields[s.field] = max(t.fields[s.field], s.score)
				t.better(s)
			}
			for i := range p.leads[atom] {
				if c := &p.leads[atom][i]; p.holds(c, m, h) {
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

func (p *program) holds(c *combination, m *Message, h *hits) bool {
	for _, atom := range c.must {
		if !p.has(atom, m, h) {
			return false
		}
	}
	for _, atom := range c.mustNot {
		if p.has(atom, m, h) {
			return false
		}
	}
	return true
}

// has says whether an atom holds. It looks at its field if nobody has.
func (p *program) has(atom uint16, m *Message, h *hits) bool {
	if f := p.fieldOf[atom]; !h.looked.has(f) {
		p.run(f.set(), m, h)
	}
	return h.has(atom)
}

// run notes the atoms of some fields that hold for a message.
func (p *program) run(at fieldSet, m *Message, h *hits) {
	h.looked |= at
	p.field(at, fieldMethod, m.Method, h)
	p.field(at, fieldRequestURI, m.RequestURI, h)
	p.field(at, fieldUserAgent, m.UserAgent, h)
	p.field(at, fieldServer, m.Server, h)
	p.field(at, fieldFromDisplay, unquoted(m.FromDisplay), h)
	p.field(at, fieldFromUser, m.FromUser, h)
	p.field(at, fieldFromHost, m.FromHost, h)
	p.field(at, fieldFromTag, m.FromTag, h)
	p.field(at, fieldToDisplay, unquoted(m.ToDisplay), h)
	p.field(at, fieldToUser, m.ToUser, h)
	p.field(at, fieldToHost, m.ToHost, h)
	p.field(at, fieldCallID, m.CallID, h)
	p.field(at, fieldContact, m.Contact, h)
	p.field(at, fieldViaHost, m.ViaHost, h)
	p.field(at, fieldViaBranch, m.ViaBranch, h)
	p.field(at, fieldAccept, m.Accept, h)
	p.field(at, fieldQOP, unquoted(m.QOP), h)
	p.field(at, fieldCNonce, m.CNonce, h)
	if at.has(fieldContactUser) {
		p.field(at, fieldContactUser, userOf(m.Contact), h)
	}
	if at.has(fieldContactHost) {
		p.host(fieldContactHost, fromHost(m.Contact), h)
	}
	if at.has(fieldRequestUser) {
		p.field(at, fieldRequestUser, userOf(m.RequestURI), h)
	}
	if at.has(fieldRequestHost) {
		p.host(fieldRequestHost, fromHost(m.RequestURI), h)
	}
	if at.has(fieldChallenge) {
		p.field(at, fieldChallenge, p.challenge(m), h)
	}
}

func (p *program) challenge(m *Message) []byte {
	switch {
	case !m.ChallengeKnown:
		return nil
	case m.ChallengeHadQOP:
		return p.qop[1]
	}
	return p.qop[0]
}

// field notes the atoms that hold for the value of a field, if it is one of those
// to look at.
func (p *program) field(at fieldSet, f field, v []byte, h *hits) {
	if at.has(f) && p.entries[f].may(v) {
		p.fields[f].run(v, h)
	}
}

// host is field for the host that v begins with. Most begin with another byte than
// any that is looked for, so where they end is not looked for either.
func (p *program) host(f field, v []byte, h *hits) {
	if p.entries[f].begins(v) {
		p.field(f.set(), f, hostOf(v), h)
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
	if f.prefix.bytes.has(v[0]) {
		for i := range f.prefix.needles {
			if n := &f.prefix.needles[i]; len(n.text) <= len(v) && n.equal(v[:len(n.text)]) {
				h.set(n.atom)
			}
		}
	}
	if f.suffix.bytes.has(v[len(v)-1]) {
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
