package conf

import (
	"bytes"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxFile keeps a wrong file name (a log, a disk image) from being parsed.
const maxFile = 1 << 20

// readYAML turns a file into nodes. It returns an empty map for a file without
// content, and nil when there is nothing to read on with; then why is in rep.
func readYAML(rep *report, text []byte) *node {
	r := &yamlReader{report: rep, anchors: map[string]*node{}}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if !r.checkText(text) {
		return nil
	}
	file := r.parse(text)
	if file == nil {
		return nil
	}
	return r.document(file)
}

type yamlReader struct {
	*report
	anchors map[string]*node
}

// checkText finds what would make the YAML parser give an unhelpful answer.
func (r *yamlReader) checkText(text []byte) bool {
	if len(text) > maxFile {
		r.fail(origin{}, "", "the file is larger than 1 MiB; put long lists of addresses into files named under lists.allow_files and lists.deny_files")
		return false
	}
	line := 0
	for l := range bytes.Lines(text) {
		line++
		if i := badByte(l); i >= 0 {
			r.fail(origin{line: line, column: 1 + utf8.RuneCount(l[:i])}, "", "there is a byte here that is not text in UTF-8; remove it")
			return false
		}
		indent := l[:len(l)-len(bytes.TrimLeft(l, " \t"))]
		if i := bytes.IndexByte(indent, '\t'); i >= 0 {
			r.fail(origin{line: line, column: 1 + i}, "", "the line is indented with a tab, which YAML does not allow; use spaces")
		}
	}
	return len(r.problems) == 0
}

// badByte returns the index of the first byte that no text file holds, or -1.
func badByte(line []byte) int {
	for i := 0; i < len(line); {
		c, n := utf8.DecodeRune(line[i:])
		if c == utf8.RuneError && n == 1 || unicode.IsControl(c) && c != '\t' && c != '\n' && c != '\r' {
			return i
		}
		i += n
	}
	return -1
}

func (r *yamlReader) parse(text []byte) (file *ast.File) {
	// The parser is not ours, and a mistake in it must not look like one of
	// sipward's.
	defer func() {
		if v := recover(); v != nil {
			r.fail(origin{}, "", "the file cannot be read as YAML; look for brackets and quotes that do not match")
			file = nil
		}
	}()
	tokens := joinFlowScalars(lexer.Tokenize(string(text)))
	if t := tooDeep(tokens); t != nil {
		r.fail(position(t), "", "too many levels of nesting; write plain sections and lists")
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err == nil {
		return file
	}
	at := origin{line: 1, column: 1}
	message := err.Error()
	var located yaml.Error
	if errors.As(err, &located) {
		message = located.GetMessage()
		at = position(located.GetToken())
	}
	r.fail(at, "", "this is not YAML: %s; %s", strings.ReplaceAll(message, "\t", `\t`), r.advice(text, at))
	return nil
}

// advice looks at the line of a syntax error for the usual causes.
func (r *yamlReader) advice(text []byte, at origin) string {
	// An open bracket or quote is often noticed only in the next line.
	lines := strings.Split(string(text), "\n")
	end := min(at.line, len(lines))
	line := strings.Join(lines[max(end-2, 0):end], "\n")
	switch {
	case strings.Contains(line, "://[") && strings.Contains(line, ": ["):
		return `an IPv6 address inside a list in brackets needs quotes: ["udp://[::]:5060"]`
	case strings.Contains(line, "]:") && strings.Contains(line, "["):
		return `an IPv6 address with a port needs quotes: "[2001:db8::1]:5060"`
	case strings.Count(line, "[") != strings.Count(line, "]"), strings.Count(line, "{") != strings.Count(line, "}"):
		return "look for a bracket that is not closed"
	case strings.ContainsAny(line, `"'`):
		return "look for a quote that is not closed"
	}
	return `write "key: value", with a space after the colon and keys of one section under each other`
}

func position(t *token.Token) origin {
	if t == nil || t.Position == nil {
		return origin{line: 1, column: 1}
	}
	return origin{line: max(t.Position.Line, 1), column: max(t.Position.Column, 1)}
}

// document finds the one document of the file.
func (r *yamlReader) document(file *ast.File) *node {
	empty := &node{shape: shapeMap, at: origin{line: 1, column: 1}}
	root := empty
	for _, doc := range file.Docs {
		if doc == nil || doc.Body == nil {
			continue
		}
		if _, ok := doc.Body.(*ast.CommentGroupNode); ok {
			continue
		}
		if root != empty {
			r.fail(r.at(doc.Body), "", `a second document begins here; put everything into one, without "---" in between`)
			return nil
		}
		if _, ok := doc.Body.(*ast.DirectiveNode); ok {
			r.fail(r.at(doc.Body), "", "YAML directives are not used here; remove the line")
			return nil
		}
		if root = r.node(doc.Body, "", 0); root == nil {
			return nil
		}
	}
	if root.shape != shapeMap {
		r.fail(root.at, "", `the file is %s, but it must be "key: value" lines; put a space after each colon`, root.shape)
		return nil
	}
	return root
}

// at returns where a node begins, which for a map is its first key.
func (r *yamlReader) at(n ast.Node) origin {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return r.at(n.Values[0])
		}
	case *ast.MappingValueNode:
		return r.at(n.Key)
	}
	return position(n.GetToken())
}

