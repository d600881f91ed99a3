package scanner

import (
	"bytes"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// kind is what a node of a file is.
type kind uint8

const (
	kindNothing kind = iota
	kindText
	kindList
	kindSection
)

func (k kind) String() string {
	return [...]string{"nothing", "a text", "a list", "a section with keys"}[k]
}

// node is a value as it was written, free of YAML.
type node struct {
	kind  kind
	at    place
	text  string
	items []*node // of a list
	keys  []key   // of a section, in the order of the file
}

type key struct {
	name  string
	at    place
	value *node
}

const (
	maxFile   = 256 << 10
	maxLine   = 2000 // the YAML scanner's time grows with the square of it
	maxDepth  = 12   // of nesting; the parser's time grows with the square of it
	maxIndent = 100
)

// readYAML turns a file into nodes; nil when there is nothing to read on with.
func readYAML(rep *report, text []byte) *node {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if !checkText(rep, text) {
		return nil
	}
	file := parseYAML(rep, text)
	if file == nil {
		return nil
	}
	root := &node{kind: kindSection}
	seen := false
	for _, doc := range file.Docs {
		if doc == nil || doc.Body == nil {
			continue
		}
		if _, comment := doc.Body.(*ast.CommentGroupNode); comment {
			continue
		}
		n := toNode(rep, doc.Body)
		if seen {
			rep.fail(placeOf(doc.Body.GetToken()), `a second document begins here; put everything into one, without "---" in between`)
			return nil
		}
		if seen = true; n == nil {
			return nil
		}
		root = n
	}
	return root
}

// checkText finds what would make the YAML parser give an unhelpful answer.
func checkText(rep *report, text []byte) bool {
	if len(text) > maxFile {
		rep.fail(place{}, "the file is larger than 256 KiB, too large for a file of signatures")
		return false
	}
	line := 0
	for l := range bytes.Lines(text) {
		line++
		if len(l) > maxLine {
			rep.fail(place{line, 1}, "the line is longer than %d bytes; break it, with one item a line", maxLine)
			return false
		}
		if i := badByte(l); i >= 0 {
			rep.fail(place{line, 1 + utf8.RuneCount(l[:i])}, "there is a byte here that is not text in UTF-8; remove it")
			return false
		}
		indent := l[:len(l)-len(bytes.TrimLeft(l, " \t"))]
		if i := bytes.IndexByte(indent, '\t'); i >= 0 {
			rep.fail(place{line, 1 + i}, "the line is indented with a tab, which YAML does not allow; use spaces")
			return false
		}
	}
	return true
}

// badByte returns the index of the first byte that no text file holds, or -1. A
// carriage return may stand before a line feed only: YAML would count it as an end
// of line, and editors do not.
func badByte(line []byte) int {
	for i := 0; i < len(line); {
		c, n := utf8.DecodeRune(line[i:])
		switch {
		case c == utf8.RuneError && n == 1, c < ' ' && c != '\t' && c != '\n' && c != '\r', c == 0x7f, c == 0x85, c == 0x2028, c == 0x2029:
			return i
		case c == '\r' && (i+1 == len(line) || line[i+1] != '\n'):
			return i
		}
		i += n
	}
	return -1
}

func parseYAML(rep *report, text []byte) (file *ast.File) {
	// The parser is not ours, and a mistake in it must not stop the program.
	defer func() {
		if recover() != nil {
			rep.fail(place{}, "the file cannot be read as YAML; look for brackets and quotes that do not match")
			file = nil
		}
	}()
	tokens := lexer.Tokenize(string(text))
	if t := tooDeep(tokens); t != nil {
		rep.fail(placeOf(t), "too many levels of nesting")
		return nil
	}
	file, err := parser.Parse(tokens, 0)
	if err == nil {
		return file
	}
	at, message := place{}, err.Error()
	var located yaml.Error
	if errors.As(err, &located) {
		at, message = placeOf(located.GetToken()), located.GetMessage()
	}
	rep.fail(at, "this is not YAML: %s; look for quotes and brackets that are not closed, and put values with : # { } [ ] in quotes", strings.ReplaceAll(message, "\t", `\t`))
	return nil
}

// tooDeep returns the first token that is nested deeper than any signature.
func tooDeep(tokens token.Tokens) *token.Token {
	line, flow, chain := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			chain = 0
		}
		line = t.Position.Line
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType:
			chain++
			if t.Position.Column > maxIndent {
				return t
			}
		case token.MappingValueType:
			if flow == 0 {
				chain++
			}
			if flow == 0 && t.Position.Column > maxIndent {
				return t
			}
		}
		if flow > maxDepth || chain > maxDepth {
			return t
		}
	}
	return nil
}

func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{}
	}
	return place{t.Position.Line, t.Position.Column}
}

// toNode turns a syntax tree into nodes; nil after a problem.
func toNode(rep *report, n ast.Node) *node {
	switch n := n.(type) {
	case *ast.MappingNode:
		return section(rep, n.Values, placeOf(n.GetToken()))
	case *ast.MappingValueNode:
		return section(rep, []*ast.MappingValueNode{n}, placeOf(n.Key.GetToken()))
	case *ast.SequenceNode:
		list := &node{kind: kindList, at: placeOf(n.GetToken())}
		for _, v := range n.Values {
			if item := toNode(rep, v); item != nil {
				list.items = append(list.items, item)
			}
		}
		return list
	case *ast.NullNode:
		return &node{kind: kindNothing, at: placeOf(n.GetToken())}
	case *ast.LiteralNode:
		return &node{kind: kindText, at: placeOf(n.GetToken()), text: strings.TrimSpace(n.Value.Value)}
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return &node{kind: kindText, at: placeOf(n.GetToken()), text: n.GetToken().Value}
	}
	if n == nil {
		return &node{kind: kindNothing}
	}
	rep.fail(placeOf(n.GetToken()), "anchors, tags and other special forms of YAML are not used here; write the plain value")
	return nil
}

func section(rep *report, values []*ast.MappingValueNode, at place) *node {
	s := &node{kind: kindSection, at: at}
	for i, v := range values {
		where := placeOf(v.Key.GetToken())
		if i == 0 {
			s.at = where
		}
		switch v.Key.(type) {
		case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		default:
			rep.fail(where, "this is not the name of a key; write a plain name")
			continue
		}
		if value := toNode(rep, v.Value); value != nil {
			if value.at == (place{}) {
				value.at = where
			}
			s.keys = append(s.keys, key{name: v.Key.GetToken().Value, at: where, value: value})
		}
	}
	return s
}
