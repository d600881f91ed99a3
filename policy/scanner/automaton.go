package scanner

import "slices"

// needle is a text that a condition looks for. Its text is in lower case unless
// the case matters.
type needle struct {
	text  string
	exact bool   // case matters
	token bool   // must not be a part of a longer word
	atom  uint16 // the condition that it fulfils
}

// equal compares a value of the needle's length.
func (n *needle) equal(v []byte) bool {
	if n.exact {
		return string(v) == n.text
	}
	for i := range v {
		if lower(v[i]) != n.text[i] {
			return false
		}
	}
	return true
}

// at checks what the automaton does not know: the needle ends before end in v.
func (n *needle) at(v []byte, end int) bool {
	start := end - len(n.text)
	if n.exact && string(v[start:end]) != n.text {
		return false
	}
	return !n.token || (start == 0 || !wordByte(v[start-1])) && (end == len(v) || !wordByte(v[end]))
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// wordByte says that c may be inside a word. Bytes of UTF-8 beyond ASCII count as
// letters.
func wordByte(c byte) bool {
	l := lower(c)
	return l >= 'a' && l <= 'z' || c >= '0' && c <= '9' || c == '_' || c >= 0x80
}

// automaton finds all needles in one pass over a value (Aho and Corasick 1975),
// without regard to case. One table look-up a byte, whatever the number of needles.
type automaton struct {
	class [256]uint8 // byte → column; 0 for bytes that are in no needle
	shift uint8      // log2 of the number of columns
	next  []uint32   // state<<shift + class → state<<shift
	first uint32     // states<<shift from here on have found something
	found [][]needle // by state - first state

	// least is the length of the shortest needle, and pairs has each two bytes in a
	// row, as columns, of the first least bytes of a needle. Where no needle has
	// begun, the last two of the next least bytes tell whether one begins before
	// them (Wu and Manber 1994).
	least int
	pairs []uint64
}

// newAutomaton returns nil when there are no needles.
func newAutomaton(needles []needle) *automaton {
	if len(needles) == 0 {
		return nil
	}
	a := &automaton{}
	columns := a.classes(needles)
	for 1<<a.shift < columns {
		a.shift++
	}
	t := newTrie(columns)
	for _, n := range needles {
		t.add(a, n)
	}
	t.link()
	a.number(t)
	a.pair(needles)
	return a
}

// pair fills least and pairs.
func (a *automaton) pair(needles []needle) {
	a.least = len(needles[0].text)
	for _, n := range needles {
		a.least = min(a.least, len(n.text))
	}
	a.pairs = make([]uint64, (1<<(2*a.shift)+63)/64)
	for _, n := range needles {
		for i := range a.least - 1 {
			at := a.pairOf(n.text[i], n.text[i+1])
			a.pairs[at>>6] |= 1 << (at & 63)
		}
	}
}

func (a *automaton) pairOf(b, c byte) uint32 {
	return uint32(a.class[b])<<a.shift | uint32(a.class[c])
}

// skip returns the first place in v, from i on, where a needle may begin; that it
// is within v does not mean more.
func (a *automaton) skip(v []byte, i int) int {
	step := a.least - 1
	if step == 0 {
		return i
	}
	for j := i + step; j < len(v); j += step {
		if at := a.pairOf(v[j-1], v[j]); a.pairs[at>>6]>>(at&63)&1 != 0 {
			return j - step
		}
	}
	return len(v)
}

// classes gives each byte that occurs in a needle a column.
func (a *automaton) classes(needles []needle) int {
	columns := 1
	for _, n := range needles {
		for i := range len(n.text) {
			c := lower(n.text[i])
			if a.class[c] == 0 {
				a.class[c] = uint8(columns)
				columns++
			}
		}
	}
	for c := byte('A'); c <= 'Z'; c++ {
		a.class[c] = a.class[lower(c)]
	}
	return columns
}

// trie is the automaton in the making. State 0 is the root.
type trie struct {
	columns int
	next    [][]uint16 // 0: none, until link has filled them
	fail    []uint16
	found   [][]needle
}

func newTrie(columns int) *trie {
	return &trie{columns: columns, next: [][]uint16{make([]uint16, columns)}, fail: []uint16{0}, found: [][]needle{nil}}
}

func (t *trie) add(a *automaton, n needle) {
	s := uint16(0)
	for i := range len(n.text) {
		to := &t.next[s][a.class[n.text[i]]]
		if *to == 0 {
			*to = uint16(len(t.next))
			s = *to
			t.next = append(t.next, make([]uint16, t.columns))
			t.fail = append(t.fail, 0)
			t.found = append(t.found, nil)
			continue
		}
		s = *to
	}
	t.found[s] = append(t.found[s], n)
}

// link completes the transitions, nearest states first: where the trie has no way
// on, it goes on from the longest suffix that the trie has.
func (t *trie) link() {
	var queue []uint16
	for _, s := range t.next[0] {
		if s != 0 {
			queue = append(queue, s)
		}
	}
	for i := 0; i < len(queue); i++ {
		s := queue[i]
		t.found[s] = slices.Concat(t.found[s], t.found[t.fail[s]])
		for c, to := range t.next[s] {
			onFail := t.next[t.fail[s]][c]
			if to == 0 {
				t.next[s][c] = onFail
				continue
			}
			t.fail[to] = onFail
			queue = append(queue, to)
		}
	}
}

// number gives the states that have found something the highest numbers, so that
// the scan has one comparison to make.
func (a *automaton) number(t *trie) {
	order := make([]int, 0, len(t.next))
	for s := range t.next {
		if len(t.found[s]) == 0 {
			order = append(order, s)
		}
	}
	a.first = uint32(len(order)) << a.shift
	for s := range t.next {
		if len(t.found[s]) > 0 {
			order = append(order, s)
			a.found = append(a.found, t.found[s])
		}
	}
	row := make([]uint32, len(order))
	for n, s := range order {
		row[s] = uint32(n) << a.shift
	}
	a.next = make([]uint32, len(order)<<a.shift)
	for s := range t.next {
		for c, to := range t.next[s] {
			a.next[int(row[s])+c] = row[to]
		}
	}
}

// scan notes the conditions whose needles are in v.
func (a *automaton) scan(v []byte, h *hits) {
	s := uint32(0)
	next := a.next
	for i := 0; i < len(v); i++ {
		if s == 0 {
			if i = a.skip(v, i); i >= len(v) {
				return
			}
		}
		s = next[s+uint32(a.class[v[i]])]
		if s < a.first {
			continue
		}
		found := a.found[(s-a.first)>>a.shift]
		for j := range found {
			if n := &found[j]; n.at(v, i+1) {
				h.set(n.atom)
			}
		}
	}
}