// node turns a syntax tree into nodes; nil when there is a problem that leaves
// nothing to look at.
func (r *yamlReader) node(n ast.Node, key string, depth int) *node {
	at := r.at(n)
	if depth > maxDepth {
		r.fail(at, key, "too many levels of nesting; write plain sections and lists")
		return nil
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return r.mapping(n.Values, at, key, depth)
	case *ast.MappingValueNode:
		return r.mapping([]*ast.MappingValueNode{n}, at, key, depth)
	case *ast.SequenceNode:
		list := &node{shape: shapeList, at: at}
		for i, v := range n.Values {
			if item := r.node(v, itemKey(key, i), depth+1); item != nil {
				list.items = append(list.items, item)
			}
		}
		return list
	case *ast.AnchorNode:
		value := r.node(n.Value, key, depth+1)
		if value != nil && n.Name != nil {
			r.anchors[n.Name.String()] = value
		}
		return value
	case *ast.AliasNode:
		value := r.anchors[n.Value.String()]
		if value == nil {
			r.fail(at, key, "there is no anchor &%s above this line; write the value itself", n.Value)
		}
		return value
	case *ast.NullNode:
		return &node{shape: shapeNull, at: at}
	case *ast.LiteralNode:
		return &node{shape: shapeScalar, at: at, text: n.Value.Value}
	case ast.ScalarNode:
		if _, ok := n.(*ast.TagNode); !ok {
			return &node{shape: shapeScalar, at: at, text: n.GetToken().Value}
		}
	}
	r.fail(at, key, "tags and other special forms of YAML are not used here; write the plain value")
	return nil
}

// mapping reads the fields of a map. A name that comes twice is a mistake; one
// that comes by a merge key ("<<") gives way to one that is written out.
func (r *yamlReader) mapping(values []*ast.MappingValueNode, at origin, key string, depth int) *node {
	m := &node{shape: shapeMap, at: at}
	seen := map[string]origin{}
	var merged []field
	for _, v := range values {
		at := r.at(v.Key)
		if v.Key.IsMergeKey() {
			merged = append(merged, r.merge(v.Value, key, depth)...)
			continue
		}
		name, ok := keyText(v.Key)
		if !ok {
			r.fail(at, key, "this is not a name of a key; write plain names, without anchors and brackets")
			continue
		}
		path := join(key, name)
		if first, twice := seen[name]; twice {
			r.fail(at, path, "the key is already given in line %d; keep one of them", first.line)
			continue
		}
		seen[name] = at
		if value := r.node(v.Value, path, depth+1); value != nil {
			m.fields = append(m.fields, field{name: name, at: at, value: value})
		}
	}
	for _, f := range merged {
		if _, ok := seen[f.name]; !ok {
			seen[f.name] = f.at
			m.fields = append(m.fields, f)
		}
	}
	return m
}

// merge returns the fields that a merge key brings in, those that win first.
func (r *yamlReader) merge(value ast.Node, key string, depth int) []field {
	n := r.node(value, key, depth+1)
	if n == nil {
		return nil
	}
	sources := []*node{n}
	if n.shape == shapeList {
		sources = n.items
	}
	var fields []field
	for _, s := range sources {
		if s.shape != shapeMap {
			r.fail(r.at(value), key, `"<<" takes in the keys of a section, but this is %s; name the anchor of a section`, s.shape)
			return nil
		}
		fields = append(fields, s.fields...)
	}
	return fields
}

func keyText(k ast.MapKeyNode) (string, bool) {
	switch k.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return k.GetToken().Value, true
	}
	return "", false
}

// join puts a key under a section.
func join(section, name string) string {
	if section == "" {
		return name
	}
	return section + "." + name
}
