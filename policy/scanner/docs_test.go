package scanner_test

import (
	"os"
	"strings"
	"testing"

	"sipward/policy/scanner"
)

// TestDocumentation holds that the examples of the documentation work, and that it
// names all that there is.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../docs/signatures.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```yaml\n")[1:]
	if len(blocks) < 2 {
		t.Fatalf("%d examples", len(blocks))
	}
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		own, err := scanner.Parse("signatures.md", []byte(block))
		if err != nil {
			t.Errorf("%v\n%s", err, block)
			continue
		}
		if _, err := scanner.Default().Merge(own); err != nil {
			t.Errorf("%v\n%s", err, block)
		}
	}
	for _, words := range [][]string{scanner.FieldNames(), scanner.MatchNames(), scanner.ShapeNames()} {
		for _, word := range words {
			if !strings.Contains(string(text), "`"+word+"`") {
				t.Errorf("the documentation does not name %s", word)
			}
		}
	}
}
