package conf

import "strings"

// origin says where a value was written. The zero origin is a default.
type origin struct {
	line, column int
	variable     string
}

func (o origin) isDefault() bool { return o == origin{} }

type shape uint8

const (
	shapeNull shape = iota
	shapeScalar
	shapeList
	shapeMap
)

func (s shape) String() string {
	return [...]string{"nothing", "one value", "a list", "a section with keys"}[s]
}

// node is a value as it was written, free of YAML: aliases and merge keys are
// resolved, scalars are their text. Nodes are shared between aliases and not
// changed once made.
type node struct {
	shape  shape
	at     origin
	text   string  // of a scalar
	items  []*node // of a list
	fields []field // of a map, each name once, in the order of the file
}

type field struct {
	name  string
	at    origin
	value *node
}

// writtenAt returns where a node is written; there may be none.
func (n *node) writtenAt() origin {
	if n == nil {
		return origin{}
	}
	return n.at
}

// itemAt returns the origin of the i-th item of a list, or that of the list.
func (n *node) itemAt(i int) origin {
	if i < len(n.items) {
		return n.items[i].at
	}
	return n.at
}

// textNode makes a node of the text of an environment variable: items are
// separated by commas, and the key and value of a map's item by "=".
func textNode(text string, want shape, at origin) *node {
	n := &node{shape: want, at: at, text: text}
	if want == shapeScalar || strings.TrimSpace(text) == "" {
		return n
	}
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		name, value, _ := strings.Cut(item, "=")
		if want == shapeMap {
			n.fields = append(n.fields, field{name: name, at: at, value: textNode(value, shapeScalar, at)})
		} else {
			n.items = append(n.items, textNode(item, shapeScalar, at))
		}
	}
	return n
}

// withoutOrigin makes a value a default.
func (n *node) withoutOrigin() *node {
	n.at = origin{}
	for _, it := range n.items {
		it.withoutOrigin()
	}
	return n
}
