package scanner

// entry is what a value must have for anything in its field to match: one of these
// lengths and, if it is not empty, one of these first bytes. It is all that most
// fields of most messages are asked.
type entry struct {
	lengths uint64 // a bit for each, the last one for 63 and more
	first   byteSet
}

func (e *entry) may(v []byte) bool {
	return e.lengths>>min(uint(len(v)), 63)&1 != 0 && (len(v) == 0 || e.first.has(v[0]))
}

// begins says whether a value that v begins with may be one to match; it may be the
// empty one.
func (e *entry) begins(v []byte) bool {
	return e.lengths&1 != 0 || len(v) > 0 && e.first.has(v[0])
}

func (e *entry) length(n int) { e.lengths |= 1 << min(n, 63) }

// from adds the lengths from n on.
func (e *entry) from(n int) { e.lengths |= ^uint64(0) << min(n, 63) }

// byteSet is a set of bytes.
type byteSet [4]uint64

func (s *byteSet) has(c byte) bool { return s[c>>6]>>(c&63)&1 != 0 }

// add adds c, a letter in both cases.
func (s *byteSet) add(c byte) {
	c = lower(c)
	s[c>>6] |= 1 << (c & 63)
	if c >= 'a' && c <= 'z' {
		c -= 'a' - 'A'
		s[c>>6] |= 1 << (c & 63)
	}
}

func (s *byteSet) fill() { *s = byteSet{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)} }

// fieldSet is a set of fields.
type fieldSet uint32

const everyField = fieldSet(1)<<fieldCount - 1

func (f field) set() fieldSet { return 1 << f }

func (s fieldSet) has(f field) bool { return s&f.set() != 0 }
