package conf

import (
	"slices"
	"strings"
)

// fieldOf is a key inside an item of type T.
type fieldOf[T any] struct {
	part
	inner []part // of a section
	read  func(d *decoder, key string, n *node, v *T)
}

// in makes a key inside an item of a field of the item. The default is only
// documented: the item begins with it.
func in[T, V any](name, def string, k kind[V], field func(*T) *V) fieldOf[T] {
	return fieldOf[T]{part{name, k.name, def, k.shape == shapeList}, k.parts, func(d *decoder, key string, n *node, v *T) { *field(v) = k.read(d, key, n) }}
}

// item makes a kind of a section with keys of its own. It begins as start, and check,
// if not nil, looks at it as a whole once each of its keys is right. given holds those that are written.
func item[T any](what string, start T, check func(d *decoder, key string, n *node, given []string, v *T), fields ...fieldOf[T]) kind[T] {
	k := kind[T]{name: "section", shape: shapeMap}
	var names []string
	for _, f := range fields {
		names = append(names, f.name)
		if len(f.inner) == 0 {
			k.parts = append(k.parts, f.part)
		}
		for _, p := range f.inner {
			p.name = join(f.name, p.name)
			k.parts = append(k.parts, p)
		}
	}
	k.read = func(d *decoder, key string, n *node) T {
		v := start
		if n.shape != shapeMap {
			d.fail(n.at, key, `this is %s where %s belongs; write "%s: …", and its other keys under it`, n.shape, what, names[0])
			return v
		}
		before := len(d.problems)
		var given []string
		for _, f := range n.fields {
			i := slices.Index(names, f.name)
			if i < 0 {
				d.fail(f.at, join(key, f.name), "unknown key; %s", suggest(f.name, names))
				continue
			}
			given = append(given, f.name)
			fields[i].read(d, join(key, f.name), f.value, &v)
		}
		if len(d.problems) == before && check != nil {
			check(d, key, n, given, &v)
		}
		return v
	}
	return k
}

// fieldAt returns where a key of a section is written, or the section.
func (n *node) fieldAt(name string) origin {
	for _, f := range n.fields {
		if f.name == name {
			return f.at
		}
	}
	return n.at
}

// anyOf writes names for people: "a, b or c".
func anyOf(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}
