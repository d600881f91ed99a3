package conf

import (
	"strings"

	"github.com/goccy/go-yaml/token"
)

// joinFlowScalars mends what goccy/go-yaml's scanner (1.19) makes of a colon in
// a list inside braces, {deny: [2001:db8::1]}: it ends a plain scalar at any
// colon there, where YAML 1.2 §7.3.3 has only a colon with white space behind
// it do that. Addresses and URLs are what configurations of sipward are full
// of, so the pieces are put together again.
func joinFlowScalars(tokens token.Tokens) token.Tokens {
	var joined token.Tokens
	var open []token.Type
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			open = append(open, t.Type)
		case token.SequenceEndType, token.MappingEndType:
			open = open[:max(len(open)-1, 0)]
		case token.MappingValueType:
			inList := len(open) > 0 && open[len(open)-1] == token.SequenceStartType
			if !inList || i+1 == len(tokens) || !plain(tokens[i+1]) || !adjacent(t, tokens[i+1]) {
				break
			}
			i++
			value, position := ":"+tokens[i].Value, t.Position
			if n := len(joined); n > 0 && plain(joined[n-1]) && adjacent(joined[n-1], t) {
				value, position = joined[n-1].Value+value, joined[n-1].Position
				joined = joined[:n-1]
			}
			t = token.String(value, value, position)
		}
		t.Next = nil
		joined.Add(t)
	}
	return joined
}

const (
	// maxDepth is far above what any key needs. The parser's time and memory
	// grow with the square of the depth.
	maxDepth = 32
	// maxIndent bounds the depth that comes of indentation.
	maxIndent = 200
)

// tooDeep returns the first token that is nested deeper than anything in a
// configuration is, or nil.
func tooDeep(tokens token.Tokens) *token.Token {
	line, flow, chain := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line && flow == 0 {
			chain = 0
			if t.Position.Column > maxIndent && t.Type != token.CommentType {
				return t
			}
		}
		line = t.Position.Line
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
			chain = 0
		case token.SequenceEndType, token.MappingEndType:
			flow--
			chain = 0
		case token.CollectEntryType:
			chain = 0
		case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType, token.AnchorType, token.TagType:
			chain++
		}
		if flow > maxDepth || chain > maxDepth {
			return t
		}
	}
	return nil
}

// plain says that a token is a scalar without quotes.
func plain(t *token.Token) bool {
	return t.Indicator == token.NotIndicator && t.Value != "" && t.Type != token.CommentType
}

// adjacent says that nothing stands between two tokens.
func adjacent(a, b *token.Token) bool {
	width := len([]rune(a.Value))
	return a.Position.Line == b.Position.Line && a.Position.Column+width == b.Position.Column && !strings.HasPrefix(b.Origin, " ")
}
